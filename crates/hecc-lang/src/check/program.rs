//! The files of a program, and which names each of them sees.

use std::path::{Component, Path, PathBuf};

use hecc_ir::diag::Diagnostic;
use hecc_ir::span::{FileId, SourceMap, Span};
use rustc_hash::FxHashMap;

use super::Limits;
use crate::ast;
use crate::fs::FileSystem;

/// One file.
pub(crate) struct Unit {
    /// As it was reached: the main file's path, or a `use` path joined to the folder of its file.
    pub path: PathBuf,
    pub ast: ast::File,
    /// The files that it uses, with the place of the `use`.
    pub imports: Vec<(usize, Span)>,
}

/// Reads the main file and, transitively, what it uses. The main file is unit 0.
pub(crate) fn read(
    path: &Path,
    fs: &dyn FileSystem,
    limits: &Limits,
    sources: &mut SourceMap,
    diagnostics: &mut Vec<Diagnostic>,
) -> Vec<Unit> {
    let mut reader = Reader {
        fs,
        sources,
        diagnostics,
        units: Vec::new(),
        known: FxHashMap::default(),
    };
    reader.file(path, None);
    // Breadth first: no recursion over the chain of files.
    let mut next = 0;
    while next < reader.units.len() {
        let uses: Vec<ast::Use> = reader.units[next]
            .ast
            .items
            .iter()
            .filter_map(|item| match item {
                ast::Item::Use(u) => Some(u.clone()),
                _ => None,
            })
            .collect();
        let folder = reader.units[next]
            .path
            .parent()
            .map(Path::to_path_buf)
            .unwrap_or_default();
        for u in uses {
            if reader.units.len() >= limits.files {
                reader.diagnostics.push(
                    Diagnostic::error(
                        "E2015",
                        u.span,
                        format!("more than {} files are used", limits.files),
                        "this one is too many",
                    )
                    .with_help("put functions that belong together into one file"),
                );
                return reader.units;
            }
            let target = plain(&folder.join(&u.path.value));
            if let Some(unit) = reader.file(&target, Some(&u)) {
                reader.units[next].imports.push((unit, u.span));
            }
        }
        next += 1;
    }
    let units = reader.units;
    cycles(&units, diagnostics);
    units
}

struct Reader<'a> {
    fs: &'a dyn FileSystem,
    sources: &'a mut SourceMap,
    diagnostics: &'a mut Vec<Diagnostic>,
    units: Vec<Unit>,
    known: FxHashMap<PathBuf, Option<usize>>,
}

impl Reader<'_> {
    fn file(&mut self, path: &Path, user: Option<&ast::Use>) -> Option<usize> {
        let key = plain(path);
        if let Some(&known) = self.known.get(&key) {
            return known;
        }
        let name = path.display().to_string();
        let bytes = match self.fs.read(path) {
            Ok(bytes) => bytes,
            Err(error) => {
                let diagnostic = match user {
                    Some(u) => Diagnostic::error(
                        "E2001",
                        u.path.span,
                        format!("cannot read {name}: {error}"),
                        "this file is used here",
                    )
                    .with_help("the path is relative to the file that holds the `use`"),
                    None => {
                        let file = self.sources.add(name.clone(), "");
                        Diagnostic::error(
                            "E2001",
                            Span::new(file, 0, 0),
                            format!("cannot read {name}: {error}"),
                            "",
                        )
                    }
                };
                self.diagnostics.push(diagnostic);
                self.known.insert(key, None);
                return None;
            }
        };
        let file = FileId(self.sources.files().count() as u32);
        let (text, undecodable) = crate::decode(bytes, file);
        let (ast, errors) = match undecodable {
            Some(error) => (
                ast::File {
                    items: Vec::new(),
                    span: Span::new(file, 0, 0),
                },
                vec![error],
            ),
            None => crate::parse(&text, file),
        };
        self.sources.add(name, text);
        self.diagnostics.extend(errors);
        let unit = self.units.len();
        self.units.push(Unit {
            path: path.to_path_buf(),
            ast,
            imports: Vec::new(),
        });
        self.known.insert(key, Some(unit));
        Some(unit)
    }
}

/// Without `.` and, where that is safe, without `..`.
fn plain(path: &Path) -> PathBuf {
    let mut out = PathBuf::new();
    for part in path.components() {
        match part {
            Component::CurDir => {}
            Component::ParentDir
                if matches!(out.components().next_back(), Some(Component::Normal(_))) =>
            {
                out.pop();
            }
            part => out.push(part),
        }
    }
    out
}

/// Reports each cycle of `use` once.
fn cycles(units: &[Unit], diagnostics: &mut Vec<Diagnostic>) {
    let edges: Vec<Vec<usize>> = units
        .iter()
        .map(|u| u.imports.iter().map(|(to, _)| *to).collect())
        .collect();
    for cycle in find_cycles(&edges) {
        let show = |u: usize| units[u].path.display().to_string();
        let mut chain: Vec<String> = cycle.iter().map(|&u| show(u)).collect();
        chain.push(show(cycle[0]));
        let spans: Vec<Span> = (0..cycle.len())
            .filter_map(|i| {
                let to = cycle[(i + 1) % cycle.len()];
                units[cycle[i]]
                    .imports
                    .iter()
                    .find(|(u, _)| *u == to)
                    .map(|(_, span)| *span)
            })
            .collect();
        let Some((&last, others)) = spans.split_last() else {
            continue;
        };
        let mut diagnostic = Diagnostic::error(
            "E2002",
            last,
            format!("files use each other in a cycle: {}", chain.join(" -> ")),
            "this closes the cycle",
        )
        .with_help("move what both need into a third file that uses neither");
        for &span in others {
            diagnostic = diagnostic.with_label(span, "which is reached from here");
        }
        diagnostics.push(diagnostic);
    }
}

