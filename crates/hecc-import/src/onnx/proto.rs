//! The messages of `onnx.proto` that a network consists of, field numbers as there; other fields are skipped.
//!
//! Subgraphs, sequences, maps and sparse tensors are left out: nodes that have them are refused by name.

use prost::Message;
use prost::encoding::{DecodeContext, WireType, decode_key, decode_varint, skip_field};

use super::{ImportError, MAX_BYTES};

/// Most messages in a model: nodes, attributes, tensors, dimensions. A message of two bytes takes hundreds in memory.
const MAX_MESSAGES: usize = 1 << 20;

/// A model.
#[derive(Clone, PartialEq, Message)]
pub struct Model {
    /// Version of the format.
    #[prost(int64, tag = "1")]
    pub ir_version: i64,
    /// Who wrote it.
    #[prost(string, tag = "2")]
    pub producer_name: String,
    /// Which version of that.
    #[prost(string, tag = "3")]
    pub producer_version: String,
    /// The network.
    #[prost(message, optional, tag = "7")]
    pub graph: Option<Graph>,
    /// Versions of the operators.
    #[prost(message, repeated, tag = "8")]
    pub opset_import: Vec<OperatorSet>,
}

/// A version of the operators of a domain.
#[derive(Clone, PartialEq, Message)]
pub struct OperatorSet {
    /// Empty for ONNX's own.
    #[prost(string, tag = "1")]
    pub domain: String,
    /// The version.
    #[prost(int64, tag = "2")]
    pub version: i64,
}

/// A network.
#[derive(Clone, PartialEq, Message)]
pub struct Graph {
    /// Operations, each after those that it needs.
    #[prost(message, repeated, tag = "1")]
    pub node: Vec<Node>,
    /// Its name.
    #[prost(string, tag = "2")]
    pub name: String,
    /// Weights.
    #[prost(message, repeated, tag = "5")]
    pub initializer: Vec<Tensor>,
    /// Inputs; weights may be among them.
    #[prost(message, repeated, tag = "11")]
    pub input: Vec<ValueInfo>,
    /// Results.
    #[prost(message, repeated, tag = "12")]
    pub output: Vec<ValueInfo>,
}

/// An operation.
#[derive(Clone, PartialEq, Message)]
pub struct Node {
    /// Names of its operands; an empty one is left out.
    #[prost(string, repeated, tag = "1")]
    pub input: Vec<String>,
    /// Names of its results.
    #[prost(string, repeated, tag = "2")]
    pub output: Vec<String>,
    /// Its name.
    #[prost(string, tag = "3")]
    pub name: String,
    /// The operator.
    #[prost(string, tag = "4")]
    pub op_type: String,
    /// Its attributes.
    #[prost(message, repeated, tag = "5")]
    pub attribute: Vec<Attribute>,
    /// Whose operator; empty for ONNX's own.
    #[prost(string, tag = "7")]
    pub domain: String,
}

/// An attribute.
#[derive(Clone, PartialEq, Message)]
pub struct Attribute {
    /// Its name.
    #[prost(string, tag = "1")]
    pub name: String,
    /// A number.
    #[prost(float, tag = "2")]
    pub f: f32,
    /// An integer.
    #[prost(int64, tag = "3")]
    pub i: i64,
    /// Text.
    #[prost(bytes = "vec", tag = "4")]
    pub s: Vec<u8>,
    /// A tensor.
    #[prost(message, optional, boxed, tag = "5")]
    pub t: Option<Box<Tensor>>,
    /// Numbers.
    #[prost(float, repeated, tag = "7")]
    pub floats: Vec<f32>,
    /// Integers.
    #[prost(int64, repeated, tag = "8")]
    pub ints: Vec<i64>,
    /// Which of these it is.
    #[prost(int32, tag = "20")]
    pub kind: i32,
}

/// An array.
#[derive(Clone, PartialEq, Message)]
pub struct Tensor {
    /// Extents.
    #[prost(int64, repeated, tag = "1")]
    pub dims: Vec<i64>,
    /// What an element is.
    #[prost(int32, tag = "2")]
    pub data_type: i32,
    /// Elements of type float.
    #[prost(float, repeated, tag = "4")]
    pub float_data: Vec<f32>,
    /// Elements of at most 32 bits.
    #[prost(int32, repeated, tag = "5")]
    pub int32_data: Vec<i32>,
    /// Elements of type int64.
    #[prost(int64, repeated, tag = "7")]
    pub int64_data: Vec<i64>,
    /// Its name.
    #[prost(string, tag = "8")]
    pub name: String,
    /// Elements of any type, little-endian.
    #[prost(bytes = "vec", tag = "9")]
    pub raw_data: Vec<u8>,
    /// Elements of type double.
    #[prost(double, repeated, tag = "10")]
    pub double_data: Vec<f64>,
    /// Elements of type uint32 or uint64.
    #[prost(uint64, repeated, tag = "11")]
    pub uint64_data: Vec<u64>,
    /// 1 when the elements are in another file.
    #[prost(int32, tag = "14")]
    pub data_location: i32,
}

