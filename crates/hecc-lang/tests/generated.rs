//! Random programs: what the parser reads is what the generator meant, and formatting keeps it.

use hecc_ir::span::{FileId, Span};
use hecc_lang::ast::*;
use hecc_lang::{format, parse};
use proptest::prelude::*;

const HERE: Span = Span {
    file: FileId(0),
    start: 0,
    end: 0,
};

/// A stream of choices; at its end every choice is the simplest.
struct Choices<'a>(std::slice::Iter<'a, u8>);

impl Choices<'_> {
    fn below(&mut self, n: usize) -> usize {
        self.0.next().map_or(0, |&b| usize::from(b) % n)
    }

    fn chance(&mut self, one_in: usize) -> bool {
        self.below(one_in) == one_in - 1
    }
}

/// Writes tokens with random space, line ends and comments between them.
struct Writer<'c, 'a> {
    choices: &'c mut Choices<'a>,
    text: String,
}

impl Writer<'_, '_> {
    fn put(&mut self, token: &str) {
        // Two words need a gap, and so do operators that would run together.
        let gap = match self.choices.below(9) {
            0..=4 => " ",
            5 => "\n",
            6 => "\n\n\n",
            7 => " // why /* not\n",
            _ => "\n // own line\t\n//\n",
        };
        let glue = self.choices.chance(2)
            && !self
                .text
                .ends_with(|c: char| c.is_ascii_alphanumeric() || c == '_' || c == '"')
            && !self
                .text
                .ends_with(['-', '=', '<', '>', '!', '.', '*', '/', '&', '|', '@', ':'])
            && !token.starts_with(['@', '/', '=', '&', '|']);
        if !glue {
            self.text.push_str(gap);
        }
        self.text.push_str(token);
    }

    fn all(&mut self, tokens: &[&str]) {
        for token in tokens {
            self.put(token);
        }
    }

    fn separated<T>(&mut self, items: &[T], comma: bool, mut write: impl FnMut(&mut Self, &T)) {
        for (i, item) in items.iter().enumerate() {
            write(self, item);
            if i + 1 < items.len() || (comma && self.choices.chance(3)) {
                self.put(",");
            }
        }
    }

    fn file(&mut self, file: &File) {
        for item in &file.items {
            match item {
                Item::Use(item) => {
                    self.put("use");
                    self.string(&item.path.value);
                    self.put(";");
                }
                Item::Const(item) => {
                    self.all(&["const", &item.name.name]);
                    if let Some(ty) = &item.ty {
                        self.put(":");
                        self.ty(ty);
                    }
                    self.put("=");
                    self.expr(&item.value);
                    self.put(";");
                }
                Item::Fn(item) => {
                    self.all(&["fn", &item.name.name, "("]);
                    self.separated(&item.params, true, |w, p| w.put(&p.name));
                    self.put(")");
                    match &item.body {
                        FnBody::Expr(expr) => {
                            self.put("=");
                            self.expr(expr);
                            self.put(";");
                        }
                        FnBody::Block(block) => self.block(block),
                    }
                }
                Item::Circuit(item) => {
                    self.attributes(&item.attributes);
                    self.all(&["circuit", &item.name.name, "("]);
                    self.separated(&item.params, true, |w, p| {
                        let secrecy = match p.secrecy {
                            Secrecy::Secret => "secret",
                            Secrecy::Public => "public",
                        };
                        w.all(&[&p.name.name, ":", secrecy]);
                        w.ty(&p.ty);
                        w.range(&p.range);
                    });
                    self.all(&[")", "->"]);
                    let many = item.outputs.len() > 1 || self.choices.chance(2);
                    if many {
                        self.put("(");
                    }
                    self.separated(&item.outputs, many, |w, o| {
                        w.all(&[&o.name.name, ":"]);
                        w.ty(&o.ty);
                        w.range(&o.range);
                    });
                    if many {
                        self.put(")");
                    }
                    self.block(&item.body);
                }
            }
        }
        self.text.push('\n');
    }

    fn string(&mut self, value: &str) {
        let escaped = value
            .replace('\\', "\\\\")
            .replace('"', "\\\"")
            .replace('\n', "\\n");
        self.put(&format!("\"{escaped}\""));
    }

