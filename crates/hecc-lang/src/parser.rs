//! From tokens to the tree, by recursive descent that goes on after an error.
//!
//! Where an error leaves the parser: inside brackets at the next `,` or closing bracket, else at the
//! next statement, else at the next item. Brackets that were left early are not complained about again.
//! Work is linear in the number of tokens, and recursion is bounded by [`MAX_DEPTH`].

use hecc_ir::diag::Diagnostic;
use hecc_ir::span::{FileId, Span};

use crate::ast::*;
use crate::lexer::{Comment, KEYWORDS, Lexed, Tok, Token, lex};
use crate::suggest::nearest;

/// Most syntax errors that are reported of one file.
pub const MAX_ERRORS: usize = 100;

/// Parses the text of one file.
///
/// The tree is always there, as complete as the errors leave it; it is fit for the next stage when no
/// diagnostic is an error. Diagnostics come in source order, [`MAX_ERRORS`] at most.
pub fn parse(source: &str, file: FileId) -> (File, Vec<Diagnostic>) {
    let mut diagnostics = Vec::new();
    let Lexed { tokens, comments } = lex(source, file, &mut diagnostics);
    let mut parser = Parser {
        source,
        file,
        tokens,
        comments,
        at: 0,
        diagnostics,
        depth: 0,
        gave_up: false,
        resumed: None,
    };
    let items = parser.items();
    let mut diagnostics = parser.diagnostics;
    diagnostics.sort_by_key(|d| (d.primary.span.start, d.primary.span.end, d.code));
    // One place, one complaint: what follows from a bad token says nothing new.
    diagnostics.dedup_by_key(|d| (d.primary.span.start, d.primary.span.end));
    if diagnostics.len() > MAX_ERRORS {
        let more = diagnostics.len() - MAX_ERRORS;
        let span = diagnostics[MAX_ERRORS].primary.span;
        diagnostics.truncate(MAX_ERRORS);
        diagnostics.push(
            Diagnostic::error(
                "E0099",
                span,
                format!("{more} more syntax errors are not shown"),
                "the next one is here",
            )
            .with_help("mend the first ones and try again"),
        );
    }
    let span = Span::new(file, 0, source.len().min(u32::MAX as usize));
    (File { items, span }, diagnostics)
}

/// The text of a file from its bytes.
///
/// Bytes that are not UTF-8 give a diagnostic at the first of them, beside a text in which each is
/// replaced by U+FFFD: that text, and none other, is to be shown with the diagnostic.
pub fn decode(bytes: Vec<u8>, file: FileId) -> (String, Option<Diagnostic>) {
    match String::from_utf8(bytes) {
        Ok(text) => (text, None),
        Err(error) => {
            let at = error.utf8_error().valid_up_to();
            let bad = error.as_bytes().get(at).copied().unwrap_or(0);
            let text = String::from_utf8_lossy(error.as_bytes()).into_owned();
            let mut help = "save the file as UTF-8".to_owned();
            if error.as_bytes().starts_with(&[0xFF, 0xFE])
                || error.as_bytes().starts_with(&[0xFE, 0xFF])
            {
                help += "; it is UTF-16 now";
            } else if error.as_bytes()[..at].contains(&0) {
                help += "; it looks like a binary file";
            }
            let diagnostic = Diagnostic::error(
                "E0004",
                Span::new(file, at, at + '\u{FFFD}'.len_utf8()),
                "the file is not UTF-8 text",
                format!("byte 0x{bad:02x} at offset {at} does not belong to UTF-8"),
            )
            .with_help(help);
            (text, Some(diagnostic))
        }
    }
}

/// What an attribute may stand before.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    Circuit,
    For,
    Let,
}

/// Attribute, where it may stand, its keys, whether it takes one bare value, and how it is written.
type AttributeRule = (
    &'static str,
    &'static [Place],
    &'static [&'static str],
    bool,
    &'static str,
);

const ATTRIBUTES: [AttributeRule; 8] = [
    (
        "budget",
        &[Place::Circuit],
        &[
            "depth",
            "levels",
            "width",
            "mult_width",
            "muls",
            "rotations",
        ],
        false,
        "@budget(depth = 3)",
    ),
    ("batch", &[Place::Circuit], &[], true, "@batch(4096)"),
    (
        "precompute",
        &[Place::Circuit],
        &["degree", "inputs"],
        false,
        "@precompute(degree = 2, inputs = 2.0)",
    ),
    (
        "unroll",
        &[Place::For],
        &[],
        true,
        "@unroll(4) or @unroll(full)",
    ),
    ("precision", &[Place::Circuit], &[], true, "@precision(16)"),
    ("pipeline", &[Place::For], &[], true, "@pipeline(off)"),
    ("keep", &[Place::Circuit, Place::Let], &[], false, "@keep"),
    (
        "ckks",
        &[Place::Circuit],
        &["scale_bits", "security", "ring"],
        false,
        "@ckks(scale_bits = 40)",
    ),
];

/// An error was reported; the caller looks for a place to go on.
struct Failed;

type Parsed<T> = Result<T, Failed>;

/// An expression with the height of its tree.
struct Tree {
    expr: Expr,
    height: usize,
}

struct Parser<'a> {
    source: &'a str,
    file: FileId,
    tokens: Vec<Token>,
    comments: Vec<Comment>,
    at: usize,
    diagnostics: Vec<Diagnostic>,
    depth: usize,
    gave_up: bool,
    /// Where the parser is in step again after a failure.
    resumed: Option<usize>,
}

// Tokens and messages.
impl<'a> Parser<'a> {
    fn peek(&self) -> Tok {
        self.nth(0)
    }

    fn nth(&self, n: usize) -> Tok {
        self.token(n).tok
    }

    fn token(&self, n: usize) -> Token {
        let last = self.tokens.len() - 1;
        self.tokens[(self.at + n).min(last)]
    }

    fn bump(&mut self) -> Span {
        let span = self.here();
        if self.at + 1 < self.tokens.len() {
            self.at += 1;
        }
        span
    }

    fn eat(&mut self, tok: Tok) -> Option<Span> {
        (self.peek() == tok).then(|| self.bump())
    }

    fn here(&self) -> Span {
        self.span_of(self.token(0))
    }

    fn span_of(&self, token: Token) -> Span {
        Span {
            file: self.file,
            start: token.start,
            end: token.end,
        }
    }

    fn before(&self) -> Span {
        match self.at.checked_sub(1) {
            Some(at) => self.span_of(self.tokens[at]),
            None => Span::new(self.file, 0, 0),
        }
    }

    /// The empty place just after the last token.
    fn after_last(&self) -> Span {
        let end = self.before().end;
        Span {
            file: self.file,
            start: end,
            end,
        }
    }

    fn text(&self, n: usize) -> &'a str {
        let token = self.token(n);
        &self.source[token.start as usize..token.end as usize]
    }

    fn slice(&self, span: Span) -> &'a str {
        &self.source[span.start as usize..span.end as usize]
    }

    /// Whether a line ends between the last token and the next.
    fn at_new_line(&self) -> bool {
        let from = self.before().end as usize;
        let to = self.token(0).start as usize;
        self.peek() == Tok::End || from == 0 || self.source[from..to.max(from)].contains('\n')
    }

    /// Whether nothing but a byte-order mark stands left of the next token on its line.
    fn at_margin(&self) -> bool {
        let start = self.token(0).start as usize;
        let line = self.source[..start].rfind('\n').map_or(0, |i| i + 1);
        line == start || &self.source[line..start] == "\u{FEFF}"
    }

    fn report(
        &mut self,
        code: &'static str,
        span: Span,
        message: impl Into<String>,
        label: impl Into<String>,
    ) -> &mut Diagnostic {
        let at = self.diagnostics.len();
        self.diagnostics
            .push(Diagnostic::error(code, span, message, label));
        &mut self.diagnostics[at]
    }

    /// Stops reading altogether.
    fn give_up(&mut self) {
        self.gave_up = true;
        self.at = self.tokens.len() - 1;
    }

    fn describe(&self, n: usize) -> String {
        let text = self.text(n);
        let shown: String = if text.chars().count() > 24 {
            text.chars().take(20).chain("…".chars()).collect()
        } else {
            text.to_owned()
        };
        match self.nth(n) {
            Tok::End => "the end of the file".to_owned(),
            Tok::Int | Tok::Real => format!("the number `{shown}`"),
            Tok::Str => format!("the text {shown}"),
            Tok::Name => format!("the name `{shown}`"),
            tok if KEYWORDS.iter().any(|(_, k)| *k == tok) => format!("the keyword `{shown}`"),
            _ => format!("`{shown}`"),
        }
    }

    /// Reports what stands here instead of what had to.
    fn unexpected(&mut self, wanted: &str, help: Option<&str>) -> Failed {
        // A bad token was reported when it was read.
        if self.peek() != Tok::Bad && !self.gave_up {
            let (span, found) = if self.peek() == Tok::End {
                (self.after_last(), self.describe(0))
            } else {
                (self.here(), self.describe(0))
            };
            self.report(
                "E0001",
                span,
                format!("expected {wanted}, found {found}"),
                format!("{wanted} was expected here"),
            )
            .help = help.map(str::to_owned);
        }
        Failed
    }

    fn expect(&mut self, tok: Tok, wanted: &str, help: Option<&str>) -> Parsed<Span> {
        match self.eat(tok) {
            Some(span) => Ok(span),
            None => Err(self.unexpected(wanted, help)),
        }
    }

    fn enter(&mut self) -> Parsed<()> {
        if self.depth >= MAX_DEPTH {
            return Err(self.too_deep(self.here()));
        }
        self.depth += 1;
        Ok(())
    }

    fn leave(&mut self) {
        self.depth -= 1;
    }

    fn too_deep(&mut self, span: Span) -> Failed {
        if !self.gave_up {
            self.report(
                "E0009",
                span,
                format!("this nests more than {MAX_DEPTH} deep"),
                "the file is not read further than this",
            )
            .help = Some("bind inner parts with `let`, or use a loop".to_owned());
        }
        self.give_up();
        Failed
    }
}

