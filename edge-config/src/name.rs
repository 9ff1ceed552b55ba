//! Names that are safe everywhere they appear: MQTT topics, URLs, labels of providers, file names, metrics.

use std::borrow::Borrow;
use std::fmt;

/// Longest name, in bytes; a fleet, a node and an instance together still fit a 255-byte label or file name.
pub const NAME_BYTES_MAX: usize = 40;

/// In the place of a node where every one is meant.
const EVERY_NODE: &str = "all";

/// Why a text is no name; reads on after "must be".
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("must be {allowed}")]
pub struct NameError {
    allowed: &'static str,
}

macro_rules! name {
    ($(#[$doc:meta])* $name:ident, $allowed:literal, $is_allowed:path) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(String);

        impl $name {
            /// Takes `text` as a name, or says what a name may look like.
            pub fn new(text: impl Into<String>) -> Result<Self, NameError> {
                let text = text.into();
                if $is_allowed(&text) { Ok(Self(text)) } else { Err(NameError { allowed: $allowed }) }
            }

            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }

        /// So that a map by name is searched by plain text; equality, order and hash are those of the text.
        impl Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl std::str::FromStr for $name {
            type Err = NameError;

            fn from_str(text: &str) -> Result<Self, NameError> {
                Self::new(text)
            }
        }

        impl TryFrom<String> for $name {
            type Error = NameError;

            fn try_from(text: String) -> Result<Self, NameError> {
                Self::new(text)
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> Self {
                name.0
            }
        }
    };
}

name!(
    /// One node's name within its fleet: `[a-z0-9-]{1,40}`, but for `all`.
    NodeId,
    "1 to 40 of a-z, 0-9 and -, and not \"all\" (every node)",
    is_node
);
name!(
    /// The name of a fleet: `[a-z0-9-]{1,40}`.
    FleetId,
    "1 to 40 of a-z, 0-9 and -",
    is_plain
);
name!(
    /// The name of an adapter: `[a-z0-9-]{1,40}`.
    AdapterName,
    "1 to 40 of a-z, 0-9 and -",
    is_plain
);
name!(
    /// The name of a service: `[a-z0-9._-]{1,40}`, first and last a letter or digit.
    ///
    /// Wider than the others, because clients ask for a model by the name that it already has (`resnet50_v2.1`).
    ServiceName,
    "1 to 40 of a-z, 0-9, `-`, `_` and `.`, with a letter or digit first and last",
    is_service
);

fn is_plain(text: &str) -> bool {
    (1..=NAME_BYTES_MAX).contains(&text.len()) && text.bytes().all(|byte| is_letter_or_digit(byte) || byte == b'-')
}

/// `all` is asked for every node.
fn is_node(text: &str) -> bool {
    is_plain(text) && text != EVERY_NODE
}

fn is_service(text: &str) -> bool {
    let ends = [text.as_bytes().first(), text.as_bytes().last()];
    text.len() <= NAME_BYTES_MAX
        && ends.into_iter().all(|end| end.copied().is_some_and(is_letter_or_digit))
        && text.bytes().all(|byte| is_letter_or_digit(byte) || b"-_.".contains(&byte))
}

fn is_letter_or_digit(byte: u8) -> bool {
    byte.is_ascii_lowercase() || byte.is_ascii_digit()
}

impl NodeId {
    /// The name for a box called `host_name`: its first label in lower case, other letters as `-`.
    pub(crate) fn of_host(host_name: &str) -> Self {
        let label = host_name.split('.').next().unwrap_or_default();
        // A box without a usable name is still a node; the operator sees "node" and gives it a better one.
        Self::new(fit(label, b"-")).unwrap_or_else(|_| Self("node".to_owned()))
    }
}

impl ServiceName {
    /// The name for a model in a file of this stem; `None` when no letter or digit is left.
    pub(crate) fn of_stem(stem: &str) -> Option<Self> {
        Self::new(fit(stem, b"-_.")).ok()
    }
}

/// `text` in lower case, what is not allowed as `-`, cut to length, with a letter or digit at both ends.
fn fit(text: &str, also_allowed: &[u8]) -> String {
    let allowed = |c: char| c.is_ascii_alphanumeric() || (c.is_ascii() && also_allowed.contains(&(c as u8)));
    let fitted: String = text.chars().map(|c| if allowed(c) { c.to_ascii_lowercase() } else { '-' }).collect();
    let fitted = fitted.trim_start_matches(['-', '_', '.']);
    let cut = &fitted[..fitted.len().min(NAME_BYTES_MAX)];
    cut.trim_end_matches(['-', '_', '.']).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_would_break_a_topic_or_a_label_are_refused() {
        for bad in ["", "Plant", "a/b", "a#", "a b", "ü", "a.b", "a_b", &"x".repeat(41)] {
            assert!(NodeId::new(bad).is_err(), "{bad:?}");
        }
        assert!(NodeId::new("x".repeat(40)).is_ok());
        assert!(NodeId::new("all").unwrap_err().to_string().contains("every node"));
        assert!(NodeId::new("all-1").is_ok() && FleetId::new("all").is_ok());
        for bad in ["", "-a", "a.", ".", "A", "a+b", "a/b", &"x".repeat(41)] {
            assert!(ServiceName::new(bad).is_err(), "{bad:?}");
        }
        assert!(ServiceName::new("resnet50_v2.1").is_ok());
    }

    #[test]
    fn a_host_name_becomes_a_node_id() {
        assert_eq!(NodeId::of_host("Gateway_7.plant.example").as_str(), "gateway-7");
        assert_eq!(NodeId::of_host("été").as_str(), "t");
        assert_eq!(NodeId::of_host("...").as_str(), "node");
        assert_eq!(NodeId::of_host("All.example").as_str(), "node");
        assert_eq!(NodeId::of_host(&"a".repeat(60)).as_str().len(), NAME_BYTES_MAX);
    }

    #[test]
    fn a_file_stem_becomes_a_service_name() {
        assert_eq!(ServiceName::of_stem("My Model.v2").unwrap().as_str(), "my-model.v2");
        assert_eq!(ServiceName::of_stem("resnet_50").unwrap().as_str(), "resnet_50");
        assert_eq!(ServiceName::of_stem("…"), None);
        assert_eq!(ServiceName::of_stem(&format!("{}.b", "a".repeat(39))).unwrap().as_str(), "a".repeat(39));
    }
}
