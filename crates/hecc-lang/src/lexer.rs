//! From text to tokens, by the pest grammar `hec.pest`.

use hecc_ir::diag::Diagnostic;
use hecc_ir::span::{FileId, Span};
use pest::Parser as _;
use pest::iterators::Pair;

mod grammar {
    #[derive(pest_derive::Parser)]
    #[grammar = "hec.pest"]
    pub(super) struct HecGrammar;
}

use grammar::{HecGrammar, Rule};

/// Most bytes of one source file; more data than that belongs in a file for `load`.
pub const MAX_SOURCE_BYTES: usize = 4 << 20;

/// What a token is. Its text is the source at its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tok {
    Int,
    Real,
    Str,
    /// A name that is no keyword.
    Name,
    Use,
    Const,
    Fn,
    Circuit,
    Let,
    Var,
    For,
    In,
    If,
    Else,
    Return,
    Assert,
    Secret,
    Public,
    RealType,
    Arrow,
    DotDot,
    Dot,
    EqEq,
    NotEq,
    LessEq,
    GreaterEq,
    AndAnd,
    OrOr,
    Plus,
    Minus,
    Star,
    Slash,
    At,
    Percent,
    Caret,
    Quote,
    Eq,
    Less,
    Greater,
    Bang,
    OpenParen,
    CloseParen,
    OpenBracket,
    CloseBracket,
    OpenBrace,
    CloseBrace,
    Comma,
    Semicolon,
    Colon,
    /// Something that was already reported.
    Bad,
    End,
}

/// The words that cannot be names.
pub(crate) const KEYWORDS: [(&str, Tok); 15] = [
    ("use", Tok::Use),
    ("const", Tok::Const),
    ("fn", Tok::Fn),
    ("circuit", Tok::Circuit),
    ("let", Tok::Let),
    ("var", Tok::Var),
    ("for", Tok::For),
    ("in", Tok::In),
    ("if", Tok::If),
    ("else", Tok::Else),
    ("return", Tok::Return),
    ("assert", Tok::Assert),
    ("secret", Tok::Secret),
    ("public", Tok::Public),
    ("real", Tok::RealType),
];

#[derive(Clone, Copy, Debug)]
pub(crate) struct Token {
    pub(crate) tok: Tok,
    pub(crate) start: u32,
    pub(crate) end: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Comment {
    pub(crate) start: u32,
    pub(crate) end: u32,
    pub(crate) doc: bool,
}

/// All tokens in order, [`Tok::End`] last, and beside them the comments.
pub(crate) struct Lexed {
    pub(crate) tokens: Vec<Token>,
    pub(crate) comments: Vec<Comment>,
}

pub(crate) fn lex(source: &str, file: FileId, diagnostics: &mut Vec<Diagnostic>) -> Lexed {
    let mut lexer = Lexer {
        source,
        file,
        diagnostics,
        lexed: Lexed {
            tokens: Vec::new(),
            comments: Vec::new(),
        },
        bad_text: None,
    };
    if source.len() > MAX_SOURCE_BYTES {
        lexer.diagnostics.push(
            Diagnostic::error(
                "E0003",
                Span::new(file, 0, 0),
                format!(
                    "the file has {} bytes; at most {MAX_SOURCE_BYTES} are read",
                    source.len()
                ),
                "this file is too large",
            )
            .with_help("keep data in a file of its own: const W = load(\"weights.npy\");"),
        );
        lexer.push(Tok::End, 0, 0);
        return lexer.lexed;
    }
    match HecGrammar::parse(Rule::file, source) {
        Ok(pairs) => {
            for pair in pairs.flat_map(Pair::into_inner) {
                lexer.token(pair);
            }
        }
        // The grammar matches every text; were that ever untrue, this is where one would see it.
        Err(error) => {
            let at = match error.location {
                pest::error::InputLocation::Pos(at) => at,
                pest::error::InputLocation::Span((at, _)) => at,
            };
            lexer.report(
                "E0002",
                at,
                at,
                "this text cannot be read",
                "unexpected text here",
            );
        }
    }
    lexer.flush_bad_text();
    lexer.push(Tok::End, source.len(), source.len());
    lexer.lexed
}

struct Lexer<'a> {
    source: &'a str,
    file: FileId,
    diagnostics: &'a mut Vec<Diagnostic>,
    lexed: Lexed,
    bad_text: Option<(usize, usize)>,
}