    fn ty(&mut self, ty: &Type) {
        self.put("real");
        if !ty.dims.is_empty() {
            self.put("[");
            self.separated(&ty.dims, true, Self::expr);
            self.put("]");
        }
    }

    fn range(&mut self, range: &Option<Range>) {
        if let Some(range) = range {
            self.all(&["in", "["]);
            self.expr(&range.lo);
            self.put(",");
            self.expr(&range.hi);
            self.put("]");
        }
    }

    fn attributes(&mut self, attributes: &[Attribute]) {
        for attribute in attributes {
            self.put(&format!("@{}", attribute.name.name));
            if !attribute.args.is_empty() {
                self.put("(");
                self.separated(&attribute.args, true, Self::arg);
                self.put(")");
            }
        }
    }

    fn arg(&mut self, arg: &Arg) {
        if let Some(key) = &arg.key {
            self.all(&[&key.name, "="]);
        }
        self.expr(&arg.value);
    }

    fn block(&mut self, block: &Block) {
        self.put("{");
        for stmt in &block.stmts {
            self.attributes(&stmt.attributes);
            match &stmt.kind {
                StmtKind::Let { name, range, value } => {
                    self.all(&["let", &name.name]);
                    self.range(range);
                    self.put("=");
                    self.expr(value);
                    self.put(";");
                }
                StmtKind::Var { name, value } => {
                    self.all(&["var", &name.name, "="]);
                    self.expr(value);
                    self.put(";");
                }
                StmtKind::Assign {
                    name,
                    subscripts,
                    value,
                } => {
                    self.put(&name.name);
                    for subscript in subscripts {
                        self.subscript(subscript);
                    }
                    self.put("=");
                    self.expr(value);
                    self.put(";");
                }
                StmtKind::For(stmt) => {
                    self.all(&["for", &stmt.var.name, "in"]);
                    self.expr(&stmt.start);
                    self.put("..");
                    self.expr(&stmt.end);
                    self.block(&stmt.body);
                }
                StmtKind::If(stmt) => {
                    for (i, (cond, block)) in stmt.branches.iter().enumerate() {
                        if i > 0 {
                            self.put("else");
                        }
                        self.put("if");
                        self.expr(cond);
                        self.block(block);
                    }
                    if let Some(block) = &stmt.otherwise {
                        self.put("else");
                        self.block(block);
                    }
                }
                StmtKind::Return { values } => {
                    self.put("return");
                    if values.len() == 1 {
                        self.expr(&values[0]);
                    } else {
                        self.put("(");
                        self.separated(values, true, Self::expr);
                        self.put(")");
                    }
                    self.put(";");
                }
                StmtKind::Assert { cond, message } => {
                    self.all(&["assert", "("]);
                    self.expr(cond);
                    if let Some(message) = message {
                        self.put(",");
                        self.string(&message.value);
                    }
                    self.all(&[")", ";"]);
                }
            }
        }
        self.put("}");
    }

    fn subscript(&mut self, subscript: &Subscript) {
        self.put("[");
        self.separated(&subscript.indices, true, |w, index| match index {
            Index::At(expr) => w.expr(expr),
            Index::Slice { start, end, .. } => {
                if let Some(start) = start {
                    w.expr(start);
                }
                w.put("..");
                if let Some(end) = end {
                    w.expr(end);
                }
            }
        });
        self.put("]");
    }

    fn expr(&mut self, expr: &Expr) {
        match &expr.kind {
            ExprKind::Int(value) => self.put(&value.to_string()),
            ExprKind::Real(value) => self.put(&format!("{value:?}")),
            ExprKind::Str(value) => self.string(value),
            ExprKind::Name(name) => self.put(name),
            ExprKind::List(items) => {
                self.put("[");
                self.separated(items, true, Self::expr);
                self.put("]");
            }
            ExprKind::Comprehension {
                element,
                var,
                start,
                end,
            } => {
                self.put("[");
                self.expr(element);
                self.all(&["for", &var.name, "in"]);
                self.expr(start);
                self.put("..");
                self.expr(end);
                self.put("]");
            }
            ExprKind::Paren(inner) => {
                self.put("(");
                self.expr(inner);
                self.put(")");
            }
            ExprKind::Unary { op, operand } => {
                self.put(op.symbol());
                self.expr(operand);
            }
            ExprKind::Chain { first, rest } => {
                self.expr(first);
                for link in rest {
                    self.put(link.op.symbol());
                    self.expr(&link.operand);
                }
            }
            ExprKind::Binary { op, lhs, rhs, .. } => {
                self.expr(lhs);
                self.put(op.symbol());
                self.expr(rhs);
            }
            ExprKind::Transpose(base) => {
                self.expr(base);
                self.put("'");
            }
            ExprKind::Index { base, subscript } => {
                self.expr(base);
                self.subscript(subscript);
            }
            ExprKind::Call { callee, args } => {
                self.all(&[&callee.name, "("]);
                self.separated(args, true, Self::arg);
                self.put(")");
            }
            ExprKind::Error => unreachable!("not generated"),
        }
    }
}

