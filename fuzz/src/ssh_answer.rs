//! What the remote program of the ssh adapter answers, with whatever a login script said before it.

use cloud_adapters::ssh::decoder::read;

/// Reads it and nothing else.
pub fn decode(data: &[u8]) {
    drop(read(data));
}

/// An answer that is taken is whole: nothing shorter, cut at a line, is one; and what it tells is in order.
pub fn target(data: &[u8]) {
    let Some(told) = read(data) else { return };
    assert!(told.is_sorted_by(|one, next| one.launch <= next.launch), "not sorted");
    assert!(told.iter().all(|instance| instance.reach.is_none()), "how to reach it is this side's matter");
    let end = data.windows(4).rposition(|part| part == b"end=").expect("an answer that is whole has an end");
    let told_by_part = read(&data[..end]);
    assert!(told_by_part.is_none_or(|part| part == told), "an answer that broke off was taken for another");
}