impl Lexer<'_> {
    fn push(&mut self, tok: Tok, start: usize, end: usize) {
        self.lexed.tokens.push(Token {
            tok,
            start: start as u32,
            end: end as u32,
        });
    }

    fn report(
        &mut self,
        code: &'static str,
        start: usize,
        end: usize,
        message: impl Into<String>,
        label: &str,
    ) -> &mut Diagnostic {
        let span = Span::new(self.file, start, end);
        let at = self.diagnostics.len();
        self.diagnostics
            .push(Diagnostic::error(code, span, message, label));
        &mut self.diagnostics[at]
    }

    fn token(&mut self, pair: Pair<'_, Rule>) {
        let rule = pair.as_rule();
        let span = pair.as_span();
        let (start, end) = (span.start(), span.end());
        let text = span.as_str();
        if rule == Rule::bad_text {
            match &mut self.bad_text {
                Some((_, last)) if *last == start => *last = end,
                _ => {
                    self.flush_bad_text();
                    self.bad_text = Some((start, end));
                }
            }
            return;
        }
        self.flush_bad_text();
        match rule {
            Rule::doc_comment | Rule::comment => self.lexed.comments.push(Comment {
                start: start as u32,
                end: start as u32 + text.trim_end().len() as u32,
                doc: rule == Rule::doc_comment,
            }),
            Rule::number => {
                let real = pair
                    .into_inner()
                    .next()
                    .is_some_and(|inner| inner.as_rule() == Rule::real);
                self.push(if real { Tok::Real } else { Tok::Int }, start, end);
            }
            Rule::word => {
                let tok = KEYWORDS
                    .iter()
                    .find(|(word, _)| *word == text)
                    .map_or(Tok::Name, |(_, tok)| *tok);
                self.push(tok, start, end);
            }
            Rule::string => self.push(Tok::Str, start, end),
            Rule::operator => self.push(operator(text), start, end),
            Rule::bad_comment => self.bad_comment(text, start, end),
            Rule::bad_number => self.bad_number(text, start, end),
            Rule::bad_word => {
                self.report(
                    "E0002",
                    start,
                    end,
                    format!("`{text}` is not a name"),
                    "names are made of the letters a-z and A-Z, digits and `_`",
                );
                self.push(Tok::Bad, start, end);
            }
            Rule::bad_string => {
                let shown = text.trim_end();
                self.report(
                    "E0006",
                    start,
                    start + shown.len(),
                    "this string has no end",
                    "a `\"` is missing on this line",
                )
                .help = Some(format!("{shown}\""));
                self.push(Tok::Bad, start, end);
            }
            Rule::bad_operator => self.bad_operator(text, start, end),
            Rule::EOI => {}
            other => debug_assert!(false, "{other:?} is inside another token or silent"),
        }
    }

    fn flush_bad_text(&mut self) {
        let Some((start, end)) = self.bad_text.take() else {
            return;
        };
        let text = &self.source[start..end];
        let first = text.chars().next().unwrap_or(' ');
        let (message, label, help) = match first {
            '\u{201C}' | '\u{201D}' | '\u{201E}' | '\u{2018}' | '\u{2019}' | '`' => (
                format!("`{first}` is not a quotation mark of the language"),
                "this quotation mark comes from a word processor or a shell",
                Some("write text between straight quotes: \"file.hec\"".to_owned()),
            ),
            '\u{A0}' | '\u{2000}'..='\u{200B}' | '\u{202F}' | '\u{3000}' | '\u{FEFF}' => (
                format!("an invisible character, U+{:04X}, stands here", first as u32),
                "this looks like a space and is none",
                Some("replace it by an ordinary space".to_owned()),
            ),
            '\u{3B}' | '\u{37E}' | '\u{FF1B}' => (
                "this character only looks like `;`".to_owned(),
                "not a semicolon",
                Some("replace it by `;`".to_owned()),
            ),
            '?' => (
                "`?` is not part of the language".to_owned(),
                "there is no conditional operator",
                Some("choose with compile-time `if COND { … } else { … }`; for secret values use approx(sign, x, …)".to_owned()),
            ),
            '\\' => (
                "`\\` is not part of the language".to_owned(),
                "unexpected character",
                Some("divide with `/`; a line needs no mark to go on in the next".to_owned()),
            ),
            c if c.is_control() => (
                format!("a control character, U+{:04X}, stands here", first as u32),
                "invisible character",
                Some("remove it".to_owned()),
            ),
            _ => {
                let shown: String = text.chars().take(20).collect();
                (
                    format!("`{shown}` is not part of the language"),
                    if text.chars().nth(1).is_some() {
                        "unexpected characters"
                    } else {
                        "unexpected character"
                    },
                    None,
                )
            }
        };
        self.report("E0002", start, end, message, label).help = help;
        self.push(Tok::Bad, start, end);
    }

    fn bad_comment(&mut self, text: &str, start: usize, end: usize) {
        let end = if text.starts_with("/*") {
            // Showing the opening is enough, the rest may be long.
            start + 2
        } else {
            end.min(start + text.trim_end().len())
        };
        self.report(
            "E0030",
            start,
            end,
            "comments start with `//`",
            "not a comment here",
        )
        .help = Some("start each line of the comment with `//`".to_owned());
    }

    fn bad_number(&mut self, text: &str, start: usize, end: usize) {
        let digits = text
            .find(|c: char| !(c.is_ascii_digit() || c == '.' || c == '_'))
            .unwrap_or(text.len());
        let (number, rest) = text.split_at(digits);
        let number = number.trim_end_matches('_');
        let exponent = rest.len() <= 2
            && rest.starts_with(['e', 'E'])
            && rest[1..].chars().all(|c| c == '+' || c == '-');
        let (message, label, help) = if exponent {
            (
                format!("the exponent of `{text}` has no digits"),
                "digits are missing here",
                format!("{number}e-3, say"),
            )
        } else if rest.is_empty() {
            (
                format!("`{text}` is not a number"),
                "`_` may only stand between two digits",
                number.replace('_', ""),
            )
        } else if matches!(rest, "f" | "f32" | "f64" | "L" | "i" | "u") {
            (
                format!("`{text}` is not a number"),
                "numbers take no suffix",
                number.to_owned(),
            )
        } else if number == "0" && rest.starts_with(['x', 'b', 'o']) && rest.len() > 1 {
            (
                format!("`{text}` is not a number"),
                "numbers are decimal",
                "write it in base ten".to_owned(),
            )
        } else {
            (
                format!("`{text}` is neither a number nor a name"),
                "a product needs `*`, and a name starts with a letter",
                format!("{number} * {rest}"),
            )
        };
        self.report("E0005", start, end, message, label).help = Some(help);
        self.push(Tok::Bad, start, end);
    }

    /// Reports the operator and, where the meaning is plain, goes on with the right one.
    fn bad_operator(&mut self, text: &str, start: usize, end: usize) {
        let (right, meaning, help): (&[Tok], &str, &str) = match text {
            "**" => (&[Tok::Caret], "a power is written `^`", "x^2"),
            "\u{B2}" | "\u{B3}" => (&[Tok::Caret, Tok::Int], "a power is written `^`", "x^2"),
            "..=" | "..." | "\u{2026}" => (
                &[Tok::DotDot],
                "ranges are half open and written `..`",
                "0..n goes from 0 to n - 1; write 0..n + 1 to include n",
            ),
            "===" => (&[Tok::EqEq], "equality is written `==`", "a == b"),
            "!==" | "<>" | "\u{2260}" => (&[Tok::NotEq], "inequality is written `!=`", "a != b"),
            "\u{2264}" => (&[Tok::LessEq], "this is written `<=`", "a <= b"),
            "\u{2265}" => (&[Tok::GreaterEq], "this is written `>=`", "a >= b"),
            "=>" | "\u{2192}" => (
                &[Tok::Arrow],
                "the arrow before an output is written `->`; at least is `>=`",
                "circuit f(x: secret real) -> y: real { … }",
            ),
            ":=" => (&[Tok::Eq], "a value is bound with `=`", "let x = 1;"),
            "::" => (
                &[Tok::Bad],
                "there are no paths: `use` brings every name in as it is",
                "use \"lib/activations.hec\"; and then sigmoid3(x)",
            ),
            "&" => (&[Tok::AndAnd], "logical and is written `&&`", "a && b"),
            "|" => (&[Tok::OrOr], "logical or is written `||`", "a || b"),
            "~" => (&[Tok::Bang], "logical not is written `!`", "!a"),
            "\u{D7}" | "\u{B7}" | "\u{22C5}" => (&[Tok::Star], "a product is written `*`", "a * b"),
            "\u{F7}" => (&[Tok::Slash], "a quotient is written `/`", "a / b"),
            "\u{2212}" | "\u{2013}" => (
                &[Tok::Minus],
                "this character only looks like a minus sign",
                "replace it by `-`",
            ),
            _ => {
                let operator = text.trim_end_matches('=');
                let operator = if operator == "**" { "^" } else { operator };
                self.report(
                    "E0007",
                    start,
                    end,
                    format!("`{text}` is not an operator"),
                    "an assignment is written out",
                )
                .help = Some(format!("x = x {operator} …;"));
                self.push(Tok::Eq, start, end);
                return;
            }
        };
        self.report(
            "E0007",
            start,
            end,
            format!("`{text}` is not an operator"),
            meaning,
        )
        .help = Some(help.to_owned());
        for &tok in right {
            self.push(tok, start, end);
        }
    }
}

fn operator(text: &str) -> Tok {
    match text {
        "->" => Tok::Arrow,
        ".." => Tok::DotDot,
        "==" => Tok::EqEq,
        "!=" => Tok::NotEq,
        "<=" => Tok::LessEq,
        ">=" => Tok::GreaterEq,
        "&&" => Tok::AndAnd,
        "||" => Tok::OrOr,
        "+" => Tok::Plus,
        "-" => Tok::Minus,
        "*" => Tok::Star,
        "/" => Tok::Slash,
        "@" => Tok::At,
        "%" => Tok::Percent,
        "^" => Tok::Caret,
        "'" => Tok::Quote,
        "=" => Tok::Eq,
        "<" => Tok::Less,
        ">" => Tok::Greater,
        "!" => Tok::Bang,
        "(" => Tok::OpenParen,
        ")" => Tok::CloseParen,
        "[" => Tok::OpenBracket,
        "]" => Tok::CloseBracket,
        "{" => Tok::OpenBrace,
        "}" => Tok::CloseBrace,
        "," => Tok::Comma,
        ";" => Tok::Semicolon,
        ":" => Tok::Colon,
        "." => Tok::Dot,
        _ => Tok::Bad,
    }
}
