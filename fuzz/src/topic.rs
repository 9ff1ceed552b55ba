//! The topic tree: what is taken apart can be put together again, and suits every broker that the tree is made for.

use std::time::Duration;

use tidegate::wire::Root;

/// AWS IoT Core takes topics of so many bytes.
const MAX_TOPIC_BYTES: usize = 256;

/// And of so many slashes.
const MAX_SLASHES: usize = 7;

/// Takes it apart and nothing else.
pub fn decode(data: &[u8]) {
    if let Ok(text) = str::from_utf8(data) {
        let _ = Root::parse(text);
    }
}

/// What is taken apart is the topic that was given, without a wildcard or a control character.
pub fn target(data: &[u8]) {
    let Ok(text) = str::from_utf8(data) else { return };
    let (root, topic) = match Root::parse(text) {
        Ok(parsed) => parsed,
        Err(error) => return assert!(!error.to_string().contains(|c: char| c.is_control()), "{error}"),
    };
    assert_eq!(root.topic(&topic), text);
    assert!(text.starts_with(&format!("{root}/")), "{root} is not the root of {text}");
    assert!(!text.contains(|c: char| matches!(c, '+' | '#') || c.is_control()), "{text:?}");
    assert!(text.len() <= MAX_TOPIC_BYTES && text.matches('/').count() <= MAX_SLASHES, "{text:?}");
    assert!(topic.owner().is_none_or(|node| text.contains(node.as_str()) && !node.as_str().is_empty()));
    let delivery = topic.delivery(Duration::from_secs(30));
    assert!(delivery.retained || delivery.expiry_s().is_none(), "only what is retained expires");
}