/// Makes trees; `fuel` bounds their size.
struct Maker<'c, 'a> {
    choices: &'c mut Choices<'a>,
    fuel: usize,
}

fn at(kind: ExprKind) -> Expr {
    Expr { kind, span: HERE }
}

impl Maker<'_, '_> {
    fn name(&mut self) -> Ident {
        let names = [
            "x",
            "y2",
            "w_1",
            "STEPS",
            "a_rather_long_name_for_a_value",
            "not_a_keyword",
        ];
        Ident {
            name: names[self.choices.below(names.len())].to_owned(),
            span: HERE,
        }
    }

    fn many<T>(&mut self, least: usize, most: usize, make: fn(&mut Self) -> T) -> Vec<T> {
        let n = least + self.choices.below(most - least + 1);
        (0..n).map(|_| make(self)).collect()
    }

    fn file(&mut self) -> File {
        let items = self.many(0, 4, |m| match m.choices.below(5) {
            0 => Item::Use(Use {
                path: m.str(),
                span: HERE,
            }),
            1 => Item::Const(Const {
                docs: Vec::new(),
                name: m.name(),
                ty: m.choices.chance(2).then(|| m.ty()),
                value: m.expr(0),
                span: HERE,
            }),
            2 => Item::Fn(Fn {
                docs: Vec::new(),
                name: m.name(),
                params: m.many(0, 3, Self::name),
                body: if m.choices.chance(2) {
                    FnBody::Block(m.body())
                } else {
                    FnBody::Expr(m.expr(0))
                },
                span: HERE,
            }),
            _ => Item::Circuit(Circuit {
                docs: Vec::new(),
                attributes: m.attributes(&["budget", "batch", "precision", "keep"]),
                name: m.name(),
                params: m.many(0, 4, |m| Param {
                    name: m.name(),
                    secrecy: if m.choices.chance(2) {
                        Secrecy::Secret
                    } else {
                        Secrecy::Public
                    },
                    ty: m.ty(),
                    range: m.range(),
                    span: HERE,
                }),
                outputs: m.many(1, 3, |m| Output {
                    name: m.name(),
                    ty: m.ty(),
                    range: m.range(),
                    span: HERE,
                }),
                body: m.body(),
                span: HERE,
            }),
        });
        File { items, span: HERE }
    }

    fn str(&mut self) -> Str {
        let texts = [
            "lib/a.hec",
            "a \"b\"",
            "back\\slash",
            "two\nlines",
            "// no comment",
        ];
        Str {
            value: texts[self.choices.below(texts.len())].to_owned(),
            span: HERE,
        }
    }

    fn ty(&mut self) -> Type {
        Type {
            dims: self.many(0, 3, |m| m.expr(0)),
            span: HERE,
        }
    }

    fn range(&mut self) -> Option<Range> {
        self.choices.chance(3).then(|| Range {
            lo: self.expr(0),
            hi: self.expr(0),
            span: HERE,
        })
    }

    fn attributes(&mut self, names: &[&str]) -> Vec<Attribute> {
        let n = self.choices.below(names.len() + 1);
        names[..n]
            .iter()
            .map(|name| {
                let key = |name: &str| Ident {
                    name: name.to_owned(),
                    span: HERE,
                };
                let arg = |key, value| Arg {
                    key,
                    value,
                    span: HERE,
                };
                let args = match *name {
                    "budget" => vec![arg(Some(key("depth")), self.expr(0))],
                    "batch" | "precision" | "unroll" => vec![arg(None, self.expr(0))],
                    "pipeline" => vec![arg(None, at(ExprKind::Name("off".to_owned())))],
                    _ => Vec::new(),
                };
                Attribute {
                    name: key(name),
                    args,
                    span: HERE,
                }
            })
            .collect()
    }

