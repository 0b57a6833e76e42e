//! One statement of the program for each node of the graph.

use std::collections::{HashMap, HashSet};
use std::fmt::Write as _;
use std::rc::Rc;

use super::names::{Names, shown, word};
use super::proto::{Attribute, Extent, Graph, Model, Node, ValueInfo};
use super::tensor::{self, Array, Kind};
use super::weights::Weights;
use super::{ImportError, Imported, NodeName, Options};

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

/// The attributes of a node, each to be asked for.
struct Attributes<'a> {
    node: &'a Node,
}

impl<'a> Attributes<'a> {
    /// Refuses attributes other than these.
    fn of(node: &'a Node, known: &[&str]) -> Result<Attributes<'a>> {
        for a in &node.attribute {
            if !known.contains(&a.name.as_str()) {
                return Err(unsupported(
                    node,
                    format!("its attribute `{}` has no counterpart", shown(&a.name)),
                    "export the model without it, for a version of the operators of 13 or more",
                ));
            }
        }
        Ok(Attributes { node })
    }

    fn get(&self, name: &str) -> Option<&'a Attribute> {
        self.node.attribute.iter().find(|a| a.name == name)
    }

    fn int(&self, name: &str, default: i64) -> i64 {
        self.get(name).map_or(default, |a| a.i)
    }

    fn float(&self, name: &str, default: f32) -> f64 {
        f64::from(self.get(name).map_or(default, |a| a.f))
    }

