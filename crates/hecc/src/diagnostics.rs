//! Diagnostics for people and for programs.

use std::io::IsTerminal;
use std::ops::Range;

use annotate_snippets::{AnnotationKind, Group, Level, Renderer, Snippet};
use hecc_ir::diag::{Diagnostic, Severity};
use hecc_ir::span::{SourceMap, Span};
use serde_json::{Value, json};

use crate::args::Format;

/// Width of messages where no terminal tells one.
const WIDTH: usize = 120;

/// Puts diagnostics on stderr.
pub(crate) fn report(diagnostics: &[Diagnostic], sources: &SourceMap, format: Format) {
    for diagnostic in diagnostics {
        match format {
            Format::Human => anstream::eprintln!("{}\n", render(diagnostic, sources)),
            Format::Json => anstream::eprintln!("{}", to_json(diagnostic, sources)),
        }
    }
}

/// For people: `file:line:column`, the source line, labels, help. With escape codes, which the stream strips off a terminal.
fn render(diagnostic: &Diagnostic, sources: &SourceMap) -> String {
    let level = match diagnostic.severity {
        Severity::Error => Level::ERROR,
        Severity::Warning => Level::WARNING,
        Severity::Note => Level::NOTE,
    };
    let mut group = Group::with_title(
        level
            .primary_title(diagnostic.message.as_str())
            .id(diagnostic.code),
    );
    // One snippet a file, the primary one first.
    let mut files = vec![diagnostic.primary.span.file];
    for label in &diagnostic.labels {
        if !files.contains(&label.span.file) {
            files.push(label.span.file);
        }
    }
    for id in files {
        let Some(file) = sources.file(id) else {
            continue;
        };
        let mut snippet = Snippet::source(&*file.text).path(file.name.as_str());
        if diagnostic.primary.span.file == id {
            snippet = snippet.annotation(
                AnnotationKind::Primary
                    .span(range(diagnostic.primary.span, &file.text))
                    .label(diagnostic.primary.text.as_str()),
            );
        }
        for label in diagnostic.labels.iter().filter(|l| l.span.file == id) {
            snippet = snippet.annotation(
                AnnotationKind::Context
                    .span(range(label.span, &file.text))
                    .label(label.text.as_str()),
            );
        }
        group = group.element(snippet);
    }
    let mut report = vec![group];
    if let Some(help) = &diagnostic.help {
        report.push(Group::with_title(
            Level::HELP.secondary_title(help.as_str()),
        ));
    }
    let renderer = if std::io::stderr().is_terminal() {
        Renderer::styled()
    } else {
        Renderer::plain()
    };
    renderer.term_width(WIDTH).render(&report)
}

/// A span as a range that surely lies inside the text, on character boundaries.
fn range(span: Span, text: &str) -> Range<usize> {
    let inside = |at: u32| {
        let mut at = (at as usize).min(text.len());
        while !text.is_char_boundary(at) {
            at -= 1;
        }
        at
    };
    let start = inside(span.start);
    start..inside(span.end).max(start)
}

/// One line of JSON; docs/language.md lists the keys.
fn to_json(diagnostic: &Diagnostic, sources: &SourceMap) -> Value {
    json!({
        "severity": diagnostic.severity,
        "code": diagnostic.code,
        "message": diagnostic.message,
        "at": place(diagnostic.primary.span, sources),
        "label": diagnostic.primary.text,
        "labels": diagnostic.labels.iter().map(|l| json!({
            "at": place(l.span, sources),
            "label": l.text,
        })).collect::<Vec<_>>(),
        "help": diagnostic.help,
        "rendered": diagnostic.render_plain(sources),
    })
}

/// A place for programs; lines and columns count from 1.
fn place(span: Span, sources: &SourceMap) -> Value {
    let Some(file) = sources.file(span.file) else {
        return Value::Null;
    };
    let start = file.line_column(span.start);
    let end = file.line_column(span.end);
    json!({
        "file": file.name,
        "line": start.line,
        "column": start.column,
        "end_line": end.line,
        "end_column": end.column,
    })
}
