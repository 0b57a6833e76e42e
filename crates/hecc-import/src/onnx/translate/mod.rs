//! One statement of the program for each node of the graph.

mod arithmetic;
mod attributes;
mod shapes;
mod spatial;

use std::collections::{HashMap, HashSet};
use std::fmt::Write as _;
use std::rc::Rc;

use super::names::{Names, shown, word};
use super::proto::{Extent, Graph, Model, Node, ValueInfo};
use super::tensor::{self, Array, Kind};
use super::weights::Weights;
use super::{ImportError, Imported, NodeName, Options};
use attributes::Attributes;

type Result<T> = std::result::Result<T, ImportError>;

/// A value of the graph as the program has it.
#[derive(Clone, Debug)]
struct Value {
    /// A name or a number: what can stand anywhere in an expression.
    text: String,
    /// Its extents in the program, without the axis of instances.
    shape: Vec<usize>,
    /// Whether it has an axis of instances in the model, before all others.
    batched: bool,
    /// Whether it depends on an input.
    secret: bool,
    /// Its elements, and what to call them, if the model holds them.
    known: Option<(Rc<Array>, String)>,
    /// Which statement binds it.
    statement: Option<usize>,
}

impl Value {
    /// Its rank in the model.
    fn rank(&self) -> usize {
        self.shape.len() + usize::from(self.batched)
    }

    fn known(&self) -> Option<&Array> {
        self.known.as_ref().map(|(array, _)| array.as_ref())
    }
}

/// A result of a node, before it is bound.
struct Made {
    text: String,
    shape: Vec<usize>,
    batched: bool,
    secret: bool,
}

/// `let NAME in RANGE = TEXT;`
struct Statement {
    comment: Option<String>,
    name: String,
    range: Option<[f64; 2]>,
    text: String,
}

struct Translator<'a> {
    options: &'a Options,
    names: Names,
    weights: Weights,
    values: HashMap<&'a str, Value>,
    /// By name in the model: the constant that stands for it.
    constants: HashMap<String, String>,
    constant_text: Vec<String>,
    statements: Vec<Statement>,
    /// Bytes of all statements.
    written: usize,
    /// Ranges that have found what they are about.
    used_ranges: HashSet<usize>,
    used_dims: HashSet<usize>,
    used_degree: bool,
    notes: Vec<String>,
}

/// Writes the program; not yet in canonical form.
pub(super) fn translate(model: &Model, options: &Options) -> Result<Imported> {
    let graph = model
        .graph
        .as_ref()
        .ok_or_else(|| ImportError::Malformed("it holds no graph".to_owned()))?;
    if graph.output.is_empty() {
        return Err(ImportError::Malformed("it has no results".to_owned()));
    }
    let live = live(graph)?;
    refuse_unknown(&live)?;
    let mut t = Translator {
        options,
        names: Names::default(),
        weights: Weights::default(),
        values: HashMap::new(),
        constants: HashMap::new(),
        constant_text: Vec::new(),
        statements: Vec::new(),
        written: 0,
        used_ranges: HashSet::new(),
        used_dims: HashSet::new(),
        used_degree: false,
        notes: Vec::new(),
    };
    let circuit = match &options.name {
        Some(name) if word(name) != *name || hecc_lang::has_meaning(name) => {
            return Err(ImportError::Model(format!(
                "`{}` cannot be a circuit's name: give small letters, digits and underscores, and no word of the language",
                shown(name)
            )));
        }
        Some(name) => t.names.value(name),
        None => {
            let stem = options.file.rsplit(['/', '\\']).next().unwrap_or_default();
            let stem = stem.rsplit_once('.').map_or(stem, |(stem, _)| stem);
            t.names.value(stem)
        }
    };
    for initializer in &graph.initializer {
        let array = tensor::read(initializer, &initializer.name)?;
        t.hold(&initializer.name, &initializer.name, array);
    }
    let inputs = t.inputs(graph, &live)?;
    for node in &live {
        t.node(node)?;
    }
    let (types, returned) = t.outputs(graph)?;
    t.refuse_unused_options()?;
    t.note_ranges();

    let mut text = head(model, &live, options, t.weights.elements);
    for constant in &t.constant_text {
        text.push_str(constant);
    }
    text.push('\n');
    if let Some(batch) = options.batch {
        let _ = writeln!(text, "@batch({batch})");
    }
    let _ = writeln!(text, "circuit {circuit}({inputs}) -> {types} {{");
    for s in &t.statements {
        if let Some(comment) = &s.comment {
            let _ = writeln!(text, "    // {comment}");
        }
        let range = s.range.map(in_range).unwrap_or_default();
        let _ = writeln!(text, "    let {}{range} = {};", s.name, s.text);
    }
    let _ = writeln!(text, "    return {returned};\n}}");
    Ok(Imported {
        program: text,
        weights: t.weights.to_bytes()?,
        circuit,
        nodes: live.len(),
        parameters: t.weights.elements,
        notes: t.notes,
    })
}