// Names and small parts.
impl Parser<'_> {
    fn name(&mut self, what: &str, help: Option<&str>) -> Parsed<Ident> {
        if self.peek() == Tok::Name {
            let name = self.text(0).to_owned();
            let span = self.bump();
            return Ok(Ident { name, span });
        }
        let text = self.text(0);
        if KEYWORDS.iter().any(|(word, _)| *word == text) {
            let span = self.here();
            self.report(
                "E0022",
                span,
                format!("`{text}` is a keyword and cannot be {what}"),
                "a word of the language",
            )
            .help = Some(format!("choose another name, {text}_ or my_{text}, say"));
            self.bump();
            return Ok(Ident {
                name: text.to_owned(),
                span,
            });
        }
        Err(self.unexpected(what, help))
    }

    fn semicolon(&mut self, after: &str) -> Parsed<()> {
        if self.eat(Tok::Semicolon).is_some() {
            return Ok(());
        }
        if self.peek() == Tok::Bad {
            return Err(Failed);
        }
        if self.at_new_line() || self.peek() == Tok::CloseBrace {
            let span = self.after_last();
            self.report(
                "E0008",
                span,
                format!("a `;` is missing after {after}"),
                "the `;` belongs here",
            );
            return Ok(());
        }
        Err(self.after_expression())
    }

    /// Something follows an expression that cannot.
    fn after_expression(&mut self) -> Failed {
        let span = self.here();
        let text = self.text(0);
        match self.peek() {
            Tok::Bad => {}
            Tok::Eq => {
                self.report(
                    "E0017",
                    span,
                    "`=` cannot stand inside an expression",
                    "`=` binds or assigns; it does not compare",
                )
                .help = Some("equality is written `==`".to_owned());
            }
            Tok::CloseParen | Tok::CloseBracket => {
                self.report(
                    "E0011",
                    span,
                    format!("this `{text}` closes nothing"),
                    "no bracket is open here",
                )
                .help = Some(format!("remove it, or open it with `{}`", opening(text)));
            }
            Tok::Name if matches!(text, "and" | "or" | "mod" | "div" | "is" | "not") => {
                let right = match text {
                    "and" => "&&",
                    "or" => "||",
                    "mod" => "%",
                    "div" => "/",
                    "is" => "==",
                    _ => "!",
                };
                self.report(
                    "E0007",
                    span,
                    format!("`{text}` is not an operator"),
                    format!("this is written `{right}`"),
                );
            }
            Tok::If | Tok::For => {
                let help = if self.peek() == Tok::For {
                    "a list is built with brackets around it all: [E for i in 0..n]"
                } else {
                    "write `if COND { … } else { … }` with an assignment in each block"
                };
                self.report(
                    "E0001",
                    span,
                    format!("`{text}` cannot follow an expression here"),
                    "an operator or `;` was expected here",
                )
                .help = Some(help.to_owned());
            }
            Tok::Name | Tok::Int | Tok::Real | Tok::OpenParen | Tok::RealType => {
                let left = self.slice(self.before());
                let help = format!("if a product is meant: {left} * {text}");
                let found = self.describe(0);
                self.report(
                    "E0001",
                    span,
                    format!("an operator or `;` is missing before {found}"),
                    "two values stand side by side",
                )
                .help = Some(help);
            }
            Tok::Dot => {
                self.dot();
            }
            Tok::DotDot => {
                self.report(
                    "E0026",
                    span,
                    "a range `a..b` cannot stand here",
                    "ranges stand in `for`, and inside index brackets",
                )
                .help = Some("for i in 0..n { … }   or   x[0..n]".to_owned());
            }
            Tok::In => {
                self.report(
                    "E0021",
                    span,
                    "`in [LO, HI]` stands before the `=`",
                    "a range cannot follow the value",
                )
                .help = Some("let x in [-1, 1] = …;".to_owned());
            }
            Tok::OpenBrace => {
                self.report(
                    "E0001",
                    span,
                    "a block cannot stand here",
                    "an operator or `;` was expected here",
                );
            }
            _ => {
                return self.unexpected("an operator or `;`", None);
            }
        }
        Failed
    }

    /// A `.` where none can be.
    fn dot(&mut self) {
        let span = self.here();
        let next = self.nth(1);
        let touching = self.token(1).start == span.end;
        let (message, label, help) = if next == Tok::Int && touching {
            (
                "a number needs a digit before the point".to_owned(),
                "the digit is missing here",
                format!("0.{}", self.text(1)),
            )
        } else if matches!(next, Tok::Star | Tok::Slash | Tok::Caret | Tok::Quote) {
            (
                format!("`.{}` is not an operator", self.text(1)),
                "operators work on each element as they are",
                format!("write `{}`; the matrix product is `@`", self.text(1)),
            )
        } else if next == Tok::Name && touching {
            let field = self.text(1);
            let help = match field {
                "T" => "the transpose of x is x'".to_owned(),
                "shape" | "size" | "length" => {
                    "len(x) is the size of the first dimension".to_owned()
                }
                _ => format!("call functions as {field}(x)"),
            };
            (
                format!("`.{field}` does not exist: values have no fields"),
                "no member can be taken here",
                help,
            )
        } else if self.before().end == span.start && self.at > 0 {
            let number = self.slice(self.before());
            (
                "a number needs a digit after the point".to_owned(),
                "the digit is missing after this",
                format!("{number}.0"),
            )
        } else {
            (
                "`.` cannot stand alone".to_owned(),
                "unexpected point",
                "ranges are written with two: 0..n".to_owned(),
            )
        };
        self.report("E0005", span, message, label).help = Some(help);
    }

    fn string(&mut self) -> Str {
        let raw = self.text(0);
        let span = self.bump();
        let inner = raw.get(1..raw.len().saturating_sub(1)).unwrap_or("");
        let mut value = String::with_capacity(inner.len());
        let mut chars = inner.char_indices();
        while let Some((i, c)) = chars.next() {
            if c != '\\' {
                value.push(c);
                continue;
            }
            match chars.next() {
                Some((_, 'n')) => value.push('\n'),
                Some((_, 't')) => value.push('\t'),
                Some((_, c @ ('\\' | '"'))) => value.push(c),
                other => {
                    let width = other.map_or(0, |(_, c)| c.len_utf8());
                    let from = span.start as usize + 1 + i;
                    let at = Span::new(self.file, from, from + 1 + width);
                    let shown = self.slice(at);
                    self.report(
                        "E0006",
                        at,
                        format!("`{shown}` is not a known escape"),
                        "unknown escape",
                    )
                    .help =
                        Some("known are \\\\ \\\" \\n \\t; paths are written with `/`".to_owned());
                }
            }
        }
        Str { value, span }
    }

    /// The comments just before the next token, as the documentation of what starts here.
    fn docs(&self) -> Vec<String> {
        let start = self.token(0).start;
        let floor = if self.at == 0 { 0 } else { self.before().end };
        let to = self.comments.partition_point(|c| c.start < start);
        let from = self.comments[..to].partition_point(|c| c.start < floor);
        self.comments[from..to]
            .iter()
            .filter(|c| c.doc)
            .map(|c| {
                let text = &self.source[c.start as usize + 3..c.end as usize];
                text.strip_prefix(' ').unwrap_or(text).to_owned()
            })
            .collect()
    }

    /// Elements up to the closing bracket, which is taken. An error in one does not lose the others.
    fn list<T>(
        &mut self,
        open: Span,
        close: Tok,
        what: &str,
        mut element: impl FnMut(&mut Self) -> Parsed<T>,
    ) -> Parsed<(Vec<T>, Span)> {
        let mut elements = Vec::new();
        let mut failed = false;
        loop {
            if let Some(span) = self.eat(close) {
                return Ok((elements, open.to(span)));
            }
            if self.peek() == Tok::Comma && !failed {
                let span = self.here();
                self.report(
                    "E0029",
                    span,
                    format!("{what} is missing before this `,`"),
                    "nothing stands before it",
                );
                self.bump();
                continue;
            }
            match element(self) {
                Ok(value) => elements.push(value),
                Err(Failed) => {
                    failed = true;
                    self.skip_to_comma();
                }
            }
            if self.eat(Tok::Comma).is_some() {
                continue;
            }
            if let Some(span) = self.eat(close) {
                return Ok((elements, open.to(span)));
            }
            if failed || self.gave_up {
                return Err(Failed);
            }
            if self.peek() == Tok::Bad {
                failed = true;
                self.skip_to_comma();
                if self.eat(Tok::Comma).is_some() {
                    continue;
                }
                return self
                    .eat(close)
                    .map(|s| (elements, open.to(s)))
                    .ok_or(Failed);
            }
            let ends = matches!(
                self.peek(),
                Tok::Semicolon
                    | Tok::CloseParen
                    | Tok::CloseBracket
                    | Tok::CloseBrace
                    | Tok::OpenBrace
                    | Tok::End
                    | Tok::Let
                    | Tok::Var
                    | Tok::Return
                    | Tok::Circuit
                    | Tok::Fn
                    | Tok::Const
                    | Tok::Use
                    | Tok::Arrow
            );
            if ends {
                self.unclosed(open);
                return Err(Failed);
            }
            if self.at_new_line() || self.peek() == Tok::Semicolon {
                let span = self.after_last();
                self.report(
                    "E0001",
                    span,
                    format!("a `,` is missing between one {} and the next", noun(what)),
                    "the `,` belongs here",
                );
                continue;
            }
            self.after_element(what);
            failed = true;
            self.skip_to_comma();
            if self.eat(Tok::Comma).is_none() {
                return self
                    .eat(close)
                    .map(|s| (elements, open.to(s)))
                    .ok_or(Failed);
            }
        }
    }

    fn after_element(&mut self, what: &str) {
        match self.peek() {
            Tok::Name | Tok::Int | Tok::Real | Tok::Str | Tok::Colon => {
                let span = self.here();
                let found = self.describe(0);
                let word = self.text(0);
                if matches!(word, "and" | "or" | "mod" | "div" | "is" | "not") {
                    self.after_expression();
                    return;
                }
                let diagnostic = self.report(
                    "E0001",
                    span,
                    format!("expected `,` or the closing bracket, found {found}"),
                    format!("a `,` or an operator is missing after {what}"),
                );
                if found == "`:`" {
                    diagnostic.help =
                        Some("slices are written x[a..b]; steps do not exist".to_owned());
                }
            }
            _ => {
                self.after_expression();
            }
        }
    }

    fn unclosed(&mut self, open: Span) {
        if self.gave_up {
            return;
        }
        let bracket = self.slice(open).chars().next().unwrap_or('(');
        let close = match bracket {
            '(' => ')',
            '[' => ']',
            _ => '}',
        };
        let at = self.after_last();
        let found = self.describe(0);
        let at = if self.at_new_line() { at } else { self.here() };
        let diagnostic = self.report(
            "E0010",
            open,
            format!("this `{bracket}` is never closed"),
            "opened here",
        );
        diagnostic.labels.push(hecc_ir::diag::Label {
            span: at,
            text: format!("`{close}` was expected before {found}"),
        });
    }
}

// Going on after an error.
impl Parser<'_> {
    /// To the next `,` or closing bracket of the list that is being read, or to where it must have ended.
    fn skip_to_comma(&mut self) {
        let mut depth = 0usize;
        loop {
            match self.peek() {
                Tok::End | Tok::Semicolon | Tok::OpenBrace | Tok::CloseBrace => return,
                Tok::Let | Tok::Var | Tok::Return | Tok::Circuit | Tok::Fn | Tok::Const
                    if self.at_new_line() =>
                {
                    return;
                }
                Tok::Arrow if depth == 0 => return,
                Tok::OpenParen | Tok::OpenBracket => depth += 1,
                Tok::CloseParen | Tok::CloseBracket if depth == 0 => return,
                Tok::CloseParen | Tok::CloseBracket => depth -= 1,
                Tok::Comma if depth == 0 => return,
                _ => {}
            }
            self.bump();
        }
    }

    /// Past the next `;`, or to the brace or the first word of the next statement or item.
    fn skip_statement(&mut self) {
        if self.resumed.take() == Some(self.at) {
            return;
        }
        loop {
            match self.peek() {
                Tok::End | Tok::OpenBrace | Tok::CloseBrace => return,
                Tok::Semicolon => {
                    self.bump();
                    return;
                }
                Tok::Let
                | Tok::Var
                | Tok::For
                | Tok::If
                | Tok::Return
                | Tok::Assert
                | Tok::Use
                | Tok::Const
                | Tok::Fn
                | Tok::Circuit
                    if self.at_new_line() =>
                {
                    return;
                }
                _ => {
                    self.bump();
                }
            }
        }
    }

    /// To the block of a header that could not be read; false when there is none.
    fn skip_to_block(&mut self) -> bool {
        loop {
            match self.peek() {
                Tok::OpenBrace => return true,
                Tok::End | Tok::Semicolon | Tok::CloseBrace => return false,
                Tok::Let
                | Tok::Var
                | Tok::Return
                | Tok::Circuit
                | Tok::Fn
                | Tok::Const
                | Tok::Use
                    if self.at_new_line() =>
                {
                    return false;
                }
                _ => {
                    self.bump();
                }
            }
        }
    }

    /// Past a block of braces without reading it.
    fn skip_braces(&mut self) {
        let mut depth = 0usize;
        loop {
            match self.peek() {
                Tok::End => return,
                Tok::OpenBrace => depth += 1,
                Tok::CloseBrace => {
                    depth = depth.saturating_sub(1);
                    if depth == 0 {
                        self.bump();
                        return;
                    }
                }
                _ => {}
            }
            self.bump();
        }
    }
}