    fn ints(&self, name: &str) -> Option<&'a [i64]> {
        self.get(name).map(|a| a.ints.as_slice())
    }

    fn text(&self, name: &str) -> Result<Option<&'a str>> {
        self.get(name)
            .map(|a| std::str::from_utf8(&a.s))
            .transpose()
            .map_err(|_| ImportError::Malformed(format!("attribute `{name}` is no text")))
    }

    /// Refuses a value other than the one that has a counterpart.
    fn must_be(&self, name: &str, value: i64, help: &str) -> Result<()> {
        match self.int(name, value) {
            v if v == value => Ok(()),
            v => Err(unsupported(
                self.node,
                format!("its attribute `{name}` is {v}, and only {value} has a counterpart"),
                help,
            )),
        }
    }
}

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

    /// Two operands as they broadcast in the model, each written without the axis of instances.
    fn broadcast(&mut self, node: &'a Node, a: Value, b: Value) -> Result<(Value, Value, Made)> {
        let (mut a, mut b) = (a, b);
        let batched = a.batched || b.batched;
        if a.batched && b.batched && a.rank() != b.rank() {
            return Err(unsupported(
                node,
                format!("its operands have {} and {} axes", a.rank(), b.rank()),
                INSTANCES,
            ));
        }
        let (a_rank, b_rank) = (a.rank(), b.rank());
        let (a_batched, b_batched) = (a.batched, b.batched);
        let (a_scalar, b_scalar) = (is_number(&a), is_number(&b));
        self.align(node, &mut a, b_batched, b_rank, !b_scalar)?;
        self.align(node, &mut b, a_batched, a_rank, !a_scalar)?;
        let shape = numpy(&a.shape, &b.shape).ok_or_else(|| {
            ImportError::Malformed(format!(
                "{} has operands of shapes {:?} and {:?}",
                node_name(node),
                a.shape,
                b.shape
            ))
        })?;
        let made = Made {
            text: String::new(),
            shape,
            batched,
            secret: a.secret || b.secret,
        };
        Ok((a, b, made))
    }

    /// Writes an operand so that it broadcasts in the program as in the model: without the axis of
    /// extent 1 that meets an axis of instances, and as a number where one element goes with all.
    fn align(
        &mut self,
        node: &'a Node,
        one: &mut Value,
        other_batched: bool,
        other_rank: usize,
        with_tensor: bool,
    ) -> Result<()> {
        let meets = other_batched && !one.batched;
        let rank = one.rank();
        if meets && (rank > other_rank || (rank == other_rank && one.shape.first() != Some(&1))) {
            return Err(unsupported(
                node,
                format!(
                    "one operand has shape {:?}, and the other {other_rank} axes of which the first counts instances",
                    one.shape
                ),
                INSTANCES,
            ));
        }
        if let Some(value) = one.known().and_then(Array::scalar)
            && with_tensor
            && rank <= other_rank
        {
            one.shape = Vec::new();
            one.text = number(value);
            return Ok(());
        }
        if meets && rank == other_rank {
            one.shape.remove(0);
            if one.known.is_none() {
                one.text = reshaped(&one.text, &one.shape);
            }
        }
        self.name_constant_in_shape(one)
    }

    /// Names a value whose shape may have lost a leading axis of extent 1.
    fn name_constant_in_shape(&mut self, value: &mut Value) -> Result<()> {
        let full = match value.known() {
            Some(array) => array.shape.clone(),
            None => return Ok(()),
        };
        let shape = std::mem::replace(&mut value.shape, full);
        self.name_constant(value)?;
        if shape != value.shape {
            value.text = reshaped(&value.text, &shape);
            value.shape = shape;
        }
        Ok(())
    }

    fn elementwise(&mut self, node: &'a Node, operator: &str) -> Result<()> {
        Attributes::of(node, &[])?;
        let (a, b) = (self.operand(node, 0)?, self.operand(node, 1)?);
        if operator == "/" && b.secret {
            return Err(unsupported(
                node,
                "it divides by a secret value",
                "write the quotient by hand with `approx(inv, x, on = [LO, HI], degree = N)`, or divide by a constant",
            ));
        }
        let (a, b, mut made) = self.broadcast(node, a, b)?;
        made.text = format!("{} {operator} {}", a.text, b.text);
        self.bind(node, made)
    }

    fn sum(&mut self, node: &'a Node) -> Result<()> {
        Attributes::of(node, &[])?;
        let mut all = self.operand(node, 0)?;
        self.name_constant(&mut all)?;
        for at in 1..node.input.len() {
            let next = self.operand(node, at)?;
            let (a, b, made) = self.broadcast(node, all, next)?;
            all = Value {
                text: format!("{} + {}", a.text, b.text),
                shape: made.shape,
                batched: made.batched,
                secret: made.secret,
                known: None,
                statement: None,
            };
        }
        self.bind(
            node,
            Made {
                text: all.text,
                shape: all.shape,
                batched: all.batched,
                secret: all.secret,
            },
        )
    }

    fn power(&mut self, node: &'a Node) -> Result<()> {
        Attributes::of(node, &[])?;
        let x = self.tensor(node, 0)?;
        let exponent = self.operand(node, 1)?;
        let exponent = exponent.known().and_then(Array::scalar);
        let most = f64::from(u16::MAX);
        match exponent {
            Some(n) if n.fract() == 0.0 && (0.0..=most).contains(&n) => {
                let text = format!("{} ^ {n}", x.text);
                self.bind(node, like(&x, text))
            }
            _ => Err(unsupported(
                node,
                "its exponent is no whole number of 0 or more that the model holds",
                "write it with `approx` by hand, or train with squares",
            )),
        }
    }

    fn unary(&mut self, node: &'a Node, text: impl Fn(&str) -> String) -> Result<()> {
        Attributes::of(node, &[])?;
        let x = self.tensor(node, 0)?;
        let text = text(&x.text);
        self.bind(node, like(&x, text))
    }

    fn approximate(&mut self, node: &'a Node, function: &str) -> Result<()> {
        let attributes = Attributes::of(node, &["approximate"])?;
        if attributes.text("approximate")?.is_some_and(|a| a != "none") {
            return Err(unsupported(
                node,
                "it is the approximated form",
                "export it with approximate=\"none\"",
            ));
        }
        let x = self.tensor(node, 0)?;
        let original = node.input.first().map_or("", String::as_str);
        let range = self.range(original, &x.text).or_else(|| {
            x.statement
                .and_then(|s| self.statements.get(s))
                .and_then(|s| s.range)
        });
        let (Some([lo, hi]), Some(degree)) = (range, self.options.degree) else {
            return Err(unsupported(
                node,
                format!(
                    "a polynomial has to stand in for it, and {} not known",
                    match range {
                        Some(_) => "its degree is".to_owned(),
                        None => format!("the range of its operand `{}` is", x.text),
                    }
                ),
                format!(
                    "give --range {}=LO,HI, the values that it takes on your data, and --degree N; or train with squares (Mul of a value by itself)",
                    x.text
                ),
            ));
        };
        self.used_degree = true;
        let text = format!(
            "approx({function}, {}, on = [{}, {}], degree = {degree})",
            x.text,
            plain(lo),
            plain(hi)
        );
        self.bind(node, like(&x, text))
    }

    fn gemm(&mut self, node: &'a Node) -> Result<()> {
        let attributes = Attributes::of(node, &["alpha", "beta", "transA", "transB"])?;
        let (alpha, beta) = (
            attributes.float("alpha", 1.0),
            attributes.float("beta", 1.0),
        );
        if !alpha.is_finite() || !beta.is_finite() {
            return Err(ImportError::Malformed(format!(
                "{} has a factor that is no number",
                node_name(node)
            )));
        }
        let turned = |v: i64| v != 0;
        let a = self.tensor(node, 0)?;
        let b = self.tensor(node, 1)?;
        if a.rank() != 2 || b.rank() != 2 {
            return Err(unsupported(
                node,
                format!("its operands have {} and {} axes", a.rank(), b.rank()),
                "Gemm multiplies matrices: flatten its operand first",
            ));
        }
        let product = self.product(
            node,
            (a, turned(attributes.int("transA", 0))),
            (b, turned(attributes.int("transB", 0))),
        )?;
        let mut text = product.text;
        if alpha != 1.0 {
            text = format!("{} * ({text})", number(alpha));
        }
        let value = Value {
            text,
            shape: product.shape,
            batched: product.batched,
            secret: product.secret,
            known: None,
            statement: None,
        };
        let Some(c) = self.optional(node, 2)? else {
            return self.bind(
                node,
                Made {
                    text: value.text,
                    shape: value.shape,
                    batched: value.batched,
                    secret: value.secret,
                },
            );
        };
        let shape = value.shape.clone();
        let (value, c, mut made) = self.broadcast(node, value, c)?;
        if made.shape != shape {
            return Err(ImportError::Malformed(format!(
                "{} adds shape {:?} to shape {shape:?}",
                node_name(node),
                c.shape
            )));
        }
        made.text = if beta == 1.0 {
            format!("{} + {}", value.text, c.text)
        } else {
            format!("{} + {} * {}", value.text, number(beta), c.text)
        };
        self.bind(node, made)
    }

    fn matmul(&mut self, node: &'a Node) -> Result<()> {
        Attributes::of(node, &[])?;
        let (a, b) = (self.tensor(node, 0)?, self.tensor(node, 1)?);
        let made = self.product(node, (a, false), (b, false))?;
        self.bind(node, made)
    }

    /// The product of two matrices or vectors, each with whether it is transposed first. A matrix whose
    /// first axis counts instances is a vector in the program.
    fn product(&mut self, node: &'a Node, a: (Value, bool), b: (Value, bool)) -> Result<Made> {
        let ((a, a_turned), (b, b_turned)) = (a, b);
        let mixes = |why: &str| unsupported(node, why, INSTANCES);
        if (a.batched && a.rank() == 2 && a_turned) || (b.batched && b.rank() == 2) {
            return Err(mixes("it sums over instances"));
        }
        let rank = a.shape.len().max(b.shape.len());
        if rank > 2 || a.shape.is_empty() || b.shape.is_empty() {
            return Err(unsupported(
                node,
                format!(
                    "its operands have shapes {:?} and {:?} in the program",
                    a.shape, b.shape
                ),
                "products are of matrices and vectors: split it into products of matrices",
            ));
        }
        // In the model a batch of vectors is a matrix; a batch of matrices broadcasts.
        let a_vector = a.shape.len() == 1;
        if a_vector && a.batched && a.rank() == 2 && b.batched {
            return Err(mixes(
                "both operands depend on the instance, and it would mix them",
            ));
        }
        let turn = |v: &Value, turned: bool| {
            let mut shape = v.shape.clone();
            let mut text = v.text.clone();
            if turned && shape.len() == 2 {
                shape.swap(0, 1);
                text.push('\'');
            }
            (text, shape)
        };
        let fits = |inner: (usize, usize)| {
            if inner.0 == inner.1 {
                Ok(())
            } else {
                Err(ImportError::Malformed(format!(
                    "{} has operands of shapes {:?} and {:?}",
                    node_name(node),
                    a.shape,
                    b.shape
                )))
            }
        };
        let (text, shape) = if a_vector && b_turned && b.shape.len() == 2 {
            // x B' is B x, which reads better.
            fits((a.shape[0], b.shape[1]))?;
            (format!("{} @ {}", b.text, a.text), vec![b.shape[0]])
        } else {
            let (left, a_shape) = turn(&a, a_turned);
            let (right, b_shape) = turn(&b, b_turned);
            fits((a_shape[a_shape.len() - 1], b_shape[0]))?;
            let mut shape = a_shape[..a_shape.len() - 1].to_vec();
            shape.extend_from_slice(&b_shape[1..]);
            (format!("{left} @ {right}"), shape)
        };
        Ok(Made {
            text,
            shape,
            batched: a.batched || b.batched,
            secret: a.secret || b.secret,
        })
    }

    /// An image: channels, height and width.
    fn image(&mut self, node: &'a Node) -> Result<(Value, [usize; 3])> {
        let x = self.tensor(node, 0)?;
        match (x.batched, x.shape.as_slice()) {
            (true, &[c, h, w]) => Ok((x, [c, h, w])),
            (false, &[n, _, _, _]) => Err(unsupported(
                node,
                format!("the extent of the axis of instances is fixed at {n}"),
                "export the model with a first axis of symbolic extent, or of extent 1",
            )),
            _ => Err(unsupported(
                node,
                format!("its operand has {} axes", x.rank()),
                "images have four: instances, channels, height, width; give a signal a height of 1 and the kernel, too",
            )),
        }
    }

    fn conv(&mut self, node: &'a Node) -> Result<()> {
        let attributes = Attributes::of(
            node,
            &[
                "auto_pad",
                "dilations",
                "group",
                "kernel_shape",
                "pads",
                "strides",
            ],
        )?;
        let (x, [channels, h, w]) = self.image(node)?;
        let kernel = self.tensor(node, 1)?;
        let &[maps, depth, kh, kw] = kernel.shape.as_slice() else {
            return Err(unsupported(
                node,
                format!("its kernel has shape {:?}", kernel.shape),
                "a kernel has four axes: maps, channels, height, width",
            ));
        };
        if kernel.batched {
            return Err(unsupported(
                node,
                "its kernel depends on the instance",
                INSTANCES,
            ));
        }
        if let Some(shape) = attributes.ints("kernel_shape")
            && shape != [kh as i64, kw as i64]
        {
            return Err(ImportError::Malformed(format!(
                "{} has kernel_shape {shape:?} and a kernel of {kh} by {kw}",
                node_name(node)
            )));
        }
        if let Some(d) = attributes
            .ints("dilations")
            .filter(|d| d.iter().any(|d| *d != 1))
        {
            return Err(unsupported(
                node,
                format!("its dilations are {d:?}"),
                "export it with a larger kernel that has zeros in the gaps",
            ));
        }
        let stride = stride(node, attributes.ints("strides"))?;
        let pads = pads(node, &attributes, [h, w], [kh, kw], stride)?;
        let (image, [h, w]) = padded(node, &x.text, [h, w], pads)?;
        let Some(extent) = window([h, w], [kh, kw], stride) else {
            return Err(ImportError::Malformed(format!(
                "{} has a kernel of {kh} by {kw} on an image of {h} by {w}",
                node_name(node)
            )));
        };
        let step = match stride {
            1 => String::new(),
            s => format!(", stride = {s}"),
        };
        let groups = usize::try_from(attributes.int("group", 1)).unwrap_or(0);
        if groups == 0
            || Some(channels) != depth.checked_mul(groups)
            || !maps.is_multiple_of(groups)
        {
            return Err(ImportError::Malformed(format!(
                "{} has {channels} channels, a kernel of shape {:?} and {groups} groups",
                node_name(node),
                kernel.shape
            )));
        }
        if groups > MOST_GROUPS {
            return Err(unsupported(
                node,
                format!("it has {groups} groups"),
                format!("at most {MOST_GROUPS} are written out: use fewer, wider groups"),
            ));
        }
        let mut text = if groups == 1 {
            format!("conv2d({image}, {}{step})", kernel.text)
        } else {
            let image = self.local(node, "padded", &image, &x.text);
            let each = maps / groups;
            let parts: Vec<String> = (0..groups)
                .map(|g| {
                    format!(
                        "conv2d({image}[{}..{}], {}[{}..{}]{step})",
                        g * depth,
                        (g + 1) * depth,
                        kernel.text,
                        g * each,
                        (g + 1) * each
                    )
                })
                .collect();
            format!("concat({})", parts.join(", "))
        };
        if let Some(mut bias) = self.optional(node, 2)? {
            if bias.shape != [maps] {
                return Err(ImportError::Malformed(format!(
                    "{} has a bias of shape {:?} for {maps} maps",
                    node_name(node),
                    bias.shape
                )));
            }
            self.name_constant(&mut bias)?;
            let _ = write!(text, " + {}", reshaped(&bias.text, &[maps, 1, 1]));
        }
        self.bind(
            node,
            Made {
                text,
                shape: vec![maps, extent[0], extent[1]],
                batched: true,
                secret: x.secret || kernel.secret,
            },
        )
    }

    /// Gives a longer expression a name of its own, so that it can be used several times.
    fn local(&mut self, node: &Node, suffix: &str, text: &str, unless: &str) -> String {
        if text == unless {
            return text.to_owned();
        }
        let base = node.output.first().map_or("", String::as_str);
        let name = self.names.value(&format!("{}_{suffix}", word(base)));
        self.statements.push(Statement {
            comment: None,
            name: name.clone(),
            range: None,
            text: text.to_owned(),
        });
        name
    }

    fn average_pool(&mut self, node: &'a Node) -> Result<()> {
        let attributes = Attributes::of(
            node,
            &[
                "auto_pad",
                "ceil_mode",
                "count_include_pad",
                "dilations",
                "kernel_shape",
                "pads",
                "strides",
            ],
        )?;
        attributes.must_be("ceil_mode", 0, "export it with ceil_mode=False")?;
        if let Some(d) = attributes
            .ints("dilations")
            .filter(|d| d.iter().any(|d| *d != 1))
        {
            return Err(unsupported(
                node,
                format!("its dilations are {d:?}"),
                "write it as a convolution",
            ));
        }
        let (x, [channels, h, w]) = self.image(node)?;
        let kernel = match attributes.ints("kernel_shape") {
            Some(&[kh, kw]) if kh > 0 && kw > 0 && kh.max(kw) <= 1 << 20 => {
                [kh as usize, kw as usize]
            }
            other => {
                return Err(ImportError::Malformed(format!(
                    "{} has kernel_shape {other:?}",
                    node_name(node)
                )));
            }
        };
        let stride = stride(node, attributes.ints("strides"))?;
        let pads = pads(node, &attributes, [h, w], kernel, stride)?;
        let (image, inner) = padded(node, &x.text, [h, w], pads)?;
        let Some(extent) = window(inner, kernel, stride) else {
            return Err(ImportError::Malformed(format!(
                "{} has a window of {} by {} on an image of {} by {}",
                node_name(node),
                kernel[0],
                kernel[1],
                inner[0],
                inner[1]
            )));
        };
        let [kh, kw] = kernel;
        let whole = attributes.int("count_include_pad", 0) != 0 || pads == [0; 4];
        let step = match stride {
            1 => String::new(),
            s => format!(", stride = {s}"),
        };
        let text = if whole && kh == kw && stride == kh {
            format!("mean_pool({image}, {kh})")
        } else if whole {
            format!("conv2d({image}, ones([{kh}, {kw}]) / {}{step})", kh * kw)
        } else {
            // Each sum is divided by how many elements of the image itself its window has.
            let (counted, _) = padded_plane(&format!("ones([{h}, {w}])"), [h, w], pads);
            format!(
                "conv2d({image}, ones([{kh}, {kw}]){step}) / conv2d({counted}, ones([{kh}, {kw}]){step})"
            )
        };
        self.bind(
            node,
            Made {
                text,
                shape: vec![channels, extent[0], extent[1]],
                batched: true,
                secret: x.secret,
            },
        )
    }

    fn global_average_pool(&mut self, node: &'a Node) -> Result<()> {
        Attributes::of(node, &[])?;
        let (x, [channels, h, w]) = self.image(node)?;
        let flat = reshaped(&x.text, &[channels, h * w]);
        let text = reshaped(&format!("mean({flat}, 1)"), &[channels, 1, 1]);
        self.bind(
            node,
            Made {
                text,
                shape: vec![channels, 1, 1],
                batched: true,
                secret: x.secret,
            },
        )
    }

    /// (x − mean) · scale / √(variance + ε) + bias, channel by channel, all but x known.
    fn batch_normalization(&mut self, node: &'a Node) -> Result<()> {
        let attributes =
            Attributes::of(node, &["epsilon", "momentum", "training_mode", "spatial"])?;
        attributes.must_be(
            "training_mode",
            0,
            "export the model for inference (model.eval())",
        )?;
        attributes.must_be(
            "spatial",
            1,
            "export it for a version of the operators of 9 or more",
        )?;
        let x = self.tensor(node, 0)?;
        let channels = match (x.batched, x.shape.first()) {
            (true, Some(&c)) => c,
            _ => {
                return Err(unsupported(
                    node,
                    format!("its operand has {} axes", x.rank()),
                    "it takes instances, channels, and further axes",
                ));
            }
        };
        let mut stored = Vec::with_capacity(4);
        for at in 1..5 {
            let v = self.tensor(node, at)?;
            if v.shape != [channels] || v.secret {
                return Err(unsupported(
                    node,
                    format!(
                        "operand {} has shape {:?} or depends on the input",
                        at + 1,
                        v.shape
                    ),
                    "export the model for inference, so that its statistics are constants",
                ));
            }
            stored.push(v.text);
        }
        let [scale, bias, mean, variance] = stored.as_slice() else {
            return Err(ImportError::Malformed(format!(
                "{} lacks operands",
                node_name(node)
            )));
        };
        let epsilon = number(attributes.float("epsilon", 1e-5));
        let mut column = vec![channels];
        column.extend(std::iter::repeat_n(1, x.shape.len() - 1));
        let base = node.output.first().map_or("", String::as_str);
        let factor = self.names.value(&format!("{}_factor", word(base)));
        self.statements.push(Statement {
            comment: None,
            name: factor.clone(),
            range: None,
            text: format!("{scale} / sqrt({variance} + {epsilon})"),
        });
        let text = format!(
            "{} * {} + {}",
            x.text,
            reshaped(&factor, &column),
            reshaped(&format!("{bias} - {mean} * {factor}"), &column)
        );
        self.bind(node, like(&x, text))
    }

    fn flatten(&mut self, node: &'a Node) -> Result<()> {
        let attributes = Attributes::of(node, &["axis"])?;
        let x = self.operand(node, 0)?;
        let rank = x.rank() as i64;
        let axis = match attributes.int("axis", 1) {
            a if a < 0 => a + rank,
            a => a,
        };
        if !(0..=rank).contains(&axis) {
            return Err(ImportError::Malformed(format!(
                "{} has axis {axis} of {rank}",
                node_name(node)
            )));
        }
        let axis = axis as usize;
        if x.batched {
            if axis != 1 {
                return Err(unsupported(
                    node,
                    format!("its axis is {axis}: it would join instances with other axes"),
                    "flatten from axis 1 on",
                ));
            }
            let size = product(&x.shape);
            return self.reshaped_to(node, x, vec![size], true);
        }
        let shape = vec![product(&x.shape[..axis]), product(&x.shape[axis..])];
        self.reshaped_to(node, x, shape, false)
    }

    /// Binds the same elements in another shape, or only another name if the shape is the same.
    fn reshaped_to(
        &mut self,
        node: &'a Node,
        x: Value,
        shape: Vec<usize>,
        batched: bool,
    ) -> Result<()> {
        if product(&shape) != product(&x.shape) {
            return Err(ImportError::Malformed(format!(
                "{} turns shape {:?} into {shape:?}",
                node_name(node),
                x.shape
            )));
        }
        if let Some((array, called)) = &x.known {
            // An array of the model is stored in the shape that it is used in.
            let mut array = array.as_ref().clone();
            array.shape = shape;
            let called = called.clone();
            let output = node.output.first().map_or("", String::as_str);
            let called = if array.shape == x.shape {
                called
            } else {
                output.to_owned()
            };
            self.hold(output, &called, array);
            return Ok(());
        }
        if shape == x.shape {
            return self.alias(node, Value { batched, ..x });
        }
        let text = reshaped(&x.text, &shape);
        self.bind(
            node,
            Made {
                text,
                shape,
                batched,
                secret: x.secret,
            },
        )
    }

    fn reshape(&mut self, node: &'a Node) -> Result<()> {
        let attributes = Attributes::of(node, &["allowzero", "shape"])?;
        attributes.must_be("allowzero", 0, "export it with allowzero=0")?;
        let x = self.operand(node, 0)?;
        let target = self
            .integers(node, 1, "shape")?
            .ok_or_else(|| ImportError::Malformed(format!("{} has no shape", node_name(node))))?;
        let bad = || {
            unsupported(
                node,
                format!(
                    "shape {:?} of each instance cannot become {target:?}",
                    x.shape
                ),
                INSTANCES,
            )
        };
        // Extents of the operand in the model, the axis of instances as 0.
        let mut old: Vec<usize> = x.shape.clone();
        if x.batched {
            old.insert(0, 0);
        }
        let mut rest: Vec<Option<usize>> = Vec::new();
        for (axis, &d) in target.iter().enumerate() {
            rest.push(match d {
                -1 => None,
                0 => Some(*old.get(axis).ok_or_else(bad)?),
                d => Some(usize::try_from(d).map_err(|_| bad())?),
            });
        }
        if rest.iter().filter(|d| d.is_none()).count() > 1 {
            return Err(bad());
        }
        let size = product(&x.shape);
        // With an axis of instances, the first extent stands for it: copied, open or 1.
        let batched = x.batched
            && match rest.first() {
                Some(Some(0 | 1)) => true,
                Some(None) => {
                    let others: Option<Vec<usize>> = rest[1..].iter().copied().collect();
                    others.is_some_and(|o| !o.contains(&0) && product(&o) == size)
                }
                _ => false,
            };
        if x.batched && !batched {
            return Err(bad());
        }
        let own = if batched { &rest[1..] } else { &rest[..] };
        let given = own
            .iter()
            .flatten()
            .try_fold(1usize, |n, &d| n.checked_mul(d));
        let given = given.filter(|&n| n > 0).ok_or_else(bad)?;
        let shape: Vec<usize> = own
            .iter()
            .map(|d| match d {
                Some(d) => *d,
                None => size / given,
            })
            .collect();
        if shape.iter().try_fold(1usize, |n, &d| n.checked_mul(d)) != Some(size) {
            return Err(bad());
        }
        self.reshaped_to(node, x, shape, batched)
    }

    fn squeeze(&mut self, node: &'a Node) -> Result<()> {
        Attributes::of(node, &["axes"])?;
        let x = self.operand(node, 0)?;
        let axes = self.integers(node, 1, "axes")?;
        let adds = node.op_type == "Unsqueeze";
        let rank = x.rank()
            + if adds {
                axes.as_ref().map_or(0, Vec::len)
            } else {
                0
            };
        let mut places: Vec<usize> = match &axes {
            Some(axes) => axes
                .iter()
                .map(|&a| axis(node, a, rank))
                .collect::<Result<_>>()?,
            None if adds => {
                return Err(ImportError::Malformed(format!(
                    "{} has no axes",
                    node_name(node)
                )));
            }
            None => (usize::from(x.batched)..x.rank())
                .filter(|&i| x.shape[i - usize::from(x.batched)] == 1)
                .collect(),
        };
        places.sort_unstable();
        places.dedup();
        if x.batched && places.first() == Some(&0) {
            return Err(unsupported(
                node,
                "it moves the axis of instances",
                INSTANCES,
            ));
        }
        let shift = usize::from(x.batched);
        let mut shape = x.shape.clone();
        if adds {
            for p in places {
                if p - shift > shape.len() {
                    return Err(ImportError::Malformed(format!(
                        "{} has axes out of place",
                        node_name(node)
                    )));
                }
                shape.insert(p - shift, 1);
            }
        } else {
            for p in places.into_iter().rev() {
                if shape.remove(p - shift) != 1 {
                    return Err(ImportError::Malformed(format!(
                        "{} removes an axis of shape {:?} that is not 1",
                        node_name(node),
                        x.shape
                    )));
                }
            }
        }
        let batched = x.batched;
        self.reshaped_to(node, x, shape, batched)
    }

    fn transpose(&mut self, node: &'a Node) -> Result<()> {
        let attributes = Attributes::of(node, &["perm"])?;
        let x = self.tensor(node, 0)?;
        let rank = x.rank();
        let perm: Vec<usize> = match attributes.ints("perm") {
            None => (0..rank).rev().collect(),
            Some(perm) => perm
                .iter()
                .map(|&a| axis(node, a, rank))
                .collect::<Result<_>>()?,
        };
        let distinct: HashSet<usize> = perm.iter().copied().collect();
        if perm.len() != rank || distinct.len() != rank {
            return Err(ImportError::Malformed(format!(
                "{} has perm {perm:?} for {rank} axes",
                node_name(node)
            )));
        }
        let own: Vec<usize> = if x.batched {
            if perm[0] != 0 {
                return Err(unsupported(
                    node,
                    "it moves the axis of instances",
                    INSTANCES,
                ));
            }
            perm[1..].iter().map(|a| a - 1).collect()
        } else {
            perm
        };
        if own.iter().enumerate().all(|(i, a)| i == *a) {
            return self.alias(node, x);
        }
        let shape: Vec<usize> = own.iter().map(|&a| x.shape[a]).collect();
        let text = match own.as_slice() {
            [1, 0] => format!("{}'", x.text),
            _ => format!("transpose({}, {})", x.text, list(&own)),
        };
        self.bind(
            node,
            Made {
                text,
                shape,
                batched: x.batched,
                secret: x.secret,
            },
        )
    }

    fn concat(&mut self, node: &'a Node) -> Result<()> {
        let attributes = Attributes::of(node, &["axis"])?;
        let mut parts = Vec::with_capacity(node.input.len());
        for at in 0..node.input.len() {
            parts.push(self.tensor(node, at)?);
        }
        let Some(first) = parts.first().cloned() else {
            return Err(ImportError::Malformed(format!(
                "{} has no operands",
                node_name(node)
            )));
        };
        let at = axis(node, attributes.int("axis", 0), first.rank())?;
        let mixed = parts.iter().any(|p| p.batched != first.batched);
        if mixed || (first.batched && at == 0) {
            return Err(unsupported(
                node,
                "it joins instances, or joins them with constants",
                INSTANCES,
            ));
        }
        let at = at - usize::from(first.batched);
        let mut shape = first.shape.clone();
        for part in &parts[1..] {
            let same = part.shape.len() == shape.len()
                && (0..shape.len()).all(|i| i == at || part.shape[i] == shape[i]);
            if !same {
                return Err(ImportError::Malformed(format!(
                    "{} joins shapes {:?} and {:?}",
                    node_name(node),
                    first.shape,
                    part.shape
                )));
            }
            shape[at] = shape[at].saturating_add(part.shape[at]);
        }
        let names: Vec<&str> = parts.iter().map(|p| p.text.as_str()).collect();
        let along = match at {
            0 => String::new(),
            a => format!(", axis = {a}"),
        };
        self.bind(
            node,
            Made {
                text: format!("concat({}{along})", names.join(", ")),
                shape,
                batched: first.batched,
                secret: parts.iter().any(|p| p.secret),
            },
        )
    }

    fn pad(&mut self, node: &'a Node) -> Result<()> {
        let attributes = Attributes::of(node, &["mode", "pads", "value"])?;
        if let Some(mode) = attributes.text("mode")?.filter(|m| *m != "constant") {
            return Err(unsupported(
                node,
                format!("its mode is {}", shown(mode)),
                "pad with zeros",
            ));
        }
        let x = self.tensor(node, 0)?;
        let filling = match self.optional(node, 2)? {
            None => Some(attributes.float("value", 0.0)),
            Some(value) => value.known().and_then(Array::scalar),
        };
        if filling != Some(0.0) {
            return Err(unsupported(
                node,
                "it does not pad with zeros",
                "pad with zeros",
            ));
        }
        if self.optional(node, 3)?.is_some() {
            return Err(unsupported(node, "it names axes", "give pads for all axes"));
        }
        let pads = self.integers(node, 1, "pads")?.unwrap_or_default();
        let rank = x.rank();
        if pads.len() != 2 * rank {
            return Err(ImportError::Malformed(format!(
                "{} has {} pads for {rank} axes",
                node_name(node),
                pads.len()
            )));
        }
        let mut pairs = Vec::with_capacity(rank);
        for axis in 0..rank {
            let most = i64::from(u32::MAX);
            match (pads[axis], pads[axis + rank]) {
                (lo, hi) if (0..most).contains(&lo) && (0..most).contains(&hi) => {
                    pairs.push([lo as usize, hi as usize]);
                }
                (lo, hi) => {
                    return Err(unsupported(
                        node,
                        format!("its pads are {lo} and {hi}"),
                        "crop with a slice by hand: x[a..b]",
                    ));
                }
            }
        }
        if x.batched && pairs.remove(0) != [0, 0] {
            return Err(unsupported(node, "it adds instances", INSTANCES));
        }
        if pairs.iter().all(|p| *p == [0, 0]) {
            return self.alias(node, x);
        }
        let shape = x
            .shape
            .iter()
            .zip(&pairs)
            .map(|(d, [lo, hi])| d.saturating_add(*lo).saturating_add(*hi))
            .collect();
        let widths: Vec<String> = pairs.iter().map(|[l, h]| format!("[{l}, {h}]")).collect();
        self.bind(
            node,
            Made {
                text: format!("pad({}, [{}])", x.text, widths.join(", ")),
                shape,
                batched: x.batched,
                secret: x.secret,
            },
        )
    }

    fn reduce(&mut self, node: &'a Node) -> Result<()> {
        let attributes = Attributes::of(node, &["axes", "keepdims", "noop_with_empty_axes"])?;
        let function = if node.op_type == "ReduceSum" {
            "sum"
        } else {
            "mean"
        };
        let x = self.tensor(node, 0)?;
        let keep = attributes.int("keepdims", 1) != 0;
        let rank = x.rank();
        let axes = self.integers(node, 1, "axes")?.unwrap_or_default();
        if axes.is_empty() && attributes.int("noop_with_empty_axes", 0) != 0 {
            return self.alias(node, x);
        }
        let mut places: Vec<usize> = if axes.is_empty() {
            (0..rank).collect()
        } else {
            axes.iter()
                .map(|&a| axis(node, a, rank))
                .collect::<Result<_>>()?
        };
        places.sort_unstable();
        places.dedup();
        if x.batched && places.first() == Some(&0) {
            return Err(unsupported(node, "it sums over instances", INSTANCES));
        }
        let shift = usize::from(x.batched);
        let mut text = x.text.clone();
        let mut left = x.shape.clone();
        let mut kept = x.shape.clone();
        for p in places.into_iter().rev() {
            text = format!("{function}({text}, {})", p - shift);
            left.remove(p - shift);
            kept[p - shift] = 1;
        }
        let shape = if keep {
            text = reshaped(&text, &kept);
            kept
        } else {
            left
        };
        self.bind(
            node,
            Made {
                text,
                shape,
                batched: x.batched,
                secret: x.secret,
            },
        )
    }
}

