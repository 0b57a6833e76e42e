//! Diagnostics as data. Rendering for people lives in the binary; [`Diagnostic::render_plain`] is
//! the form that tests compare.

use std::fmt::Write as _;

use serde::Serialize;

use crate::span::{SourceMap, Span};

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// The input cannot be used.
    Error,
    /// It can, but the author should know.
    Warning,
    /// For information.
    Note,
}

/// A span with a text that says what it has to do with the problem.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Label {
    /// Where.
    pub span: Span,
    /// What about it; may be empty for the primary label.
    pub text: String,
}

/// A message about source text: stable code, one primary place, what is wrong, and the way out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Diagnostic {
    /// Stable code: E0xxx syntax, E1xxx names and types, E2xxx compile-time evaluation and files,
    /// E3xxx compilation (ranges, layout, parameters), W… warnings.
    pub code: &'static str,
    /// How bad it is.
    pub severity: Severity,
    /// One line, in the user's words.
    pub message: String,
    /// Where, and why there.
    pub primary: Label,
    /// Further places.
    pub labels: Vec<Label>,
    /// What to do, as something one can type where possible.
    pub help: Option<String>,
}

impl Diagnostic {
    /// An error at `span`; the label says why.
    pub fn error(
        code: &'static str,
        span: Span,
        message: impl Into<String>,
        label: impl Into<String>,
    ) -> Diagnostic {
        Diagnostic {
            code,
            severity: Severity::Error,
            message: message.into(),
            primary: Label {
                span,
                text: label.into(),
            },
            labels: Vec::new(),
            help: None,
        }
    }

    /// The same as a warning.
    pub fn warning(
        code: &'static str,
        span: Span,
        message: impl Into<String>,
        label: impl Into<String>,
    ) -> Diagnostic {
        Diagnostic {
            severity: Severity::Warning,
            ..Diagnostic::error(code, span, message, label)
        }
    }

    /// Adds a further place.
    pub fn with_label(mut self, span: Span, text: impl Into<String>) -> Diagnostic {
        self.labels.push(Label {
            span,
            text: text.into(),
        });
        self
    }

    /// Adds what to do.
    pub fn with_help(mut self, help: impl Into<String>) -> Diagnostic {
        self.help = Some(help.into());
        self
    }

    /// `file:line:column: error[code]: message`, the source line, the label, the rest; no colour.
    pub fn render_plain(&self, sources: &SourceMap) -> String {
        let severity = match self.severity {
            Severity::Error => "error",
            Severity::Warning => "warning",
            Severity::Note => "note",
        };
        let mut out = format!(
            "{}: {severity}[{}]: {}\n",
            sources.locate(self.primary.span),
            self.code,
            self.message
        );
        render_label(&mut out, sources, &self.primary, '^');
        for label in &self.labels {
            let _ = writeln!(out, "{}: note: {}", sources.locate(label.span), label.text);
            render_label(
                &mut out,
                sources,
                &Label {
                    span: label.span,
                    text: String::new(),
                },
                '-',
            );
        }
        if let Some(help) = &self.help {
            let _ = writeln!(out, "help: {help}");
        }
        out
    }
}

fn render_label(out: &mut String, sources: &SourceMap, label: &Label, mark: char) {
    let Some(file) = sources.file(label.span.file) else {
        return;
    };
    let start = file.line_column(label.span.start);
    let end = file.line_column(label.span.end);
    let line = file.line(start.line);
    let width = if end.line == start.line {
        (end.column - start.column).max(1) as usize
    } else {
        line.chars()
            .count()
            .saturating_sub(start.column as usize - 1)
            .max(1)
    };
    let gutter = start.line.to_string();
    let pad = " ".repeat(gutter.len());
    let shown: String = line
        .chars()
        .map(|c| if c == '\t' { ' ' } else { c })
        .collect();
    let _ = writeln!(out, "{pad} |\n{gutter} | {shown}");
    let marks: String = std::iter::repeat_n(mark, width).collect();
    let gap = " ".repeat(start.column as usize - 1);
    let _ = writeln!(out, "{pad} | {gap}{marks} {}", label.text);
    let trimmed = out.trim_end_matches([' ', '\n']).len();
    out.truncate(trimmed);
    out.push('\n');
}