// Items.
impl Parser<'_> {
    fn items(&mut self) -> Vec<Item> {
        let mut items = Vec::new();
        while self.peek() != Tok::End {
            let before = self.at;
            let docs = self.docs();
            match self.item(docs) {
                Ok(Some(item)) => items.push(item),
                Ok(None) => {}
                Err(Failed) => self.skip_item(before),
            }
            if self.at == before && self.peek() != Tok::End {
                self.bump();
            }
        }
        items
    }

    fn skip_item(&mut self, from: usize) {
        let mut first = self.at == from;
        loop {
            match self.peek() {
                Tok::End => return,
                Tok::Semicolon => {
                    self.bump();
                    return;
                }
                Tok::OpenBrace => {
                    self.skip_braces();
                    return;
                }
                Tok::Use | Tok::Const | Tok::Fn | Tok::Circuit if !first && self.at_new_line() => {
                    return;
                }
                Tok::At if !first && self.at_margin() => return,
                _ => {
                    self.bump();
                }
            }
            first = false;
        }
    }

    fn item(&mut self, docs: Vec<String>) -> Parsed<Option<Item>> {
        let start = self.here();
        let attributes = self.attributes();
        let keyword = self.peek();
        if !attributes.is_empty() && keyword != Tok::Circuit {
            self.misplaced_attributes(&attributes, None);
        }
        match keyword {
            Tok::Use => self.use_item().map(Item::Use).map(Some),
            Tok::Const => self.const_item(docs).map(Item::Const).map(Some),
            Tok::Fn => self.fn_item(docs).map(Item::Fn).map(Some),
            Tok::Circuit => self
                .circuit(docs, attributes, start)
                .map(Item::Circuit)
                .map(Some),
            Tok::Let | Tok::Var | Tok::For | Tok::If | Tok::Return | Tok::Assert => {
                let span = self.here();
                let word = self.text(0);
                let help = match keyword {
                    Tok::Let | Tok::Var => "at the top of a file: const NAME = VALUE;",
                    _ => "put it inside `circuit NAME(…) -> OUT { … }`",
                };
                self.report(
                    "E0023",
                    span,
                    format!("`{word}` cannot stand outside a circuit or function"),
                    "only use, const, fn and circuit stand at the top of a file",
                )
                .help = Some(help.to_owned());
                self.statement(false)?;
                Ok(None)
            }
            Tok::CloseBrace | Tok::CloseBracket | Tok::CloseParen => {
                let text = self.text(0);
                let span = self.bump();
                self.report(
                    "E0011",
                    span,
                    format!("this `{text}` closes nothing"),
                    "no bracket is open here",
                )
                .help = Some("remove it".to_owned());
                Ok(None)
            }
            Tok::Semicolon => {
                let span = self.bump();
                self.report(
                    "E0001",
                    span,
                    "this `;` ends nothing",
                    "no `;` is needed here",
                )
                .help = Some("remove it".to_owned());
                Ok(None)
            }
            Tok::Name => self.unknown_item(docs, attributes, start),
            Tok::End if !attributes.is_empty() => {
                Err(self.unexpected("a circuit after the attribute", None))
            }
            _ => Err(self.unexpected("use, const, fn or circuit", None)),
        }
    }

    /// An item that starts with a word the language does not have.
    fn unknown_item(
        &mut self,
        docs: Vec<String>,
        attributes: Vec<Attribute>,
        start: Span,
    ) -> Parsed<Option<Item>> {
        let word = self.text(0);
        let span = self.here();
        let foreign = match word {
            "def" | "func" | "function" | "fun" | "define" | "lambda" => Some((
                "a function is written: fn f(x) = x * x;",
                (self.nth(1) == Tok::Name).then_some(Tok::Fn),
            )),
            "import" | "include" | "from" | "require" | "using" => Some((
                "another file is brought in with: use \"lib/activations.hec\";",
                (self.nth(1) == Tok::Str).then_some(Tok::Use),
            )),
            "static" | "define_const" | "final" | "constant" => Some((
                "a constant is written: const N = 4;",
                (self.nth(1) == Tok::Name).then_some(Tok::Const),
            )),
            "main" | "program" | "module" | "class" | "struct" | "proc" | "export" | "pub" => {
                Some((
                    "a circuit is written: circuit f(x: secret real) -> y: real { return x; }",
                    None,
                ))
            }
            _ => None,
        };
        if let Some((help, tok)) = foreign {
            self.report(
                "E0024",
                span,
                format!("`{word}` is not a word of the language"),
                "not known here",
            )
            .help = Some(help.to_owned());
            return self.as_if(tok, docs, attributes, start);
        }
        if matches!(self.nth(1), Tok::Name | Tok::Str)
            && let Some(keyword) = nearest(word, ["use", "const", "fn", "circuit"])
        {
            let tok = KEYWORDS
                .iter()
                .find(|(k, _)| *k == keyword)
                .map(|(_, tok)| *tok);
            self.report(
                "E0024",
                span,
                format!("`{word}` is not a word of the language"),
                format!("did you mean `{keyword}`?"),
            );
            return self.as_if(tok, docs, attributes, start);
        }
        if self.nth(1) == Tok::Eq {
            self.report(
                "E0023",
                span,
                format!("`{word}` cannot be assigned outside a circuit or function"),
                "only use, const, fn and circuit stand at the top of a file",
            )
            .help = Some(format!("const {word} = …;"));
            self.statement(false)?;
            return Ok(None);
        }
        Err(self.unexpected(
            "use, const, fn or circuit",
            Some("a circuit is written: circuit f(x: secret real) -> y: real { return x; }"),
        ))
    }

    /// Goes on as though the word here were the keyword `tok`.
    fn as_if(
        &mut self,
        tok: Option<Tok>,
        docs: Vec<String>,
        attributes: Vec<Attribute>,
        start: Span,
    ) -> Parsed<Option<Item>> {
        match tok {
            Some(Tok::Use) => self.use_item().map(Item::Use).map(Some),
            Some(Tok::Const) => self.const_item(docs).map(Item::Const).map(Some),
            Some(Tok::Fn) => self.fn_item(docs).map(Item::Fn).map(Some),
            Some(Tok::Circuit) => self
                .circuit(docs, attributes, start)
                .map(Item::Circuit)
                .map(Some),
            _ => Err(Failed),
        }
    }

    fn use_item(&mut self) -> Parsed<Use> {
        let start = self.bump();
        if self.peek() != Tok::Str {
            return Err(self.unexpected(
                "a file name in quotes",
                Some("use \"lib/activations.hec\";"),
            ));
        }
        let path = self.string();
        if path.value.is_empty() {
            self.report(
                "E0001",
                path.span,
                "the file name is empty",
                "name a file here",
            )
            .help = Some("use \"lib/activations.hec\";".to_owned());
        }
        self.semicolon("the file name")?;
        Ok(Use {
            path,
            span: start.to(self.before()),
        })
    }

    fn const_item(&mut self, docs: Vec<String>) -> Parsed<Const> {
        let start = self.bump();
        let name = self.name("a name", Some("const N = 4;"))?;
        let ty = match self.eat(Tok::Colon) {
            Some(_) => Some(self.ty()?),
            None => None,
        };
        self.expect(
            Tok::Eq,
            "`=` and the value",
            Some(&format!("const {} = …;", name.name)),
        )?;
        let value = self.value()?;
        self.semicolon("the value")?;
        Ok(Const {
            docs,
            name,
            ty,
            value,
            span: start.to(self.before()),
        })
    }

    fn fn_item(&mut self, docs: Vec<String>) -> Parsed<Fn> {
        let start = self.bump();
        let name = self.name("a name", Some("fn f(x) = x * x;"))?;
        let open = self.expect(Tok::OpenParen, "`(`", Some("fn f(x) = x * x;"))?;
        let list = self.list(open, Tok::CloseParen, "a parameter", |p| {
            let name = p.name("a parameter", None)?;
            if let Some(colon) = p.eat(Tok::Colon) {
                let from = p.at;
                p.skip_to_comma();
                let end = if p.at > from { p.before() } else { colon };
                p.report(
                    "E0028",
                    colon.to(end),
                    "parameters of a function have no types",
                    "shape and secrecy come from each call",
                )
                .help = Some(format!("leave it at the name: {}", name.name));
            } else if p.peek() == Tok::Eq {
                let span = p.here();
                p.report(
                    "E0001",
                    span,
                    "parameters have no default values",
                    "unexpected `=`",
                );
                return Err(Failed);
            }
            Ok(name)
        });
        let params = match list {
            Ok((params, _)) => params,
            Err(Failed) => {
                if !self.skip_to_block() {
                    return Err(Failed);
                }
                Vec::new()
            }
        };
        if self.peek() == Tok::Arrow {
            let arrow = self.bump();
            while !matches!(
                self.peek(),
                Tok::Eq | Tok::OpenBrace | Tok::Semicolon | Tok::End
            ) {
                self.bump();
            }
            let span = arrow.to(self.before());
            self.report(
                "E0028",
                span,
                "a function declares no output",
                "its shape follows from the body",
            )
            .help = Some("fn f(x) { return x * x; }".to_owned());
        }
        let body = match self.peek() {
            Tok::Eq => {
                self.bump();
                if self.peek() == Tok::OpenBrace {
                    let span = self.before();
                    self.report(
                        "E0001",
                        span,
                        "a body in braces takes no `=`",
                        "one of the two is too many",
                    )
                    .help = Some("fn f(x) = x * x;   or   fn f(x) { return x * x; }".to_owned());
                    FnBody::Block(self.body("function", &name)?)
                } else {
                    let value = self.value()?;
                    self.semicolon("the body")?;
                    FnBody::Expr(value)
                }
            }
            Tok::OpenBrace => FnBody::Block(self.body("function", &name)?),
            _ => {
                return Err(self.unexpected(
                    "`=` and an expression, or a block",
                    Some("fn f(x) = x * x;   or   fn f(x) { return x * x; }"),
                ));
            }
        };
        Ok(Fn {
            docs,
            name,
            params,
            body,
            span: start.to(self.before()),
        })
    }

    fn circuit(
        &mut self,
        docs: Vec<String>,
        attributes: Vec<Attribute>,
        start: Span,
    ) -> Parsed<Circuit> {
        self.check_attributes(&attributes, Place::Circuit);
        let keyword = self.bump();
        let example = "circuit f(x: secret real) -> y: real { return x; }";
        let name = self.name("a name", Some(example))?;
        let header = self.circuit_header(keyword, &name, example);
        let (params, outputs) = match header {
            Ok(header) => header,
            Err(Failed) => {
                if !self.skip_to_block() {
                    return Err(Failed);
                }
                (Vec::new(), Vec::new())
            }
        };
        if self.peek() != Tok::OpenBrace {
            return Err(self.unexpected("`{` and the body", Some(example)));
        }
        let body = self.body("circuit", &name)?;
        Ok(Circuit {
            docs,
            attributes,
            name,
            params,
            outputs,
            body,
            span: start.to(self.before()),
        })
    }

    fn circuit_header(
        &mut self,
        keyword: Span,
        name: &Ident,
        example: &str,
    ) -> Parsed<(Vec<Param>, Vec<Output>)> {
        let open = self.expect(Tok::OpenParen, "`(` and the parameters", Some(example))?;
        let list = self.list(open, Tok::CloseParen, "a parameter", Self::param);
        let params = match list {
            Ok((params, _)) => params,
            // The outputs may still be readable.
            Err(Failed) if self.peek() == Tok::Arrow => Vec::new(),
            Err(Failed) => return Err(Failed),
        };
        if self.peek() == Tok::OpenBrace {
            let span = keyword.to(name.span);
            self.report(
                "E0032",
                span,
                format!("the circuit `{}` has no output", name.name),
                "what it returns is not declared",
            )
            .help = Some("declare it before the body: -> y: real".to_owned());
            return Ok((params, Vec::new()));
        }
        if self.peek() == Tok::Colon {
            let span = self.bump();
            self.report(
                "E0001",
                span,
                "outputs are declared after `->`",
                "not a `:` here",
            )
            .help = Some("-> y: real".to_owned());
        } else {
            self.expect(Tok::Arrow, "`->` and the output", Some("-> y: real"))?;
        }
        let outputs = match self.eat(Tok::OpenParen) {
            Some(open) => {
                let (outputs, span) =
                    self.list(open, Tok::CloseParen, "an output", Self::output)?;
                if outputs.is_empty() {
                    self.report(
                        "E0032",
                        span,
                        format!("the circuit `{}` has no output", name.name),
                        "nothing is declared here",
                    )
                    .help = Some("-> y: real".to_owned());
                }
                outputs
            }
            None => vec![self.output()?],
        };
        if self.peek() == Tok::Comma {
            let span = self.here();
            self.report(
                "E0001",
                span,
                "several outputs stand in parentheses",
                "a second output follows without them",
            )
            .help = Some("-> (a: real, b: real)".to_owned());
            return Err(Failed);
        }
        Ok((params, outputs))
    }

    fn param(&mut self) -> Parsed<Param> {
        // `secret x: real`, as others write it.
        if matches!(self.peek(), Tok::Secret | Tok::Public) && self.nth(1) == Tok::Name {
            let word = self.text(0);
            let span = self.bump();
            let name = self.text(0);
            self.report(
                "E0020",
                span,
                format!("`{word}` stands after the colon"),
                "it belongs to the type",
            )
            .help = Some(format!("{name}: {word} real"));
            self.bump();
            return Err(Failed);
        }
        let name = self.name("a parameter", Some("x: secret real[8] in [-1, 1]"))?;
        if self.eat(Tok::Colon).is_none() {
            let span = name.span;
            if self.peek() == Tok::Bad {
                return Err(Failed);
            }
            self.report(
                "E0020",
                span,
                format!("the parameter `{}` has no type", name.name),
                "secrecy and type are missing",
            )
            .help = Some(format!("{}: secret real", name.name));
            return Err(Failed);
        }
        let secrecy = match self.peek() {
            Tok::Secret => {
                self.bump();
                Secrecy::Secret
            }
            Tok::Public => {
                self.bump();
                Secrecy::Public
            }
            Tok::RealType => {
                let span = self.here();
                self.report(
                    "E0020",
                    span,
                    format!("the parameter `{}` is neither secret nor public", name.name),
                    "say who may know it",
                )
                .help = Some(format!(
                    "{0}: secret real if it is encrypted, {0}: public real if whoever evaluates may know it",
                    name.name
                ));
                Secrecy::Secret
            }
            Tok::Name => {
                let word = self.text(0);
                let span = self.here();
                let message = format!("`{word}` is neither `secret` nor `public`");
                match nearest(word, ["secret", "public"]) {
                    Some(near) => {
                        self.report("E0020", span, message, format!("did you mean `{near}`?"));
                    }
                    None if is_foreign_type(word) => {
                        return Err(self.foreign_type());
                    }
                    None => {
                        self.report("E0020", span, message, "say who may know the value")
                            .help = Some(format!("{}: secret real", name.name));
                    }
                }
                self.bump();
                Secrecy::Secret
            }
            _ => {
                return Err(
                    self.unexpected("`secret` or `public`", Some("x: secret real[8] in [-1, 1]"))
                );
            }
        };
        let ty = self.ty()?;
        let range = self.optional_range()?;
        if self.peek() == Tok::Eq {
            let span = self.here();
            self.report(
                "E0001",
                span,
                "parameters have no default values",
                "unexpected `=`",
            )
            .help = Some("give the value at run time: --input x=…".to_owned());
            return Err(Failed);
        }
        let span = name.span.to(self.before());
        Ok(Param {
            name,
            secrecy,
            ty,
            range,
            span,
        })
    }

    fn output(&mut self) -> Parsed<Output> {
        if self.peek() == Tok::RealType {
            let span = self.here();
            self.report(
                "E0032",
                span,
                "the output has no name",
                "a name and `:` are missing before the type",
            )
            .help = Some("-> y: real".to_owned());
            let ty = self.ty()?;
            let range = self.optional_range()?;
            return Ok(Output {
                name: Ident {
                    name: String::new(),
                    span,
                },
                span: span.to(self.before()),
                ty,
                range,
            });
        }
        let name = self.name("the name of the output", Some("-> y: real"))?;
        self.expect(
            Tok::Colon,
            "`:` and the type of the output",
            Some(&format!("-> {}: real", name.name)),
        )?;
        if matches!(self.peek(), Tok::Secret | Tok::Public) {
            let word = self.text(0);
            let span = self.bump();
            self.report(
                "E0020",
                span,
                format!("an output is not declared `{word}`"),
                "it is secret exactly when it depends on a secret",
            )
            .help = Some(format!("-> {}: real", name.name));
        }
        let ty = self.ty()?;
        let range = self.optional_range()?;
        let span = name.span.to(self.before());
        Ok(Output {
            name,
            ty,
            range,
            span,
        })
    }

    fn ty(&mut self) -> Parsed<Type> {
        let start = match self.peek() {
            Tok::RealType => self.bump(),
            Tok::Name => return Err(self.foreign_type()),
            Tok::Secret | Tok::Public => {
                let word = self.text(0);
                let span = self.here();
                self.report(
                    "E0020",
                    span,
                    format!("`{word}` cannot stand here"),
                    "only parameters of a circuit are secret or public",
                )
                .help = Some("write the type alone: real[4]".to_owned());
                self.bump();
                return self.ty();
            }
            _ => {
                return Err(self.unexpected("a type", Some("real, real[8] or real[2, 3]")));
            }
        };
        let mut dims = Vec::new();
        let mut span = start;
        if let Some(open) = self.eat(Tok::OpenBracket) {
            let (list, brackets) = self.list(open, Tok::CloseBracket, "a dimension", |p| {
                Ok(p.expr(0)?.expr)
            })?;
            if list.is_empty() {
                self.report(
                    "E0028",
                    brackets,
                    "the shape is empty",
                    "dimensions are missing here",
                )
                .help = Some("a scalar is `real`, a vector `real[8]`".to_owned());
            }
            dims = list;
            span = start.to(brackets);
            if self.peek() == Tok::OpenBracket {
                let again = self.here();
                self.report(
                    "E0028",
                    again,
                    "all dimensions stand in one pair of brackets",
                    "a second pair starts here",
                )
                .help = Some("real[2, 3]".to_owned());
                return Err(Failed);
            }
        } else if self.peek() == Tok::OpenParen || self.peek() == Tok::Less {
            let open = self.here();
            self.report(
                "E0028",
                open,
                "dimensions stand in square brackets",
                "not this bracket",
            )
            .help = Some("real[2, 3]".to_owned());
            return Err(Failed);
        }
        Ok(Type { dims, span })
    }

    fn foreign_type(&mut self) -> Failed {
        let word = self.text(0);
        let span = self.here();
        let label = match nearest(word, ["real"]) {
            Some(near) => format!("did you mean `{near}`?"),
            None => "the only type is `real`, with or without dimensions".to_owned(),
        };
        self.report("E0028", span, format!("`{word}` is not a type"), label)
            .help = Some("real, real[8] or real[2, 3]".to_owned());
        self.bump();
        Failed
    }

    fn optional_range(&mut self) -> Parsed<Option<Range>> {
        if self.eat(Tok::In).is_none() {
            return Ok(None);
        }
        let help = "in [-1, 1]";
        if self.peek() != Tok::OpenBracket {
            if self.peek() == Tok::Bad {
                return Err(Failed);
            }
            let span = self.here();
            self.report(
                "E0021",
                span,
                "a range is two bounds in square brackets",
                "`[LO, HI]` was expected here",
            )
            .help = Some(help.to_owned());
            return Err(Failed);
        }
        let open = self.bump();
        let mut dotted = None;
        let (mut bounds, span) = self.list(open, Tok::CloseBracket, "a bound", |p| {
            let value = p.expr(0)?.expr;
            if let Some(dots) = p.eat(Tok::DotDot) {
                dotted = Some(dots);
                p.expr(0)?;
            }
            Ok(value)
        })?;
        if let Some(dots) = dotted {
            self.report(
                "E0021",
                dots,
                "the bounds of a range are separated by `,`",
                "not by `..`",
            )
            .help = Some(help.to_owned());
            return Err(Failed);
        }
        if bounds.len() != 2 {
            let count = bounds.len();
            self.report(
                "E0021",
                span,
                format!("a range has two bounds, not {count}"),
                "smallest and largest value of every element",
            )
            .help = Some(help.to_owned());
            return Err(Failed);
        }
        let hi = bounds.pop().ok_or(Failed)?;
        let lo = bounds.pop().ok_or(Failed)?;
        Ok(Some(Range { lo, hi, span }))
    }
}

