use super::*;
use crate::EventKind;

fn all_topics() -> Vec<(Topic, &'static str)> {
    [
        (Topic::discovery("gateway-7"), "discovery/gateway-7"),
        (Topic::instance("gateway-7", "l-1"), "discovery/gateway-7/l-1"),
        (Topic::state("gateway-7"), "node/gateway-7/state"),
        (Topic::load("gateway-7"), "node/gateway-7/load"),
        (Topic::service("gateway-7", "digits"), "node/gateway-7/service/digits"),
        (Topic::burst("gateway-7", "l-1"), "node/gateway-7/burst/l-1"),
        (Topic::event("gateway-7", EventKind::BurstStarted), "node/gateway-7/event/burst.started"),
        (Topic::infer("digits", "cam-1", None), "infer/digits/cam-1"),
        (Topic::infer("digits", "cam-1", Some("17")), "infer/digits/cam-1/17"),
        (Topic::reply("cam-1", &["digits"]), "reply/cam-1/digits"),
        (Topic::reply("cam-1", &["a", "b", "c"]), "reply/cam-1/a/b/c"),
    ]
    .into_iter()
    .map(|(topic, text)| (topic.unwrap(), text))
    .collect()
}

fn root(encoding: Encoding) -> Root {
    Root::new(encoding, "plant-a").unwrap()
}

#[test]
fn a_topic_leads_back_to_itself_in_both_trees() {
    for (encoding, prefix) in [(Encoding::Cbor, "tidegate/v1/plant-a"), (Encoding::Json, "tidegate-json/v1/plant-a")] {
        for (topic, below) in all_topics() {
            let text = root(encoding).topic(&topic);
            assert_eq!(text, format!("{prefix}/{below}"));
            assert_eq!(Root::parse(&text), Ok((root(encoding), topic)));
        }
    }
}

#[test]
fn filters_cover_the_tree_the_discovery_and_a_node() {
    let root = root(Encoding::Cbor);
    assert_eq!(root.everything(), "tidegate/v1/plant-a/#");
    assert_eq!(root.discovery(), "tidegate/v1/plant-a/discovery/#");
    assert_eq!(root.node(&Segment::new("gateway-7").unwrap()), "tidegate/v1/plant-a/node/gateway-7/#");
}

#[test]
fn the_longest_topic_suits_public_brokers() {
    let longest = "x".repeat(MAX_SEGMENT_BYTES);
    let root = Root::new(Encoding::Json, &longest).unwrap();
    let topic = root.topic(&Topic::service(&longest, &longest).unwrap());
    assert!(topic.len() <= 256, "{}", topic.len());
    assert!(topic.matches('/').count() <= 7);
}

#[test]
fn names_that_cannot_stand_in_a_topic_are_refused() {
    for name in ["", "a/b", "+", "#", "a#", "a\0b", "a\nb", "\u{85}", &"x".repeat(65), &"é".repeat(33)] {
        assert_eq!(Segment::new(name), Err(TopicError::Segment(name.to_owned())), "{name:?}");
    }
    for name in ["a", "Häfen", "$SYS", "burst.started", &"x".repeat(64)] {
        assert!(Segment::new(name).is_ok(), "{name:?}");
    }
}

#[test]
fn foreign_topics_are_unknown() {
    for topic in [
        "",
        "tidegate",
        "tidegate/v1",
        "tidegate/v1/",
        "tidegate/v1/f",
        "tidegate/v1/f/",
        "tidegate/v2/f/node/n/load",
        "tidegate/v11/f/node/n/load",
        "tidegate-jsonx/v1/f/node/n/load",
        "xtidegate/v1/f/node/n/load",
        "tidegate/v1/f/node/n",
        "tidegate/v1/f/node/n/loads",
        "tidegate/v1/f/node/n/load/x",
        "tidegate/v1/f/node/n/service/s/x",
        "tidegate/v1/f/node/n/service/s/x/y/z",
        "tidegate/v1/f/discovery",
        "tidegate/v1/f/discovery/n/i/x",
        "tidegate/v1/f/node/n/command/scale/x",
        "tidegate/v1/f/infer/s",
        "tidegate/v1/f/infer/s/c/id/x",
        "tidegate/v1/f/reply/c",
        "tidegate/v1/f/reply/c/1/2/3/4",
        "/tidegate/v1/f/node/n/load",
    ] {
        assert_eq!(Root::parse(topic), Err(TopicError::Unknown(topic.to_owned())), "{topic:?}");
    }
}

#[test]
fn a_topic_that_public_brokers_do_not_take_is_unknown() {
    let long = "x".repeat(64);
    let fits = format!("tidegate/v1/{long}/infer/{long}/{long}/{}", "x".repeat(256 - 12 - 64 - 7 - 64 - 1 - 64 - 1));
    assert_eq!(fits.len(), 256);
    assert!(Root::parse(&fits).is_ok());
    assert!(matches!(Root::parse(&format!("{fits}x")), Err(TopicError::Unknown(_))));
}

#[test]
fn empty_and_wild_segments_are_refused() {
    for topic in [
        "tidegate/v1//node/n/load",
        "tidegate/v1/f/node//load",
        "tidegate/v1/f/node/n/service/",
        "tidegate/v1/f/infer/s/c/",
        "tidegate/v1/f/reply/c/",
    ] {
        assert_eq!(Root::parse(topic), Err(TopicError::Segment(String::new())), "{topic:?}");
    }
    assert_eq!(Root::parse("tidegate/v1/+/node/n/load"), Err(TopicError::Segment("+".to_owned())));
    assert_eq!(Root::parse("tidegate/v1/f/discovery/#"), Err(TopicError::Segment("#".to_owned())));
}

#[test]
fn delivery_is_as_the_design_says() {
    let refresh = Duration::from_secs(30);
    let of = |topic: Result<Topic, TopicError>| {
        let Delivery { retained, qos, expiry } = topic.unwrap().delivery(refresh);
        (retained, qos as u8, expiry.map(|expiry| expiry.as_secs()))
    };
    assert_eq!(of(Topic::discovery("n")), (true, 1, Some(90)));
    assert_eq!(of(Topic::instance("n", "i")), (true, 1, Some(90)));
    assert_eq!(of(Topic::state("n")), (true, 1, None));
    assert_eq!(of(Topic::load("n")), (false, 0, None));
    assert_eq!(of(Topic::service("n", "s")), (true, 0, Some(90)));
    assert_eq!(of(Topic::burst("n", "l")), (true, 1, Some(90)));
    assert_eq!(of(Topic::event("n", EventKind::LinkLost)), (false, 1, None));
    assert_eq!(of(Topic::infer("s", "c", None)), (false, 1, None));
    assert_eq!(of(Topic::reply("c", &["s"])), (false, 1, None));
}

#[test]
fn an_expiry_is_rounded_up_and_bounded() {
    let delivery = |expiry| Delivery { retained: true, qos: Qos::AtMostOnce, expiry };
    assert_eq!(delivery(None).expiry_s(), None);
    assert_eq!(delivery(Some(Duration::from_millis(750))).expiry_s(), Some(1));
    assert_eq!(delivery(Some(Duration::from_secs(90))).expiry_s(), Some(90));
    assert_eq!(delivery(Some(Duration::MAX)).expiry_s(), Some(u32::MAX));
}