fn head(model: &Model, live: &[&Node], options: &Options, parameters: usize) -> String {
    let mut by = String::new();
    if !model.producer_name.is_empty() {
        by = format!(
            ", written by {} {}",
            shown(&model.producer_name),
            shown(&model.producer_version)
        );
    }
    let weights = match parameters {
        0 => "no weights".to_owned(),
        n => format!("{n} weights"),
    };
    format!(
        "// Imported from {}{}: {} nodes, {weights}.\n// The weights are known to whoever evaluates; the inputs are not.\n\n",
        shown(&options.file),
        by.trim_end(),
        live.len()
    )
}

/// The nodes that the results depend on, in order.
fn live(graph: &Graph) -> Result<Vec<&Node>> {
    let mut made: HashMap<&str, usize> = HashMap::new();
    for (i, node) in graph.node.iter().enumerate() {
        for output in node.output.iter().filter(|o| !o.is_empty()) {
            if made.insert(output, i).is_some() {
                return Err(ImportError::Malformed(format!(
                    "two nodes have the result `{}`",
                    shown(output)
                )));
            }
        }
    }
    let mut wanted = vec![false; graph.node.len()];
    let mut open: Vec<usize> = Vec::new();
    let want = |name: &str, wanted: &mut Vec<bool>, open: &mut Vec<usize>| {
        if let Some(&i) = made.get(name)
            && !std::mem::replace(&mut wanted[i], true)
        {
            open.push(i);
        }
    };
    for output in &graph.output {
        want(&output.name, &mut wanted, &mut open);
    }
    while let Some(i) = open.pop() {
        for input in &graph.node[i].input {
            want(input, &mut wanted, &mut open);
        }
    }
    Ok(graph
        .node
        .iter()
        .zip(wanted)
        .filter_map(|(node, wanted)| wanted.then_some(node))
        .collect())
}

/// Operators that have a counterpart.
const SUPPORTED: [&str; 37] = [
    "Abs",
    "Add",
    "AveragePool",
    "BatchNormalization",
    "Cast",
    "Concat",
    "Constant",
    "Conv",
    "Cos",
    "Div",
    "Dropout",
    "Exp",
    "Flatten",
    "Gelu",
    "Gemm",
    "GlobalAveragePool",
    "Identity",
    "Log",
    "MatMul",
    "Mul",
    "Neg",
    "Pad",
    "Pow",
    "ReduceMean",
    "ReduceSum",
    "Relu",
    "Reshape",
    "Sigmoid",
    "Sin",
    "Softplus",
    "Square",
    "Squeeze",
    "Sub",
    "Sum",
    "Tanh",
    "Transpose",
    "Unsqueeze",
];

/// Most groups of a convolution: each becomes a convolution of its own in the text.
const MOST_GROUPS: usize = 1024;

/// Functions that a polynomial stands in for, and what the language calls them.
const APPROXIMATED: [(&str, &str); 10] = [
    ("Relu", "relu"),
    ("Sigmoid", "sigmoid"),
    ("Tanh", "tanh"),
    ("Gelu", "gelu"),
    ("Softplus", "softplus"),
    ("Exp", "exp"),
    ("Log", "log"),
    ("Abs", "abs"),
    ("Sin", "sin"),
    ("Cos", "cos"),
];