// Attributes.
impl Parser<'_> {
    fn attributes(&mut self) -> Vec<Attribute> {
        let mut attributes: Vec<Attribute> = Vec::new();
        while self.peek() == Tok::At {
            match self.attribute() {
                Ok(attribute) => {
                    if let Some(first) = attributes
                        .iter()
                        .find(|a| a.name.name == attribute.name.name)
                    {
                        let first = first.span;
                        let name = attribute.name.name.clone();
                        self.report(
                            "E0016",
                            attribute.span,
                            format!("@{name} stands here twice"),
                            "this one is too many",
                        )
                        .labels
                        .push(hecc_ir::diag::Label {
                            span: first,
                            text: "the first is here".to_owned(),
                        });
                    }
                    attributes.push(attribute);
                }
                Err(Failed) => {
                    while !self.at_new_line()
                        && !matches!(
                            self.peek(),
                            Tok::Circuit | Tok::For | Tok::Let | Tok::Semicolon | Tok::CloseBrace
                        )
                    {
                        self.bump();
                    }
                    if self.peek() == Tok::End {
                        break;
                    }
                }
            }
        }
        attributes
    }

    fn attribute(&mut self) -> Parsed<Attribute> {
        let start = self.bump();
        let name = self.name("the name of an attribute", Some("@budget(depth = 3)"))?;
        let mut args = Vec::new();
        if let Some(open) = self.eat(Tok::OpenParen) {
            let (list, _) = self.list(open, Tok::CloseParen, "a value", Self::arg)?;
            args = list;
        }
        if self.peek() == Tok::Semicolon {
            let span = self.bump();
            self.report(
                "E0001",
                span,
                "an attribute takes no `;`",
                "not needed here",
            )
            .help = Some("remove it".to_owned());
        }
        let span = start.to(self.before());
        let attribute = Attribute { name, args, span };
        self.check_attribute(&attribute);
        Ok(attribute)
    }

    fn check_attribute(&mut self, attribute: &Attribute) {
        let name = attribute.name.name.as_str();
        let Some((_, _, keys, bare, example)) =
            ATTRIBUTES.iter().find(|(known, ..)| *known == name)
        else {
            let known = ATTRIBUTES.map(|(known, ..)| known);
            let label = match nearest(name, known) {
                Some(near) => format!("did you mean @{near}?"),
                None => "not known".to_owned(),
            };
            self.report(
                "E0014",
                attribute.name.span,
                format!("there is no attribute @{name}"),
                label,
            )
            .help = Some(format!(
                "known are {}",
                known.map(|k| format!("@{k}")).join(", ")
            ));
            return;
        };
        let help = Some(format!("write {example}"));
        let mut seen: Vec<&Ident> = Vec::new();
        for arg in &attribute.args {
            match &arg.key {
                None if !bare => {
                    let label = if keys.is_empty() {
                        "this attribute takes no values".to_owned()
                    } else {
                        format!("a value needs a key: {}", keys.join(", "))
                    };
                    self.report(
                        "E0016",
                        arg.span,
                        format!("@{name} does not take this value"),
                        label,
                    )
                    .help = help.clone();
                }
                None => {}
                Some(key) if !keys.contains(&key.name.as_str()) => {
                    let label = match nearest(&key.name, keys.iter().copied()) {
                        Some(near) => format!("did you mean `{near}`?"),
                        None if keys.is_empty() => "this attribute has no keys".to_owned(),
                        None => format!("known are {}", keys.join(", ")),
                    };
                    self.report(
                        "E0016",
                        key.span,
                        format!("@{name} has no key `{}`", key.name),
                        label,
                    )
                    .help = help.clone();
                }
                Some(key) => {
                    if let Some(first) = seen.iter().find(|k| k.name == key.name) {
                        let first = first.span;
                        self.report(
                            "E0016",
                            key.span,
                            format!("`{}` is given twice", key.name),
                            "this one is too many",
                        )
                        .labels
                        .push(hecc_ir::diag::Label {
                            span: first,
                            text: "the first is here".to_owned(),
                        });
                    }
                    seen.push(key);
                }
            }
        }
        let needs = *bare || !keys.is_empty();
        if needs && attribute.args.is_empty() {
            self.report(
                "E0016",
                attribute.span,
                format!("@{name} needs a value"),
                "no value is given",
            )
            .help = help;
        } else if *bare && attribute.args.len() > 1 {
            self.report(
                "E0016",
                attribute.args[1].span,
                format!("@{name} takes one value"),
                "this one is too many",
            )
            .help = help;
        }
    }

    fn check_attributes(&mut self, attributes: &[Attribute], place: Place) {
        for attribute in attributes {
            let known = ATTRIBUTES
                .iter()
                .find(|(name, ..)| *name == attribute.name.name);
            if known.is_some_and(|(_, places, ..)| !places.contains(&place)) {
                self.misplaced_attributes(std::slice::from_ref(attribute), Some(place));
            }
        }
    }

    fn misplaced_attributes(&mut self, attributes: &[Attribute], place: Option<Place>) {
        for attribute in attributes {
            let name = &attribute.name.name;
            let Some((_, places, ..)) = ATTRIBUTES.iter().find(|(known, ..)| known == name) else {
                continue;
            };
            let names: Vec<&str> = places.iter().map(|p| place_name(*p)).collect();
            let label = match place {
                Some(place) => format!("it cannot stand before a `{}`", place_name(place)),
                None => "what follows takes no such attribute".to_owned(),
            };
            self.report(
                "E0015",
                attribute.span,
                format!("@{name} does not belong here"),
                label,
            )
            .help = Some(format!(
                "@{name} stands before a `{}`",
                names.join("` or a `")
            ));
        }
    }

    /// Whether the `@` here starts an attribute after a statement whose `;` is missing.
    fn at_attribute(&self) -> bool {
        let name = self.token(1);
        if !self.at_new_line()
            || name.tok != Tok::Name
            || name.start != self.token(0).end
            || !ATTRIBUTES.iter().any(|(known, ..)| *known == self.text(1))
        {
            return false;
        }
        let mut n = 2;
        if self.nth(n) == Tok::OpenParen {
            // Attributes are short; looking no further keeps the work linear.
            while n < 64 && !matches!(self.nth(n), Tok::CloseParen | Tok::End) {
                n += 1;
            }
            n += 1;
        }
        matches!(
            self.nth(n),
            Tok::Let | Tok::For | Tok::Circuit | Tok::Var | Tok::At
        )
    }
}

