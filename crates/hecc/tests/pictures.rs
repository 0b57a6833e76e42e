//! The pictures in docs/passes: each is drawn from a program before and after the pass that its page
//! is about. `BLESS=1 cargo test -p hecc --test pictures` writes them anew.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use hecc_bool::formats::eqn;
use hecc_bool::{Lit, Network, Node, optimize as optimize_network};
use hecc_ir::graph::{Circuit, Module, NodeId};
use hecc_ir::svg::{Picture, print_svg};
use hecc_ir::tensor::{Affine, Secrecy, Tensor, TensorOp};
use hecc_passes::pipeline::{Context, Options, optimize, passes};
use hecc_passes::tensor::build::Simplify;
use hecc_passes::tensor::check::Reference;
use hecc_passes::tensor::cost::{cost, facts};
use hecc_passes::tensor::precompute::{choose, split};
use hecc_passes::tensor::unroll::unroll;

/// A picture: its name, the pass, `-O`, and the program.
const PICTURES: [(&str, &str, u8, &str); 7] = [
    (
        "unroll",
        "unroll",
        2,
        "circuit f(x: secret real[3]) -> y: real {
             var r = x[0];
             for i in 1..3 { r = r * x[i]; }
             return r;
         }",
    ),
    (
        "simplify",
        "simplify",
        2,
        "circuit f(x: secret real, y: secret real, z: secret real) -> r: real {
             return 0.5 * (4 * x) + 0 * y - (-z);
         }",
    ),
    (
        "balance",
        "balance",
        2,
        "circuit f(a: secret real, b: secret real, c: secret real, d: secret real) -> r: real {
             return a * b * c * d;
         }",
    ),
    (
        "polynomials",
        "polynomials",
        2,
        "circuit f(x: secret real) -> r: real {
             return ((3 * x + 2) * x + 5) * x + 7;
         }",
    ),
    (
        "scan",
        "scan",
        2,
        "circuit f(r: secret real, a: secret real[2], b: secret real[2]) -> y: real {
             let s = r * a[0] + b[0];
             let t = s * a[1] + b[1];
             return t * r;
         }",
    ),
    (
        "matrix",
        "matrix",
        2,
        "circuit f(A: secret real[4, 4], B: secret real[4, 4], C: secret real[4, 4], x: secret real[4]) -> y: real[4] {
             return A @ (B @ (C @ x));
         }",
    ),
    (
        "expand",
        "expand",
        0,
        "circuit f(x: secret real) -> r: real { return x^4; }",
    ),
];

/// What the client may compute two by two.
const PRECOMPUTED: &str = "\
@precompute(degree = 2, inputs = 2.0)
circuit f(a: secret real, b: secret real, c: secret real, d: secret real) -> r: real {
    return a * b * c * d;
}";

/// Two of three: each OR is an AND of inverted values.
const MAJORITY: &str = "\
INORDER = a b c;
OUTORDER = m;
m = a * b + a * c + b * c;
";

struct NoFiles;

impl hecc_lang::FileSystem for NoFiles {
    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        Err(io::Error::new(
            io::ErrorKind::NotFound,
            path.display().to_string(),
        ))
    }
}

struct OneFile<'a>(&'a str);

impl hecc_lang::FileSystem for OneFile<'_> {
    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        if path == Path::new("f.hec") {
            Ok(self.0.as_bytes().to_vec())
        } else {
            NoFiles.read(path)
        }
    }
}

fn load(source: &str) -> Module<Tensor> {
    let program = hecc_lang::load_program(
        Path::new("f.hec"),
        &OneFile(source),
        hecc_lang::Limits::default(),
    )
    .unwrap_or_else(|f| panic!("{:?}", f.diagnostics));
    program.circuits[0].clone()
}