/// A name with a type.
#[derive(Clone, PartialEq, Message)]
pub struct ValueInfo {
    /// The name.
    #[prost(string, tag = "1")]
    pub name: String,
    /// The type.
    #[prost(message, optional, tag = "2")]
    pub r#type: Option<Type>,
}

/// The type of a value.
#[derive(Clone, PartialEq, Message)]
pub struct Type {
    /// That of a tensor.
    #[prost(message, optional, tag = "1")]
    pub tensor_type: Option<TensorType>,
}

/// The type of a tensor.
#[derive(Clone, PartialEq, Message)]
pub struct TensorType {
    /// What an element is.
    #[prost(int32, tag = "1")]
    pub elem_type: i32,
    /// Its extents.
    #[prost(message, optional, tag = "2")]
    pub shape: Option<Shape>,
}

/// Extents.
#[derive(Clone, PartialEq, Message)]
pub struct Shape {
    /// One for each axis.
    #[prost(message, repeated, tag = "1")]
    pub dim: Vec<Dimension>,
}

/// An extent: a number, or a name that stands for one.
#[derive(Clone, PartialEq, Message)]
pub struct Dimension {
    /// Which.
    #[prost(oneof = "Extent", tags = "1, 2")]
    pub value: Option<Extent>,
}

/// A number, or a name that stands for one.
#[derive(Clone, PartialEq, prost::Oneof)]
pub enum Extent {
    /// Known.
    #[prost(int64, tag = "1")]
    Value(i64),
    /// Symbolic.
    #[prost(string, tag = "2")]
    Name(String),
}

/// Reads a model; memory is bounded by a multiple of the bytes and by [`MAX_MESSAGES`].
pub(super) fn decode(bytes: &[u8]) -> Result<Model, ImportError> {
    if bytes.len() > MAX_BYTES {
        return Err(ImportError::TooLarge {
            what: "the model has".to_owned(),
            found: format!("{} bytes", bytes.len()),
            most: MAX_BYTES,
        });
    }
    let mut left = MAX_MESSAGES;
    count(bytes, Kind::Model, &mut left)?;
    if left == 0 {
        return Err(ImportError::TooLarge {
            what: "the model has".to_owned(),
            found: "many nodes, attributes and tensors".to_owned(),
            most: MAX_MESSAGES,
        });
    }
    let model = Model::decode(bytes).map_err(malformed)?;
    if model.graph.is_none() {
        return Err(ImportError::Malformed(
            "it holds no graph: is this an .onnx file?".to_owned(),
        ));
    }
    Ok(model)
}

/// A message with messages in it.
#[derive(Clone, Copy)]
enum Kind {
    Model,
    Graph,
    Node,
    Attribute,
    ValueInfo,
    Type,
    TensorType,
    Shape,
    /// Holds none.
    Leaf,
}

impl Kind {
    /// What the field of that number holds, if it is a message or text.
    fn of_field(self, field: u32) -> Option<Kind> {
        Some(match (self, field) {
            (Kind::Model, 7) => Kind::Graph,
            (Kind::Model, 8) => Kind::Leaf,
            (Kind::Graph, 1) => Kind::Node,
            (Kind::Graph, 5) => Kind::Leaf,
            (Kind::Graph, 11 | 12) => Kind::ValueInfo,
            (Kind::Node, 1 | 2) => Kind::Leaf,
            (Kind::Node, 5) => Kind::Attribute,
            (Kind::Attribute, 5) => Kind::Leaf,
            (Kind::ValueInfo, 2) => Kind::Type,
            (Kind::Type, 1) => Kind::TensorType,
            (Kind::TensorType, 2) => Kind::Shape,
            (Kind::Shape, 1) => Kind::Leaf,
            _ => return None,
        })
    }
}

/// Takes the messages within a message from `left`, and stops when none is left. Recursion ends with [`Kind`].
fn count(mut bytes: &[u8], kind: Kind, left: &mut usize) -> Result<(), ImportError> {
    while !bytes.is_empty() && *left > 0 {
        let (field, wire) = decode_key(&mut bytes).map_err(malformed)?;
        match (kind.of_field(field), wire) {
            (Some(inner), WireType::LengthDelimited) => {
                *left -= 1;
                let length = decode_varint(&mut bytes).map_err(malformed)?;
                let (message, rest) = usize::try_from(length)
                    .ok()
                    .and_then(|n| bytes.split_at_checked(n))
                    .ok_or_else(|| ImportError::Malformed("it was cut short".to_owned()))?;
                if !matches!(inner, Kind::Leaf) {
                    count(message, inner, left)?;
                }
                bytes = rest;
            }
            (_, wire) => {
                skip_field(wire, field, &mut bytes, DecodeContext::default()).map_err(malformed)?
            }
        }
    }
    Ok(())
}

fn malformed(error: prost::DecodeError) -> ImportError {
    ImportError::Malformed(error.to_string())
}