fn supported(node: &Node) -> bool {
    matches!(node.domain.as_str(), "" | "ai.onnx") && SUPPORTED.contains(&node.op_type.as_str())
}

/// Says at once what cannot be expressed, the first node first.
fn refuse_unknown(live: &[&Node]) -> Result<()> {
    let mut unknown = live.iter().filter(|node| !supported(node));
    let Some(first) = unknown.next() else {
        return Ok(());
    };
    let mut others: Vec<&str> = unknown.map(|n| n.op_type.as_str()).collect();
    others.sort_unstable();
    others.dedup();
    others.retain(|o| *o != first.op_type);
    let mut reason = "it has no counterpart in .hec".to_owned();
    if !others.is_empty() {
        let names: Vec<String> = others.iter().take(8).map(|o| shown(o)).collect();
        let _ = write!(reason, "; neither have, further on: {}", names.join(", "));
    }
    let help = match first.op_type.as_str() {
        "MaxPool" | "GlobalMaxPool" | "ReduceMax" => {
            "a maximum is no polynomial: train with AveragePool"
        }
        "Softmax" | "LogSoftmax" | "ArgMax" | "Hardmax" => {
            "leave it out of the exported model and apply it to the decrypted results, whose order is the same"
        }
        "Shape" | "Gather" | "ConstantOfShape" | "Range" | "Slice" => {
            "where it computes a shape, simplify the model first (onnxsim, or `torch.onnx.export` with fixed extents but for the first)"
        }
        "LeakyRelu" | "Elu" | "Selu" | "PRelu" | "Clip" | "HardSigmoid" | "HardSwish" | "Erf"
        | "Sqrt" | "Reciprocal" => {
            "train with squares (Mul of a value by itself) or with Relu, Sigmoid or Tanh, which polynomials stand in for"
        }
        "If" | "Loop" | "Scan" => {
            "unroll it before exporting: circuits know no decisions on secret values"
        }
        "LSTM" | "GRU" | "RNN" => "export the cell unrolled, as Gemm, Mul, Sigmoid and Tanh",
        _ => {
            "replace it by supported operators before exporting, or write the rest of the circuit by hand; docs/importing.md lists them"
        }
    };
    Err(unsupported(first, reason, help))
}

fn node_name(node: &Node) -> NodeName {
    let domain = match node.domain.as_str() {
        "" | "ai.onnx" => String::new(),
        other => format!("{}.", shown(other)),
    };
    let name = if node.name.is_empty() {
        node.output.first().map_or("", String::as_str)
    } else {
        &node.name
    };
    NodeName {
        operator: format!("{domain}{}", shown(&node.op_type)),
        name: shown(name),
    }
}

fn unsupported(node: &Node, reason: impl Into<String>, help: impl Into<String>) -> ImportError {
    ImportError::Unsupported {
        node: node_name(node),
        reason: reason.into(),
        help: help.into(),
    }
}

/// What can be told about the axis of instances when a node would mix instances.
const INSTANCES: &str = "the first axis counts instances, which a circuit keeps apart: export the model with a first axis of \
     symbolic extent that no operator touches";

impl<'a> Translator<'a> {
    /// Keeps an array of the model under its name.
    fn hold(&mut self, name: &'a str, called: &str, array: Array) {
        let value = Value {
            text: array.scalar().map(number).unwrap_or_default(),
            shape: array.shape.clone(),
            batched: false,
            secret: false,
            known: Some((Rc::new(array), called.to_owned())),
            statement: None,
        };
        self.values.insert(name, value);
    }

