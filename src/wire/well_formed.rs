//! Looks a CBOR payload over before the decoder sees it: one item, complete, shallow, no length that the payload cannot
//! hold, no number that is not finite. The decoder is no longer maintained, and what comes from a broker may come from
//! anyone; this pass neither recurses nor allocates, so its bounds are easy to see.
//!
//! Stricter than RFC 8949 on purpose: indefinite lengths, tags and simple values other than false, true and null are
//! not part of the format that `docs/wire.cddl` describes.

/// Messages nest four deep; the rest is room for fields to come.
const MAX_DEPTH: usize = 16;

const TRUNCATED: &str = "the payload ends within an item";
const TOO_LONG: &str = "a length points beyond the payload";
const TOO_DEEP: &str = "nested deeper than 16 levels";
const TRAILING: &str = "bytes follow the message";
const INDEFINITE: &str = "indefinite and reserved lengths are not part of the format";
const TAGGED: &str = "tags are not part of the format";
const SIMPLE: &str = "this simple value is not part of the format";
const NOT_FINITE: &str = "a number is not finite";

/// What is wrong, and at which byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Problem {
    pub(super) at: usize,
    pub(super) what: &'static str,
}

/// Checks that `payload` is exactly one item within the bounds.
pub(super) fn check(payload: &[u8]) -> Result<(), Problem> {
    let mut reader = Reader { payload, at: 0 };
    // Items left to read at each level that is open; the payload itself is a level of one item.
    let mut left = [0_u64; MAX_DEPTH + 1];
    let mut depth = 0;
    left[0] = 1;
    loop {
        while left[depth] == 0 {
            if depth == 0 {
                return reader.end();
            }
            depth -= 1;
        }
        left[depth] -= 1;
        let start = reader.at;
        let items = reader.item()?;
        if items > 0 {
            depth += 1;
            *left.get_mut(depth).ok_or(Problem { at: start, what: TOO_DEEP })? = items;
        }
    }
}

struct Reader<'a> {
    payload: &'a [u8],
    at: usize,
}

impl Reader<'_> {
    /// Reads an item's head, and all of it unless it is an array or a map; the number of items that belong to it.
    fn item(&mut self) -> Result<u64, Problem> {
        let start = self.at;
        let head = self.take(1)?[0];
        let (major, info) = (head >> 5, head & 0x1f);
        let argument = self.argument(info).map_err(|what| Problem { at: start, what })?;
        let outcome = match major {
            0 | 1 => Ok(0),
            2 | 3 => self.skip(argument),
            4 => self.nested(argument, 1),
            5 => self.nested(argument, 2),
            6 => Err(TAGGED),
            _ => simple_or_float(info, argument),
        };
        outcome.map_err(|what| Problem { at: start, what })
    }

    /// The number in or after the head (RFC 8949, section 3).
    fn argument(&mut self, info: u8) -> Result<u64, &'static str> {
        let width = match info {
            0..=23 => return Ok(u64::from(info)),
            24..=27 => 1_usize << (info - 24),
            _ => return Err(INDEFINITE),
        };
        let bytes = self.take(width).map_err(|problem| problem.what)?;
        Ok(bytes.iter().fold(0, |number, &byte| number << 8 | u64::from(byte)))
    }

    fn skip(&mut self, length: u64) -> Result<u64, &'static str> {
        let length = usize::try_from(length).ok().filter(|&length| length <= self.remaining()).ok_or(TOO_LONG)?;
        self.at += length;
        Ok(0)
    }

    /// An array (one item an entry) or a map (two). Each item takes a byte at least, so a count that cannot fit is a
    /// lie.
    fn nested(&self, count: u64, items_per_entry: u64) -> Result<u64, &'static str> {
        let items = count.checked_mul(items_per_entry).ok_or(TOO_LONG)?;
        if usize::try_from(items).is_ok_and(|items| items <= self.remaining()) { Ok(items) } else { Err(TOO_LONG) }
    }

    fn take(&mut self, length: usize) -> Result<&[u8], Problem> {
        let problem = Problem { at: self.at, what: TRUNCATED };
        let bytes = self.payload.get(self.at..self.at + length).ok_or(problem)?;
        self.at += length;
        Ok(bytes)
    }

    fn remaining(&self) -> usize {
        self.payload.len() - self.at
    }

    fn end(&self) -> Result<(), Problem> {
        if self.remaining() == 0 { Ok(()) } else { Err(Problem { at: self.at, what: TRAILING }) }
    }
}

/// Major type 7: a float is finite when not all bits of its exponent are set.
fn simple_or_float(info: u8, bits: u64) -> Result<u64, &'static str> {
    let exponent: u64 = match info {
        20..=22 => return Ok(0),
        25 => 0x7c00,
        26 => 0x7f80_0000,
        27 => 0x7ff0_0000_0000_0000,
        _ => return Err(SIMPLE),
    };
    if bits & exponent == exponent { Err(NOT_FINITE) } else { Ok(0) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn what(payload: &[u8]) -> Option<&'static str> {
        check(payload).err().map(|problem| problem.what)
    }

    #[test]
    fn whole_items_pass() {
        for payload in [&[0x00][..], &[0x38, 0xff], &[0x62, b'o', b'k'], &[0x80], &[0xa0], &[0xf6], &[0xf9, 0x3c, 0x00]]
        {
            assert_eq!(check(payload), Ok(()), "{payload:02x?}");
        }
        assert_eq!(check(&[0x82, 0xa1, 0x00, 0x81, 0x01, 0x02]), Ok(()));
    }

    #[test]
    fn each_fault_is_named() {
        assert_eq!(what(&[]), Some(TRUNCATED));
        assert_eq!(what(&[0x19, 0x01]), Some(TRUNCATED));
        assert_eq!(what(&[0x82, 0x01]), Some(TOO_LONG));
        assert_eq!(what(&[0x82, 0x61, b'a']), Some(TRUNCATED));
        assert_eq!(what(&[0x62, b'o']), Some(TOO_LONG));
        assert_eq!(what(&[0x01, 0x02]), Some(TRAILING));
        assert_eq!(what(&[0x9f, 0xff]), Some(INDEFINITE));
        assert_eq!(what(&[0xc0, 0x00]), Some(TAGGED));
        assert_eq!(what(&[0xf7]), Some(SIMPLE));
        assert_eq!(what(&[0xf8, 0xff]), Some(SIMPLE));
        assert_eq!(what(&[0xf9, 0x7e, 0x00]), Some(NOT_FINITE));
        assert_eq!(what(&[0xfa, 0x7f, 0x80, 0x00, 0x00]), Some(NOT_FINITE));
        assert_eq!(what(&[0xfb, 0xff, 0xf0, 0, 0, 0, 0, 0, 0]), Some(NOT_FINITE));
    }

    #[test]
    fn a_length_that_overflows_is_refused() {
        for head in [0x5b, 0x7b, 0x9b, 0xbb] {
            let mut payload = [0xff; 32];
            payload[0] = head;
            assert_eq!(what(&payload), Some(TOO_LONG), "{head:02x}");
        }
    }

    #[test]
    fn depth_is_bounded_exactly() {
        let nested = |levels| [vec![0x81; levels], vec![0x00]].concat();
        assert_eq!(check(&nested(MAX_DEPTH)), Ok(()));
        assert_eq!(check(&nested(MAX_DEPTH + 1)), Err(Problem { at: MAX_DEPTH, what: TOO_DEEP }));
    }
}
