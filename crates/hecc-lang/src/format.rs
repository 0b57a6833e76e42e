//! The canonical form of a file.
//!
//! The tokens of a file that parses are cut into statements, those into phrases and operands, and the
//! pieces are laid out by groups that stand on one line where they fit and else are broken as a whole,
//! outermost first (D. C. Oppen, "Prettyprinting", 1980; P. Wadler, "A prettier printer", 1998). Comments
//! are tokens like others here, so none can be lost. Numbers and texts stay as they are written.

use hecc_ir::diag::{Diagnostic, Severity};
use hecc_ir::span::FileId;

use crate::lexer::{Lexed, Tok, lex};
use crate::parser::parse;

/// Columns of a line, where it can be broken at all; comments may be longer.
const WIDTH: usize = 100;
const INDENT: usize = 4;

/// The canonical text of `source`: formatting it again changes nothing, and it parses to the same tree.
///
/// # Errors
/// The syntax errors of `source`, in file 0, when it has any.
pub fn format(source: &str) -> Result<String, Vec<Diagnostic>> {
    let file = FileId::default();
    let (_, mut diagnostics) = parse(source, file);
    diagnostics.retain(|d| d.severity == Severity::Error);
    if !diagnostics.is_empty() {
        return Err(diagnostics);
    }
    let pieces = Pieces::new(source, lex(source, file, &mut diagnostics));
    let mut builder = Builder { pieces: &pieces };
    let doc = builder.items();
    Ok(print(&doc))
}

/// A token or comment.
#[derive(Clone, Copy)]
struct Piece<'a> {
    /// None for a comment.
    tok: Option<Tok>,
    text: &'a str,
    /// A line ends before it.
    own_line: bool,
    /// An empty line stands before it.
    blank_before: bool,
    /// The index of the closing bracket, for an opening one; its own index for all others.
    close: usize,
}

struct Pieces<'a>(Vec<Piece<'a>>);

impl<'a> Pieces<'a> {
    fn new(source: &'a str, lexed: Lexed) -> Pieces<'a> {
        let mut pieces = Vec::with_capacity(lexed.tokens.len() + lexed.comments.len());
        let mut comments = lexed.comments.into_iter().peekable();
        let mut end = 0;
        let mut open: Vec<usize> = Vec::new();
        let mut add = |pieces: &mut Vec<Piece<'a>>, tok: Option<Tok>, start: u32, stop: u32| {
            let (start, stop) = (start as usize, stop as usize);
            let lines = source[end..start].matches('\n').count();
            let index = pieces.len();
            pieces.push(Piece {
                tok,
                text: &source[start..stop],
                own_line: lines > 0 || end == 0,
                blank_before: lines > 1,
                close: index,
            });
            end = stop;
            match tok {
                Some(Tok::OpenParen | Tok::OpenBracket | Tok::OpenBrace) => open.push(index),
                Some(Tok::CloseParen | Tok::CloseBracket | Tok::CloseBrace) => {
                    if let Some(at) = open.pop() {
                        pieces[at].close = index;
                    }
                }
                _ => {}
            }
        };
        for token in lexed.tokens {
            while let Some(comment) = comments.next_if(|c| c.start < token.start) {
                add(&mut pieces, None, comment.start, comment.end);
            }
            if token.tok != Tok::End {
                add(&mut pieces, Some(token.tok), token.start, token.end);
            }
        }
        for comment in comments {
            add(&mut pieces, None, comment.start, comment.end);
        }
        Pieces(pieces)
    }
}