    /// The parameters of the circuit.
    fn inputs(&mut self, graph: &'a Graph, live: &[&Node]) -> Result<String> {
        let used: HashSet<&str> = live
            .iter()
            .flat_map(|n| n.input.iter())
            .chain(graph.output.iter().map(|o| &o.name))
            .map(String::as_str)
            .collect();
        let mut text = Vec::new();
        for input in &graph.input {
            // Before version 4 of the format weights are inputs, too.
            if self.values.contains_key(input.name.as_str()) || !used.contains(input.name.as_str())
            {
                continue;
            }
            let (shape, batched) = self.input_shape(input)?;
            let name = self.names.value(&input.name);
            let range = self.range(&input.name, &name);
            if range.is_none() {
                self.notes.push(format!(
                    "no range is known for the input `{name}`: [-1, 1] is assumed; give --range {name}=LO,HI"
                ));
            }
            text.push(format!(
                "{name}: secret {}{}",
                type_of(&shape),
                range.map(in_range).unwrap_or_default()
            ));
            let value = Value {
                text: name,
                shape,
                batched,
                secret: true,
                known: None,
                statement: None,
            };
            self.values.insert(&input.name, value);
        }
        if text.is_empty() {
            return Err(ImportError::Model(
                "no result of the model depends on an input: there is nothing to encrypt"
                    .to_owned(),
            ));
        }
        Ok(text.join(", "))
    }

    /// The extents of an input without the axis of instances, and whether it has one.
    fn input_shape(&mut self, input: &ValueInfo) -> Result<(Vec<usize>, bool)> {
        let name = shown(&input.name);
        let unknown = || {
            ImportError::Model(format!(
                "input `{name}` has no shape: export the model with the shapes of its inputs"
            ))
        };
        let tensor = input.r#type.as_ref().and_then(|t| t.tensor_type.as_ref());
        let tensor = tensor.ok_or_else(unknown)?;
        if !matches!(tensor.elem_type, 1 | 10 | 11 | 16) {
            return Err(ImportError::Model(format!(
                "input `{name}` has elements of type {}: secret values are real numbers; cast them before the model",
                tensor::element_type(tensor.elem_type)
            )));
        }
        let dims = &tensor.shape.as_ref().ok_or_else(unknown)?.dim;
        if dims.len() > hecc_lang::load::MAX_RANK {
            return Err(ImportError::TooLarge {
                what: format!("input `{name}` has"),
                found: format!("{} axes", dims.len()),
                most: hecc_lang::load::MAX_RANK,
            });
        }
        let mut shape = Vec::new();
        let mut batched = false;
        for (axis, dim) in dims.iter().enumerate() {
            let extent = match &dim.value {
                Some(Extent::Value(n)) => Some(*n),
                Some(Extent::Name(symbol)) => self.dim(symbol),
                None => None,
            };
            match extent {
                None if axis == 0 => batched = true,
                Some(1) if axis == 0 && dims.len() > 1 => batched = true,
                Some(n) if n > 0 && n <= i64::from(u32::MAX) => shape.push(n as usize),
                Some(n) => {
                    return Err(ImportError::Malformed(format!(
                        "input `{name}` has an extent of {n}"
                    )));
                }
                None => {
                    let (symbol, option) = match &dim.value {
                        Some(Extent::Name(s)) if !s.is_empty() => {
                            let s = shown(s);
                            (format!("`{s}`"), format!("give --dim {s}=N"))
                        }
                        _ => (
                            "unknown".to_owned(),
                            "export the model with that extent".to_owned(),
                        ),
                    };
                    return Err(ImportError::Model(format!(
                        "input `{name}`: the extent of axis {axis} is {symbol}, and only the first may be open: {option}"
                    )));
                }
            }
        }
        Ok((shape, batched))
    }

    fn dim(&mut self, symbol: &str) -> Option<i64> {
        let at = self.options.dims.iter().position(|(n, _)| n == symbol)?;
        self.used_dims.insert(at);
        i64::try_from(self.options.dims[at].1).ok()
    }

    /// The range that was given for a value, by its name in the model or in the program.
    fn range(&mut self, original: &str, name: &str) -> Option<[f64; 2]> {
        let ranges = &self.options.ranges;
        let at = ranges
            .iter()
            .position(|(n, _)| n == original || n == name)?;
        self.used_ranges.insert(at);
        Some(ranges[at].1)
    }

