//! States as bytes, so that they outlive the process: numbers one after the other, little-endian, and nothing else.
//!
//! Who reads them must be of the version that wrote them; [`VERSION`] says which. What was written by another is not read.

use std::collections::VecDeque;
use std::time::Duration;

/// Changes with every state that is written.
pub const VERSION: u32 = 4;

/// What can be written and read again.
pub trait Archive: Sized {
    /// Writes it at the end.
    fn write(&self, to: &mut Vec<u8>);
    /// Takes it from the beginning; `None` where that cannot be it.
    fn read(from: &mut &[u8]) -> Option<Self>;
}

/// The bytes of a value, with the version.
pub fn to_bytes(value: &impl Archive) -> Vec<u8> {
    let mut bytes = Vec::new();
    VERSION.write(&mut bytes);
    value.write(&mut bytes);
    bytes
}

/// The value, where these are its bytes, whole and of this version.
pub fn from_bytes<T: Archive>(mut bytes: &[u8]) -> Option<T> {
    let from = &mut bytes;
    (u32::read(from)? == VERSION).then_some(())?;
    let value = T::read(from)?;
    from.is_empty().then_some(value)
}

/// Writes and reads a struct by its fields.
#[macro_export]
macro_rules! archived {
    ($type:ty { $($field:ident),+ $(,)? }) => {
        impl $crate::archive::Archive for $type {
            fn write(&self, to: &mut Vec<u8>) {
                $($crate::archive::Archive::write(&self.$field, to);)+
            }

            fn read(from: &mut &[u8]) -> Option<Self> {
                Some(Self { $($field: $crate::archive::Archive::read(from)?),+ })
            }
        }
    };
}
pub use archived;

/// Writes and reads an enum whose variants have a value each, by their numbers.
#[macro_export]
macro_rules! archived_variants {
    ($type:ty { $($number:literal => $variant:ident),+ $(,)? }) => {
        impl $crate::archive::Archive for $type {
            fn write(&self, to: &mut Vec<u8>) {
                match self {
                    $(Self::$variant(value) => {
                        $crate::archive::Archive::write(&($number as u8), to);
                        $crate::archive::Archive::write(value, to);
                    })+
                }
            }

            fn read(from: &mut &[u8]) -> Option<Self> {
                match <u8 as $crate::archive::Archive>::read(from)? {
                    $($number => $crate::archive::Archive::read(from).map(Self::$variant),)+
                    _ => None,
                }
            }
        }
    };
}
pub use archived_variants;

macro_rules! numbers {
    ($($type:ty),+) => {
        $(impl Archive for $type {
            fn write(&self, to: &mut Vec<u8>) {
                to.extend_from_slice(&self.to_le_bytes());
            }

            fn read(from: &mut &[u8]) -> Option<Self> {
                let (bytes, rest) = from.split_first_chunk()?;
                *from = rest;
                Some(Self::from_le_bytes(*bytes))
            }
        })+
    };
}

numbers!(u8, u32, u64, f32, f64);

impl Archive for usize {
    fn write(&self, to: &mut Vec<u8>) {
        (*self as u64).write(to);
    }

    fn read(from: &mut &[u8]) -> Option<Self> {
        Self::try_from(u64::read(from)?).ok()
    }
}

impl Archive for bool {
    fn write(&self, to: &mut Vec<u8>) {
        u8::from(*self).write(to);
    }

    fn read(from: &mut &[u8]) -> Option<Self> {
        match u8::read(from)? {
            0 => Some(false),
            1 => Some(true),
            _ => None,
        }
    }
}

impl Archive for Duration {
    fn write(&self, to: &mut Vec<u8>) {
        self.as_secs().write(to);
        self.subsec_nanos().write(to);
    }

    fn read(from: &mut &[u8]) -> Option<Self> {
        let (seconds, nanoseconds) = (u64::read(from)?, u32::read(from)?);
        (nanoseconds < 1_000_000_000).then(|| Self::new(seconds, nanoseconds))
    }
}

impl Archive for String {
    fn write(&self, to: &mut Vec<u8>) {
        self.len().write(to);
        to.extend_from_slice(self.as_bytes());
    }

