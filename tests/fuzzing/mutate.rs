//! Seeded damage to an input: what a broken link, a broken program or a hand with intent does to bytes.

use ciborium::Value;
use fastrand::Rng;

/// Changes that are laid over each other, at most.
const MOST_CHANGES: usize = 3;

/// A mutation is not longer than a payload may be, by some: what is above is refused for its size alone.
const MOST_BYTES: usize = 70_000;

type Change = fn(&mut Rng, &mut Vec<u8>, &[u8]);

const CHANGES: &[Change] =
    &[flip_a_bit, set_a_byte, truncate, splice, inflate_a_length, repeat_a_slice, remove_a_slice, double_a_key, append];

/// A changed copy of `data`; some changes take a part of `other`.
pub(super) fn mutated(random: &mut Rng, data: &[u8], other: &[u8]) -> Vec<u8> {
    let mut mutated = data.to_vec();
    for _ in 0..random.usize(1..=MOST_CHANGES) {
        let change = CHANGES[random.usize(..CHANGES.len())];
        change(random, &mut mutated, other);
    }
    mutated.truncate(MOST_BYTES);
    mutated
}

#[expect(clippy::ptr_arg, reason = "every change has this signature")]
fn flip_a_bit(random: &mut Rng, data: &mut Vec<u8>, _: &[u8]) {
    if !data.is_empty() {
        let at = random.usize(..data.len());
        data[at] ^= 1 << random.u8(..8);
    }
}

/// A byte that means something in CBOR, JSON or a topic, or any.
#[expect(clippy::ptr_arg, reason = "every change has this signature")]
fn set_a_byte(random: &mut Rng, data: &mut Vec<u8>, _: &[u8]) {
    const TELLING: &[u8] = b"\x00\x1f\x7f\x80\x9f\xa0\xbf\xc0\xf6\xf7\xfb\xff{}[]\",:\\/+#.-e0\n";
    if !data.is_empty() {
        let at = random.usize(..data.len());
        data[at] = if random.bool() { TELLING[random.usize(..TELLING.len())] } else { random.u8(..) };
    }
}

fn truncate(random: &mut Rng, data: &mut Vec<u8>, _: &[u8]) {
    data.truncate(random.usize(..=data.len()));
}

/// The beginning of one and the end of another.
fn splice(random: &mut Rng, data: &mut Vec<u8>, other: &[u8]) {
    data.truncate(random.usize(..=data.len()));
    data.extend_from_slice(&other[random.usize(..=other.len())..]);
}

/// Makes the head at some byte one with a large argument, of any width.
fn inflate_a_length(random: &mut Rng, data: &mut Vec<u8>, _: &[u8]) {
    if data.is_empty() {
        return;
    }
    let at = random.usize(..data.len());
    let (info, width) = [(0x18, 1), (0x19, 2), (0x1a, 4), (0x1b, 8)][random.usize(..4)];
    let fill = [0xff, 0x7f, 0x80, 0x01][random.usize(..4)];
    let head = std::iter::once(data[at] & 0xe0 | info).chain(std::iter::repeat_n(fill, width));
    data.splice(at..=at, head);
}

fn slice(random: &mut Rng, data: &[u8]) -> std::ops::Range<usize> {
    let start = random.usize(..=data.len());
    start..random.usize(start..=data.len().min(start + 64))
}

fn repeat_a_slice(random: &mut Rng, data: &mut Vec<u8>, _: &[u8]) {
    let slice = slice(random, data);
    let again = data[slice.clone()].repeat(random.usize(1..=16));
    data.splice(slice.end..slice.end, again);
}

fn remove_a_slice(random: &mut Rng, data: &mut Vec<u8>, _: &[u8]) {
    let slice = slice(random, data);
    data.drain(slice);
}

fn append(random: &mut Rng, data: &mut Vec<u8>, _: &[u8]) {
    let count = random.usize(1..=9);
    data.extend(std::iter::repeat_with(|| random.u8(..)).take(count));
}

/// Writes a key of a map a second time: the top one of CBOR, or the members of a JSON text.
fn double_a_key(random: &mut Rng, data: &mut Vec<u8>, _: &[u8]) {
    match ciborium::from_reader::<Value, _>(&data[..]) {
        Ok(Value::Map(mut entries)) if !entries.is_empty() => {
            let again = entries[random.usize(..entries.len())].clone();
            entries.insert(random.usize(..=entries.len()), again);
            data.clear();
            ciborium::into_writer(&Value::Map(entries), data).expect("memory takes all");
        }
        _ => double_a_member(random, data),
    }
}

fn double_a_member(random: &mut Rng, data: &mut Vec<u8>) {
    let commas: Vec<usize> = (0..data.len()).filter(|at| data[*at] == b',').collect();
    if commas.len() >= 2 {
        let first = random.usize(..commas.len() - 1);
        let member = data[commas[first]..commas[first + 1]].to_vec();
        data.splice(commas[first]..commas[first], member);
    }
}