    fn outputs(&mut self, graph: &'a Graph) -> Result<(String, String)> {
        let mut types = Vec::new();
        let mut returned = Vec::new();
        let mut names = Names::default();
        for output in &graph.output {
            let value = self.values.get(output.name.as_str()).cloned();
            let mut value = value.ok_or_else(|| {
                ImportError::Malformed(format!(
                    "the result `{}` is made by no node",
                    shown(&output.name)
                ))
            })?;
            self.name_constant(&mut value)?;
            let name = names.value(&output.name);
            let range = self.range(&output.name, &name);
            types.push(format!(
                "{name}: {}{}",
                type_of(&value.shape),
                range.map(in_range).unwrap_or_default()
            ));
            returned.push(value.text);
        }
        match types.len() {
            1 => Ok((types.swap_remove(0), returned.swap_remove(0))),
            _ => Ok((
                format!("({})", types.join(", ")),
                format!("({})", returned.join(", ")),
            )),
        }
    }

    /// An option that found nothing to be about is a mistake.
    fn refuse_unused_options(&self) -> Result<()> {
        for (i, (name, _)) in self.options.ranges.iter().enumerate() {
            if !self.used_ranges.contains(&i) {
                let mut known: Vec<&str> = self
                    .values
                    .values()
                    .filter(|v| v.secret)
                    .map(|v| v.text.as_str())
                    .collect();
                known.sort_unstable();
                known.dedup();
                return Err(ImportError::Model(format!(
                    "--range {}: there is no such value; there are {}",
                    shown(name),
                    known.join(", ")
                )));
            }
        }
        for (i, (name, _)) in self.options.dims.iter().enumerate() {
            if !self.used_dims.contains(&i) {
                return Err(ImportError::Model(format!(
                    "--dim {}: no input has an extent of that name",
                    shown(name)
                )));
            }
        }
        if self.options.degree.is_some() && !self.used_degree {
            return Err(ImportError::Model(
                "--degree: no polynomial stands in for a function of this model".to_owned(),
            ));
        }
        Ok(())
    }

    /// Bounds by interval arithmetic alone grow fast; says so where that matters.
    fn note_ranges(&mut self) {
        let is_square =
            |s: &&Statement| s.text == format!("{0} * {0}", s.text.split(' ').next().unwrap_or(""));
        let of: Vec<&str> = self
            .statements
            .iter()
            .filter(is_square)
            .filter_map(|s| s.text.split(' ').next())
            .filter(|of| {
                self.statements
                    .iter()
                    .any(|s| s.name == **of && s.range.is_none())
            })
            .collect();
        if !of.is_empty() {
            self.notes.push(format!(
                "no range is known for what is squared ({}), and bounds without one are far from what data give: \
                 --range NAME=LO,HI makes the parameters smaller and the results more precise",
                of.join(", ")
            ));
        }
    }

    /// Makes a constant of an array that the model holds; other values stay.
    fn name_constant(&mut self, value: &mut Value) -> Result<()> {
        let Some((array, called)) = &value.known else {
            return Ok(());
        };
        if array.values.is_empty() {
            return Err(ImportError::Model(format!(
                "tensor `{}` has no elements, and is used as a value",
                shown(called)
            )));
        }
        if array.shape.is_empty() {
            return Ok(());
        }
        if let Some(name) = self.constants.get(called) {
            value.text.clone_from(name);
            return Ok(());
        }
        let name = self.names.constant(called);
        let key = self.weights.add(called, &name, array);
        let file = self
            .options
            .weights
            .replace('\\', "\\\\")
            .replace('"', "\\\"");
        self.constant_text.push(format!(
            "const {name}: {} = load(\"{file}\", \"{key}\");\n",
            type_of(&value.shape)
        ));
        self.constants.insert(called.clone(), name.clone());
        value.text = name;
        Ok(())
    }

    /// An operand that may be left out.
    fn optional(&mut self, node: &'a Node, at: usize) -> Result<Option<Value>> {
        let Some(name) = node.input.get(at).filter(|n| !n.is_empty()) else {
            return Ok(None);
        };
        self.values
            .get(name.as_str())
            .cloned()
            .map(Some)
            .ok_or_else(|| {
                ImportError::Malformed(format!(
                    "{} uses `{}`, which no input, weight or node before it defines",
                    node_name(node),
                    shown(name)
                ))
            })
    }