    fn read(from: &mut &[u8]) -> Option<Self> {
        let length = usize::read(from)?;
        let (text, rest) = from.split_at_checked(length)?;
        *from = rest;
        Self::from_utf8(text.to_vec()).ok()
    }
}

impl<T: Archive> Archive for Option<T> {
    fn write(&self, to: &mut Vec<u8>) {
        self.is_some().write(to);
        self.iter().for_each(|value| value.write(to));
    }

    fn read(from: &mut &[u8]) -> Option<Self> {
        match bool::read(from)? {
            true => T::read(from).map(Some),
            false => Some(None),
        }
    }
}

impl<A: Archive, B: Archive> Archive for (A, B) {
    fn write(&self, to: &mut Vec<u8>) {
        self.0.write(to);
        self.1.write(to);
    }

    fn read(from: &mut &[u8]) -> Option<Self> {
        Some((A::read(from)?, B::read(from)?))
    }
}

impl<T: Archive, const N: usize> Archive for [T; N] {
    fn write(&self, to: &mut Vec<u8>) {
        self.iter().for_each(|value| value.write(to));
    }

    fn read(from: &mut &[u8]) -> Option<Self> {
        let values: Option<Vec<T>> = (0..N).map(|_| T::read(from)).collect();
        values?.try_into().ok()
    }
}

impl<T: Archive> Archive for Vec<T> {
    fn write(&self, to: &mut Vec<u8>) {
        self.len().write(to);
        self.iter().for_each(|value| value.write(to));
    }

    fn read(from: &mut &[u8]) -> Option<Self> {
        // Grows as it is read: a length that lies takes no memory.
        (0..usize::read(from)?).map(|_| T::read(from)).collect()
    }
}

impl<T: Archive> Archive for VecDeque<T> {
    fn write(&self, to: &mut Vec<u8>) {
        self.len().write(to);
        self.iter().for_each(|value| value.write(to));
    }

    fn read(from: &mut &[u8]) -> Option<Self> {
        Vec::read(from).map(Self::from)
    }
}

impl<T: Archive> Archive for Box<T> {
    fn write(&self, to: &mut Vec<u8>) {
        self.as_ref().write(to);
    }

    fn read(from: &mut &[u8]) -> Option<Self> {
        T::read(from).map(Self::new)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Clone, Debug, PartialEq)]
    struct Example {
        count: u32,
        at: Option<Duration>,
        loads: Vec<(f64, f32)>,
        grid: [[f32; 2]; 3],
        is_known: bool,
        name: String,
    }

    archived!(Example { count, at, loads, grid, is_known, name });

    fn example() -> Example {
        let (at, loads) = (Some(Duration::new(7, 999_999_999)), vec![(0.1, f32::MAX), (-0.0, f32::MIN_POSITIVE)]);
        let name = "née".to_owned();
        Example { count: u32::MAX, at, loads, grid: [[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]], is_known: true, name }
    }

    #[test]
    fn what_was_written_is_read_again_to_the_bit() {
        let bytes = to_bytes(&example());
        assert_eq!(from_bytes::<Example>(&bytes), Some(example()));
        assert_eq!(to_bytes(&from_bytes::<Example>(&bytes).unwrap()), bytes);
    }

    #[test]
    fn no_other_bytes_are_read() {
        let bytes = to_bytes(&example());
        for length in 0..bytes.len() {
            assert_eq!(from_bytes::<Example>(&bytes[..length]), None, "cut off at {length}");
        }
        assert_eq!(from_bytes::<Example>(&[&bytes[..], &[0]].concat()), None, "something follows");
        assert_eq!(
            from_bytes::<Example>(&[&(VERSION + 1).to_le_bytes(), &bytes[4..]].concat()),
            None,
            "another version"
        );
        let mut lying = VERSION.to_le_bytes().to_vec();
        u64::MAX.write(&mut lying);
        assert_eq!(from_bytes::<Vec<f64>>(&lying), None, "a length that lies");
        assert_eq!(from_bytes::<bool>(&[&VERSION.to_le_bytes()[..], &[2]].concat()), None);
    }
}