/// What is printed, before lines are chosen.
enum Doc<'a> {
    Text(&'a str),
    Space,
    /// A space, or the end of the line where the group is broken.
    Line,
    /// Nothing, or the end of the line where the group is broken.
    Soft,
    /// The end of the line.
    Hard,
    /// The end of the line and an empty line.
    Blank,
    /// Ends its line.
    Comment(Piece<'a>),
    /// Only where the group is broken.
    IfBroken(&'a str),
    /// Numbers, as many on a line as fit.
    Fill(Vec<String>),
    Indent(Vec<Doc<'a>>),
    /// On one line, or broken; always broken when the flag is set.
    Group(Vec<Doc<'a>>, bool),
}

impl Doc<'_> {
    /// Whether it cannot stand on one line.
    fn breaks(&self) -> bool {
        match self {
            Doc::Text(_) | Doc::Space | Doc::Line | Doc::Soft | Doc::IfBroken(_) | Doc::Fill(_) => {
                false
            }
            Doc::Hard | Doc::Blank | Doc::Comment(_) => true,
            Doc::Indent(docs) => docs.iter().any(Doc::breaks),
            Doc::Group(_, broken) => *broken,
        }
    }
}

fn group(docs: Vec<Doc<'_>>) -> Doc<'_> {
    let broken = docs.iter().any(Doc::breaks);
    Doc::Group(docs, broken)
}

struct Builder<'p, 'a> {
    pieces: &'p Pieces<'a>,
}

/// A range of pieces.
type Slice = std::ops::Range<usize>;

impl<'a> Builder<'_, 'a> {
    fn piece(&self, at: usize) -> Piece<'a> {
        self.pieces.0[at]
    }

    fn tok(&self, at: usize) -> Option<Tok> {
        self.pieces.0.get(at).and_then(|p| p.tok)
    }

    fn is_comment(&self, at: usize) -> bool {
        self.pieces.0.get(at).is_some_and(|p| p.tok.is_none())
    }

    fn items(&mut self) -> Vec<Doc<'a>> {
        let mut docs = Vec::new();
        let mut at = 0;
        let mut after_block = false;
        let total = self.pieces.0.len();
        while at < total {
            // A comment on the line of what ended before it.
            if self.is_comment(at) && !self.piece(at).own_line {
                docs.push(Doc::Comment(self.piece(at)));
                at += 1;
                continue;
            }
            let mut first = at;
            while self.is_comment(first) {
                first += 1;
            }
            let end = self.statement_end(first);
            let block = self.tok(end.saturating_sub(1)) == Some(Tok::CloseBrace);
            if at > 0 {
                // An empty line before or among the comments sets the item apart as well.
                let apart = first < total
                    && (block || after_block)
                    && !(at + 1..=first).any(|i| self.piece(i).blank_before);
                docs.push(if apart || self.piece(at).blank_before {
                    Doc::Blank
                } else {
                    Doc::Hard
                });
            }
            for comment in at..first {
                if comment > at && self.piece(comment).blank_before {
                    docs.push(Doc::Blank);
                }
                docs.push(Doc::Comment(self.piece(comment)));
            }
            if first < total {
                if first > at && self.piece(first).blank_before {
                    docs.push(Doc::Blank);
                }
                self.statement(first..end, &mut docs);
                after_block = block;
            }
            at = end.max(first);
        }
        docs
    }

    /// One past the `;` or last `}` of the statement or item at `at`.
    fn statement_end(&self, at: usize) -> usize {
        let total = self.pieces.0.len();
        let mut i = at;
        while i < total {
            let piece = self.piece(i);
            match piece.tok {
                Some(Tok::Semicolon) => return i + 1,
                Some(Tok::OpenBrace) => {
                    let mut next = piece.close + 1;
                    while self.is_comment(next) {
                        next += 1;
                    }
                    if self.tok(next) != Some(Tok::Else) {
                        return piece.close + 1;
                    }
                    i = next;
                }
                _ => i = piece.close,
            }
            i += 1;
        }
        total
    }

    /// The statements of a block, each after a line end.
    fn statements(&mut self, slice: Slice) -> Vec<Doc<'a>> {
        let mut docs = Vec::new();
        let mut at = slice.start;
        while at < slice.end {
            let piece = self.piece(at);
            if piece.tok.is_none() && !piece.own_line {
                docs.push(Doc::Comment(piece));
                at += 1;
                continue;
            }
            docs.push(if piece.blank_before && at > slice.start {
                Doc::Blank
            } else {
                Doc::Hard
            });
            if piece.tok.is_none() {
                docs.push(Doc::Comment(piece));
                at += 1;
                continue;
            }
            let end = self.statement_end(at);
            self.statement(at..end, &mut docs);
            at = end;
        }
        docs
    }

    fn statement(&mut self, slice: Slice, docs: &mut Vec<Doc<'a>>) {
        let mut at = slice.start;
        while self.tok(at) == Some(Tok::At) {
            let mut end = at + 1;
            while self.is_comment(end) {
                end += 1;
            }
            end += 1;
            let mut open = end;
            while self.is_comment(open) {
                open += 1;
            }
            if self.tok(open) == Some(Tok::OpenParen) {
                end = self.piece(open).close + 1;
            }
            self.atoms(at..end, docs);
            at = end;
            let mut next = at;
            while self.is_comment(next) {
                docs.push(Doc::Comment(self.piece(next)));
                next += 1;
            }
            at = next;
            // `let` keeps its attributes on the line.
            let mut keyword = at;
            while matches!(self.tok(keyword), Some(Tok::At)) || self.is_comment(keyword) {
                keyword += 1;
                if self.tok(keyword) == Some(Tok::Name) {
                    keyword += 1;
                }
                if self.tok(keyword) == Some(Tok::OpenParen) {
                    keyword = self.piece(keyword).close + 1;
                }
            }
            docs.push(if self.tok(keyword) == Some(Tok::Let) {
                Doc::Space
            } else {
                Doc::Hard
            });
        }
        // Phrases and blocks in turn: `if`, `else if` and `else` of a ladder.
        let mut from = at;
        while at < slice.end {
            let piece = self.piece(at);
            match piece.tok {
                Some(Tok::OpenBrace) => {
                    let mut phrase = Vec::new();
                    self.phrase(from..at, &mut phrase);
                    docs.push(group(phrase));
                    docs.push(Doc::Space);
                    self.block(at, docs);
                    at = piece.close + 1;
                    from = at;
                    if at < slice.end {
                        docs.push(Doc::Space);
                    }
                }
                Some(Tok::Semicolon) => {
                    let end = self.without_comments(from..at);
                    let mut phrase = Vec::new();
                    self.phrase(from..end, &mut phrase);
                    docs.push(group(phrase));
                    docs.push(Doc::Text(";"));
                    docs.extend((end..at).map(|i| Doc::Comment(self.piece(i))));
                    at += 1;
                    from = at;
                }
                _ => at = piece.close + 1,
            }
        }
    }

    fn block(&mut self, open: usize, docs: &mut Vec<Doc<'a>>) {
        let close = self.piece(open).close;
        docs.push(Doc::Text("{"));
        if open + 1 < close {
            docs.push(Doc::Indent(self.statements(open + 1..close)));
            docs.push(Doc::Hard);
        }
        docs.push(Doc::Text("}"));
    }

    /// The end of the slice without the comments it ends in.
    fn without_comments(&self, slice: Slice) -> usize {
        let mut end = slice.end;
        while end > slice.start && self.is_comment(end - 1) {
            end -= 1;
        }
        end
    }

    /// Keywords, separators, and expressions between them.
    fn phrase(&mut self, slice: Slice, docs: &mut Vec<Doc<'a>>) {
        let mut from = slice.start;
        let mut at = slice.start;
        while at < slice.end {
            let piece = self.piece(at);
            let (before, after) = match piece.tok {
                Some(Tok::Eq | Tok::In | Tok::Arrow | Tok::For) => (true, true),
                Some(Tok::Colon) => (false, true),
                Some(Tok::DotDot) => (false, false),
                Some(Tok::Assert) => (true, false),
                Some(
                    Tok::Use
                    | Tok::Const
                    | Tok::Fn
                    | Tok::Circuit
                    | Tok::Let
                    | Tok::Var
                    | Tok::If
                    | Tok::Else
                    | Tok::Return
                    | Tok::Secret
                    | Tok::Public,
                ) => (true, true),
                _ => {
                    at = piece.close + 1;
                    continue;
                }
            };
            self.expr(from..at, docs);
            if before && at > slice.start {
                docs.push(Doc::Space);
            }
            docs.push(Doc::Text(piece.text));
            if after && at + 1 < slice.end {
                docs.push(Doc::Space);
            }
            at += 1;
            from = at;
        }
        self.expr(from..slice.end, docs);
    }

    fn expr(&mut self, mut slice: Slice, docs: &mut Vec<Doc<'a>>) {
        // Comments before an expression stand before its group, wherever that breaks.
        while slice.start < slice.end && self.is_comment(slice.start) {
            docs.push(Doc::Comment(self.piece(slice.start)));
            slice.start += 1;
        }
        let Some(operators) = self.operators(&slice) else {
            self.atoms(slice, docs);
            return;
        };
        let mut first = Vec::new();
        self.expr(slice.start..operators[0], &mut first);
        // Where both break, the operators of the first operand stand further in than these.
        let mut parts = match first.as_slice() {
            [Doc::Group(..)] if self.operators(&(slice.start..operators[0])).is_some() => {
                vec![Doc::Indent(first)]
            }
            _ => first,
        };
        let mut rest = Vec::new();
        for (i, &at) in operators.iter().enumerate() {
            let to = operators.get(i + 1).copied().unwrap_or(slice.end);
            rest.push(Doc::Line);
            rest.push(Doc::Text(self.piece(at).text));
            rest.push(Doc::Space);
            self.expr(at + 1..to, &mut rest);
        }
        parts.push(Doc::Indent(rest));
        docs.push(group(parts));
    }

    /// The loosest infix operators outside brackets.
    fn operators(&self, slice: &Slice) -> Option<Vec<usize>> {
        let mut loosest: Option<(u8, Vec<usize>)> = None;
        let mut after_operand = false;
        let mut at = slice.start;
        while at < slice.end {
            let piece = self.piece(at);
            let Some(tok) = piece.tok else {
                at += 1;
                continue;
            };
            let precedence = match tok {
                Tok::OrOr => 1,
                Tok::AndAnd => 2,
                Tok::EqEq
                | Tok::NotEq
                | Tok::Less
                | Tok::LessEq
                | Tok::Greater
                | Tok::GreaterEq => 3,
                Tok::Plus => 4,
                Tok::Minus if after_operand => 4,
                Tok::Star | Tok::Slash | Tok::At | Tok::Percent if after_operand => 5,
                _ => 0,
            };
            if precedence > 0 {
                match &mut loosest {
                    Some((p, found)) if *p == precedence => found.push(at),
                    Some((p, _)) if *p < precedence => {}
                    _ => loosest = Some((precedence, vec![at])),
                }
            }
            after_operand = matches!(
                tok,
                Tok::Int
                    | Tok::Real
                    | Tok::Str
                    | Tok::Name
                    | Tok::Quote
                    | Tok::RealType
                    | Tok::OpenParen
                    | Tok::OpenBracket
            );
            at = piece.close + 1;
        }
        loosest.map(|(_, found)| found)
    }

    /// Tokens that stand together without spaces, and brackets.
    fn atoms(&mut self, slice: Slice, docs: &mut Vec<Doc<'a>>) {
        let mut at = slice.start;
        while at < slice.end {
            let piece = self.piece(at);
            match piece.tok {
                None => docs.push(Doc::Comment(piece)),
                Some(Tok::OpenParen | Tok::OpenBracket) => {
                    let list = self.brackets(at);
                    docs.push(list);
                }
                Some(_) => docs.push(Doc::Text(piece.text)),
            }
            at = piece.close + 1;
        }
    }

    fn brackets(&mut self, open: usize) -> Doc<'a> {
        let close = self.piece(open).close;
        let mut elements: Vec<Slice> = Vec::new();
        let mut from = open + 1;
        let mut at = from;
        let mut comprehension = None;
        let mut commented = false;
        let mut simple = true;
        while at < close {
            let piece = self.piece(at);
            match piece.tok {
                Some(Tok::Comma) => {
                    elements.push(from..at);
                    from = at + 1;
                }
                Some(Tok::For) => comprehension = Some(at),
                Some(Tok::Int | Tok::Real | Tok::Minus) => {}
                Some(_) => simple = false,
                None => commented = true,
            }
            at = piece.close + 1;
        }
        let mut docs = vec![Doc::Text(self.piece(open).text)];
        let closing = Doc::Text(self.piece(close).text);
        if let Some(keyword) = comprehension {
            let mut inner = vec![Doc::Soft];
            self.phrase(open + 1..keyword, &mut inner);
            inner.push(Doc::Line);
            self.phrase(keyword..close, &mut inner);
            docs.push(Doc::Indent(inner));
            docs.push(Doc::Soft);
            docs.push(closing);
            return group(docs);
        }
        // What follows the last comma: an element, comments, or nothing.
        let tail = from..close;
        let ends_in_comma = !elements.is_empty() && self.without_comments(tail.clone()) == from;
        if !ends_in_comma && !tail.is_empty() {
            elements.push(tail.clone());
        }
        if elements.is_empty() {
            docs.push(closing);
            return group(docs);
        }
        let numbers = simple
            && !commented
            && elements.len() > 1
            && elements.iter().all(|e| self.is_number(e));
        if numbers {
            let last = elements.len() - 1;
            let texts = elements
                .iter()
                .enumerate()
                .map(|(i, e)| {
                    let mut text: String = e.clone().map(|at| self.piece(at).text).collect();
                    if i < last {
                        text.push(',');
                    }
                    text
                })
                .collect();
            let inner = vec![Doc::Soft, Doc::Fill(texts), Doc::IfBroken(",")];
            docs.push(Doc::Indent(inner));
            docs.push(Doc::Soft);
            docs.push(closing);
            return group(docs);
        }
        let mut inner = vec![Doc::Soft];
        let last = elements.len() - 1;
        // One value in parentheses is no list: a comma would be noise.
        let lone = last == 0 && self.tok(open) == Some(Tok::OpenParen) && !self.is_call(open);
        for i in 0..=last {
            let Slice { mut start, end } = elements[i].clone();
            // Those were printed behind the comma.
            while i > 0 && start < end && self.trails(start) {
                start += 1;
            }
            let bare = self.without_comments(start..end);
            let mut phrase = Vec::new();
            self.phrase(start..bare, &mut phrase);
            inner.push(group(phrase));
            if i < last {
                inner.push(Doc::Text(","));
            } else if !lone && bare > start {
                inner.push(Doc::IfBroken(","));
            }
            inner.extend((bare..end).map(|at| Doc::Comment(self.piece(at))));
            if i < last {
                let next = elements[i + 1].clone();
                let trailing = next.take_while(|&at| self.trails(at));
                inner.extend(trailing.map(|at| Doc::Comment(self.piece(at))));
                inner.push(Doc::Line);
            }
        }
        if ends_in_comma {
            for comment in tail {
                inner.push(Doc::Comment(self.piece(comment)));
            }
        }
        docs.push(Doc::Indent(inner));
        docs.push(Doc::Soft);
        docs.push(closing);
        group(docs)
    }

    /// Whether it is a comment on the line of what is before it.
    fn trails(&self, at: usize) -> bool {
        self.is_comment(at) && !self.piece(at).own_line
    }

    /// Whether the parenthesis follows a name, as in a call.
    fn is_call(&self, open: usize) -> bool {
        let mut at = open;
        while at > 0 && self.is_comment(at - 1) {
            at -= 1;
        }
        at > 0 && matches!(self.tok(at - 1), Some(Tok::Name | Tok::Assert))
    }

    fn is_number(&self, slice: &Slice) -> bool {
        match slice.len() {
            1 => self.tok(slice.start) != Some(Tok::Minus),
            2 => {
                self.tok(slice.start) == Some(Tok::Minus)
                    && self.tok(slice.start + 1) != Some(Tok::Minus)
            }
            _ => false,
        }
    }
}