/// The program before and after a pass: as written for `unroll`, and without loops for all others.
fn before_and_after(
    pass: &str,
    opt_level: u8,
    source: &'static str,
) -> (Circuit<Tensor>, Circuit<Tensor>) {
    let module = &load(source);
    let options = Options {
        opt_level,
        ..Options::default()
    };
    let written = module.entry().clone();
    let flat = unroll(module, Simplify::Structure, options.node_limit).expect("unrolls");
    let (before, after) = if pass == "unroll" {
        (written, flat)
    } else {
        let plan = passes(opt_level);
        let all = [plan.base, plan.forms, plan.tried, plan.rest];
        let found = all.iter().flatten().find(|p| p.name() == pass);
        let context = Context {
            options,
            work_limit: f64::INFINITY,
        };
        let after = found.expect("there is such a pass").run(&flat, &context);
        (flat.clone(), after.unwrap_or(flat))
    };
    assert_ne!(before, after, "{pass} changes nothing in {source}");
    if let Err(why) = Reference::new(module).compare(&after) {
        panic!("{pass} breaks {source}: {why}");
    }
    (before, after)
}

/// A constant index; `i` for one that depends on a loop.
fn place(a: &Affine) -> String {
    a.as_constant()
        .map_or_else(|| "i".to_owned(), |c| c.to_string())
}

fn label(circuit: &Circuit<Tensor>, id: NodeId) -> String {
    let text = match circuit.graph.op(id) {
        TensorOp::Input(i) => circuit.inputs[*i as usize].name.clone(),
        TensorOp::Const(c) => match c.uniform() {
            Some(v) => v.to_string(),
            None => "const".to_owned(),
        },
        TensorOp::Add => "+".to_owned(),
        TensorOp::Sub => "−".to_owned(),
        TensorOp::Neg => "−( )".to_owned(),
        TensorOp::Mul => "×".to_owned(),
        TensorOp::MatMul => "@".to_owned(),
        TensorOp::Pow(n) => format!("^{n}"),
        TensorOp::Index(a) => place(a),
        TensorOp::Slice { starts, .. } => {
            let at: Vec<String> = starts.iter().map(place).collect();
            format!("[{}]", at.join(", "))
        }
        op => <Tensor as hecc_ir::graph::Dialect>::mnemonic(op).to_owned(),
    };
    text.chars().take(9).collect()
}

fn draw(pass: &str, (before, after): &(Circuit<Tensor>, Circuit<Tensor>)) -> String {
    let has_loop = |c: &Circuit<Tensor>| {
        c.graph
            .ids()
            .any(|id| matches!(c.graph.op(id), TensorOp::Loop { .. }))
    };
    let title = |when: &str, c: &Circuit<Tensor>| {
        if has_loop(c) {
            return format!("{when} {pass}");
        }
        let cost = cost(c);
        format!(
            "{when} {pass}: depth {}, levels {}",
            cost.depth, cost.levels
        )
    };
    let secret_product = |c: &Circuit<Tensor>, id: NodeId| {
        if has_loop(c) || !matches!(c.graph.op(id), TensorOp::Mul | TensorOp::MatMul) {
            return false;
        }
        let facts = facts(c);
        c.graph.operands(id).iter().all(|o| facts[o.index()].secret)
    };
    print_svg(&[
        Picture {
            title: title("before", before),
            circuit: before,
            label: &|id| label(before, id),
            marked: &|id| secret_product(before, id),
        },
        Picture {
            title: title("after", after),
            circuit: after,
            label: &|id| label(after, id),
            marked: &|id| secret_product(after, id),
        },
    ])
}

/// The whole program, and what is left of it for the evaluator.
fn with_and_without_precompute() -> (Circuit<Tensor>, Circuit<Tensor>) {
    let module = load(PRECOMPUTED);
    let options = Options::default();
    let (mut flat, _) = optimize(&module, &options, None).expect("optimizes");
    let sent = choose(&flat, 4, f64::INFINITY, options.key());
    let parts = split(&flat, &sent);
    Reference::new(&module)
        .compare_split(&parts.client, &parts.server)
        .expect("the two parts are the program");
    flat.meta.precompute = None;
    (flat, parts.server)
}

