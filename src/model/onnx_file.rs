//! A first look at an ONNX file, before the engine reads it: that every length in it is honest, and which element types
//! its inputs and outputs declare (the engine maps several to one and forgets which it was).
//!
//! The engine's parser (rten-onnx 0.27) trusts lengths: one of 2^63 makes it seek backwards and read the same bytes for
//! ever, a large one makes it allocate. A broken download must be an error with the file's name, so lengths are checked
//! here, along the same nesting. <https://protobuf.dev/programming-guides/encoding/>,
//! <https://github.com/onnx/onnx/blob/main/onnx/onnx.proto3>

use super::datatype::ElementType;

/// Graphs within attributes within nodes within graphs: real models (`If`, `Loop`) nest a few; each level is three here.
const MAX_DEPTH: u32 = 96;

/// Why a file is no ONNX model, as far as can be seen from its outline.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Malformed {
    #[error("it is cut short or is no ONNX file")]
    Length,
    #[error("it holds what no ONNX file holds")]
    Encoding,
    #[error("its graphs are nested too deeply")]
    Depth,
    #[error("it has no graph")]
    NoGraph,
}

/// The messages that the engine's parser descends into.
#[derive(Clone, Copy, Debug)]
enum Message {
    Model,
    Graph,
    Node,
    Attribute,
    Tensor,
    ValueInfo,
    Type,
    TensorType,
    SequenceType,
    Shape,
    /// One without messages in it.
    Leaf,
}

/// What a length-delimited field holds.
enum Content {
    Message(Message),
    PackedVarints,
    PackedFixed(usize),
    Bytes,
}

const GRAPH_INPUT: u64 = 11;
const GRAPH_OUTPUT: u64 = 12;

impl Message {
    fn content(self, field: u64) -> Content {
        use Content::{Bytes, Message as Nested, PackedFixed, PackedVarints};
        match (self, field) {
            (Self::Model, 7) | (Self::Attribute, 6) => Nested(Self::Graph),
            (Self::Model, 8 | 14) | (Self::Tensor, 13) | (Self::Shape, 1) => Nested(Self::Leaf),
            (Self::Graph, 1) => Nested(Self::Node),
            (Self::Graph, 5) | (Self::Attribute, 5) => Nested(Self::Tensor),
            (Self::Graph, GRAPH_INPUT | GRAPH_OUTPUT | 13) => Nested(Self::ValueInfo),
            (Self::Node, 5) => Nested(Self::Attribute),
            (Self::ValueInfo, 2) | (Self::SequenceType, 1) => Nested(Self::Type),
            (Self::Type, 1) => Nested(Self::TensorType),
            (Self::Type, 4) => Nested(Self::SequenceType),
            (Self::TensorType, 2) => Nested(Self::Shape),
            (Self::Tensor, 1 | 5 | 7) | (Self::Attribute, 8) => PackedVarints,
            (Self::Tensor, 4) | (Self::Attribute, 7) => PackedFixed(4),
            (Self::Tensor, 10) => PackedFixed(8),
            _ => Bytes,
        }
    }
}

/// Checks the outline of a model.
pub(super) fn check(file: &[u8]) -> Result<(), Malformed> {
    check_message(Message::Model, file, 0)?;
    graph(file).map(drop)
}

/// The element type that the main graph declares for an input or output; `None` where it declares none.
pub(super) fn element_type(file: &[u8], tensor: &str) -> Option<ElementType> {
    let graph = graph(file).ok()?;
    let values = fields(graph).flatten().filter(|(number, _)| [GRAPH_INPUT, GRAPH_OUTPUT].contains(number));
    let mut values = values.filter_map(|(_, value)| value.bytes());
    let value = values.find(|value| member(value, 1).and_then(Value::bytes) == Some(tensor.as_bytes()))?;
    let tensor_type = member(member(value, 2)?.bytes()?, 1)?.bytes()?;
    match member(tensor_type, 1)? {
        Value::Varint(element) => Some(ElementType(element)),
        _ => None,
    }
}

fn graph(file: &[u8]) -> Result<&[u8], Malformed> {
    member(file, 7).and_then(Value::bytes).ok_or(Malformed::NoGraph)
}

fn member(message: &[u8], wanted: u64) -> Option<Value<'_>> {
    fields(message).flatten().filter(|(number, _)| *number == wanted).map(|(_, value)| value).last()
}

fn check_message(message: Message, bytes: &[u8], depth: u32) -> Result<(), Malformed> {
    if depth > MAX_DEPTH {
        return Err(Malformed::Depth);
    }
    for field in fields(bytes) {
        let (number, value) = field?;
        let Some(bytes) = value.bytes() else { continue };
        match message.content(number) {
            Content::Message(nested) => check_message(nested, bytes, depth + 1)?,
            // The last byte of a number has no continuation bit: the numbers end where the field does.
            Content::PackedVarints if bytes.last().is_some_and(|last| last & CONTINUES != 0) => {
                return Err(Malformed::Length);
            }
            Content::PackedFixed(size) if bytes.len() % size != 0 => return Err(Malformed::Length),
            Content::PackedVarints | Content::PackedFixed(_) | Content::Bytes => {}
        }
    }
    Ok(())
}

