use super::*;
use crate::{Endpoints, ServiceOffer};

const TTL_S: u64 = 90;
const KEY: KeyDigest = [7; 32];

fn at(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn stamp(session: u64, sequence: u64) -> Stamp {
    Stamp { session, sequence }
}

fn node(name: &str) -> Announcement {
    let services = vec![ServiceOffer { name: "digits".into(), spare: 2, ..ServiceOffer::default() }];
    let endpoints = Endpoints { peers: Some("10.0.0.8:8443".into()), ..Endpoints::default() };
    Announcement { node: name.into(), ttl_s: TTL_S, endpoints, services, ..Announcement::default() }
}

fn instance(launch: &str) -> Announcement {
    Announcement { instance: Some(launch.into()), ..node("a") }
}

fn state(kind: NodeStateKind, connection: u64) -> NodeState {
    NodeState { node: "a".into(), state: kind, connection, ..NodeState::default() }
}

fn alive(registry: &Registry, now: u64) -> usize {
    registry.peers("digits", at(now)).len()
}

#[test]
fn a_node_is_routable_after_a_live_word_and_no_longer_than_one_heartbeat_after_the_last() {
    let registry = Registry::default();
    registry.announce(node("a"), stamp(1, 1), KEY, false, at(0)).unwrap();
    assert_eq!(alive(&registry, 1), 0, "what the broker kept proves nobody");
    registry.announce(node("a"), stamp(1, 2), KEY, true, at(10)).unwrap();
    assert_eq!(alive(&registry, 10), 1);
    assert_eq!(registry.peers("other", at(10)).len(), 0);
    assert_eq!(alive(&registry, 10 + 29), 1);
    assert_eq!(alive(&registry, 10 + 30), 0);
    assert_eq!(registry.present(at(10 + 30)).len(), 1, "known still");
    assert_eq!(registry.present(at(10 + 91)).len(), 0);
}

#[test]
fn what_comes_again_or_late_changes_nothing() {
    let registry = Registry::default();
    registry.announce(node("a"), stamp(2, 5), KEY, true, at(0)).unwrap();
    assert_eq!(registry.announce(node("a"), stamp(2, 4), KEY, true, at(50)), Err(Refused::Stale(stamp(2, 5))));
    assert_eq!(registry.announce(node("a"), stamp(1, 9), KEY, true, at(50)), Err(Refused::Stale(stamp(2, 5))));
    registry.announce(node("a"), stamp(2, 5), KEY, true, at(50)).unwrap();
    assert_eq!(alive(&registry, 50), 0, "a repeated message is no sign of life");
    registry.announce(node("a"), stamp(3, 1), KEY, true, at(70)).unwrap();
    assert_eq!(alive(&registry, 70), 1);
}

#[test]
fn what_was_taken_back_or_forgotten_is_not_brought_back_by_an_old_message() {
    let registry = Registry::default();
    registry.announce(instance("l1"), stamp(1, 1), KEY, true, at(0)).unwrap();
    registry.announce(Announcement { ttl_s: 0, ..instance("l1") }, stamp(1, 7), KEY, true, at(1)).unwrap();
    assert!(registry.is_empty());
    assert_eq!(registry.announce(instance("l1"), stamp(1, 1), KEY, false, at(2)), Err(Refused::Stale(stamp(1, 7))));
    assert_eq!(registry.announce(instance("l2"), stamp(1, 6), KEY, false, at(2)), Err(Refused::Stale(stamp(1, 7))));
    registry.announce(instance("l2"), stamp(1, 8), KEY, true, at(2)).unwrap();
    registry.forget_stale(at(200));
    assert!(registry.is_empty());
    assert_eq!(
        registry.announce(instance("l2"), stamp(1, 8), KEY, true, at(201)),
        Ok(()),
        "the same is not entered again"
    );
    assert!(registry.is_empty());
}

#[test]
fn a_late_last_will_does_not_take_back_what_was_said_on_the_next_connection() {
    let registry = Registry::default();
    registry.announce(node("a"), stamp(1, 2), KEY, true, at(0)).unwrap();
    registry.state(&state(NodeStateKind::Online, 1), stamp(1, 3), Ear::Home).unwrap();
    // The will was signed before anything was said on its connection.
    registry.state(&state(NodeStateKind::Lost, 1), stamp(1, 1), Ear::Home).unwrap();
    assert_eq!(alive(&registry, 1), 0, "gone, whatever its announcement says");
    registry.state(&state(NodeStateKind::Online, 2), stamp(1, 5), Ear::Home).unwrap();
    registry.announce(node("a"), stamp(1, 6), KEY, true, at(2)).unwrap();
    assert!(registry.state(&state(NodeStateKind::Lost, 1), stamp(1, 1), Ear::Home).is_err());
    assert_eq!(alive(&registry, 3), 1);
    registry.state(&state(NodeStateKind::Online, 1), stamp(2, 1), Ear::Home).unwrap();
    assert!(registry.state(&state(NodeStateKind::Lost, 2), stamp(1, 4), Ear::Home).is_err(), "of a former session");
}

#[test]
fn those_that_went_make_room_and_one_node_does_not_fill_the_memory() {
    let registry = Registry::default();
    for number in 0..MAX_NODES {
        registry.announce(node(&number.to_string()), stamp(1, 1), KEY, true, at(0)).unwrap();
    }
    assert_eq!(registry.announce(node("more"), stamp(1, 1), KEY, true, at(0)), Err(Refused::Full));
    registry.forget_stale(at(1_000));
    registry.announce(node("more"), stamp(1, 1), KEY, true, at(1_000)).unwrap();
    for number in 1..=MAX_INSTANCES {
        registry.announce(instance(&number.to_string()), stamp(1, number as u64), KEY, true, at(1_000)).unwrap();
    }
    assert_eq!(registry.announce(instance("more"), stamp(9, 1), KEY, true, at(1_000)), Err(Refused::Full));
}

#[test]
fn only_a_node_that_has_room_and_says_where_takes_another_s_requests() {
    let registry = Registry::default();
    let full = vec![ServiceOffer { name: "digits".into(), ..ServiceOffer::default() }];
    registry.announce(Announcement { services: full, ..node("full") }, stamp(1, 1), KEY, true, at(0)).unwrap();
    let closed = Announcement { endpoints: Endpoints::default(), ..node("closed") };
    registry.announce(closed, stamp(1, 1), KEY, true, at(0)).unwrap();
    registry.announce(node("a"), stamp(1, 1), KEY, true, at(0)).unwrap();
    let peers = registry.peers("digits", at(1));
    let told: Vec<_> = peers.iter().map(|peer| (peer.node.as_str(), peer.authority.as_str(), peer.key)).collect();
    assert_eq!(told, [("a", "10.0.0.8:8443", KEY)]);

    registry.state(&state(NodeStateKind::Draining, 1), stamp(1, 2), Ear::Home).unwrap();
    assert_eq!(alive(&registry, 1), 0, "who stops takes nobody's");
}

#[test]
fn a_change_of_trust_touches_nobody_who_is_believed_still() {
    let registry = Registry::default();
    let names = [("stays", 1), ("is-out", 2), ("unknown", 3)];
    for (name, key) in names {
        registry.announce(node(name), stamp(1, 5), [key; 32], true, at(0)).unwrap();
    }
    let launched = Announcement { instance: Some("launch-1".into()), ..node("is-out") };
    registry.announce(launched, stamp(1, 6), [2; 32], true, at(0)).unwrap();
    let standing = |key: &KeyDigest| match key[0] {
        1 => Standing::Believed,
        2 => Standing::PutOut,
        _ => Standing::Unknown,
    };
    assert_eq!(registry.judge(standing), ["is-out"]);
    let routable = |now| registry.peers("digits", at(now)).into_iter().map(|peer| peer.node).collect::<Vec<_>>();
    assert_eq!(routable(1), ["stays"]);
    let present: Vec<_> = registry.present(at(1)).into_iter().map(|one| one.announcement.node).collect();
    assert_eq!(present, ["stays", "unknown"], "what was said by who is put out is forgotten, instances too");
    assert_eq!(registry.judge(standing), [""; 0], "it is named once");

    registry.announce(node("unknown"), stamp(1, 6), [1; 32], true, at(2)).unwrap();
    assert_eq!(routable(2), ["stays", "unknown"]);
    registry.announce(node("is-out"), stamp(1, 1), [1; 32], true, at(2)).unwrap();
    assert_eq!(routable(2), ["is-out", "stays", "unknown"], "another box that was let in under that name begins anew");
}

/// What is known of the one node.
fn known(registry: &Registry, now: u64) -> (Option<NodeStateKind>, bool) {
    let present = registry.present(at(now));
    (present[0].state, present[0].alive)
}

#[test]
fn a_last_will_at_one_broker_says_nothing_of_the_other() {
    let registry = Registry::default();
    registry.announce(node("a"), stamp(1, 1), KEY, true, at(0)).unwrap();
    let (online, lost) = (NodeStateKind::Online, NodeStateKind::Lost);
    // Its own broker has seen it connect often, the uplink once.
    registry.state(&state(online, 40), stamp(1, 2), Ear::Home).unwrap();
    registry.state(&state(online, 1), stamp(1, 3), Ear::Uplink).unwrap();
    registry.state(&state(lost, 40), stamp(1, 1), Ear::Home).unwrap();
    assert_eq!(known(&registry, 1), (Some(online), true), "it is alive at the uplink");
    registry.state(&state(lost, 1), stamp(1, 1), Ear::Uplink).unwrap();
    assert_eq!(known(&registry, 1), (Some(lost), false), "now it is nowhere");
    registry.state(&state(online, 2), stamp(1, 4), Ear::Uplink).unwrap();
    registry.announce(node("a"), stamp(1, 5), KEY, true, at(2)).unwrap();
    assert_eq!(known(&registry, 2), (Some(online), true));
    assert!(registry.state(&state(lost, 1), stamp(1, 1), Ear::Uplink).is_err(), "the late Will of a former connection");
    // A goodbye is the node's own word, and it is the last one.
    registry.state(&state(NodeStateKind::Offline, 2), stamp(1, 9), Ear::Uplink).unwrap();
    assert_eq!(known(&registry, 2), (Some(NodeStateKind::Offline), false));
    // What stands at one broker from before a restart does not hide the next session.
    registry.state(&state(lost, 1), stamp(2, 1), Ear::Home).unwrap();
    assert_eq!(known(&registry, 2).0, Some(lost));
}

#[test]
fn connections_at_another_broker_are_counted_anew() {
    let registry = Registry::default();
    registry.announce(node("a"), stamp(1, 1), KEY, true, at(0)).unwrap();
    registry.state(&state(NodeStateKind::Online, 9), stamp(1, 2), Ear::Uplink).unwrap();
    assert!(registry.state(&state(NodeStateKind::Online, 2), stamp(1, 3), Ear::Uplink).is_err());
    registry.moved(Ear::Uplink);
    assert_eq!(known(&registry, 1).0, Some(NodeStateKind::Online), "what was known stays");
    registry.state(&state(NodeStateKind::Lost, 2), stamp(1, 1), Ear::Uplink).unwrap();
    assert_eq!(known(&registry, 1), (Some(NodeStateKind::Lost), false));
    assert!(registry.state(&state(NodeStateKind::Online, 1), stamp(1, 9), Ear::Uplink).is_err(), "in order again");
}

#[test]
fn what_a_node_that_came_back_says_again_of_its_last_connection_is_neither_news_nor_stale() {
    let registry = Registry::default();
    registry.state(&state(NodeStateKind::Online, 1), stamp(3, 5), Ear::Home).unwrap();
    registry.state(&state(NodeStateKind::Lost, 1), stamp(3, 2), Ear::Home).unwrap();
    // Its link remembers that, and says it before the node says more.
    assert_eq!(registry.state(&state(NodeStateKind::Online, 1), stamp(3, 5), Ear::Home), Ok(()));
    let kind = |registry: &Registry| registry.nodes().get("a").and_then(|node| node.states.kind());
    assert_eq!(kind(&registry), Some(NodeStateKind::Lost), "it changes nothing");
    registry.state(&state(NodeStateKind::Online, 2), stamp(3, 9), Ear::Home).unwrap();
    assert!(
        registry.state(&state(NodeStateKind::Online, 1), stamp(3, 5), Ear::Home).is_err(),
        "older than what is known"
    );
    assert!(registry.state(&state(NodeStateKind::Lost, 1), stamp(3, 2), Ear::Home).is_err());
}
