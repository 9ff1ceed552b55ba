//! The `data` of a JSON tensor: flat or nested arrays of numbers or booleans, read in row-major order into one vector.
//!
//! A vector of eight-byte numbers instead of a tree of JSON values: a body at the limit would take ten times its size.

use serde::de::{Deserialize, DeserializeSeed, Deserializer, Error, SeqAccess, Visitor};

/// The elements of one tensor as JSON carried them.
#[derive(Debug, PartialEq)]
pub(super) enum Numbers {
    /// Whole numbers only.
    Whole(Vec<i64>),
    /// At least one number had a fraction or an exponent.
    Real(Vec<f64>),
    /// Booleans only.
    Boolean(Vec<bool>),
}

impl Numbers {
    /// How many elements there are.
    pub(super) fn len(&self) -> usize {
        match self {
            Self::Whole(elements) => elements.len(),
            Self::Real(elements) => elements.len(),
            Self::Boolean(elements) => elements.len(),
        }
    }

    fn push_whole(&mut self, element: i64) -> Result<(), &'static str> {
        match self {
            Self::Whole(elements) => elements.push(element),
            Self::Real(elements) => elements.push(real(element)),
            Self::Boolean(_) => return Err(MIXED),
        }
        Ok(())
    }

    fn push_real(&mut self, element: f64) -> Result<(), &'static str> {
        if let Self::Whole(elements) = self {
            *self = Self::Real(elements.iter().map(|whole| real(*whole)).collect());
        }
        match self {
            Self::Real(elements) => elements.push(element),
            Self::Whole(_) | Self::Boolean(_) => return Err(MIXED),
        }
        Ok(())
    }

    fn push_boolean(&mut self, element: bool) -> Result<(), &'static str> {
        if self.len() == 0 {
            *self = Self::Boolean(Vec::new());
        }
        match self {
            Self::Boolean(elements) => elements.push(element),
            Self::Whole(_) | Self::Real(_) => return Err(MIXED),
        }
        Ok(())
    }
}

const MIXED: &str = "numbers and booleans are mixed in one tensor";

#[expect(clippy::cast_precision_loss, reason = "the caller mixed whole and real numbers: they become real ones")]
fn real(whole: i64) -> f64 {
    whole as f64
}

impl<'de> Deserialize<'de> for Numbers {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut numbers = Self::Whole(Vec::new());
        deserializer.deserialize_seq(Flatten(&mut numbers))?;
        Ok(numbers)
    }
}

/// Appends whatever it meets to the vector; arrays within arrays are walked by another of its kind.
struct Flatten<'a>(&'a mut Numbers);

impl<'de> DeserializeSeed<'de> for Flatten<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Flatten<'_> {
    type Value = ();

    fn expecting(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("numbers or booleans in flat or nested arrays")
    }

    fn visit_i64<E: Error>(self, element: i64) -> Result<(), E> {
        self.0.push_whole(element).map_err(E::custom)
    }

    fn visit_u64<E: Error>(self, element: u64) -> Result<(), E> {
        let whole = i64::try_from(element).map_err(|_| E::custom(format!("{element} is out of range")))?;
        self.visit_i64(whole)
    }

    fn visit_f64<E: Error>(self, element: f64) -> Result<(), E> {
        self.0.push_real(element).map_err(E::custom)
    }

    fn visit_bool<E: Error>(self, element: bool) -> Result<(), E> {
        self.0.push_boolean(element).map_err(E::custom)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<(), A::Error> {
        while elements.next_element_seed(Flatten(self.0))?.is_some() {}
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(json: &str) -> Result<Numbers, String> {
        serde_json::from_str(json).map_err(|error| error.to_string())
    }

    #[test]
    fn nested_arrays_are_read_in_row_major_order() {
        assert_eq!(read("[[1,2],[3,4]]"), Ok(Numbers::Whole(vec![1, 2, 3, 4])));
        assert_eq!(read("[[1,2],[3.5,4]]"), Ok(Numbers::Real(vec![1.0, 2.0, 3.5, 4.0])));
        assert_eq!(read("[true,[false]]"), Ok(Numbers::Boolean(vec![true, false])));
        assert_eq!(read("[]"), Ok(Numbers::Whole(vec![])));
    }

    #[test]
    fn what_is_not_a_number_is_refused_with_the_place_where_it_stands() {
        for json in ["[1,null]", "[\"1\"]", "[{}]", "[1,true]", "[true,1]", "[18446744073709551615]", "7"] {
            let message = read(json).expect_err(json);
            assert!(message.contains("line 1 column"), "{json}: {message}");
        }
    }
}
