//! Between the protocol's tensors and the engine's: range checks on the way in, widening on the way out.

use rten::{Value, ValueView};
use rten_tensor::{AsView, TensorView};
use serde::Serialize;

use super::datatype::Datatype;
use super::error::InferError;
use super::numbers::Numbers;

/// One input as a request describes it, before its elements are looked at.
#[derive(Debug)]
pub(super) struct TensorHeader<'a> {
    pub(super) name: &'a str,
    pub(super) sent: Datatype,
    pub(super) declared: Datatype,
    pub(super) shape: &'a [usize],
}

impl TensorHeader<'_> {
    /// How many elements the shape asks for.
    pub(super) fn element_count(&self) -> Result<usize, InferError> {
        let product = self.shape.iter().try_fold(1_usize, |count, size| count.checked_mul(*size));
        product.ok_or_else(|| InferError::invalid(format!("input '{}' has a shape too large to address", self.name)))
    }

    /// The engine's value for elements that came as JSON.
    pub(super) fn value_from_numbers(&self, numbers: Numbers) -> Result<Value, InferError> {
        self.check_count(numbers.len())?;
        match self.declared {
            Datatype::Fp32 | Datatype::Fp64 => self.value(self.floats_from_numbers(numbers)?),
            _ => self.value_from_integers(self.integers_from_numbers(numbers)?.into_iter()),
        }
    }

    /// The engine's value for elements that came as little-endian bytes (binary tensor data extension).
    pub(super) fn value_from_bytes(&self, bytes: &[u8]) -> Result<Value, InferError> {
        let size = self.sent.size_bytes();
        if !bytes.len().is_multiple_of(size) {
            let (name, length) = (self.name, bytes.len());
            return Err(InferError::invalid(format!(
                "input '{name}' brings {length} bytes, which is no whole number of {}",
                self.sent.name()
            )));
        }
        self.check_count(bytes.len() / size)?;
        match self.sent {
            Datatype::Fp32 => self.value(chunks(bytes).map(f32::from_le_bytes).collect()),
            Datatype::Fp64 => self.value(self.narrowed(chunks(bytes).map(f64::from_le_bytes))?),
            Datatype::Int64 => self.value_from_integers(chunks(bytes).map(i64::from_le_bytes)),
            Datatype::Int32 => self.value_from_integers(chunks(bytes).map(|bytes| i32::from_le_bytes(bytes).into())),
            Datatype::Int16 => self.value_from_integers(chunks(bytes).map(|bytes| i16::from_le_bytes(bytes).into())),
            Datatype::Int8 => self.value_from_integers(chunks(bytes).map(|bytes| i8::from_le_bytes(bytes).into())),
            Datatype::Bool | Datatype::Uint8 => self.value_from_integers(bytes.iter().map(|byte| (*byte).into())),
        }
    }

    fn check_count(&self, given: usize) -> Result<(), InferError> {
        let wanted = self.element_count()?;
        if given == wanted {
            return Ok(());
        }
        let (name, shape) = (self.name, self.shape);
        Err(InferError::invalid(format!(
            "input '{name}' has shape {shape:?}, which is {wanted} elements, but its data holds {given}"
        )))
    }

    fn floats_from_numbers(&self, numbers: Numbers) -> Result<Vec<f32>, InferError> {
        match numbers {
            Numbers::Real(elements) => self.narrowed(elements.into_iter()),
            #[expect(clippy::cast_precision_loss, reason = "FP32 holds what FP32 can hold of a whole number")]
            Numbers::Whole(elements) => Ok(elements.into_iter().map(|element| element as f32).collect()),
            Numbers::Boolean(_) => Err(self.not_a(&"a boolean")),
        }
    }

    /// f64 to f32; a finite number that overflows is refused, NaN and infinity (binary only) pass through.
    fn narrowed(&self, elements: impl Iterator<Item = f64>) -> Result<Vec<f32>, InferError> {
        let narrow = |element: f64| {
            #[expect(clippy::cast_possible_truncation, reason = "checked for overflow in the next line")]
            let narrow = element as f32;
            if narrow.is_finite() || !element.is_finite() { Ok(narrow) } else { Err(self.out_of_range(&element)) }
        };
        elements.map(narrow).collect()
    }

    fn integers_from_numbers(&self, numbers: Numbers) -> Result<Vec<i64>, InferError> {
        match numbers {
            Numbers::Whole(elements) => Ok(elements),
            Numbers::Boolean(elements) if self.declared == Datatype::Bool => {
                Ok(elements.into_iter().map(i64::from).collect())
            }
            Numbers::Boolean(_) => Err(self.not_a(&"a boolean")),
            Numbers::Real(elements) => elements.into_iter().map(|element| self.whole(element)).collect(),
        }
    }

    fn whole(&self, element: f64) -> Result<i64, InferError> {
        // Every integer type here fits 32 bits, so what is outside of them needs no exact conversion to be refused.
        if element.fract() != 0.0 || element.abs() > f64::from(u32::MAX) {
            return Err(self.not_a(&element));
        }
        #[expect(clippy::cast_possible_truncation, reason = "whole and within 32 bits by the check above")]
        let whole = element as i64;
        Ok(whole)
    }

    fn value_from_integers(&self, elements: impl Iterator<Item = i64>) -> Result<Value, InferError> {
        let (lowest, highest) = self.sent.integer_range();
        let checked = elements.map(|element| {
            if (lowest..=highest).contains(&element) { Ok(element) } else { Err(self.out_of_range(&element)) }
        });
        match self.declared {
            Datatype::Int8 => self.value(self.converted::<i8>(checked)?),
            Datatype::Uint8 => self.value(self.converted::<u8>(checked)?),
            _ => self.value(self.converted::<i32>(checked)?),
        }
    }

    fn converted<T: TryFrom<i64>>(
        &self,
        elements: impl Iterator<Item = Result<i64, InferError>>,
    ) -> Result<Vec<T>, InferError> {
        elements.map(|element| element.and_then(|e| T::try_from(e).map_err(|_| self.out_of_range(&e)))).collect()
    }

    fn value<T>(&self, elements: Vec<T>) -> Result<Value, InferError>
    where
        Value: From<rten_tensor::Tensor<T>>,
    {
        Value::from_shape(self.shape, elements).map_err(|error| InferError::invalid(error.to_string()))
    }

    fn not_a(&self, element: &dyn std::fmt::Display) -> InferError {
        InferError::invalid(format!("input '{}' holds {element}, which is no {}", self.name, self.sent.name()))
    }

    fn out_of_range(&self, element: &dyn std::fmt::Display) -> InferError {
        let (name, sent) = (self.name, self.sent.name());
        InferError::invalid(format!("input '{name}' holds {element}, out of range for {sent} in this engine"))
    }
}