// Statements.
impl Parser<'_> {
    /// The block of a function or circuit: it must end in `return`.
    fn body(&mut self, what: &str, name: &Ident) -> Parsed<Block> {
        let errors = self.diagnostics.len();
        let block = self.block(true)?;
        let returns = block
            .stmts
            .iter()
            .any(|s| matches!(s.kind, StmtKind::Return { .. }));
        // A statement that could not be read may have been the return.
        let read = self.diagnostics[errors..].iter().all(|d| d.code == "E0008");
        if !returns && read && !self.gave_up {
            let span = Span {
                start: block.span.end.saturating_sub(1).max(block.span.start),
                ..block.span
            };
            self.report(
                "E0012",
                span,
                format!("the {what} `{}` returns nothing", name.name),
                "a `return` is missing before this brace",
            )
            .help = Some("return EXPR;".to_owned());
        }
        Ok(block)
    }

    /// `{ … }`. The closing brace may be missing, after an error.
    fn block(&mut self, outermost: bool) -> Parsed<Block> {
        self.enter()?;
        let open = self.bump();
        let mut stmts: Vec<Stmt> = Vec::new();
        let mut after_return = false;
        loop {
            match self.peek() {
                Tok::CloseBrace => {
                    self.bump();
                    break;
                }
                Tok::End => {
                    self.unclosed(open);
                    break;
                }
                Tok::Use | Tok::Const | Tok::Fn | Tok::Circuit if self.at_margin() => {
                    self.unclosed(open);
                    break;
                }
                Tok::Use | Tok::Const | Tok::Fn | Tok::Circuit => self.nested_item(),
                Tok::Semicolon => {
                    let span = self.bump();
                    self.report(
                        "E0001",
                        span,
                        "this `;` ends nothing",
                        "no `;` is needed here",
                    )
                    .help = Some("remove it".to_owned());
                }
                _ => {
                    let before = self.at;
                    match self.statement(outermost) {
                        Ok(stmt) => {
                            if after_return {
                                self.report(
                                    "E0013",
                                    stmt.span,
                                    "nothing may follow the `return`",
                                    "this is never reached",
                                )
                                .help = Some("return once, at the end".to_owned());
                                after_return = false;
                            } else if matches!(stmt.kind, StmtKind::Return { .. }) {
                                after_return = outermost;
                                stmts.push(stmt);
                            } else {
                                stmts.push(stmt);
                            }
                        }
                        Err(Failed) => {
                            self.skip_statement();
                            if self.peek() == Tok::OpenBrace {
                                // Whatever the block belonged to: what stands in it can be read.
                                if self.block(false).is_err() {
                                    self.skip_statement();
                                }
                            }
                        }
                    }
                    if self.at == before && self.peek() != Tok::End {
                        self.bump();
                    }
                }
            }
        }
        self.leave();
        Ok(Block {
            stmts,
            span: open.to(self.before()),
        })
    }

    fn nested_item(&mut self) {
        let word = self.text(0);
        let span = self.here();
        let help = match self.peek() {
            Tok::Const => "bind a value here with `let NAME = …;`".to_owned(),
            _ => format!("move the `{word}` to the top of the file"),
        };
        self.report(
            "E0023",
            span,
            format!("`{word}` cannot stand inside a block"),
            "only statements stand here",
        )
        .help = Some(help);
        let before = self.at;
        if self.item(Vec::new()).is_err() {
            self.skip_statement();
        }
        if self.at == before {
            self.bump();
        }
    }

    fn statement(&mut self, outermost: bool) -> Parsed<Stmt> {
        let start = self.here();
        let attributes = self.attributes();
        match self.peek() {
            Tok::For => self.check_attributes(&attributes, Place::For),
            Tok::Let => self.check_attributes(&attributes, Place::Let),
            _ => self.misplaced_attributes(&attributes, None),
        }
        let kind = match self.peek() {
            Tok::Let => self.let_statement()?,
            Tok::Var => self.var_statement()?,
            Tok::For => self.for_statement()?,
            Tok::If => self.if_statement()?,
            Tok::Return => {
                let keyword = self.here();
                let kind = self.return_statement()?;
                if !outermost {
                    self.report(
                        "E0013",
                        keyword,
                        "`return` stands last in the circuit or function",
                        "it cannot leave a loop or a condition",
                    )
                    .help = Some(
                        "assign to a `var` declared before, and return it at the end".to_owned(),
                    );
                }
                kind
            }
            Tok::Assert => self.assert_statement()?,
            Tok::Name => self.name_statement()?,
            Tok::Else => {
                let span = self.bump();
                self.report(
                    "E0001",
                    span,
                    "this `else` belongs to no `if`",
                    "no `if` block ends just before",
                );
                if self.peek() == Tok::OpenBrace {
                    self.block(false)?;
                }
                return Err(self.resume());
            }
            Tok::CloseParen | Tok::CloseBracket => {
                let text = self.text(0);
                let span = self.bump();
                self.report(
                    "E0011",
                    span,
                    format!("this `{text}` closes nothing"),
                    "no bracket is open here",
                )
                .help = Some("remove it".to_owned());
                return Err(Failed);
            }
            Tok::OpenBrace => {
                let span = self.here();
                self.report(
                    "E0001",
                    span,
                    "a block cannot stand alone",
                    "it belongs after `for` or `if`",
                );
                self.block(false)?;
                return Err(self.resume());
            }
            Tok::Int | Tok::Real | Tok::Minus | Tok::OpenParen | Tok::OpenBracket | Tok::Str => {
                return self.lone_expression();
            }
            Tok::CloseBrace | Tok::End => {
                // Only after attributes.
                return Err(self.unexpected("a statement after the attribute", None));
            }
            _ => {
                return Err(self.unexpected("a statement", Some("let x = …;")));
            }
        };
        Ok(Stmt {
            attributes,
            kind,
            span: start.to(self.before()),
        })
    }

    fn let_statement(&mut self) -> Parsed<StmtKind> {
        self.bump();
        if self.peek() == Tok::Name && self.text(0) == "mut" && self.nth(1) == Tok::Name {
            let span = self.bump();
            let name = self.text(0);
            self.report(
                "E0024",
                span,
                "`mut` is not a word of the language",
                "a variable is declared with `var`",
            )
            .help = Some(format!("var {name} = …;"));
        }
        if self.peek() == Tok::OpenParen {
            let span = self.here();
            self.report(
                "E0033",
                span,
                "`let` binds one name",
                "several values cannot be taken apart here",
            )
            .help = Some("let a = …; let b = …;".to_owned());
            return Err(Failed);
        }
        let name = self.name("a name", Some("let x = …;"))?;
        self.no_type(&name, "let");
        let range = self.optional_range()?;
        self.binding_eq("let", &name)?;
        let value = self.value()?;
        self.semicolon("the value")?;
        Ok(StmtKind::Let { name, range, value })
    }

    fn var_statement(&mut self) -> Parsed<StmtKind> {
        self.bump();
        let name = self.name("a name", Some("var x = …;"))?;
        self.no_type(&name, "var");
        if self.peek() == Tok::In {
            let span = self.here();
            self.optional_range()?;
            let span = span.to(self.before());
            self.report(
                "E0021",
                span,
                "a `var` declares no range",
                "the range of a variable changes with what is assigned",
            )
            .help = Some(format!(
                "declare it where the value is made: let next in [-1, 1] = …; {} = next;",
                name.name
            ));
        }
        self.binding_eq("var", &name)?;
        let value = self.value()?;
        self.semicolon("the value")?;
        Ok(StmtKind::Var { name, value })
    }

    /// `: TYPE` where none belongs.
    fn no_type(&mut self, name: &Ident, keyword: &str) {
        let Some(colon) = self.eat(Tok::Colon) else {
            return;
        };
        while !matches!(
            self.peek(),
            Tok::Eq | Tok::In | Tok::Semicolon | Tok::CloseBrace | Tok::End
        ) && !self.at_new_line()
        {
            self.bump();
        }
        let span = colon.to(self.before());
        self.report(
            "E0028",
            span,
            format!("a `{keyword}` has no type"),
            "the shape follows from the value",
        )
        .help = Some(format!("{keyword} {} = …;", name.name));
    }

    fn binding_eq(&mut self, keyword: &str, name: &Ident) -> Parsed<()> {
        let help = format!("{keyword} {} = …;", name.name);
        if self.peek() == Tok::EqEq {
            let span = self.bump();
            self.report(
                "E0017",
                span,
                "`==` compares; a value is bound with `=`",
                "write `=` here",
            )
            .help = Some(help);
            return Ok(());
        }
        if self.peek() == Tok::Semicolon || (self.at_new_line() && self.peek() != Tok::Eq) {
            self.report(
                "E0029",
                name.span,
                format!("`{}` has no value", name.name),
                "every name is given a value where it is declared",
            )
            .help = Some(help);
            return Err(Failed);
        }
        self.expect(Tok::Eq, "`=` and the value", Some(&help))
            .map(|_| ())
    }

    /// An expression after `=`.
    fn value(&mut self) -> Parsed<Expr> {
        match self.peek() {
            Tok::Eq => {
                let span = self.bump();
                self.report(
                    "E0017",
                    span,
                    "one `=` is enough",
                    "a second `=` stands here",
                )
                .help = Some("equality is written `==`, without a space".to_owned());
            }
            Tok::Semicolon => {
                let span = self.here();
                self.report(
                    "E0029",
                    span,
                    "the value is missing",
                    "a value belongs before this",
                );
                return Err(Failed);
            }
            Tok::If => {
                let span = self.here();
                self.report(
                    "E0001",
                    span,
                    "`if` is a statement and has no value",
                    "a value was expected here",
                )
                .help = Some("var x = A; if COND { x = B; }".to_owned());
                return Err(Failed);
            }
            _ => {}
        }
        Ok(self.expr(0)?.expr)
    }

    fn for_statement(&mut self) -> Parsed<StmtKind> {
        let keyword = self.bump();
        let header = self.for_header(keyword);
        let header = match header {
            Ok(header) => header,
            Err(Failed) => {
                if self.skip_to_block() {
                    self.block(false)?;
                }
                return Err(self.resume());
            }
        };
        let (var, start, end) = header;
        let body = self.block(false)?;
        Ok(StmtKind::For(For {
            var,
            start,
            end,
            body,
        }))
    }

    /// A failure after which the next statement starts here: nothing is to be skipped.
    fn resume(&mut self) -> Failed {
        self.resumed = Some(self.at);
        Failed
    }

    fn for_header(&mut self, keyword: Span) -> Parsed<(Ident, Expr, Expr)> {
        let help = "for i in 0..n { … }";
        if self.peek() == Tok::OpenParen {
            let span = self.here();
            self.report(
                "E0026",
                span,
                "a loop header has no parentheses",
                "the loop variable was expected here",
            )
            .help = Some(help.to_owned());
            return Err(Failed);
        }
        let var = self.name("a loop variable", Some(help))?;
        if self.peek() != Tok::In && self.peek() != Tok::Bad {
            let span = self.here();
            let found = self.describe(0);
            self.report(
                "E0026",
                span,
                format!("expected `in` and a range, found {found}"),
                "`in` was expected here",
            )
            .help = Some(help.to_owned());
            return Err(Failed);
        }
        self.expect(Tok::In, "`in`", Some(help))?;
        let (start, end) = self.range_bounds(keyword)?;
        if self.peek() != Tok::OpenBrace {
            if self.peek() == Tok::Colon {
                let span = self.here();
                self.report(
                    "E0001",
                    span,
                    "a loop body stands in braces",
                    "`{` was expected here",
                )
                .help = Some(help.to_owned());
                return Err(Failed);
            }
            if self.peek() == Tok::DotDot {
                let span = self.here();
                self.report(
                    "E0026",
                    span,
                    "loops have no step",
                    "a second `..` stands here",
                )
                .help = Some("for i in 0..n / 2 { let j = 2 * i; … }".to_owned());
                return Err(Failed);
            }
            return Err(self.unexpected("`{` and the body", Some(help)));
        }
        Ok((var, start, end))
    }

    fn range_bounds(&mut self, from: Span) -> Parsed<(Expr, Expr)> {
        let start = self.expr(0)?.expr;
        if self.eat(Tok::DotDot).is_none() {
            if self.peek() == Tok::Bad {
                return Err(Failed);
            }
            let span = start.span;
            let text = self.slice(span);
            let help = match &start.kind {
                ExprKind::Call { callee, args } if callee.name == "range" => {
                    match args.as_slice() {
                        [n] => format!("0..{}", self.slice(n.span)),
                        [a, b, ..] => format!("{}..{}", self.slice(a.span), self.slice(b.span)),
                        [] => "0..n".to_owned(),
                    }
                }
                ExprKind::Int(_) => format!("0..{text}"),
                ExprKind::Name(_) => {
                    format!("for i in 0..len({text}) {{ … {text}[i] … }}")
                }
                _ => "0..n".to_owned(),
            };
            let span = if span.start < from.start { from } else { span };
            self.report(
                "E0026",
                span,
                "a loop runs over a range `a..b`",
                "this is no range",
            )
            .help = Some(help);
            return Err(Failed);
        }
        let end = self.expr(0)?.expr;
        Ok((start, end))
    }

    fn if_statement(&mut self) -> Parsed<StmtKind> {
        let mut branches = Vec::new();
        let mut otherwise = None;
        let mut failed = false;
        loop {
            self.bump();
            let cond = self.condition();
            if self.peek() != Tok::OpenBrace && !self.skip_to_block() {
                return Err(Failed);
            }
            let block = self.block(false)?;
            match cond {
                Ok(cond) => branches.push((cond, block)),
                Err(Failed) => failed = true,
            }
            if self.peek() == Tok::Name && matches!(self.text(0), "elif" | "elseif" | "elsif") {
                let word = self.text(0);
                let span = self.here();
                self.report(
                    "E0024",
                    span,
                    format!("`{word}` is not a word of the language"),
                    "this is written `else if`",
                );
                continue;
            }
            if self.eat(Tok::Else).is_none() {
                break;
            }
            if self.peek() == Tok::If {
                continue;
            }
            if self.peek() != Tok::OpenBrace {
                return Err(self.unexpected("`{` or `if`", Some("else { … }")));
            }
            otherwise = Some(self.block(false)?);
            break;
        }
        if failed {
            return Err(self.resume());
        }
        Ok(StmtKind::If(If {
            branches,
            otherwise,
        }))
    }

    fn condition(&mut self) -> Parsed<Expr> {
        if self.peek() == Tok::OpenBrace {
            let span = self.here();
            self.report(
                "E0029",
                span,
                "the condition is missing",
                "a condition belongs before this block",
            );
            return Err(Failed);
        }
        let cond = self.expr(0)?.expr;
        match self.peek() {
            Tok::OpenBrace => Ok(cond),
            Tok::Eq => {
                let span = self.here();
                self.report(
                    "E0017",
                    span,
                    "`=` assigns; a condition compares with `==`",
                    "write `==` here",
                )
                .help = Some(format!("if {} == … {{", self.slice(cond.span)));
                Err(Failed)
            }
            Tok::Colon => {
                let span = self.here();
                self.report(
                    "E0001",
                    span,
                    "the block of an `if` stands in braces",
                    "`{` was expected here",
                )
                .help = Some("if COND { … } else { … }".to_owned());
                Err(Failed)
            }
            Tok::Name
                if !self.at_new_line()
                    && matches!(self.text(0), "and" | "or" | "mod" | "div" | "is" | "not") =>
            {
                Err(self.after_expression())
            }
            _ => Err(self.unexpected("`{` and a block", Some("if COND { … } else { … }"))),
        }
    }

    fn return_statement(&mut self) -> Parsed<StmtKind> {
        self.bump();
        if matches!(self.peek(), Tok::Semicolon | Tok::CloseBrace) {
            let span = self.before();
            self.report(
                "E0029",
                span,
                "`return` needs a value",
                "nothing is returned",
            )
            .help = Some("return x;   or   return (a, b);".to_owned());
            self.eat(Tok::Semicolon);
            return Ok(StmtKind::Return { values: Vec::new() });
        }
        let mut values = Vec::new();
        if let Some(open) = self.eat(Tok::OpenParen) {
            self.enter()?;
            let mut height = 0;
            let list = self.list(open, Tok::CloseParen, "a value", |p| {
                let tree = p.expr(0)?;
                height = height.max(tree.height);
                Ok(tree.expr)
            });
            self.leave();
            let (mut list, span) = list?;
            if list.len() == 1
                && let Some(inner) = list.pop()
            {
                let tree = self.tree(ExprKind::Paren(Box::new(inner)), span, height)?;
                let tree = self.postfix(tree)?;
                values.push(self.infix(tree, 0)?.expr);
            } else if list.is_empty() {
                self.report(
                    "E0029",
                    span,
                    "`return` needs a value",
                    "nothing is returned",
                )
                .help = Some("return x;   or   return (a, b);".to_owned());
            } else {
                values = list;
            }
        } else {
            values.push(self.value()?);
        }
        if self.peek() == Tok::Comma {
            let span = self.here();
            self.report(
                "E0033",
                span,
                "several values are returned in parentheses",
                "a second value follows without them",
            )
            .help = Some("return (a, b);".to_owned());
            return Err(Failed);
        }
        self.semicolon("the returned value")?;
        Ok(StmtKind::Return { values })
    }

    fn assert_statement(&mut self) -> Parsed<StmtKind> {
        self.bump();
        let help = "assert(N > 0, \"N must be positive\");";
        let open = self.expect(Tok::OpenParen, "`(` and a condition", Some(help))?;
        let (mut args, span) = self.list(open, Tok::CloseParen, "a condition", |p| {
            Ok(p.expr(0)?.expr)
        })?;
        if args.is_empty() || args.len() > 2 {
            self.report(
                "E0001",
                span,
                "assert takes a condition and, if you like, a text",
                format!("{} values stand here", args.len()),
            )
            .help = Some(help.to_owned());
            return Err(Failed);
        }
        let message = match args.len() {
            2 => args.pop(),
            _ => None,
        };
        let message = match message {
            None => None,
            Some(Expr {
                kind: ExprKind::Str(value),
                span,
            }) => Some(Str { value, span }),
            Some(other) => {
                self.report(
                    "E0001",
                    other.span,
                    "the second argument of assert is a text",
                    "a text in quotes was expected here",
                )
                .help = Some(help.to_owned());
                None
            }
        };
        let cond = args.pop().ok_or(Failed)?;
        self.semicolon("the assertion")?;
        Ok(StmtKind::Assert { cond, message })
    }

    /// An assignment, or a mistake that starts with a name.
    fn name_statement(&mut self) -> Parsed<StmtKind> {
        let word = self.text(0);
        let span = self.here();
        if let Some(help) = foreign_statement(word)
            && !matches!(self.nth(1), Tok::Eq | Tok::OpenBracket)
        {
            self.report(
                "E0024",
                span,
                format!("`{word}` is not a word of the language"),
                "not known here",
            )
            .help = Some(help.to_owned());
            self.bump();
            return Err(Failed);
        }
        if self.nth(1) == Tok::Name {
            let known = ["let", "var", "for", "if", "return", "assert"];
            if let Some(near) = nearest(word, known) {
                self.report(
                    "E0024",
                    span,
                    format!("`{word}` is not a word of the language"),
                    format!("did you mean `{near}`?"),
                );
                return match near {
                    "let" => self.let_statement(),
                    "var" => self.var_statement(),
                    "for" => self.for_statement(),
                    "if" => self.if_statement(),
                    "return" => self.return_statement(),
                    _ => self.assert_statement(),
                };
            }
            if is_foreign_type(word) || word == "double" {
                let name = self.text(1);
                self.report(
                    "E0024",
                    span,
                    format!("`{word}` is not a word of the language"),
                    "names are declared without a type",
                )
                .help = Some(format!("let {name} = …;"));
                self.bump();
                return Err(Failed);
            }
        }
        let target = self.expr(0)?.expr;
        match self.peek() {
            Tok::Eq => {}
            Tok::Colon => {
                let span = self.here();
                self.report(
                    "E0001",
                    span,
                    "a value is bound with `let` or `var`",
                    "a type cannot stand here",
                )
                .help = Some(format!("let {} = …;", self.slice(target.span)));
                return Err(Failed);
            }
            _ => return self.no_effect(target),
        }
        self.bump();
        let target_span = target.span;
        let place = place(target);
        let value = self.value()?;
        self.semicolon("the value")?;
        let Some((name, subscripts)) = place else {
            self.report(
                "E0031",
                target_span,
                "this cannot be assigned to",
                "only a variable or an element of one can",
            )
            .help = Some("x = …;   or   x[i] = …;".to_owned());
            return Err(self.resume());
        };
        Ok(StmtKind::Assign {
            name,
            subscripts,
            value,
        })
    }

    fn lone_expression(&mut self) -> Parsed<Stmt> {
        let expr = self.expr(0)?.expr;
        if self.peek() == Tok::Eq {
            self.report(
                "E0031",
                expr.span,
                "this cannot be assigned to",
                "only a variable or an element of one can",
            )
            .help = Some("x = …;   or   x[i] = …;".to_owned());
            return Err(Failed);
        }
        self.no_effect(expr).map(|kind| Stmt {
            attributes: Vec::new(),
            kind,
            span: self.before(),
        })
    }

    /// A statement that is an expression: nothing would come of its value.
    fn no_effect(&mut self, expr: Expr) -> Parsed<StmtKind> {
        let ends = matches!(self.peek(), Tok::Semicolon | Tok::CloseBrace) || self.at_new_line();
        if !ends {
            return Err(self.after_expression());
        }
        let last = self.peek() == Tok::CloseBrace
            || (self.peek() == Tok::Semicolon && self.nth(1) == Tok::CloseBrace);
        let text: String = self.slice(expr.span).chars().take(60).collect();
        let help = match (&expr.kind, last) {
            (
                ExprKind::Binary {
                    op: BinaryOp::Eq,
                    lhs,
                    rhs,
                    ..
                },
                _,
            ) => format!(
                "to assign, write {} = {};",
                self.slice(lhs.span),
                self.slice(rhs.span)
            ),
            (_, true) if !text.contains('\n') => format!("return {text};"),
            (ExprKind::Call { callee, .. }, _)
                if matches!(callee.name.as_str(), "print" | "println" | "printf") =>
            {
                "what the circuit returns is what you see; nothing can be printed inside".to_owned()
            }
            _ => "bind it: let x = …;".to_owned(),
        };
        self.report(
            "E0019",
            expr.span,
            "this expression has no effect",
            "its value is not used",
        )
        .help = Some(help);
        self.eat(Tok::Semicolon);
        Err(self.resume())
    }
}