fn width(text: &str) -> usize {
    text.chars().count()
}

struct Printer {
    out: String,
    column: usize,
    /// Line ends owed before the next text.
    lines: usize,
    space: bool,
}

impl Printer {
    fn text(&mut self, text: &str, indent: usize) {
        if self.lines > 0 && !self.out.is_empty() {
            self.out.push_str(&"\n".repeat(self.lines));
            self.out.push_str(&" ".repeat(indent));
            self.column = indent;
        } else if self.space && self.column > 0 {
            self.out.push(' ');
            self.column += 1;
        }
        self.lines = 0;
        self.space = false;
        self.out.push_str(text);
        self.column += width(text);
    }

    fn line(&mut self, count: usize) {
        self.lines = self.lines.max(count);
    }

    /// Where the next text would start.
    fn next_column(&self, indent: usize) -> usize {
        if self.lines > 0 {
            indent
        } else {
            self.column + usize::from(self.space)
        }
    }
}

type Command<'d, 'a> = (usize, bool, &'d Doc<'a>);

fn print(docs: &[Doc<'_>]) -> String {
    let mut printer = Printer {
        out: String::new(),
        column: 0,
        lines: 0,
        space: false,
    };
    let mut stack: Vec<Command<'_, '_>> = docs.iter().rev().map(|d| (0, false, d)).collect();
    while let Some((indent, flat, doc)) = stack.pop() {
        match doc {
            Doc::Text(text) => printer.text(text, indent),
            Doc::Space => printer.space = true,
            Doc::Line if flat => printer.space = true,
            Doc::Line => printer.line(1),
            Doc::Soft if flat => {}
            Doc::Soft | Doc::Hard => printer.line(1),
            Doc::Blank => printer.line(2),
            Doc::Comment(piece) => {
                if piece.own_line {
                    printer.line(1);
                } else {
                    printer.space = true;
                }
                printer.text(piece.text, indent);
                printer.line(1);
            }
            Doc::IfBroken(text) => {
                if !flat {
                    printer.text(text, indent);
                }
            }
            Doc::Fill(texts) => {
                for (i, text) in texts.iter().enumerate() {
                    if i > 0 {
                        // One more column for the comma that ends the list.
                        if flat || printer.column + 1 + width(text) < WIDTH {
                            printer.space = true;
                        } else {
                            printer.line(1);
                        }
                    }
                    printer.text(text, indent);
                }
            }
            Doc::Indent(docs) => {
                stack.extend(docs.iter().rev().map(|d| (indent + INDENT, flat, d)));
            }
            Doc::Group(docs, broken) => {
                let flat = flat || (!broken && fits(docs, &stack, printer.next_column(indent)));
                stack.extend(docs.iter().rev().map(|d| (indent, flat, d)));
            }
        }
    }
    if !printer.out.is_empty() {
        printer.out.push('\n');
    }
    printer.out
}

/// Whether the group fits on the line, with what follows it up to the next place for a line end.
fn fits(docs: &[Doc<'_>], rest: &[Command<'_, '_>], column: usize) -> bool {
    let mut left = WIDTH as isize - column as isize;
    let mut stack: Vec<(bool, &Doc<'_>)> = docs.iter().rev().map(|d| (true, d)).collect();
    let mut rest = rest.iter().rev();
    loop {
        if left < 0 {
            return false;
        }
        let (flat, doc) = match stack.pop() {
            Some(next) => next,
            None => match rest.next() {
                Some((_, flat, doc)) => (*flat, *doc),
                None => return true,
            },
        };
        match doc {
            Doc::Text(text) => left -= width(text) as isize,
            Doc::Space => left -= 1,
            Doc::Line if flat => left -= 1,
            Doc::Soft if flat => {}
            Doc::Line | Doc::Soft | Doc::Hard | Doc::Blank | Doc::Comment(_) => return true,
            Doc::IfBroken(text) => {
                if !flat {
                    left -= width(text) as isize;
                }
            }
            Doc::Fill(texts) => {
                for text in texts {
                    left -= width(text) as isize + 1;
                    if left < -1 {
                        return false;
                    }
                }
                left += 1;
            }
            Doc::Indent(docs) => {
                stack.extend(docs.iter().rev().map(|d| (flat, d)));
            }
            // What follows may break where it can: it is measured flat only up to there.
            Doc::Group(docs, broken) => {
                let flat = flat && !broken;
                stack.extend(docs.iter().rev().map(|d| (flat, d)));
            }
        }
    }
}

#[cfg(test)]
mod tests;
