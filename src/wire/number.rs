//! A number in what others publish or answer: JSON with a pointer to it (RFC 6901), or the number alone.

use std::fmt;

/// Why there is none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NoNumber {
    /// Neither a number nor JSON.
    NotReadable,
    /// Nothing stands where the pointer points.
    NotThere {
        /// The pointer.
        pointer: String,
    },
    /// Something else stands there.
    NotANumber {
        /// What, in short.
        found: String,
    },
}

impl fmt::Display for NoNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotReadable => f.write_str("it is neither a number nor JSON"),
            Self::NotThere { pointer } => write!(f, "nothing stands at the pointer {pointer:?}"),
            Self::NotANumber { found } => write!(f, "{found} is not a number"),
        }
    }
}

impl std::error::Error for NoNumber {}

/// Characters of what was found that are told.
const TOLD: usize = 40;

/// The number at `pointer`; an empty pointer means the whole. Text that is a number counts as one, since many publish so.
pub fn number_at(payload: &[u8], pointer: &str) -> Result<f64, NoNumber> {
    let value: serde_json::Value = serde_json::from_slice(payload).map_err(|_| NoNumber::NotReadable)?;
    let found = value.pointer(pointer).ok_or_else(|| NoNumber::NotThere { pointer: pointer.to_owned() })?;
    let number = match found {
        serde_json::Value::String(text) => text.trim().parse().ok(),
        other => other.as_f64(),
    };
    number.filter(|number: &f64| number.is_finite()).ok_or_else(|| {
        let found = found.to_string();
        let short: String = found.chars().take(TOLD).collect();
        NoNumber::NotANumber { found: if short.len() < found.len() { format!("{short}…") } else { short } }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_stands_alone_or_where_the_pointer_points() {
        assert_eq!(number_at(b"42", ""), Ok(42.0));
        assert_eq!(number_at(b" 4.5e1\n", ""), Ok(45.0));
        assert_eq!(number_at(br#"{"depth": 12}"#, "/depth"), Ok(12.0));
        assert_eq!(number_at(br#"{"queues": [{"a/b": "7.5"}]}"#, "/queues/0/a~1b"), Ok(7.5));
    }

    #[test]
    fn what_is_no_number_is_told_as_what_it_is() {
        let why = |payload: &[u8], pointer: &str| number_at(payload, pointer).unwrap_err().to_string();
        assert_eq!(why(b"", ""), "it is neither a number nor JSON");
        assert_eq!(why(b"\xff\xfe", "/a"), "it is neither a number nor JSON");
        assert_eq!(why(br#"{"depth": 1}"#, "/dept"), "nothing stands at the pointer \"/dept\"");
        assert_eq!(why(br#"{"depth": null}"#, "/depth"), "null is not a number");
        assert_eq!(why(br#"{"depth": "many"}"#, "/depth"), "\"many\" is not a number");
        assert_eq!(why(br#"{"depth": "NaN"}"#, "/depth"), "\"NaN\" is not a number");
        assert!(why(format!("[{}1]", "1,".repeat(500)).as_bytes(), "").ends_with("… is not a number"));
    }
}