/// Whether it is an array of one element that the model holds.
fn is_number(value: &Value) -> bool {
    value.known().is_some_and(|a| a.scalar().is_some())
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

/// An axis, counted from the end if negative.
fn axis(node: &Node, axis: i64, rank: usize) -> Result<usize> {
    let from_start = if axis < 0 { axis + rank as i64 } else { axis };
    usize::try_from(from_start)
        .ok()
        .filter(|a| *a < rank)
        .ok_or_else(|| {
            ImportError::Malformed(format!("{} has axis {axis} of {rank}", node_name(node)))
        })
}

/// The shape that two shapes broadcast to.
fn numpy(a: &[usize], b: &[usize]) -> Option<Vec<usize>> {
    let rank = a.len().max(b.len());
    let extent = |s: &[usize], i: usize| match (i + s.len()).checked_sub(rank) {
        Some(at) => s[at],
        None => 1,
    };
    (0..rank)
        .map(|i| match (extent(a, i), extent(b, i)) {
            (x, y) if x == y => Some(x),
            (1, y) => Some(y),
            (x, 1) => Some(x),
            _ => None,
        })
        .collect()
}

fn stride(node: &Node, strides: Option<&[i64]>) -> Result<usize> {
    match strides {
        None => Ok(1),
        Some(&[a, b]) if a == b && a > 0 && a <= 1 << 20 => Ok(a as usize),
        Some(other) => Err(unsupported(
            node,
            format!("its strides are {other:?}"),
            "one stride goes for both axes: export it with equal strides",
        )),
    }
}

/// Rows above, columns left, rows below, columns right.
fn pads(
    node: &Node,
    attributes: &Attributes<'_>,
    image: [usize; 2],
    kernel: [usize; 2],
    stride: usize,
) -> Result<[usize; 4]> {
    let given = match attributes.ints("pads") {
        None => [0; 4],
        Some(pads) => {
            let pads: Option<Vec<usize>> = pads
                .iter()
                .map(|&p| usize::try_from(p).ok().filter(|p| *p <= 1 << 20))
                .collect();
            match pads.as_deref() {
                Some(&[a, b, c, d]) => [a, b, c, d],
                _ => {
                    return Err(unsupported(
                        node,
                        "its pads are not four whole numbers",
                        "an image has two axes to pad",
                    ));
                }
            }
        }
    };
    let same = |later: bool| {
        let mut out = [0; 4];
        for i in 0..2 {
            let last = (image[i].div_ceil(stride) - 1) * stride + kernel[i];
            let total = last.saturating_sub(image[i]);
            let (less, more) = (total / 2, total - total / 2);
            (out[i], out[i + 2]) = if later { (less, more) } else { (more, less) };
        }
        out
    };
    match attributes.text("auto_pad")?.unwrap_or("NOTSET") {
        "NOTSET" | "" => Ok(given),
        "VALID" => Ok([0; 4]),
        "SAME_UPPER" => Ok(same(true)),
        "SAME_LOWER" => Ok(same(false)),
        other => Err(unsupported(
            node,
            format!("its auto_pad is {}", shown(other)),
            "export it with explicit pads",
        )),
    }
}

/// An image [c, h, w] with zeros around it, and its new height and width.
fn padded(
    node: &Node,
    text: &str,
    [h, w]: [usize; 2],
    pads: [usize; 4],
) -> Result<(String, [usize; 2])> {
    let [above, left, below, right] = pads;
    let extents = [h + above + below, w + left + right];
    if pads == [0; 4] {
        return Ok((text.to_owned(), extents));
    }
    if extents[0].saturating_mul(extents[1]) > hecc_lang::Limits::default().elements {
        return Err(unsupported(node, "its pads are very large", "check them"));
    }
    Ok((
        format!("pad({text}, [[0, 0], [{above}, {below}], [{left}, {right}]])"),
        extents,
    ))
}

/// The same for [h, w].
fn padded_plane(text: &str, [h, w]: [usize; 2], pads: [usize; 4]) -> (String, [usize; 2]) {
    let [above, left, below, right] = pads;
    (
        format!("pad({text}, [[{above}, {below}], [{left}, {right}]])"),
        [h + above + below, w + left + right],
    )
}

/// How many places a window has, rounded down; none if it does not fit.
fn window(image: [usize; 2], kernel: [usize; 2], stride: usize) -> Option<[usize; 2]> {
    let along = |i: usize| Some(image[i].checked_sub(kernel[i])? / stride + 1);
    Some([along(0)?, along(1)?])
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