// Expressions.
impl Parser<'_> {
    fn tree(&mut self, kind: ExprKind, span: Span, below: usize) -> Parsed<Tree> {
        if below + 1 > MAX_DEPTH {
            return Err(self.too_deep(span));
        }
        Ok(Tree {
            expr: Expr { kind, span },
            height: below + 1,
        })
    }

    /// An expression whose operators bind at least as tight as `min`.
    fn expr(&mut self, min: u8) -> Parsed<Tree> {
        self.enter()?;
        let tree = self.prefix().and_then(|lhs| self.infix(lhs, min));
        self.leave();
        tree
    }

    fn infix(&mut self, mut lhs: Tree, min: u8) -> Parsed<Tree> {
        while let Some(op) = infix_operator(self.peek()) {
            let precedence = op.precedence();
            if precedence < min || (op == BinaryOp::MatMul && self.at_attribute()) {
                break;
            }
            let op_span = self.bump();
            let rhs = match op {
                BinaryOp::Pow => self.expr(precedence)?,
                _ => self.expr(precedence + 1)?,
            };
            let span = lhs.expr.span.to(rhs.expr.span);
            let below = lhs.height.max(rhs.height);
            if matches!(precedence, 3 | 7) {
                if precedence == 3
                    && let ExprKind::Binary {
                        op: first,
                        lhs: a,
                        rhs: b,
                        ..
                    } = &lhs.expr.kind
                    && first.precedence() == 3
                {
                    let [a, b, c] = [a.span, b.span, rhs.expr.span].map(|s| self.slice(s));
                    let help = format!("{a} {} {b} && {b} {} {c}", first.symbol(), op.symbol());
                    self.report(
                        "E0018",
                        op_span,
                        "comparisons cannot be chained",
                        "a second comparison of the same value",
                    )
                    .help = Some(help);
                }
                let kind = ExprKind::Binary {
                    op,
                    op_span,
                    lhs: Box::new(lhs.expr),
                    rhs: Box::new(rhs.expr),
                };
                lhs = self.tree(kind, span, below)?;
                continue;
            }
            let link = Link {
                op,
                op_span,
                operand: rhs.expr,
            };
            match &mut lhs.expr.kind {
                ExprKind::Chain { rest, .. } if rest[0].op.precedence() == precedence => {
                    rest.push(link);
                    lhs.expr.span = span;
                    lhs.height = lhs.height.max(rhs.height + 1);
                    if lhs.height > MAX_DEPTH {
                        return Err(self.too_deep(span));
                    }
                }
                _ => {
                    let kind = ExprKind::Chain {
                        first: Box::new(lhs.expr),
                        rest: vec![link],
                    };
                    lhs = self.tree(kind, span, below)?;
                }
            }
        }
        Ok(lhs)
    }

    fn prefix(&mut self) -> Parsed<Tree> {
        let op = match self.peek() {
            Tok::Minus => UnaryOp::Neg,
            Tok::Bang => UnaryOp::Not,
            Tok::Name
                if self.text(0) == "not" && matches!(self.nth(1), Tok::Name | Tok::OpenParen) =>
            {
                let span = self.here();
                self.report(
                    "E0007",
                    span,
                    "`not` is not an operator",
                    "this is written `!`",
                );
                UnaryOp::Not
            }
            Tok::Plus => {
                let span = self.bump();
                self.report(
                    "E0001",
                    span,
                    "there is no unary `+`",
                    "a value was expected here",
                )
                .help = Some("remove it".to_owned());
                return self.expr(7);
            }
            _ => {
                let primary = self.primary()?;
                return self.postfix(primary);
            }
        };
        let start = self.bump();
        let operand = self.expr(BinaryOp::Pow.precedence())?;
        let span = start.to(operand.expr.span);
        let kind = ExprKind::Unary {
            op,
            operand: Box::new(operand.expr),
        };
        self.tree(kind, span, operand.height)
    }

    fn postfix(&mut self, mut base: Tree) -> Parsed<Tree> {
        loop {
            match self.peek() {
                Tok::Quote => {
                    let span = base.expr.span.to(self.bump());
                    base =
                        self.tree(ExprKind::Transpose(Box::new(base.expr)), span, base.height)?;
                }
                Tok::OpenBracket => {
                    let (subscript, below) = self.subscript()?;
                    let span = base.expr.span.to(subscript.span);
                    let below = below.max(base.height);
                    let kind = ExprKind::Index {
                        base: Box::new(base.expr),
                        subscript,
                    };
                    base = self.tree(kind, span, below)?;
                }
                Tok::OpenParen if !self.at_new_line() => {
                    let text = self.slice(base.expr.span);
                    let span = base.expr.span;
                    let help = (text.len() <= 40 && !text.contains('\n'))
                        .then(|| format!("if a product is meant: {text} * (…)"));
                    self.report(
                        "E0027",
                        span,
                        "this cannot be called",
                        "only a function's name may stand before `(`",
                    )
                    .help = help;
                    let open = self.bump();
                    self.enter()?;
                    let list = self.list(open, Tok::CloseParen, "an argument", Self::arg);
                    self.leave();
                    let (_, close) = list?;
                    base = self.tree(ExprKind::Error, span.to(close), 0)?;
                }
                Tok::Dot => {
                    self.dot();
                    return Err(Failed);
                }
                _ => return Ok(base),
            }
        }
    }

    fn subscript(&mut self) -> Parsed<(Subscript, usize)> {
        self.enter()?;
        let open = self.bump();
        let mut below = 0;
        let list = self.list(open, Tok::CloseBracket, "an index", |p| {
            let from = p.here();
            if p.peek() == Tok::Colon {
                let span = p.here();
                p.report(
                    "E0026",
                    span,
                    "slices are written with `..`",
                    "not with `:`",
                )
                .help = Some("x[a..b], or x[..] for all".to_owned());
                return Err(Failed);
            }
            let start = match p.peek() {
                Tok::DotDot => None,
                _ => {
                    let tree = p.expr(0)?;
                    below = below.max(tree.height);
                    Some(tree.expr)
                }
            };
            if p.peek() == Tok::Colon {
                let span = p.here();
                p.report(
                    "E0026",
                    span,
                    "slices are written with `..`",
                    "not with `:`",
                )
                .help = Some("x[a..b]".to_owned());
                return Err(Failed);
            }
            if p.eat(Tok::DotDot).is_none() {
                return start.map(Index::At).ok_or(Failed);
            }
            let end = match p.peek() {
                Tok::Comma | Tok::CloseBracket => None,
                _ => {
                    let tree = p.expr(0)?;
                    below = below.max(tree.height);
                    Some(tree.expr)
                }
            };
            Ok(Index::Slice {
                start,
                end,
                span: from.to(p.before()),
            })
        });
        self.leave();
        let (indices, span) = list?;
        if indices.is_empty() {
            self.report(
                "E0029",
                span,
                "the index is missing",
                "an index belongs between the brackets",
            )
            .help = Some("x[0], x[i, j] or x[a..b]".to_owned());
            return Err(Failed);
        }
        Ok((Subscript { indices, span }, below))
    }

    fn arg(&mut self) -> Parsed<Arg> {
        self.arg_tree().map(|(arg, _)| arg)
    }

    fn arg_tree(&mut self) -> Parsed<(Arg, usize)> {
        let start = self.here();
        let key = match (self.peek(), self.nth(1)) {
            (Tok::Name, Tok::Eq) => {
                let name = self.text(0).to_owned();
                let span = self.bump();
                self.bump();
                Some(Ident { name, span })
            }
            // `in = …` and the like would be keys; say so rather than stumble.
            (tok, Tok::Eq) if KEYWORDS.iter().any(|(_, k)| *k == tok) => Some({
                let ident = self.name("a key", None)?;
                self.bump();
                ident
            }),
            _ => None,
        };
        if key.is_some() && matches!(self.peek(), Tok::Comma | Tok::CloseParen) {
            let span = self.before();
            self.report(
                "E0029",
                span,
                "the value is missing",
                "a value belongs after this",
            );
            return Err(Failed);
        }
        let tree = self.expr(0)?;
        let arg = Arg {
            key,
            value: tree.expr,
            span: start.to(self.before()),
        };
        Ok((arg, tree.height))
    }

    fn call(&mut self) -> Parsed<Tree> {
        let name = self.text(0).to_owned();
        let callee = Ident {
            name,
            span: self.bump(),
        };
        let open = self.bump();
        let mut below = 0;
        self.enter()?;
        let list = self.list(open, Tok::CloseParen, "an argument", |p| {
            let (arg, height) = p.arg_tree()?;
            below = below.max(height);
            Ok(arg)
        });
        self.leave();
        let (args, brackets) = list?;
        let mut keyed: Vec<&Ident> = Vec::new();
        let mut problems: Vec<(Span, Span, String)> = Vec::new();
        for arg in &args {
            match &arg.key {
                None => {
                    if let Some(first) = keyed.first() {
                        problems.push((
                            arg.span,
                            first.span,
                            "a value without key cannot follow one with a key".to_owned(),
                        ));
                    }
                }
                Some(key) => {
                    if let Some(first) = keyed.iter().find(|k| k.name == key.name) {
                        problems.push((
                            key.span,
                            first.span,
                            format!("`{}` is given twice", key.name),
                        ));
                    } else if keyed.len() < 64 {
                        keyed.push(key);
                    }
                }
            }
        }
        for (span, first, message) in problems {
            self.report("E0025", span, message, "this one is out of place")
                .labels
                .push(hecc_ir::diag::Label {
                    span: first,
                    text: "the first key is here".to_owned(),
                });
        }
        let span = callee.span.to(brackets);
        self.tree(ExprKind::Call { callee, args }, span, below)
    }

    fn primary(&mut self) -> Parsed<Tree> {
        let span = self.here();
        match self.peek() {
            Tok::Int => {
                let text = self.text(0).replace('_', "");
                self.bump();
                // A superscript was read as `^` and a number.
                let text = match text.as_str() {
                    "\u{B2}" => "2",
                    "\u{B3}" => "3",
                    digits => digits,
                };
                let kind = match text.parse::<i64>() {
                    Ok(value) => ExprKind::Int(value),
                    Err(_) => {
                        self.report(
                            "E0005",
                            span,
                            "this integer is too large",
                            format!("integers go up to {}", i64::MAX),
                        )
                        .help = Some("write a real number: 1e20, say".to_owned());
                        ExprKind::Error
                    }
                };
                self.tree(kind, span, 0)
            }
            Tok::Real => {
                let text = self.text(0).replace('_', "");
                self.bump();
                let kind = match text.parse::<f64>() {
                    Ok(value) if value.is_finite() => ExprKind::Real(value),
                    _ => {
                        self.report(
                            "E0005",
                            span,
                            "this number is too large",
                            "numbers go up to about 1.8e308",
                        );
                        ExprKind::Error
                    }
                };
                self.tree(kind, span, 0)
            }
            Tok::Str => {
                let text = self.string();
                self.tree(ExprKind::Str(text.value), span, 0)
            }
            Tok::Name if self.nth(1) == Tok::OpenParen => self.call(),
            Tok::Name => {
                let name = self.text(0).to_owned();
                self.bump();
                self.tree(ExprKind::Name(name), span, 0)
            }
            Tok::OpenParen => self.paren(),
            Tok::OpenBracket => self.brackets(),
            Tok::If => {
                self.report(
                    "E0001",
                    span,
                    "`if` is a statement and has no value",
                    "a value was expected here",
                )
                .help = Some("var x = A; if COND { x = B; }".to_owned());
                Err(Failed)
            }
            Tok::Quote => {
                self.report(
                    "E0006",
                    span,
                    "text stands between double quotes",
                    "a `'` after a matrix transposes it; here there is none",
                )
                .help = Some("\"weights.npy\"".to_owned());
                Err(Failed)
            }
            Tok::Dot => {
                self.dot();
                Err(Failed)
            }
            Tok::Star if self.slice(self.before()) == "*" => {
                self.report(
                    "E0007",
                    span,
                    "`* *` is not an operator",
                    "a power is written `^`",
                )
                .help = Some("x^2".to_owned());
                Err(Failed)
            }
            tok if KEYWORDS.iter().any(|(_, k)| *k == tok) && !self.at_new_line() => {
                let word = self.text(0);
                self.report(
                    "E0022",
                    span,
                    format!("`{word}` is a keyword and cannot be a value"),
                    "a value was expected here",
                );
                Err(Failed)
            }
            _ => {
                if self.peek() == Tok::Bad {
                    self.bump();
                    return Err(Failed);
                }
                if self.gave_up {
                    return Err(Failed);
                }
                let found = self.describe(0);
                let (at, label) = if self.at_new_line() {
                    (self.after_last(), "the expression stops here")
                } else {
                    (span, "a value was expected here")
                };
                self.report(
                    "E0029",
                    at,
                    format!("expected a value, found {found}"),
                    label,
                );
                Err(Failed)
            }
        }
    }

    fn paren(&mut self) -> Parsed<Tree> {
        let open = self.bump();
        let mut below = 0;
        let list = self.list(open, Tok::CloseParen, "a value", |p| {
            let tree = p.expr(0)?;
            below = below.max(tree.height);
            Ok(tree.expr)
        });
        let (mut values, span) = list?;
        match (values.len(), values.pop()) {
            (1, Some(value)) => self.tree(ExprKind::Paren(Box::new(value)), span, below),
            (0, _) => {
                self.report(
                    "E0029",
                    span,
                    "nothing stands between the parentheses",
                    "a value was expected here",
                );
                self.tree(ExprKind::Error, span, 0)
            }
            _ => {
                self.report(
                    "E0033",
                    span,
                    "several values in parentheses can only be returned",
                    "this is not one value",
                )
                .help = Some("a list is written [a, b]".to_owned());
                self.tree(ExprKind::Error, span, 0)
            }
        }
    }

    fn brackets(&mut self) -> Parsed<Tree> {
        let open = self.bump();
        let mut below = 0;
        let mut count = 0usize;
        let mut comprehension = None;
        let (elements, span) = self.list(open, Tok::CloseBracket, "an element", |p| {
            let tree = p.expr(0)?;
            below = below.max(tree.height);
            count += 1;
            if p.peek() == Tok::For {
                let keyword = p.bump();
                let var = p.name("a loop variable", Some("[E for i in 0..n]"))?;
                p.expect(Tok::In, "`in`", Some("[E for i in 0..n]"))?;
                let (start, end) = p.range_bounds(keyword)?;
                if count > 1 {
                    p.report(
                        "E0026",
                        keyword,
                        "`for` follows one element only",
                        "more than one element stands before it",
                    )
                    .help = Some("[[a, b] for i in 0..n]".to_owned());
                    return Err(Failed);
                }
                if matches!(p.peek(), Tok::If | Tok::For) {
                    let word = p.text(0);
                    let at = p.here();
                    p.report(
                        "E0026",
                        at,
                        format!("`{word}` cannot follow in a list"),
                        "one `for` per pair of brackets, and no condition",
                    )
                    .help = Some("[[E for j in 0..m] for i in 0..n]".to_owned());
                    return Err(Failed);
                }
                comprehension = Some((var, start, end, keyword));
            }
            Ok(tree.expr)
        })?;
        // The bounds are parsed inside this node: they count as deep as they are, by `enter`.
        let Some((var, start, end, keyword)) = comprehension else {
            return self.tree(ExprKind::List(elements), span, below);
        };
        let mut elements = elements;
        if elements.len() != 1 {
            self.report(
                "E0026",
                keyword,
                "`for` follows one element only",
                "more than one element stands in these brackets",
            )
            .help = Some("[[a, b] for i in 0..n]".to_owned());
            return Err(Failed);
        }
        let element = elements.pop().ok_or(Failed)?;
        let kind = ExprKind::Comprehension {
            element: Box::new(element),
            var,
            start: Box::new(start),
            end: Box::new(end),
        };
        self.tree(kind, span, below)
    }
}

