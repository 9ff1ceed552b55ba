//! Enums on the wire: a number in CBOR, a word in JSON, both written down once. By hand rather than derived, because
//! the derived form takes a variant's position for its number and wants the catch-all last, where every new variant
//! would move it.

/// Writes an enum with a number and a word for each variant. `Other` is number 0 and the word `other`; it stands for
/// whatever a newer version says. A number is never used again for something else.
macro_rules! numbered_enum {
    (
        $(#[doc = $doc:literal])+
        $vis:vis enum $name:ident {
            $($(#[doc = $variant_doc:literal])+ $variant:ident = $number:literal $word:literal,)+
        }
    ) => {
        $(#[doc = $doc])+
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
        $vis enum $name {
            /// Not known to this version.
            #[default]
            Other = 0,
            $($(#[doc = $variant_doc])+ $variant = $number,)+
        }

        impl $name {
            /// Every variant that this version knows, in the order of their numbers.
            pub const ALL: &[Self] = &[$(Self::$variant,)+];

            /// The word in JSON.
            pub fn as_str(self) -> &'static str {
                match self {
                    Self::Other => "other",
                    $(Self::$variant => $word,)+
                }
            }

            /// The variant of a word; one of a newer version is `Other`.
            pub fn from_word(word: &str) -> Self {
                match word {
                    $($word => Self::$variant,)+
                    _ => Self::Other,
                }
            }

            /// The number in CBOR.
            pub fn number(self) -> u32 {
                self as u32
            }

            /// The variant of a number; one of a newer version is `Other`.
            pub fn from_number(number: u64) -> Self {
                match number {
                    $($number => Self::$variant,)+
                    _ => Self::Other,
                }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.as_str())
            }
        }

        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                if serializer.is_human_readable() {
                    serializer.serialize_str(self.as_str())
                } else {
                    serializer.serialize_u32(self.number())
                }
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                if deserializer.is_human_readable() {
                    String::deserialize(deserializer).map(|word| Self::from_word(&word))
                } else {
                    u64::deserialize(deserializer).map(Self::from_number)
                }
            }
        }
    };
}

pub(super) use numbered_enum;

#[cfg(test)]
#[allow(unreachable_pub, reason = "the macro makes what it makes public")]
mod tests {
    numbered_enum! {
        /// Sea state.
        pub enum Tide {
            /// Rising.
            Flood = 1 "flood",
            /// Falling. Number 2 was slack water, which nobody could measure.
            Ebb = 3 "ebb",
        }
    }

    #[test]
    fn numbers_and_words_lead_back_to_their_variant() {
        for &tide in Tide::ALL {
            assert_eq!(Tide::from_word(tide.as_str()), tide);
            assert_eq!(Tide::from_number(u64::from(tide.number())), tide);
        }
    }

    #[test]
    fn what_a_newer_version_says_is_other() {
        assert_eq!(Tide::from_number(2), Tide::Other);
        assert_eq!(Tide::from_number(u64::MAX), Tide::Other);
        assert_eq!(Tide::from_word("neap"), Tide::Other);
        assert_eq!(serde_cbor::from_slice::<Tide>(&[0x19, 0x01, 0x00]).unwrap(), Tide::Other);
        assert_eq!(serde_json::from_str::<Tide>("\"neap\"").unwrap(), Tide::Other);
    }

    #[test]
    fn cbor_has_the_number_and_json_the_word() {
        assert_eq!(serde_cbor::to_vec(&Tide::Ebb).unwrap(), [0x03]);
        assert_eq!(serde_json::to_string(&Tide::Ebb).unwrap(), "\"ebb\"");
        assert_eq!(serde_cbor::from_slice::<Tide>(&[0x03]).unwrap(), Tide::Ebb);
        assert!(serde_cbor::from_slice::<Tide>(&[0x63, b'e', b'b', b'b']).is_err());
        assert!(serde_json::from_str::<Tide>("3").is_err());
    }
}