fn chunks<const N: usize>(bytes: &[u8]) -> impl Iterator<Item = [u8; N]> {
    bytes.as_chunks::<N>().0.iter().copied()
}

/// The elements of one output, in the type that the model declares.
#[derive(Debug, PartialEq, Serialize)]
#[serde(untagged)]
pub(super) enum OutputData {
    Bool(Vec<bool>),
    Int8(Vec<i8>),
    Uint8(Vec<u8>),
    Int32(Vec<i32>),
    Int64(Vec<i64>),
    Fp32(Vec<f32>),
    Fp64(Vec<f64>),
}

impl OutputData {
    /// Takes an engine value apart. `None`: the model answered with a sequence or another type than it declares.
    pub(super) fn from_value(declared: Datatype, value: &Value) -> Option<Self> {
        match (declared, value.as_view()) {
            (Datatype::Fp32, ValueView::FloatTensor(view)) => Some(Self::Fp32(view.to_vec())),
            (Datatype::Fp64, ValueView::FloatTensor(view)) => Some(Self::Fp64(mapped(&view, |e| f64::from(*e)))),
            (Datatype::Int64, ValueView::Int32Tensor(view)) => Some(Self::Int64(mapped(&view, |e| i64::from(*e)))),
            (Datatype::Bool, ValueView::Int32Tensor(view)) => Some(Self::Bool(mapped(&view, |e| *e != 0))),
            (Datatype::Int32, ValueView::Int32Tensor(view)) => Some(Self::Int32(view.to_vec())),
            (Datatype::Int8, ValueView::Int8Tensor(view)) => Some(Self::Int8(view.to_vec())),
            (Datatype::Uint8, ValueView::UInt8Tensor(view)) => Some(Self::Uint8(view.to_vec())),
            _ => None,
        }
    }

