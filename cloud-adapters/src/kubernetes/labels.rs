//! Whose an object is: labels to find it by, annotations to know it by, and the names of an instance's objects.
//!
//! A label's value is at most 63 letters, digits, `-`, `_` and `.`, with a letter or digit at both ends. What does not
//! fit is labelled by its hash; annotations keep what was meant, and decide.

use serde_json::{Value, json};

use crate::{LaunchId, LaunchRequest, Owner};

/// The launch that an object belongs to.
pub const LAUNCH: &str = "tidegate.dev/launch";
const FLEET: &str = "tidegate.dev/fleet";
const NODE: &str = "tidegate.dev/node";
const SESSION: &str = "tidegate.dev/session";
const SERVICE: &str = "tidegate.dev/service";

/// The longest value of a label, and the longest name of a Service (RFC 1035).
pub const LABEL_MAX_CHARS: usize = 63;

/// What an object's labels and annotations say of the instance that it belongs to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// The launch.
    pub launch: LaunchId,
    /// Whose it is.
    pub owner: Owner,
    /// The service that it runs.
    pub service: String,
}

/// The labels of every object of an instance.
pub fn labels(request: &LaunchRequest) -> Value {
    let Owner { fleet, node, session } = &request.owner;
    json!({
        FLEET: value(fleet),
        NODE: value(node),
        SESSION: session.to_string(),
        LAUNCH: request.launch.as_str(),
        SERVICE: value(&request.service),
    })
}

/// The annotations of every object of an instance.
pub fn annotations(request: &LaunchRequest) -> Value {
    json!({ FLEET: request.owner.fleet, NODE: request.owner.node, SERVICE: request.service })
}

/// Finds what belongs to a node, and to another whose id has the same hash.
pub fn of_node(owner: &Owner) -> String {
    format!("{FLEET}={},{NODE}={}", value(&owner.fleet), value(&owner.node))
}

/// Finds what belongs to one launch.
pub fn of_launch(launch: &LaunchId) -> String {
    format!("{LAUNCH}={launch}")
}

/// The name of an instance's Secret.
pub fn secret_name(launch: &LaunchId) -> String {
    format!("tidegate-{launch}")
}

/// The name of an instance's Service and Ingress. It must begin with a letter, which a launch id need not.
pub fn service_name(launch: &LaunchId) -> String {
    format!("t-{launch}")
}

/// Whose an object is; `None` where it is none of ours.
///
/// # Errors
/// What is wrong with an object that carries our label and cannot be read.
pub fn identity(object: &Value) -> Result<Option<Identity>, String> {
    let label = |key: &str| object["metadata"]["labels"][key].as_str();
    let Some(launch) = label(LAUNCH) else { return Ok(None) };
    let annotation = |key: &str| match object["metadata"]["annotations"][key].as_str() {
        Some(text) => Ok(text.to_owned()),
        None => Err(format!("it is labelled as launch {launch} and lacks the annotation {key}")),
    };
    let session = label(SESSION).and_then(|session| session.parse().ok());
    Ok(Some(Identity {
        launch: launch.parse().map_err(|error| format!("its label {LAUNCH} is wrong: {error}"))?,
        owner: Owner {
            fleet: annotation(FLEET)?,
            node: annotation(NODE)?,
            session: session.ok_or_else(|| format!("its label {SESSION} is no number"))?,
        },
        service: annotation(SERVICE)?,
    }))
}

fn value(text: &str) -> String {
    if is_value(text) { text.to_owned() } else { format!("x-{:016x}", hash(text)) }
}

fn is_value(text: &str) -> bool {
    let is_end = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphanumeric);
    let bytes = text.as_bytes();
    bytes.len() <= LABEL_MAX_CHARS
        && is_end(bytes.first())
        && is_end(bytes.last())
        && bytes.iter().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(byte))
}

/// FNV-1a: the same on every release, for it is written into clusters. Two texts with one hash are told apart by their
/// annotations.
fn hash(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_fits_is_its_own_label_and_the_rest_is_hashed() {
        let longest = "a".repeat(LABEL_MAX_CHARS);
        for fits in ["digits", "a.b_c-d", "0", longest.as_str()] {
            assert_eq!(value(fits), fits);
        }
        let too_long = "a".repeat(LABEL_MAX_CHARS + 1);
        for other in ["", "-a", "a-", "llama 3", "größe", "a/b", too_long.as_str()] {
            let label = value(other);
            assert!(is_value(&label) && label.starts_with("x-"), "{other:?} became {label:?}");
        }
        assert_eq!(value("llama 3"), "x-6143b51ecbab83c3", "written into clusters: it must never change");
    }

    #[test]
    fn a_foreign_object_is_nobodys_and_a_damaged_one_is_told() {
        assert_eq!(identity(&json!({"metadata": {"labels": {"app": "web"}}})), Ok(None));
        assert_eq!(identity(&json!({})), Ok(None));
        let damaged = json!({"metadata": {"labels": {LAUNCH: "gw-1", SESSION: "1"}}});
        assert!(identity(&damaged).expect_err("no annotations").contains("annotation tidegate.dev/fleet"));
        let wrong = json!({"metadata": {"labels": {LAUNCH: "GW_1"}}});
        assert!(identity(&wrong).expect_err("no launch id").contains("GW_1"));
    }
}