    fn body(&mut self) -> Block {
        let mut block = self.block();
        let values = self.many(1, 3, |m| m.expr(0));
        block.stmts.push(Stmt {
            attributes: Vec::new(),
            kind: StmtKind::Return { values },
            span: HERE,
        });
        block
    }

    fn block(&mut self) -> Block {
        let most = if self.fuel == 0 { 0 } else { 4 };
        Block {
            stmts: self.many(0, most, Self::stmt),
            span: HERE,
        }
    }

    fn stmt(&mut self) -> Stmt {
        self.fuel = self.fuel.saturating_sub(1);
        let mut attributes = Vec::new();
        let kind = match self.choices.below(6) {
            0 => {
                attributes = self.attributes(&["keep"]);
                StmtKind::Let {
                    name: self.name(),
                    range: self.range(),
                    value: self.expr(0),
                }
            }
            1 => StmtKind::Var {
                name: self.name(),
                value: self.expr(0),
            },
            2 => StmtKind::Assign {
                name: self.name(),
                subscripts: self.many(0, 2, Self::subscript),
                value: self.expr(0),
            },
            3 => {
                attributes = self.attributes(&["unroll", "pipeline"]);
                StmtKind::For(For {
                    var: self.name(),
                    start: self.expr(0),
                    end: self.expr(0),
                    body: self.block(),
                })
            }
            4 => StmtKind::If(If {
                branches: self.many(1, 3, |m| (m.expr(0), m.block())),
                otherwise: self.choices.chance(2).then(|| self.block()),
            }),
            _ => StmtKind::Assert {
                cond: self.expr(0),
                message: self.choices.chance(2).then(|| self.str()),
            },
        };
        Stmt {
            attributes,
            kind,
            span: HERE,
        }
    }

    fn subscript(&mut self) -> Subscript {
        Subscript {
            indices: self.many(1, 2, |m| match m.choices.below(3) {
                0 => Index::At(m.expr(0)),
                _ => Index::Slice {
                    start: m.choices.chance(2).then(|| m.expr(0)),
                    end: m.choices.chance(2).then(|| m.expr(0)),
                    span: HERE,
                },
            }),
            span: HERE,
        }
    }

    /// An expression that needs no parentheses where operators bind at least as tight as `min`.
    fn expr(&mut self, min: u8) -> Expr {
        use BinaryOp as Op;
        if self.fuel == 0 {
            return self.leaf();
        }
        self.fuel -= 1;
        let chain = |m: &mut Self, precedence: u8, ops: &[Op]| {
            if precedence < min {
                let inner = m.expr(0);
                return at(ExprKind::Paren(Box::new(inner)));
            }
            let first = Box::new(m.expr(precedence + 1));
            let n = 1 + m.choices.below(4);
            let rest = (0..n)
                .map(|_| Link {
                    op: ops[m.choices.below(ops.len())],
                    op_span: HERE,
                    operand: m.expr(precedence + 1),
                })
                .collect();
            at(ExprKind::Chain { first, rest })
        };
        match self.choices.below(14) {
            0 | 1 => self.leaf(),
            2 => chain(self, 1, &[Op::Or]),
            3 => chain(self, 2, &[Op::And]),
            4 if min <= 3 => {
                let ops = [Op::Eq, Op::Ne, Op::Lt, Op::Le, Op::Gt, Op::Ge];
                let op = ops[self.choices.below(6)];
                at(ExprKind::Binary {
                    op,
                    op_span: HERE,
                    lhs: Box::new(self.expr(4)),
                    rhs: Box::new(self.expr(4)),
                })
            }
            5 | 6 => chain(self, 4, &[Op::Add, Op::Sub]),
            7 | 8 => chain(self, 5, &[Op::Mul, Op::Div, Op::MatMul, Op::Rem]),
            9 if min <= 6 => at(ExprKind::Unary {
                op: if self.choices.chance(4) {
                    UnaryOp::Not
                } else {
                    UnaryOp::Neg
                },
                operand: Box::new(self.expr(7)),
            }),
            10 if min <= 7 => at(ExprKind::Binary {
                op: Op::Pow,
                op_span: HERE,
                lhs: Box::new(self.expr(8)),
                rhs: Box::new(self.expr(7)),
            }),
            11 => at(ExprKind::List(self.many(0, 12, |m| m.expr(0)))),
            12 => at(ExprKind::Comprehension {
                element: Box::new(self.expr(0)),
                var: self.name(),
                start: Box::new(self.expr(0)),
                end: Box::new(self.expr(0)),
            }),
            _ => match self.choices.below(3) {
                0 => at(ExprKind::Transpose(Box::new(self.expr(8)))),
                1 => at(ExprKind::Index {
                    base: Box::new(self.expr(8)),
                    subscript: self.subscript(),
                }),
                _ => {
                    let mut args = self.many(0, 3, |m| Arg {
                        key: None,
                        value: m.expr(0),
                        span: HERE,
                    });
                    if self.choices.chance(2) {
                        args.push(Arg {
                            key: Some(self.name()),
                            value: self.expr(0),
                            span: HERE,
                        });
                    }
                    at(ExprKind::Call {
                        callee: self.name(),
                        args,
                    })
                }
            },
        }
    }

