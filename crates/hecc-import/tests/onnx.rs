//! What is refused, and how; what is computed is checked by running the binary, in crates/hecc/tests/import.rs.

use hecc_import::onnx::proto::{
    Attribute, Dimension, Extent, Graph, Model, Node, Shape, Tensor, TensorType, Type, ValueInfo,
};
use hecc_import::onnx::{ImportError, Imported, Options, import};
use proptest::prelude::*;
use prost::Message as _;

fn value(name: &str, extents: &[i64]) -> ValueInfo {
    let dim = extents
        .iter()
        .map(|&n| Dimension {
            value: Some(match n {
                -1 => Extent::Name("N".to_owned()),
                n => Extent::Value(n),
            }),
        })
        .collect();
    ValueInfo {
        name: name.to_owned(),
        r#type: Some(Type {
            tensor_type: Some(TensorType {
                elem_type: 1,
                shape: Some(Shape { dim }),
            }),
        }),
    }
}

fn weight(name: &str, dims: &[i64]) -> Tensor {
    let count = dims.iter().product::<i64>() as usize;
    Tensor {
        dims: dims.to_vec(),
        data_type: 1,
        float_data: (0..count).map(|i| 0.25 * (i % 7) as f32 - 0.5).collect(),
        name: name.to_owned(),
        ..Tensor::default()
    }
}

fn node(op: &str, input: &[&str], output: &str) -> Node {
    Node {
        input: input.iter().map(|s| (*s).to_owned()).collect(),
        output: vec![output.to_owned()],
        name: format!("/{output}"),
        op_type: op.to_owned(),
        ..Node::default()
    }
}

fn with(mut node: Node, name: &str, ints: &[i64]) -> Node {
    node.attribute.push(Attribute {
        name: name.to_owned(),
        i: ints.first().copied().unwrap_or(0),
        ints: ints.to_vec(),
        ..Attribute::default()
    });
    node
}

/// One node on an image [N, 2, 4, 4], with a kernel `k` and a matrix `w`.
fn model(nodes: Vec<Node>) -> Model {
    Model {
        ir_version: 8,
        producer_name: "test\nsecond line".to_owned(),
        graph: Some(Graph {
            output: vec![value(&nodes[nodes.len() - 1].output[0], &[])],
            node: nodes,
            name: "g".to_owned(),
            initializer: vec![
                weight("k", &[3, 2, 2, 2]),
                weight("w", &[32, 4]),
                weight("many", &[5, 2, 4, 4]),
            ],
            input: vec![value("x", &[-1, 2, 4, 4])],
        }),
        ..Model::default()
    }
}

fn options() -> Options {
    Options {
        file: "m.onnx".to_owned(),
        weights: "m.safetensors".to_owned(),
        ..Options::default()
    }
}

fn imported(nodes: Vec<Node>) -> Result<Imported, ImportError> {
    import(&model(nodes).encode_to_vec(), &options())
}

#[track_caller]
fn refused(nodes: Vec<Node>, texts: &[&str]) {
    let error = imported(nodes).unwrap_err().to_string();
    for text in texts {
        assert!(error.contains(text), "no {text:?} in: {error}");
    }
}

#[test]
fn the_first_operator_without_a_counterpart_is_named() {
    refused(
        vec![
            node("Conv", &["x", "k"], "maps"),
            node("MaxPool", &["maps"], "pool"),
            node("Softmax", &["pool"], "y"),
        ],
        &[
            "operator MaxPool of node `/pool`",
            "further on: Softmax",
            "AveragePool",
        ],
    );
    let mut own = node("Gemm", &["x"], "y");
    own.domain = "com.example".to_owned();
    refused(vec![own], &["operator com.example.Gemm of node `/y`"]);
    refused(
        vec![
            node("Shape", &["x"], "s"),
            node("Reshape", &["x", "s"], "y"),
        ],
        &["operator Shape", "onnxsim"],
    );
}

#[test]
fn a_node_that_no_result_needs_does_not_matter() {
    let nodes = vec![
        node("MaxPool", &["x"], "unused"),
        node("Mul", &["x", "x"], "y"),
    ];
    assert_eq!(imported(nodes).unwrap().nodes, 1);
}

#[test]
fn attributes_without_a_counterpart_are_named() {
    let conv = || node("Conv", &["x", "k"], "y");
    refused(
        vec![with(conv(), "strides", &[1, 2])],
        &["Conv", "`/y`", "strides are [1, 2]"],
    );
    refused(
        vec![with(conv(), "dilations", &[2, 2])],
        &["Conv", "dilations are [2, 2]"],
    );
    refused(vec![with(conv(), "mystery", &[1])], &["Conv", "`mystery`"]);
    refused(vec![with(conv(), "group", &[3])], &["3 groups"]);
    refused(vec![with(conv(), "group", &[i64::MAX])], &["groups"]);
    refused(vec![with(conv(), "pads", &[1, 1])], &["pads"]);
    let pool = with(node("AveragePool", &["x"], "y"), "kernel_shape", &[2, 2]);
    refused(
        vec![with(pool, "ceil_mode", &[1])],
        &["AveragePool", "ceil_mode"],
    );
    let turned = vec![
        node("Flatten", &["x"], "f"),
        with(node("Gemm", &["f", "w"], "y"), "transA", &[1]),
    ];
    refused(turned, &["Gemm", "sums over instances"]);
}