/// One cycle for each strongly connected part that a depth-first search meets, without recursion.
pub(crate) fn find_cycles(edges: &[Vec<usize>]) -> Vec<Vec<usize>> {
    let mut state = vec![0u8; edges.len()];
    let mut found = Vec::new();
    for root in 0..edges.len() {
        if state[root] != 0 {
            continue;
        }
        let mut path = vec![(root, 0)];
        state[root] = 1;
        while let Some((at, next)) = path.last_mut() {
            let Some(&to) = edges[*at].get(*next) else {
                state[*at] = 2;
                path.pop();
                continue;
            };
            *next += 1;
            match state[to] {
                0 => {
                    state[to] = 1;
                    path.push((to, 0));
                }
                1 => {
                    let from = path.iter().position(|(n, _)| *n == to).unwrap_or(0);
                    found.push(path[from..].iter().map(|(n, _)| *n).collect());
                }
                _ => {}
            }
        }
    }
    found
}

/// A constant or a function of some file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Item {
    Const(usize),
    Fn(usize),
}

/// What the items of all files are, and which of them each file sees.
pub(crate) struct Names<'a> {
    pub consts: Vec<(usize, &'a ast::Const)>,
    pub fns: Vec<(usize, &'a ast::Fn)>,
    /// Of the main file.
    pub circuits: Vec<&'a ast::Circuit>,
    /// Per file.
    visible: Vec<FxHashMap<&'a str, Item>>,
}

impl<'a> Names<'a> {
    pub fn of(units: &'a [Unit], diagnostics: &mut Vec<Diagnostic>) -> Names<'a> {
        let mut names = Names {
            consts: Vec::new(),
            fns: Vec::new(),
            circuits: Vec::new(),
            visible: Vec::new(),
        };
        let mut own: Vec<FxHashMap<&str, (Item, Span)>> = Vec::new();
        for (unit, u) in units.iter().enumerate() {
            let mut here: FxHashMap<&str, (Item, Span)> = FxHashMap::default();
            let mut circuits: FxHashMap<&str, Span> = FxHashMap::default();
            for item in &u.ast.items {
                let (name, item) = match item {
                    ast::Item::Use(_) => continue,
                    ast::Item::Const(c) => {
                        names.consts.push((unit, c));
                        (&c.name, Item::Const(names.consts.len() - 1))
                    }
                    ast::Item::Fn(f) => {
                        names.fns.push((unit, f));
                        if super::builtins::is_reserved(&f.name.name) {
                            diagnostics.push(
                                Diagnostic::error(
                                    "E1003",
                                    f.name.span,
                                    format!("`{}` is built in", f.name.name),
                                    "a function cannot take the name of a built-in one",
                                )
                                .with_help(format!("call it my_{}, say", f.name.name)),
                            );
                            continue;
                        }
                        (&f.name, Item::Fn(names.fns.len() - 1))
                    }
                    ast::Item::Circuit(c) => {
                        if let Some(first) = circuits.get(c.name.name.as_str()) {
                            diagnostics.push(twice(&c.name, *first, "circuit"));
                        } else {
                            circuits.insert(&c.name.name, c.name.span);
                        }
                        if unit == 0 {
                            names.circuits.push(c);
                        }
                        continue;
                    }
                };
                match here.get(name.name.as_str()) {
                    Some((_, first)) => diagnostics.push(twice(name, *first, "name")),
                    None => {
                        here.insert(&name.name, (item, name.span));
                    }
                }
            }
            own.push(here);
        }
        for (unit, u) in units.iter().enumerate() {
            let mut visible: FxHashMap<&str, (Item, Span)> = own[unit].clone();
            for &(from, use_span) in &u.imports {
                if from == unit {
                    continue;
                }
                let mut brought: Vec<_> = own[from].iter().collect();
                brought.sort_by_key(|(_, (_, span))| span.start);
                for (name, &(item, span)) in brought {
                    match visible.get(name) {
                        Some((known, _)) if *known == item => {}
                        Some((_, other)) => diagnostics.push(
                            Diagnostic::error(
                                "E1003",
                                use_span,
                                format!("`{name}` is defined more than once"),
                                format!("this file brings in a `{name}` as well"),
                            )
                            .with_label(*other, "it is defined here")
                            .with_label(span, "and here")
                            .with_help("rename one of the two"),
                        ),
                        None => {
                            visible.insert(name, (item, span));
                        }
                    }
                }
            }
            names.visible.push(
                visible
                    .into_iter()
                    .map(|(k, (item, _))| (k, item))
                    .collect(),
            );
        }
        names
    }

    pub fn lookup(&self, unit: usize, name: &str) -> Option<Item> {
        self.visible[unit].get(name).copied()
    }

    /// The names that a file sees, sorted.
    pub fn seen_by(&self, unit: usize, functions: bool) -> Vec<&'a str> {
        let mut out: Vec<&str> = self.visible[unit]
            .iter()
            .filter(|(_, item)| matches!(item, Item::Fn(_)) == functions)
            .map(|(name, _)| *name)
            .collect();
        out.sort_unstable();
        out
    }
}

fn twice(name: &ast::Ident, first: Span, what: &str) -> Diagnostic {
    Diagnostic::error(
        "E1003",
        name.span,
        format!("the {what} `{}` is defined more than once", name.name),
        "defined again here",
    )
    .with_label(first, "it is first defined here")
    .with_help("rename one of the two")
}