/// A network as a circuit: AND is drawn as a product, XOR as a sum, NOT as a negation.
fn as_circuit(network: &Network) -> Circuit<Tensor> {
    let mut lines = String::new();
    let name = |lit: Lit| match lit.inverted() {
        true => format!("(-n{})", lit.node()),
        false => format!("n{}", lit.node()),
    };
    for (i, node) in network.nodes().iter().enumerate() {
        lines += &match node {
            Node::Zero => continue,
            Node::Input(at) => format!("let n{i} = {};\n", network.inputs[*at as usize]),
            Node::And(a, b) => format!("let n{i} = {} * {};\n", name(*a), name(*b)),
            Node::Xor(a, b) => format!("let n{i} = {} + {};\n", name(*a), name(*b)),
        };
    }
    let params: Vec<String> = network
        .inputs
        .iter()
        .map(|name| format!("{name}: secret real"))
        .collect();
    let (output, value) = &network.outputs[0];
    let source = format!(
        "circuit f({}) -> {output}: real {{\n{lines}return {};\n}}",
        params.join(", "),
        name(*value)
    );
    load(&source).entry().clone()
}

fn draw_networks() -> String {
    let before = eqn::read(MAJORITY).expect("it is right");
    let after = optimize_network(&before).expect("it keeps its meaning");
    let picture = |when: &str, network: &Network| {
        let m = network.measures();
        let title = format!(
            "{when}: depth {}, {} ANDs, {} XORs",
            m.depth, m.ands, m.xors
        );
        (title, as_circuit(network))
    };
    let drawn = [picture("before", &before), picture("after", &after.network)];
    let label = |c: &Circuit<Tensor>, id: NodeId| match c.graph.op(id) {
        TensorOp::Mul => "AND".to_owned(),
        TensorOp::Add => "XOR".to_owned(),
        TensorOp::Neg => "NOT".to_owned(),
        _ => label(c, id),
    };
    let [(first, before), (second, after)] = &drawn;
    let is_and = |c: &Circuit<Tensor>, id: NodeId| matches!(c.graph.op(id), TensorOp::Mul);
    print_svg(&[
        Picture {
            title: first.clone(),
            circuit: before,
            label: &|id| label(before, id),
            marked: &|id| is_and(before, id),
        },
        Picture {
            title: second.clone(),
            circuit: after,
            label: &|id| label(after, id),
            marked: &|id| is_and(after, id),
        },
    ])
}

#[test]
fn every_page_has_its_picture() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/passes");
    for entry in fs::read_dir(&folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
        if path.extension().is_some_and(|e| e == "md") && name != "README" {
            let page = fs::read_to_string(&path).unwrap();
            assert!(
                page.contains(&format!("({name}.svg)")),
                "{name}.md shows none"
            );
        }
    }
}

#[test]
fn pictures_are_what_the_passes_do() {
    let root: PathBuf = Path::new(env!("CARGO_MANIFEST_DIR"))
        .ancestors()
        .nth(2)
        .unwrap()
        .to_owned();
    let folder = root.join("docs/passes");
    let bless = std::env::var_os("BLESS").is_some();
    let drawn = PICTURES.map(|(name, pass, opt_level, source)| {
        (name, draw(pass, &before_and_after(pass, opt_level, source)))
    });
    let others = [
        (
            "precompute",
            draw("precompute", &with_and_without_precompute()),
        ),
        ("boolean", draw_networks()),
    ];
    for (name, picture) in drawn.into_iter().chain(others) {
        let path = folder.join(format!("{name}.svg"));
        if bless {
            fs::write(&path, &picture).unwrap();
        }
        let kept = fs::read_to_string(&path).unwrap_or_default();
        assert_eq!(
            kept,
            picture,
            "{} is not what the pass does now: BLESS=1 draws it anew",
            path.display()
        );
        let page = fs::read_to_string(folder.join(format!("{name}.md"))).unwrap();
        assert!(
            page.contains(&format!("({name}.svg)")),
            "{name}.md does not show its picture"
        );
    }
}

#[test]
fn pictures_show_secrets_products() {
    let (_, after) = before_and_after("balance", 2, PICTURES[2].3);
    assert!(after.inputs.iter().all(|p| p.secrecy == Secrecy::Secret));
    assert_eq!(
        draw("balance", &(after.clone(), after))
            .matches("#cfe0f5")
            .count(),
        6
    );
}
