//! What `tidegate watch` shows: any payload on any topic, of either tree. The data is a topic, a line feed, a payload.

use tidegate::wire::{WireError, describe};

/// Shows it and nothing else.
pub fn decode(data: &[u8]) {
    if let Some((topic, payload)) = parts(data) {
        // What comes of it is `target`'s matter.
        let _ = describe(topic, payload);
    }
}

/// What is shown is JSON of one line; what is refused has a reason of one line.
pub fn target(data: &[u8]) {
    let Some((topic, payload)) = parts(data) else { return };
    let line = match describe(topic, payload) {
        Ok(value) => value.to_string(),
        Err(error) => error.to_string(),
    };
    assert!(!line.is_empty());
    // A terminal must not be at the mercy of who publishes.
    assert!(!line.contains(|c: char| c < ' '), "{line:?}");
    let is_ours = topic.starts_with("tidegate/v1/") || topic.starts_with("tidegate-json/v1/");
    assert!(is_ours || matches!(describe(topic, payload), Err(WireError::Topic(_))), "{topic:?} is none of ours");
}

fn parts(data: &[u8]) -> Option<(&str, &[u8])> {
    let line = data.iter().position(|byte| *byte == b'\n')?;
    // A topic is UTF-8 (MQTT 5, 1.5.4): a client library gives nothing else.
    Some((str::from_utf8(&data[..line]).ok()?, &data[line + 1..]))
}