/// One field's value.
#[derive(Clone, Copy, Debug)]
enum Value<'a> {
    Varint(u64),
    Bytes(&'a [u8]),
    Fixed,
}

impl<'a> Value<'a> {
    fn bytes(self) -> Option<&'a [u8]> {
        match self {
            Self::Bytes(bytes) => Some(bytes),
            Self::Varint(_) | Self::Fixed => None,
        }
    }
}

/// A message's fields, each with its number; the first error is the last item.
fn fields(mut rest: &[u8]) -> impl Iterator<Item = Result<(u64, Value<'_>), Malformed>> {
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let field = field(&mut rest);
        if field.is_err() {
            rest = &[];
        }
        Some(field)
    })
}

fn field<'a>(rest: &mut &'a [u8]) -> Result<(u64, Value<'a>), Malformed> {
    let tag = varint(rest)?;
    let value = match tag & 7 {
        0 => Value::Varint(varint(rest)?),
        1 => take(rest, 8).map(|_| Value::Fixed)?,
        2 => {
            let length = usize::try_from(varint(rest)?).map_err(|_| Malformed::Length)?;
            Value::Bytes(take(rest, length)?)
        }
        5 => take(rest, 4).map(|_| Value::Fixed)?,
        _ => return Err(Malformed::Encoding),
    };
    Ok((tag >> 3, value))
}

const CONTINUES: u8 = 0x80;

fn varint(rest: &mut &[u8]) -> Result<u64, Malformed> {
    let mut number = 0;
    // Seven bits to a byte: a tenth holds the last of 64.
    for shift in (0..64).step_by(7) {
        let byte = take(rest, 1)?[0];
        number |= u64::from(byte & !CONTINUES) << shift;
        if byte & CONTINUES == 0 {
            return Ok(number);
        }
    }
    Err(Malformed::Encoding)
}

fn take<'a>(rest: &mut &'a [u8], length: usize) -> Result<&'a [u8], Malformed> {
    let (taken, left) = rest.split_at_checked(length).ok_or(Malformed::Length)?;
    *rest = left;
    Ok(taken)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_built_in_model_is_well_formed_and_declares_its_types() {
        let file = edge_config::models::DIGITS_ONNX;
        assert_eq!(check(file), Ok(()));
        assert_eq!(element_type(file, "image"), Some(ElementType(1)));
        assert_eq!(element_type(file, "no-such-tensor"), None);
    }

    #[test]
    fn no_cut_of_a_model_passes() {
        let file = edge_config::models::DIGITS_ONNX;
        for length in (0..file.len()).step_by(997) {
            assert!(check(&file[..length]).is_err(), "{length} bytes");
        }
    }

    #[test]
    fn a_length_beyond_the_enclosing_message_is_refused_at_every_depth() {
        // Model { graph { node { 0x7f bytes of attribute, where 1 follows } } }
        let file = [0x3a, 5, 0x0a, 3, 0x2a, 0x7f, 0, 0, 0];
        assert_eq!(check(&file), Err(Malformed::Length));
        let endless = [0x3a, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1];
        assert_eq!(check(&endless), Err(Malformed::Length));
        assert_eq!(check(&[0x9c; 4096]), Err(Malformed::Encoding));
    }

    #[test]
    fn packed_numbers_must_end_with_their_field() {
        // Model { graph { initializer { int64_data: one byte that says that another follows } } }
        assert_eq!(check(&[0x3a, 5, 0x2a, 3, 0x3a, 1, 0x80]), Err(Malformed::Length));
        assert_eq!(check(&[0x3a, 5, 0x2a, 3, 0x3a, 1, 0x00]), Ok(()));
        // float_data of three bytes
        assert_eq!(check(&[0x3a, 7, 0x2a, 5, 0x22, 3, 0, 0, 0]), Err(Malformed::Length));
    }

    #[test]
    fn graphs_within_graphs_end_somewhere() {
        let mut graph: Vec<u8> = Vec::new();
        for _ in 0..200 {
            // graph { node { attribute { g: graph } } }
            for tag in [0x32, 0x2a, 0x0a] {
                graph = [&[tag][..], &encoded(graph.len()), &graph].concat();
            }
        }
        let file = [&[0x3a][..], &encoded(graph.len()), &graph].concat();
        assert_eq!(check(&file), Err(Malformed::Depth));
    }

    fn encoded(mut number: usize) -> Vec<u8> {
        let mut bytes = Vec::new();
        while number >= 0x80 {
            bytes.push(u8::try_from(number & 0x7f).unwrap() | CONTINUES);
            number >>= 7;
        }
        bytes.push(u8::try_from(number).unwrap());
        bytes
    }
}
