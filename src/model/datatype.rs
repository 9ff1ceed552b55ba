//! The tensor element types of the protocol, and which of them the engine can hold.

/// An ONNX element type, by its number in `TensorProto.DataType`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ElementType(pub(super) u64);

/// The names of the element types, from number 0.
const ELEMENT_NAMES: [&str; 17] = [
    "UNDEFINED",
    "FLOAT",
    "UINT8",
    "INT8",
    "UINT16",
    "INT16",
    "INT32",
    "INT64",
    "STRING",
    "BOOL",
    "FLOAT16",
    "DOUBLE",
    "UINT32",
    "UINT64",
    "COMPLEX64",
    "COMPLEX128",
    "BFLOAT16",
];

impl ElementType {
    /// The name in ONNX.
    pub(super) fn name(self) -> &'static str {
        usize::try_from(self.0).ok().and_then(|number| ELEMENT_NAMES.get(number)).copied().unwrap_or("of a newer ONNX")
    }
}

/// An Open Inference Protocol v2 datatype that this server carries.
///
/// The engine computes in f32, i32, i8 and u8. FP64 is narrowed to f32, INT64 and BOOL travel as i32 (with a range
/// check), and outputs are widened back to what the model declares. An FP16 model is computed and answered as FP32.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Datatype {
    Bool,
    Int8,
    Int16,
    Int32,
    Int64,
    Uint8,
    Fp32,
    Fp64,
}

/// Every datatype with its name in the protocol.
const NAMES: [(Datatype, &str); 8] = [
    (Datatype::Bool, "BOOL"),
    (Datatype::Int8, "INT8"),
    (Datatype::Int16, "INT16"),
    (Datatype::Int32, "INT32"),
    (Datatype::Int64, "INT64"),
    (Datatype::Uint8, "UINT8"),
    (Datatype::Fp32, "FP32"),
    (Datatype::Fp64, "FP64"),
];

impl Datatype {
    /// The datatype that stands for an ONNX element type, or `None` where the engine cannot hold it.
    pub(super) fn from_onnx(element: ElementType) -> Option<Self> {
        match element.name() {
            "FLOAT" | "FLOAT16" => Some(Self::Fp32),
            "DOUBLE" => Some(Self::Fp64),
            "INT64" => Some(Self::Int64),
            "INT32" => Some(Self::Int32),
            "INT8" => Some(Self::Int8),
            "UINT8" => Some(Self::Uint8),
            "BOOL" => Some(Self::Bool),
            _ => None,
        }
    }

    /// Reads a name such as `FP32`.
    pub(super) fn parse(name: &str) -> Option<Self> {
        NAMES.iter().find(|(_, known)| *known == name).map(|(datatype, _)| *datatype)
    }

    /// The name in the protocol.
    pub(super) fn name(self) -> &'static str {
        NAMES.iter().find(|(datatype, _)| *datatype == self).map_or("", |(_, name)| name)
    }

    /// Bytes of one element in the binary tensor data extension.
    pub(super) fn size_bytes(self) -> usize {
        match self {
            Self::Bool | Self::Int8 | Self::Uint8 => 1,
            Self::Int16 => 2,
            Self::Int32 | Self::Fp32 => 4,
            Self::Int64 | Self::Fp64 => 8,
        }
    }

    /// Whether an input declared as `self` may be sent as `sent`: the same kind of number, any width.
    pub(super) fn accepts(self, sent: Self) -> bool {
        match self {
            Self::Fp32 | Self::Fp64 => matches!(sent, Self::Fp32 | Self::Fp64),
            Self::Bool | Self::Int8 | Self::Uint8 => sent == self,
            Self::Int16 | Self::Int32 | Self::Int64 => {
                matches!(sent, Self::Int8 | Self::Int16 | Self::Int32 | Self::Int64 | Self::Uint8)
            }
        }
    }

    /// The whole numbers that a value of this type may be, as the wire and the engine together allow.
    pub(super) fn integer_range(self) -> (i64, i64) {
        match self {
            Self::Bool => (0, 1),
            Self::Int8 => (i8::MIN.into(), i8::MAX.into()),
            Self::Uint8 => (u8::MIN.into(), u8::MAX.into()),
            Self::Int16 => (i16::MIN.into(), i16::MAX.into()),
            Self::Int32 | Self::Int64 | Self::Fp32 | Self::Fp64 => (i32::MIN.into(), i32::MAX.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_back_and_unknown_ones_refused() {
        for (datatype, name) in NAMES {
            assert_eq!(Datatype::parse(name), Some(datatype));
            assert_eq!(datatype.name(), name);
        }
        assert_eq!(Datatype::parse("fp32"), None);
        assert_eq!(Datatype::parse("BYTES"), None);
    }

    #[test]
    fn a_float_input_takes_no_integers_and_the_other_way_round() {
        assert!(Datatype::Fp32.accepts(Datatype::Fp64));
        assert!(!Datatype::Fp32.accepts(Datatype::Int32));
        assert!(Datatype::Int64.accepts(Datatype::Int8));
        assert!(!Datatype::Int64.accepts(Datatype::Fp32));
        assert!(!Datatype::Bool.accepts(Datatype::Uint8));
    }
}