/// The variable and subscripts of the left side of an assignment.
fn place(expr: Expr) -> Option<(Ident, Vec<Subscript>)> {
    let mut subscripts = Vec::new();
    let mut expr = expr;
    loop {
        match expr.kind {
            ExprKind::Name(name) => {
                subscripts.reverse();
                let span = expr.span;
                return Some((Ident { name, span }, subscripts));
            }
            ExprKind::Index { base, subscript } => {
                subscripts.push(subscript);
                expr = *base;
            }
            _ => return None,
        }
    }
}

fn infix_operator(tok: Tok) -> Option<BinaryOp> {
    Some(match tok {
        Tok::OrOr => BinaryOp::Or,
        Tok::AndAnd => BinaryOp::And,
        Tok::EqEq => BinaryOp::Eq,
        Tok::NotEq => BinaryOp::Ne,
        Tok::Less => BinaryOp::Lt,
        Tok::LessEq => BinaryOp::Le,
        Tok::Greater => BinaryOp::Gt,
        Tok::GreaterEq => BinaryOp::Ge,
        Tok::Plus => BinaryOp::Add,
        Tok::Minus => BinaryOp::Sub,
        Tok::Star => BinaryOp::Mul,
        Tok::Slash => BinaryOp::Div,
        Tok::At => BinaryOp::MatMul,
        Tok::Percent => BinaryOp::Rem,
        Tok::Caret => BinaryOp::Pow,
        _ => return None,
    })
}

