//! Inputs that are text: topics, what `tidegate watch` shows, and JSON on the lease channel.

use super::corpus::Inputs;

/// Where the golden vectors stand, and topics that none of ours is.
const TOPICS: &[(&str, &str)] = &[
    ("discovery", "tidegate/v1/plant-a/discovery/gateway-7"),
    ("instance", "tidegate/v1/plant-a/discovery/gateway-7/gateway-7-12-1"),
    ("state", "tidegate/v1/plant-a/node/gateway-7/state"),
    ("load", "tidegate/v1/plant-a/node/gateway-7/load"),
    ("service", "tidegate/v1/plant-a/node/gateway-7/service/digits"),
    ("burst", "tidegate/v1/plant-a/node/gateway-7/burst/gateway-7-12-1"),
    ("event", "tidegate/v1/plant-a/node/gateway-7/event/burst.ended"),
    ("json", "tidegate-json/v1/plant-a/node/gateway-7/state"),
    ("of-a-later-version", "tidegate/v2/plant-a/node/gateway-7/state"),
    ("of-a-later-kind", "tidegate/v1/plant-a/node/gateway-7/tide/3"),
    ("of-a-later-event", "tidegate/v1/plant-a/node/gateway-7/event/tide.turned"),
    ("command", "tidegate/v1/plant-a/node/gateway-7/command/scale"),
    ("infer", "tidegate/v1/plant-a/infer/digits/cam-1"),
    ("infer-with-id", "tidegate/v1/plant-a/infer/digits/cam-1/17"),
    ("reply", "tidegate/v1/plant-a/reply/cam-1/a/b/c"),
    ("reply-to-nobody", "tidegate/v1/plant-a/reply/cam-1"),
    ("foreign", "homeassistant/sensor/tide/config"),
    ("empty", ""),
    ("root-alone", "tidegate/v1/plant-a"),
    ("empty-segments", "tidegate/v1//node//state"),
    ("many-slashes", "tidegate/v1/a/b/c/d/e/f/g/h/i/j/k/l/m"),
    ("slashes-alone", "////////"),
    ("wildcards", "tidegate/v1/+/node/#"),
    ("nul", "tidegate/v1/plant-a/node/gate\0way/state"),
    ("escape", "tidegate/v1/plant-a/node/\u{1b}[2J/state"),
    ("control-of-one-byte", "tidegate/v1/plant-a/node/\u{9b}2J/state"),
    ("right-to-left", "tidegate/v1/plant-a/node/\u{202e}7-yawetag/state"),
    ("dots", "tidegate/v1/../node/../state"),
    ("case", "Tidegate/V1/plant-a/Node/gateway-7/State"),
    ("system", "$SYS/broker/version"),
];

/// The longest segment that there may be, and one byte more.
const SEGMENT_BYTES: usize = 64;

/// Levels of nesting that serde_json reads, and more.
const JSON_DEPTHS: [usize; 3] = [127, 128, 2_000];