    fn leaf(&mut self) -> Expr {
        at(match self.choices.below(4) {
            0 => ExprKind::Name(self.name().name),
            1 => ExprKind::Int(self.choices.below(200) as i64),
            2 => ExprKind::Real(self.choices.below(200) as f64 / 7.0),
            _ => ExprKind::Str(self.str().value),
        })
    }
}

/// The tree without places, as text.
fn shape(file: &File) -> String {
    let text = format!("{file:?}");
    let mut out = String::with_capacity(text.len() / 2);
    let mut rest = text.as_str();
    while let Some(at) = rest.find("Span {") {
        out.push_str(&rest[..at]);
        let end = rest[at..].find("end: ").expect("a span has an end") + at;
        let close = rest[end..].find('}').expect("a span is closed") + end;
        rest = &rest[close + 1..];
    }
    out.push_str(rest);
    out
}

fn check(choices: &[u8]) -> Result<(), TestCaseError> {
    let mut choices = Choices(choices.iter());
    let file = Maker {
        choices: &mut choices,
        fuel: 30,
    }
    .file();
    let mut writer = Writer {
        choices: &mut choices,
        text: String::new(),
    };
    writer.file(&file);
    let source = writer.text;
    let (parsed, diagnostics) = parse(&source, FileId(0));
    prop_assert!(diagnostics.is_empty(), "{source}\n{diagnostics:?}");
    prop_assert_eq!(shape(&parsed), shape(&file), "{}", source);
    let formatted = format(&source).expect("parses");
    let (again, diagnostics) = parse(&formatted, FileId(0));
    prop_assert!(
        diagnostics.is_empty(),
        "{source}\n----\n{formatted}\n{diagnostics:?}"
    );
    prop_assert_eq!(
        shape(&again),
        shape(&file),
        "{}\n----\n{}",
        source,
        formatted
    );
    let comments =
        |text: &str| text.matches("// why /* not").count() + text.matches("// own").count();
    prop_assert_eq!(
        comments(&formatted),
        comments(&source),
        "{}\n----\n{}",
        source,
        formatted
    );
    let twice = format(&formatted).expect("parses");
    prop_assert_eq!(
        &twice,
        &formatted,
        "{}\n----\n{}\n----\n{}",
        source,
        formatted,
        twice
    );
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, max_shrink_iters: 20_000, ..ProptestConfig::default() })]

    #[test]
    fn programs_survive_parser_and_formatter(choices in prop::collection::vec(any::<u8>(), 0..1500)) {
        check(&choices)?;
    }

    #[test]
    fn token_soup_never_panics(choices in prop::collection::vec(0usize..52, 0..200)) {
        const TOKENS: [&str; 52] = [
            "use", "const", "fn", "circuit", "let", "var", "for", "in", "if", "else", "return", "assert",
            "secret", "public", "real", "x", "y", "1", "2.5", "\"s\"", "->", "..", "==", "=", "+", "-", "*",
            "@", "@keep", "^", "'", "!", "(", ")", "[", "]", "{", "}", ",", ";", ":", ".", "**", "&",
            "\n", "// c\n", "é", "\"", "while", "2x", "(", "{",
        ];
        let mut source = String::new();
        for choice in choices {
            source.push_str(TOKENS[choice]);
            source.push(' ');
        }
        let (_, diagnostics) = parse(&source, FileId(0));
        for d in &diagnostics {
            prop_assert!(d.primary.span.start <= d.primary.span.end);
            prop_assert!(source.get(d.primary.span.start as usize..d.primary.span.end as usize).is_some());
        }
        prop_assert_eq!(format(&source).is_ok(), diagnostics.is_empty());
    }

    #[test]
    fn any_text_is_read(source in "\\PC{0,200}") {
        let _ = parse(&source, FileId(0));
        let _ = format(&source);
    }
}