    /// An operand that must be there.
    fn operand(&mut self, node: &'a Node, at: usize) -> Result<Value> {
        self.optional(node, at)?.ok_or_else(|| {
            ImportError::Malformed(format!("{} lacks operand {}", node_name(node), at + 1))
        })
    }

    /// The same, to be written in an expression.
    fn tensor(&mut self, node: &'a Node, at: usize) -> Result<Value> {
        let mut value = self.operand(node, at)?;
        self.name_constant(&mut value)?;
        Ok(value)
    }

    /// Integers that the model must hold: from an operand, or from the attribute of older versions.
    fn integers(&mut self, node: &'a Node, at: usize, attribute: &str) -> Result<Option<Vec<i64>>> {
        if let Some(a) = node.attribute.iter().find(|a| a.name == attribute) {
            return Ok(Some(a.ints.clone()));
        }
        let Some(value) = self.optional(node, at)? else {
            return Ok(None);
        };
        let found = value.known().and_then(Array::integers);
        found.map(Some).ok_or_else(|| {
            unsupported(
                node,
                format!("its {attribute} is computed, or no list of integers"),
                "simplify the model, so that shapes are constants (onnxsim, or an export with fixed extents but for the first)",
            )
        })
    }

    /// Binds the result of a node to a name.
    fn bind(&mut self, node: &'a Node, made: Made) -> Result<()> {
        let Some(output) = node.output.first().filter(|o| !o.is_empty()) else {
            return Err(ImportError::Malformed(format!(
                "{} has no result",
                node_name(node)
            )));
        };
        let size = made.shape.iter().try_fold(1usize, |n, &d| n.checked_mul(d));
        if size.is_none_or(|n| n == 0 || n > hecc_lang::Limits::default().elements) {
            return Err(unsupported(
                node,
                format!("its result has shape {:?}", made.shape),
                "check the shapes of the model",
            ));
        }
        self.written += made.text.len();
        if self.written > hecc_lang::MAX_SOURCE_BYTES {
            return Err(ImportError::TooLarge {
                what: "the program would have".to_owned(),
                found: format!("{} bytes", self.written),
                most: hecc_lang::MAX_SOURCE_BYTES,
            });
        }
        let name = self.names.value(output);
        let range = self.range(output, &name);
        let label = node_name(node);
        let comment = if word(&label.name) == name {
            label.operator
        } else {
            format!("{} {}", label.operator, label.name)
        };
        self.values.insert(
            output,
            Value {
                text: name.clone(),
                shape: made.shape,
                batched: made.batched,
                secret: made.secret,
                known: None,
                statement: Some(self.statements.len()),
            },
        );
        self.statements.push(Statement {
            comment: Some(comment),
            name,
            range,
            text: made.text,
        });
        Ok(())
    }

    /// The result of a node is its operand by another name.
    fn alias(&mut self, node: &'a Node, value: Value) -> Result<()> {
        let Some(output) = node.output.first() else {
            return Err(ImportError::Malformed(format!(
                "{} has no result",
                node_name(node)
            )));
        };
        self.values.insert(output, value);
        Ok(())
    }