/// JSON that is no lease message, or one that says strange things.
const LEASES: &[(&str, &str)] = &[
    ("empty", ""),
    ("null", "null"),
    ("no-members", "{}"),
    ("list-for-a-renewal", r#"["l-1",1,2,3]"#),
    ("list-for-a-status", r#"["l-1","digits","ready",1,2,3]"#),
    ("text-for-a-number", r#"{"launch":"l-1","session":"1","sequence":2,"ttl_ms":3}"#),
    ("number-for-a-text", r#"{"launch":1,"session":1,"sequence":2,"ttl_ms":3}"#),
    ("below-zero", r#"{"launch":"l-1","session":-1,"sequence":2,"ttl_ms":3}"#),
    ("fraction", r#"{"launch":"l-1","session":1.0,"sequence":2,"ttl_ms":3e0}"#),
    ("largest", r#"{"launch":"l-1","session":18446744073709551615,"sequence":0,"ttl_ms":18446744073709551615}"#),
    ("over-the-largest", r#"{"launch":"l-1","session":18446744073709551616,"sequence":0,"ttl_ms":1e999}"#),
    ("member-twice", r#"{"launch":"l-1","launch":"l-2","session":1,"sequence":2,"ttl_ms":3}"#),
    ("member-twice-escaped", r#"{"launch":"l-1","l\u0061unch":"l-2","session":1,"sequence":2,"ttl_ms":3}"#),
    ("later-members", r#"{"launch":"l-1","session":1,"sequence":2,"ttl_ms":3,"tide":{"height":[1,null,"x"]}}"#),
    ("state-of-a-later-version", r#"{"launch":"l-1","service":"digits","state":"melting","remaining_ms":1}"#),
    ("state-is-a-number", r#"{"launch":"l-1","service":"digits","state":2,"remaining_ms":1}"#),
    ("escapes", r#"{"launch":"\u0000\u001b[2J\ud83c\udf0a\\\"","session":1,"sequence":2,"ttl_ms":3}"#),
    ("half-a-surrogate", r#"{"launch":"\ud83c","session":1,"sequence":2,"ttl_ms":3}"#),
    ("trailing", r#"{"launch":"l-1","session":1,"sequence":2,"ttl_ms":3} x"#),
    ("two-messages", r#"{"launch":"l-1","session":1,"sequence":2,"ttl_ms":3}{"launch":"l-2"}"#),
    ("trailing-comma", r#"{"launch":"l-1","session":1,"sequence":2,"ttl_ms":3,}"#),
    ("byte-order-mark", "\u{feff}{}"),
    ("spaces", "   \r\n\t{ \"launch\" : \"l-1\" , \"session\":1,\"sequence\":2 ,\"ttl_ms\": 3 }\n\n"),
    ("no-json", "launch=l-1&session=1"),
];

/// Topics for the topic tree.
pub(super) fn topics() -> Inputs {
    let mut inputs: Inputs = TOPICS.iter().map(|(name, topic)| made(name, topic.as_bytes())).collect();
    for bytes in [SEGMENT_BYTES, SEGMENT_BYTES + 1] {
        let segment = "x".repeat(bytes);
        let topic = format!("tidegate-json/v1/{segment}/node/{segment}/service/{segment}");
        inputs.extend([made(&format!("segments-of-{bytes}-bytes"), topic.as_bytes())]);
    }
    inputs.extend([made("not-utf-8", b"tidegate/v1/plant-a/node/\xc3\x28/state")]);
    inputs
}

/// A topic, a line feed, a payload: golden payloads on each topic that they may come on, and on some that they may not.
pub(super) fn shown(cbor: &Inputs, json: &Inputs) -> Inputs {
    let mut inputs = Inputs::new();
    let state = (&cbor["golden-node-state"], &json["golden-node-state"]);
    for (name, topic) in TOPICS {
        let payload = if topic.starts_with("tidegate-json/") { state.1 } else { state.0 };
        inputs.extend([made(&format!("state-on-{name}"), &line(topic, payload))]);
    }
    for (name, topic) in OWN_PLACES {
        let mirror = topic.replacen("tidegate/", "tidegate-json/", 1);
        inputs.extend([made(&format!("{name}-cbor"), &line(topic, &cbor[*name]))]);
        inputs.extend([made(&format!("{name}-json"), &line(&mirror, &json[*name]))]);
        inputs.extend([made(&format!("{name}-cbor-as-json"), &line(&mirror, &cbor[*name]))]);
    }
    let own = "tidegate-json/v1/plant-a/node/gateway-7/load";
    for depth in JSON_DEPTHS {
        inputs.extend([made(&format!("json-{depth}-deep"), &line(own, "[".repeat(depth).as_bytes()))]);
    }
    inputs.extend([made("cleared", &line(own, b"")), made("topic-alone", own.as_bytes())]);
    inputs.extend([made("json-flood", &line(own, format!("[{}0]", "[],".repeat(1_000)).as_bytes()))]);
    inputs
}

/// A golden vector of each rule, and where it belongs.
const OWN_PLACES: &[(&str, &str)] = &[
    ("golden-announcement-instance", "tidegate/v1/plant-a/discovery/gateway-7/gateway-7-12-1"),
    ("golden-burst-status", "tidegate/v1/plant-a/node/gateway-7/burst/gateway-7-12-1"),
    ("golden-event", "tidegate/v1/plant-a/node/gateway-7/event/burst.ended"),
    ("golden-load-report", "tidegate/v1/plant-a/node/gateway-7/load"),
    ("golden-service-status", "tidegate/v1/plant-a/node/gateway-7/service/digits"),
];

/// JSON on the lease channel: the golden messages, cut, and everything above.
pub(super) fn leases(golden: &Inputs) -> Inputs {
    let mut inputs = golden.clone();
    for (name, whole) in golden {
        inputs.extend([made(&format!("{name}-cut"), &whole[..whole.len() / 2])]);
    }
    inputs.extend(LEASES.iter().map(|(name, text)| made(name, text.as_bytes())));
    for depth in JSON_DEPTHS {
        let deep = format!("{}0{}", "[".repeat(depth), "]".repeat(depth));
        let skipped = format!(r#"{{"later":{deep},"launch":"l-1","session":1,"sequence":2,"ttl_ms":3}}"#);
        inputs.extend([made(&format!("{depth}-deep-skipped"), skipped.as_bytes())]);
    }
    inputs.extend([made("not-utf-8", b"{\"launch\":\"\xc3\x28\",\"session\":1,\"sequence\":2,\"ttl_ms\":3}")]);
    inputs
}

fn made(name: &str, data: &[u8]) -> (String, Vec<u8>) {
    (format!("made-{name}"), data.to_vec())
}

fn line(topic: &str, payload: &[u8]) -> Vec<u8> {
    [topic.as_bytes(), b"\n", payload].concat()
}