    /// The index of the first element that JSON has no word for (NaN, infinity).
    pub(super) fn first_non_finite(&self) -> Option<usize> {
        match self {
            Self::Fp32(elements) => elements.iter().position(|element| !element.is_finite()),
            Self::Fp64(elements) => elements.iter().position(|element| !element.is_finite()),
            _ => None,
        }
    }

    /// Appends the elements as little-endian bytes.
    pub(super) fn append_bytes(&self, bytes: &mut Vec<u8>) {
        match self {
            Self::Bool(elements) => bytes.extend(elements.iter().map(|element| u8::from(*element))),
            Self::Int8(elements) => bytes.extend(elements.iter().flat_map(|element| element.to_le_bytes())),
            Self::Uint8(elements) => bytes.extend_from_slice(elements),
            Self::Int32(elements) => bytes.extend(elements.iter().flat_map(|element| element.to_le_bytes())),
            Self::Int64(elements) => bytes.extend(elements.iter().flat_map(|element| element.to_le_bytes())),
            Self::Fp32(elements) => bytes.extend(elements.iter().flat_map(|element| element.to_le_bytes())),
            Self::Fp64(elements) => bytes.extend(elements.iter().flat_map(|element| element.to_le_bytes())),
        }
    }
}

fn mapped<T, U>(view: &TensorView<'_, T>, convert: impl Fn(&T) -> U) -> Vec<U> {
    view.iter().map(convert).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(sent: Datatype, declared: Datatype, shape: &[usize]) -> TensorHeader<'_> {
        TensorHeader { name: "x", sent, declared, shape }
    }

    #[test]
    fn an_int64_outside_of_32_bits_is_refused_rather_than_cut() {
        let header = header(Datatype::Int64, Datatype::Int64, &[1]);
        let error = header.value_from_numbers(Numbers::Whole(vec![1 << 31])).unwrap_err();
        assert_eq!(error.to_string(), "input 'x' holds 2147483648, out of range for INT64 in this engine");
        assert!(header.value_from_bytes(&(-1_i64 << 40).to_le_bytes()).is_err());
        assert!(header.value_from_numbers(Numbers::Whole(vec![i64::from(i32::MIN)])).is_ok());
    }

    #[test]
    fn fp64_is_narrowed_and_its_overflow_refused() {
        let header = header(Datatype::Fp64, Datatype::Fp32, &[1]);
        let value = header.value_from_numbers(Numbers::Real(vec![0.5])).unwrap();
        assert_eq!(OutputData::from_value(Datatype::Fp32, &value), Some(OutputData::Fp32(vec![0.5])));
        assert!(header.value_from_numbers(Numbers::Real(vec![1e39])).is_err());
    }

    #[test]
    fn fractions_are_no_integers_but_one_point_zero_is_one() {
        let header = header(Datatype::Int8, Datatype::Int32, &[1]);
        assert!(header.value_from_numbers(Numbers::Real(vec![1.0])).is_ok());
        assert!(header.value_from_numbers(Numbers::Real(vec![1.5])).is_err());
        assert!(header.value_from_numbers(Numbers::Whole(vec![128])).is_err());
    }

    #[test]
    fn data_must_fill_the_shape_exactly() {
        let header = header(Datatype::Fp32, Datatype::Fp32, &[2, 3]);
        let error = header.value_from_numbers(Numbers::Whole(vec![1; 5])).unwrap_err();
        assert_eq!(error.to_string(), "input 'x' has shape [2, 3], which is 6 elements, but its data holds 5");
        assert!(header.value_from_bytes(&[0; 23]).is_err());
        assert!(header.value_from_bytes(&[0; 24]).is_ok());
    }

    #[test]
    fn a_shape_beyond_the_address_space_is_an_error_and_no_overflow() {
        let shape = [usize::MAX, 2];
        assert!(header(Datatype::Fp32, Datatype::Fp32, &shape).value_from_numbers(Numbers::Whole(vec![])).is_err());
    }

    #[test]
    fn bytes_go_in_and_out_unchanged() {
        let bytes: Vec<u8> = [1.5_f32, f32::NAN, -0.0].iter().flat_map(|element| element.to_le_bytes()).collect();
        let value = header(Datatype::Fp32, Datatype::Fp32, &[3]).value_from_bytes(&bytes).unwrap();
        let data = OutputData::from_value(Datatype::Fp32, &value).unwrap();
        assert_eq!(data.first_non_finite(), Some(1));
        let mut back = Vec::new();
        data.append_bytes(&mut back);
        assert_eq!(back, bytes);
    }
}