    fn node(&mut self, node: &'a Node) -> Result<()> {
        if let Some(extra) = node.output.iter().skip(1).find(|o| !o.is_empty())
            && !matches!(node.op_type.as_str(), "Dropout" | "BatchNormalization")
        {
            return Err(ImportError::Malformed(format!(
                "{} has a second result `{}`",
                node_name(node),
                shown(extra)
            )));
        }
        match node.op_type.as_str() {
            "Identity" | "Dropout" | "Cast" => {
                Attributes::of(node, &["to", "ratio", "seed", "saturate"])?;
                let value = self.operand(node, 0)?;
                self.alias(node, value)
            }
            "Constant" => self.constant(node),
            "Add" => self.elementwise(node, "+"),
            "Sub" => self.elementwise(node, "-"),
            "Mul" => self.elementwise(node, "*"),
            "Div" => self.elementwise(node, "/"),
            "Sum" => self.sum(node),
            "Pow" => self.power(node),
            "Neg" => self.unary(node, |x| format!("-{x}")),
            "Square" => self.unary(node, |x| format!("{x} * {x}")),
            "Gemm" => self.gemm(node),
            "MatMul" => self.matmul(node),
            "Conv" => self.conv(node),
            "AveragePool" => self.average_pool(node),
            "GlobalAveragePool" => self.global_average_pool(node),
            "BatchNormalization" => self.batch_normalization(node),
            "Flatten" => self.flatten(node),
            "Reshape" => self.reshape(node),
            "Squeeze" | "Unsqueeze" => self.squeeze(node),
            "Transpose" => self.transpose(node),
            "Concat" => self.concat(node),
            "Pad" => self.pad(node),
            "ReduceSum" | "ReduceMean" => self.reduce(node),
            other => match APPROXIMATED.iter().find(|(op, _)| *op == other) {
                Some((_, function)) => self.approximate(node, function),
                None => Err(unsupported(
                    node,
                    "it has no counterpart in .hec",
                    "replace it by supported operators before exporting",
                )),
            },
        }
    }

    fn constant(&mut self, node: &'a Node) -> Result<()> {
        let known = [
            "value",
            "value_float",
            "value_floats",
            "value_int",
            "value_ints",
        ];
        Attributes::of(node, &known)?;
        let output = node.output.first().map_or("", String::as_str);
        let array = match node.attribute.first() {
            Some(a) => match (a.name.as_str(), &a.t) {
                ("value", Some(t)) => tensor::read(t, output)?,
                ("value_float", _) => Array::of(Kind::Single, vec![], vec![f64::from(a.f)]),
                ("value_floats", _) => {
                    let values = a.floats.iter().map(|&v| f64::from(v)).collect();
                    Array::of(Kind::Single, vec![a.floats.len()], values)
                }
                ("value_int", _) => Array::of(Kind::Whole, vec![], vec![a.i as f64]),
                ("value_ints", _) => {
                    let values = a.ints.iter().map(|&v| v as f64).collect();
                    Array::of(Kind::Whole, vec![a.ints.len()], values)
                }
                _ => {
                    return Err(ImportError::Malformed(format!(
                        "{} has no value",
                        node_name(node)
                    )));
                }
            },
            None => {
                return Err(ImportError::Malformed(format!(
                    "{} has no value",
                    node_name(node)
                )));
            }
        };
        if let Some(v) = array.values.iter().find(|v| !v.is_finite()) {
            return Err(ImportError::Model(format!(
                "{} is {v}: only finite numbers can be used",
                node_name(node)
            )));
        }
        self.hold(output, output, array);
        Ok(())
    }
}

fn like(x: &Value, text: String) -> Made {
    Made {
        text,
        shape: x.shape.clone(),
        batched: x.batched,
        secret: x.secret,
    }
}

fn product(shape: &[usize]) -> usize {
    shape.iter().fold(1, |n, &d| n.saturating_mul(d))
}

fn list(of: &[usize]) -> String {
    let items: Vec<String> = of.iter().map(ToString::to_string).collect();
    format!("[{}]", items.join(", "))
}

fn reshaped(text: &str, shape: &[usize]) -> String {
    format!("reshape({text}, {})", list(shape))
}

fn type_of(shape: &[usize]) -> String {
    if shape.is_empty() {
        return "real".to_owned();
    }
    format!("real{}", list(shape))
}

fn in_range([lo, hi]: [f64; 2]) -> String {
    format!(" in [{}, {}]", plain(lo), plain(hi))
}

/// A literal that reads back as the same number.
fn plain(value: f64) -> String {
    let text = format!("{value:?}");
    match text.strip_suffix(".0") {
        Some(whole) => whole.to_owned(),
        None => text,
    }
}

/// The same, to stand next to any operator.
fn number(value: f64) -> String {
    if value < 0.0 || value.is_sign_negative() {
        format!("({})", plain(value))
    } else {
        plain(value)
    }
}