fn opening(close: &str) -> char {
    match close {
        ")" => '(',
        "]" => '[',
        _ => '{',
    }
}

fn noun(what: &str) -> &str {
    what.trim_start_matches("a ").trim_start_matches("an ")
}

fn place_name(place: Place) -> &'static str {
    match place {
        Place::Circuit => "circuit",
        Place::For => "for",
        Place::Let => "let",
    }
}

fn is_foreign_type(word: &str) -> bool {
    matches!(
        word,
        "int"
            | "float"
            | "double"
            | "f32"
            | "f64"
            | "i32"
            | "i64"
            | "u32"
            | "u64"
            | "usize"
            | "bool"
            | "Tensor"
            | "tensor"
            | "vector"
            | "matrix"
            | "Real"
            | "number"
            | "string"
            | "auto"
            | "fixed"
            | "cipher"
            | "plain"
    )
}

fn foreign_statement(word: &str) -> Option<&'static str> {
    Some(match word {
        "while" | "loop" | "do" | "until" | "repeat" => {
            "loops run over compile-time ranges: for i in 0..n { … }"
        }
        "break" | "continue" => "a loop always runs its whole range; choose its bounds instead",
        "switch" | "match" | "case" => "choose with `if COND { … } else if COND { … }`",
        "print" | "println" | "printf" => {
            "what the circuit returns is what you see; nothing can be printed inside"
        }
        "def" | "func" | "function" => "functions stand at the top of the file: fn f(x) = x * x;",
        "yield" | "output" => "give results back with `return EXPR;`",
        "elif" | "elseif" | "elsif" => {
            "this is written `else if`, after the closing brace of an `if`"
        }
        _ => return None,
    })
}
