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

impl Problem {
    /// Where the rest of the payload begins.
    fn at(payload: &[u8], rest: &[u8], what: &'static str) -> Self {
        Self { at: payload.len() - rest.len(), what }
    }
}

/// Checks that `payload` is exactly one item within the bounds.
///
/// This loop runs for every item of every message, and the program is built for size, so what a message mostly consists of
/// is read right here, without a call: small numbers, false, true, null and finite floats. It halves the pass over a load report.
pub(super) fn check(payload: &[u8]) -> Result<(), Problem> {
    let mut rest = payload;
    // Items left to read at the level that is being read, and at those around it. The payload is a level of one item.
    let (mut left, mut around, mut depth) = (1_usize, [0_usize; MAX_DEPTH], 0_usize);
    loop {
        while left > 0 {
            // A key, together with its value.
            if let [0x00..=0x17, after @ ..] = rest
                && left > 1
            {
                rest = after;
                left -= 1;
            }
            left -= 1;
            rest = match rest {
                [0x00..=0x17 | 0x20..=0x37 | 0xf4..=0xf6, after @ ..] => after,
                [0xfb, high, low, _, _, _, _, _, _, after @ ..] if (high & 0x7f, low & 0xf0) != (0x7f, 0xf0) => after,
                [0xf9, high, _, after @ ..] if high & 0x7c != 0x7c => after,
                _ => {
                    let (items, after) = item(rest).map_err(|what| Problem::at(payload, rest, what))?;
                    if items > 0 {
                        let outer = around.get_mut(depth).ok_or_else(|| Problem::at(payload, rest, TOO_DEEP))?;
                        *outer = left;
                        (left, depth) = (items, depth + 1);
                    }
                    after
                }
            };
        }
        if depth == 0 {
            break;
        }
        depth -= 1;
        left = around[depth];
    }
    if rest.is_empty() { Ok(()) } else { Err(Problem::at(payload, rest, TRAILING)) }
}

/// What an item leaves: how many items belong to it, and the bytes behind it (behind its head, if it has items).
type Read<'a> = Result<(usize, &'a [u8]), &'static str>;

/// Any item: its head, and all of it unless it is an array or a map. Out of line, so that the loop stays small.
#[inline(never)]
fn item(bytes: &[u8]) -> Read<'_> {
    let (&head, rest) = bytes.split_first().ok_or(TRUNCATED)?;
    let (major, info) = (head >> 5, head & 0x1f);
    let (argument, rest) = argument(info, rest)?;
    match major {
        0 | 1 => Ok((0, rest)),
        2 | 3 => skip(argument, rest),
        4 => nested(argument, 1, rest),
        5 => nested(argument, 2, rest),
        6 => Err(TAGGED),
        _ => simple_or_float(info, argument).map(|()| (0, rest)),
    }
}

/// The number in or after the head (RFC 8949, section 3), and the bytes behind it.
fn argument(info: u8, rest: &[u8]) -> Result<(u64, &[u8]), &'static str> {
    let found = match info {
        0..=23 => Some((u64::from(info), rest)),
        24 => rest.split_first().map(|(&byte, rest)| (u64::from(byte), rest)),
        25 => rest.split_first_chunk().map(|(bytes, rest)| (u64::from(u16::from_be_bytes(*bytes)), rest)),
        26 => rest.split_first_chunk().map(|(bytes, rest)| (u64::from(u32::from_be_bytes(*bytes)), rest)),
        27 => rest.split_first_chunk().map(|(bytes, rest)| (u64::from_be_bytes(*bytes), rest)),
        _ => return Err(INDEFINITE),
    };
    found.ok_or(TRUNCATED)
}

fn skip(length: u64, rest: &[u8]) -> Read<'_> {
    let behind = usize::try_from(length).ok().and_then(|length| rest.get(length..));
    behind.map(|behind| (0, behind)).ok_or(TOO_LONG)
}

/// An array (one item an entry) or a map (two). Each item takes a byte at least, so a count that cannot fit is a lie.
fn nested(count: u64, items_per_entry: u64, rest: &[u8]) -> Read<'_> {
    let items = count.checked_mul(items_per_entry).and_then(|items| usize::try_from(items).ok());
    items.filter(|&items| items <= rest.len()).map(|items| (items, rest)).ok_or(TOO_LONG)
}

/// Major type 7: a float is finite when not all bits of its exponent are set.
fn simple_or_float(info: u8, bits: u64) -> Result<(), &'static str> {
    let exponent: u64 = match info {
        20..=22 => return Ok(()),
        25 => 0x7c00,
        26 => 0x7f80_0000,
        27 => 0x7ff0_0000_0000_0000,
        _ => return Err(SIMPLE),
    };
    if bits & exponent == exponent { Err(NOT_FINITE) } else { Ok(()) }
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
        assert_eq!(what(&[0xf9, 0xfc, 0x00]), Some(NOT_FINITE));
        assert_eq!(what(&[0xfa, 0x7f, 0x80, 0x00, 0x00]), Some(NOT_FINITE));
        assert_eq!(what(&[0xfb, 0xff, 0xf0, 0, 0, 0, 0, 0, 0]), Some(NOT_FINITE));
        assert_eq!(what(&[0xfb, 0x7f, 0xf8, 0, 0, 0, 0, 0, 0]), Some(NOT_FINITE));
        assert_eq!(what(&[0xf9, 0x3c]), Some(TRUNCATED));
        assert_eq!(what(&[0xfb, 0x3f, 0xf0, 0, 0, 0, 0, 0]), Some(TRUNCATED));
    }

    #[test]
    fn every_half_and_the_edges_of_doubles_are_finite_or_named() {
        for bits in 0..=u16::MAX {
            let [high, low] = bits.to_be_bytes();
            let expected = (bits & 0x7c00 == 0x7c00).then_some(NOT_FINITE);
            assert_eq!(what(&[0xf9, high, low]), expected, "{bits:04x}");
        }
        for (number, expected) in [(f64::MAX, None), (f64::MIN, None), (f64::MIN_POSITIVE / 2.0, None)]
            .into_iter()
            .chain([f64::INFINITY, f64::NEG_INFINITY, f64::NAN, -f64::NAN].map(|number| (number, Some(NOT_FINITE))))
        {
            assert_eq!(what(&[&[0xfb][..], &number.to_be_bytes()].concat()), expected, "{number}");
        }
    }

    #[test]
    fn a_fault_is_found_where_its_item_begins() {
        let at = |payload: &[u8]| check(payload).err().map(|problem| problem.at);
        assert_eq!(at(&[0x83, 0x01, 0x61, b'a', 0xf7]), Some(4));
        assert_eq!(at(&[0x82, 0x01, 0x62, b'a']), Some(2));
        assert_eq!(at(&[0x82, 0x81, 0x01, 0x02, 0x03]), Some(4));
        assert_eq!(at(&[0x81, 0x19, 0x01]), Some(1));
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