#[test]
fn functions_need_a_range_and_a_degree() {
    let nodes = || vec![node("Mul", &["x", "x"], "h"), node("Relu", &["h"], "y")];
    refused(
        nodes(),
        &["operator Relu of node `/y`", "--range h=LO,HI", "--degree"],
    );
    let given = Options {
        ranges: vec![("h".to_owned(), [-8.0, 8.0])],
        degree: Some(7),
        ..options()
    };
    let program = import(&model(nodes()).encode_to_vec(), &given)
        .unwrap()
        .program;
    assert!(program.contains("let h in [-8, 8] = x * x;"), "{program}");
    assert!(
        program.contains("approx(relu, h, on = [-8, 8], degree = 7)"),
        "{program}"
    );
}

#[test]
fn instances_stay_apart() {
    let flat = with(node("Flatten", &["x"], "y"), "axis", &[2]);
    refused(vec![flat], &["join instances", "axis 1"]);
    let over = |nodes: Vec<Node>| refused(nodes, &["the first axis counts instances"]);
    over(vec![node("Add", &["x", "many"], "y")]);
    over(vec![with(
        node("Transpose", &["x"], "y"),
        "perm",
        &[1, 0, 2, 3],
    )]);
    over(vec![with(node("Concat", &["x", "x"], "y"), "axis", &[0])]);
    over(vec![with(node("ReduceSum", &["x"], "y"), "axes", &[0])]);
    over(vec![with(node("Reshape", &["x"], "y"), "shape", &[32, -1])]);
    over(vec![with(node("Squeeze", &["x"], "y"), "axes", &[0])]);
}

#[test]
fn shapes_have_to_be_known() {
    let mut m = model(vec![node("Mul", &["x", "x"], "y")]);
    m.graph.as_mut().unwrap().input[0] = value("x", &[3, -1]);
    let bytes = m.encode_to_vec();
    let error = import(&bytes, &options()).unwrap_err().to_string();
    assert!(error.contains("--dim N=N"), "{error}");
    let given = Options {
        dims: vec![("N".to_owned(), 5)],
        ..options()
    };
    let program = import(&bytes, &given).unwrap().program;
    assert!(program.contains("x: secret real[3, 5]"), "{program}");
    // A first axis without a name is open as well.
    m.graph.as_mut().unwrap().input[0] = value("x", &[-1, 5]);
    let program = import(&m.encode_to_vec(), &options()).unwrap().program;
    assert!(program.contains("x: secret real[5]"), "{program}");
}

#[test]
fn what_is_missing_is_named() {
    refused(
        vec![node("Add", &["x", "absent"], "y")],
        &["`absent`", "operator Add"],
    );
    refused(vec![node("Gemm", &["x"], "y")], &["lacks operand 2"]);
    refused(
        vec![node("MatMul", &["x", "k"], "y")],
        &["matrices and vectors"],
    );
    let mut m = model(vec![node("Mul", &["x", "x"], "y")]);
    m.graph.as_mut().unwrap().output.clear();
    let error = import(&m.encode_to_vec(), &options()).unwrap_err();
    assert!(error.to_string().contains("no results"), "{error}");
    let empty = import(&[], &options()).unwrap_err().to_string();
    assert!(empty.contains("is this an .onnx file?"), "{empty}");
}

#[test]
fn a_flood_of_small_messages_is_refused() {
    // An empty node takes two bytes here and hundreds in memory.
    let nodes = [0x0a, 0x00].repeat(1 << 21);
    let mut bytes = vec![0x3a];
    prost::encoding::encode_varint(nodes.len() as u64, &mut bytes);
    bytes.extend(nodes);
    let error = import(&bytes, &options()).unwrap_err();
    assert!(matches!(error, ImportError::TooLarge { .. }), "{error}");
}

fn network() -> Vec<Node> {
    vec![
        with(
            with(node("Conv", &["x", "k"], "c"), "strides", &[2, 2]),
            "pads",
            &[0, 0, 1, 1],
        ),
        node("Mul", &["c", "c"], "s"),
        with(node("Flatten", &["x"], "f"), "axis", &[1]),
        with(node("Gemm", &["f", "w"], "g"), "transB", &[0]),
        with(node("Reshape", &["g"], "y"), "shape", &[0, 2, 2]),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    /// Damaged models are refused or imported, and never crash.
    #[test]
    fn damaged_models_are_no_crash(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        end in any::<prop::sample::Index>(),
        cut in any::<bool>(),
    ) {
        let mut m = model(network());
        m.graph.as_mut().unwrap().output.push(value("s", &[]));
        let mut bytes = m.encode_to_vec();
        for (at, byte) in changes {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        if cut {
            bytes.truncate(end.index(bytes.len()));
        }
        if let Err(error) = import(&bytes, &options()) {
            prop_assert!(!error.to_string().is_empty());
        }
    }

    /// Attributes with any integers are no crash either.
    #[test]
    fn any_attribute_is_no_crash(
        op in prop::sample::select(vec![
            ("Conv", "pads"), ("Conv", "strides"), ("Conv", "group"), ("AveragePool", "kernel_shape"),
            ("Flatten", "axis"), ("Reshape", "shape"), ("Transpose", "perm"), ("Concat", "axis"),
            ("Pad", "pads"), ("ReduceSum", "axes"), ("Squeeze", "axes"), ("Unsqueeze", "axes"),
        ]),
        ints in prop::collection::vec(prop_oneof![-5i64..6, any::<i64>(), Just(i64::MIN)], 0..9),
    ) {
        let inputs: &[&str] = if op.0 == "Conv" { &["x", "k"] } else { &["x"] };
        let made = imported(vec![with(node(op.0, inputs, "y"), op.1, &ints)]);
        if let Err(ImportError::Check(why)) = made {
            // What the language refuses is refused for its size.
            prop_assert!(why.contains("elements"), "{op:?} {ints:?}: {why}");
        }
    }
}