/// Every circuit of the repository is in a state that formatting keeps, meaning and text.
#[test]
fn repository_circuits_are_kept() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let mut folders: Vec<_> = ["circuits", "examples", "tests/syntax"]
        .map(|f| root.join(f))
        .into();
    let mut seen = 0;
    while let Some(folder) = folders.pop() {
        let Ok(entries) = std::fs::read_dir(&folder) else {
            continue;
        };
        for entry in entries {
            let path = entry.expect("readable").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|e| e == "hec") {
                let Ok(source) = std::fs::read_to_string(&path) else {
                    continue;
                };
                let Ok(formatted) = format(&source) else {
                    continue;
                };
                seen += 1;
                let before = parse(&source, FileId(0)).0;
                let after = parse(&formatted, FileId(0)).0;
                assert_eq!(shape(&before), shape(&after), "{}", path.display());
                assert_eq!(
                    format(&formatted).expect("parses"),
                    formatted,
                    "{}",
                    path.display()
                );
            }
        }
    }
    assert!(seen >= 2, "the circuits are not where they are looked for");
}

/// Hostile nesting and length end in an error or a tree, in linear time and bounded stack.
#[test]
fn hostile_sources_are_bounded() {
    let n = 50_000;
    let deep = [
        "(".repeat(n),
        "[".repeat(n),
        "-".repeat(n),
        "!".repeat(n),
        "f(".repeat(n),
        "x[".repeat(n),
        "2^".repeat(n),
        "1+(".repeat(n),
        "1||1&&1==1+1*-(".repeat(n / 10),
        format!("x{}", "'".repeat(n)),
        format!("x{}", "[0]".repeat(n)),
    ];
    for text in deep {
        let source = format!("const A = {text};");
        let (_, diagnostics) = parse(&source, FileId(0));
        assert!(
            diagnostics.iter().any(|d| d.code == "E0009"),
            "{}",
            &source[..40]
        );
        assert!(diagnostics.len() < 5, "{diagnostics:?}");
    }
    for (text, code) in [
        (
            "circuit f() -> y: real { ".to_owned() + &"for i in 0..1 {".repeat(n),
            "E0009",
        ),
        (
            "circuit f() -> y: real { ".to_owned() + &"{".repeat(n),
            "E0001",
        ),
        (
            "circuit f() -> y: real { ".to_owned() + &"if 1 {".repeat(n),
            "E0009",
        ),
        ("}".repeat(n), "E0099"),
        ("@".repeat(n), "E0001"),
        ("\u{1}\n".repeat(n), "E0099"),
        ("return (".repeat(n), "E0023"),
    ] {
        let (_, diagnostics) = parse(&text, FileId(0));
        assert!(
            diagnostics.iter().any(|d| d.code == code),
            "{}: {:?}",
            &text[..40],
            diagnostics.first()
        );
        assert!(diagnostics.len() <= hecc_lang::MAX_ERRORS + 1);
    }
    let flat = [
        format!("const A = 1{};", " + 1".repeat(n)),
        format!("const A = 1{};", " * 1".repeat(n)),
        format!("const A = [{}];", "1,".repeat(n)),
        format!(
            "circuit f() -> y: real {{ if 1 {{}} {} return 1; }}",
            "else if 1 {}".repeat(n)
        ),
        "const A = 1;".repeat(n),
        "// c\n".repeat(n),
    ];
    for source in flat {
        let (_, diagnostics) = parse(&source, FileId(0));
        assert!(diagnostics.is_empty(), "{diagnostics:?}");
        let formatted = format(&source).expect("parses");
        assert_eq!(parse(&formatted, FileId(0)).1.len(), 0);
    }
    let (_, diagnostics) = parse(&" ".repeat(hecc_lang::MAX_SOURCE_BYTES + 1), FileId(0));
    assert_eq!(diagnostics[0].code, "E0003");
}
