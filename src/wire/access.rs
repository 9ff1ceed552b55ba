//! Who may read and write which topics at a site's hub, and under which client id they may come: the rules of
//! `examples/mosquitto/tidegate.acl`, as a pure function. What no rule allows is refused.

use super::topics::{ALL_NODES, Encoding};

/// Who asks, proven by a certificate or a password.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Caller<'a> {
    /// A node of the fleet, by its id.
    Node(&'a str),
    /// An operator of the fleet.
    Operator,
    /// Somebody who came with a user and a password: a person who watches, or a sensor that asks.
    Watcher(&'a str),
}

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access<'a> {
    /// To publish on a topic, at once or as a Last Will.
    Write(&'a str),
    /// To subscribe to a filter, which may have wildcards or be shared.
    Read(&'a str),
    /// To be connected under a client id, whose former connection then ends.
    Be(&'a str),
}

/// Before the filter of a shared subscription: `$share/{group}/{filter}` (MQTT 5, section 4.8.2).
const SHARED: &str = "$share/";
/// The group whose members share what sensors ask: the nodes of a fleet at one broker.
pub const NODES_GROUP: &str = "tidegate";
/// Before the client ids of nodes: `tidegate_{fleet}_{node}_{tree}`. No id has an underscore, so none begins as another's.
const CLIENT_ID: &str = "tidegate_";

/// Whether the hub of `fleet` grants it.
pub fn grants(fleet: &str, caller: Caller<'_>, access: Access<'_>) -> bool {
    match access {
        Access::Read(filter) => may_read(fleet, caller, filter),
        Access::Write(topic) => may_write(fleet, caller, topic),
        Access::Be(client_id) => may_be(fleet, caller, client_id),
    }
}

/// Everyone in the fleet reads all of both trees, and nothing beside: wildcards may stand only below the fleet, so that what
/// the box's own programs say to each other at the same broker stays theirs. A group gets no more than its filter says; that of
/// the nodes is theirs alone, since whoever joins it takes requests away from them.
fn may_read(fleet: &str, caller: Caller<'_>, filter: &str) -> bool {
    let (group, filter) = match filter.strip_prefix(SHARED) {
        Some(shared) => shared.split_once('/').unwrap_or_default(),
        None => ("", filter),
    };
    let is_let_into_group = group != NODES_GROUP || matches!(caller, Caller::Node(_));
    is_let_into_group && below_the_fleet(fleet, filter).is_some()
}

fn may_write(fleet: &str, caller: Caller<'_>, topic: &str) -> bool {
    let Some((encoding, below)) = below_the_fleet(fleet, topic).filter(|_| !topic.contains(['+', '#'])) else {
        return false;
    };
    match caller {
        Caller::Watcher(user) => is_a_request_of(user, encoding, below),
        // Commands, and clearing what nodes left behind, which is a message on their topics.
        Caller::Operator => true,
        Caller::Node(node) => is_of_node(node, below) || is_of_everyone(below) || is_a_reply(encoding, below),
    }
}

/// A node writes its own topics and those of its instances; none is called as all of them are.
fn is_of_node(node: &str, below: &str) -> bool {
    let mut segments = below.split('/');
    let kind = segments.next();
    let is_its = segments.next() == Some(node) && node != ALL_NODES;
    let has_more = segments.next().is_some();
    is_its && (kind == Some("discovery") || kind == Some("node") && has_more)
}

/// A sensor asks under its own name, with an id in the topic or without.
fn is_a_request_of(user: &str, encoding: Encoding, below: &str) -> bool {
    let segments: Vec<&str> = below.split('/').collect();
    encoding == Encoding::Cbor
        && matches!(segments[..], ["infer", _, client] | ["infer", _, client, _] if client == user)
}

/// Any node may be the one that answers.
fn is_a_reply(encoding: Encoding, below: &str) -> bool {
    encoding == Encoding::Cbor && below.starts_with("reply/")
}

/// Whoever comes late asks who is there, whoever's credential ends soon asks for a new one, and all say what the fleet believes
/// where the broker does not know it: that counts by the root's signature, whoever carries it. The JSON tree mirrors it.
fn is_of_everyone(below: &str) -> bool {
    matches!(below, "fleet/trust" | "node/all/command/who" | "node/all/command/renew")
}

/// A node comes as itself or under a name that is no node's, others under such a name alone: whoever comes under the id of
/// a connection ends it.
fn may_be(fleet: &str, caller: Caller<'_>, client_id: &str) -> bool {
    let Some(id) = client_id.strip_prefix(CLIENT_ID) else { return true };
    let Caller::Node(node) = caller else { return false };
    let own = id.strip_prefix(fleet).and_then(|id| id.strip_prefix('_')).and_then(|id| id.strip_prefix(node));
    own.is_some_and(|id| id.starts_with('_'))
}

/// The tree that a topic or filter is in, and what stands below the fleet there.
fn below_the_fleet<'a>(fleet: &str, topic: &'a str) -> Option<(Encoding, &'a str)> {
    [Encoding::Cbor, Encoding::Json].into_iter().find_map(|encoding| {
        let of_fleet = topic.strip_prefix(encoding.prefix())?.strip_prefix('/')?.strip_prefix(fleet)?;
        Some((encoding, of_fleet.strip_prefix('/')?))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const TREES: [&str; 2] = ["tidegate/v1/plant-a", "tidegate-json/v1/plant-a"];
    const NODE: Caller<'_> = Caller::Node("gw-1");
    const EVERYONE: [Caller<'_>; 3] = [NODE, Caller::Operator, Caller::Watcher("cam-1")];

    fn may(caller: Caller<'_>, access: Access<'_>) -> bool {
        grants("plant-a", caller, access)
    }

    fn writes(caller: Caller<'_>, below: &str) -> [bool; 2] {
        TREES.map(|tree| may(caller, Access::Write(&format!("{tree}/{below}"))))
    }

    #[test]
    fn a_node_writes_its_own_topics_in_both_trees() {
        let own = ["discovery/gw-1", "discovery/gw-1/l-1", "node/gw-1/state", "node/gw-1/load", "node/gw-1/burst/l-1"];
        let more = ["node/gw-1/service/digits", "node/gw-1/event/burst.started", "node/gw-1/response/r-1"];
        for below in own.into_iter().chain(more) {
            assert_eq!(writes(NODE, below), [true; 2], "{below}");
        }
    }

    #[test]
    fn a_node_writes_no_others_topics_however_alike_they_look() {
        let others = ["discovery/gw-2", "discovery/gw-2/l-1", "node/gw-2/state", "node/gw-2/command/drain"];
        let alike = ["discovery/gw-10", "discovery/gw-1x/l-1", "node/gw-10/state", "discovery/GW-1", "node/gw-1", ""];
        let outside = ["discovery", "discovery/", "node/", "node//gw-1", "/discovery/gw-1", "x/gw-1/state", "gw-1"];
        let wild = ["discovery/+", "node/gw-1/#", "node/gw-1/+", "#", "+/gw-1/state"];
        for below in others.into_iter().chain(alike).chain(outside).chain(wild) {
            assert_eq!(writes(NODE, below), [false; 2], "{below}");
        }
    }

    #[test]
    fn any_node_asks_who_is_there_and_carries_the_fleets_trust_and_no_other_command() {
        assert_eq!(writes(NODE, "fleet/trust"), [true; 2]);
        for below in ["node/all/command/who", "node/all/command/renew", "fleet/trust"] {
            assert_eq!(writes(NODE, below), [true; 2], "{below}");
        }
        for below in ["node/all/command/drain", "node/all/state", "fleet", "fleet/trust/x", "discovery/all"] {
            assert_eq!(writes(NODE, below), [false; 2], "{below}");
        }
        for below in ["node/all/command/drain", "discovery/all", "node/all/state"] {
            assert_eq!(writes(Caller::Node("all"), below), [false; 2], "one called as all of them: {below}");
        }
    }

    #[test]
    fn operators_write_all_of_the_fleet_and_watchers_nothing() {
        for below in ["node/gw-1/command/drain", "discovery/gw-1", "node/gw-2/state", "fleet/trust"] {
            assert_eq!(writes(Caller::Operator, below), [true; 2], "{below}");
            assert_eq!(writes(Caller::Watcher("cam-1"), below), [false; 2], "{below}");
        }
        assert_eq!(writes(Caller::Operator, "node/+/state"), [false; 2]);
    }

    #[test]
    fn a_user_asks_under_its_own_name_and_nodes_answer() {
        let sensor = Caller::Watcher("cam-1");
        for below in ["infer/digits/cam-1", "infer/digits/cam-1/17"] {
            assert_eq!(writes(sensor, below), [true, false], "{below}: the JSON tree is never input");
            assert_eq!(writes(NODE, below), [false; 2], "{below}");
        }
        let others = ["infer/digits/cam-2", "infer/digits/cam-10", "infer/digits", "infer/cam-1", "infer/a/b/cam-1"];
        for below in others.into_iter().chain(["infer/digits/cam-1/1/2", "reply/cam-1/x", "infer/+/cam-1"]) {
            assert_eq!(writes(sensor, below), [false; 2], "{below}");
        }
        assert_eq!(writes(NODE, "reply/cam-1/digits"), [true, false]);
        assert_eq!(writes(NODE, "reply"), [false; 2]);
    }

    #[test]
    fn nobody_writes_outside_the_fleet() {
        let outside = ["tidegate/v1/plant-b/discovery/gw-1", "tidegate/v1/plant-ab/discovery/gw-1", "sensors/gw-1"];
        let alike = ["tidegate/v2/plant-a/discovery/gw-1", "Tidegate/v1/plant-a/discovery/gw-1", "tidegate/v1/plant-a"];
        let odd =
            ["$SYS/broker", "$share/g/tidegate/v1/plant-a/discovery/gw-1", "/tidegate/v1/plant-a/fleet/trust", ""];
        for topic in outside.into_iter().chain(alike).chain(odd) {
            for caller in EVERYONE {
                assert!(!may(caller, Access::Write(topic)), "{caller:?} {topic}");
            }
        }
    }

    #[test]
    fn everyone_reads_the_fleet_by_any_wildcard_below_it_shared_or_not() {
        for tree in TREES {
            for below in ["#", "+", "discovery/#", "node/+/state", "node/gw-2/command/+", "+/+/event/#"] {
                for filter in [format!("{tree}/{below}"), format!("$share/recorders/{tree}/{below}")] {
                    for caller in EVERYONE {
                        assert!(may(caller, Access::Read(&filter)), "{caller:?} {filter}");
                    }
                }
            }
        }
    }

    #[test]
    fn only_nodes_share_what_sensors_ask() {
        let filter = format!("$share/{NODES_GROUP}/tidegate/v1/plant-a/infer/digits/#");
        assert_eq!(EVERYONE.map(|caller| may(caller, Access::Read(&filter))), [true, false, false]);
    }

    #[test]
    fn nobody_reads_beyond_the_fleet_by_any_wildcard() {
        let wide = ["#", "+/#", "tidegate/#", "tidegate/v1/#", "tidegate/v1/+/discovery/#", "+/v1/plant-a/#", "+"];
        let other = ["tidegate/v1/plant-b/#", "tidegate/v1/plant-ab/#", "sensors/#", "tidegate/v1/plant-a#", ""];
        let system = ["$SYS/#", "$SYS/broker/clients", "$share/#", "$share/g", "$share/g/#", "$share/g/tidegate/#"];
        let twice = ["$share/g/$share/h/tidegate/v1/plant-a/#", "$queue/tidegate/v1/plant-a/#", "$share//#"];
        for filter in wide.into_iter().chain(other).chain(system).chain(twice) {
            for caller in EVERYONE {
                assert!(!may(caller, Access::Read(filter)), "{caller:?} {filter}");
            }
        }
    }

    #[test]
    fn nobody_comes_under_the_client_id_of_a_node_but_that_node() {
        for own in ["tidegate_plant-a_gw-1_cbor", "tidegate_plant-a_gw-1_json"] {
            assert!(may(NODE, Access::Be(own)), "{own}");
        }
        let others = ["tidegate_plant-a_gw-2_cbor", "tidegate_plant-a_gw-10_cbor", "tidegate_plant-b_gw-1_cbor"];
        let alike = ["tidegate_", "tidegate_plant-a_gw-1", "tidegate_plant-a_", "tidegate_plant-agw-1_", "tidegate_x"];
        for id in others.into_iter().chain(alike) {
            assert!(!may(NODE, Access::Be(id)), "{id}");
        }
        for caller in [Caller::Operator, Caller::Watcher("cam-1")] {
            assert!(!may(caller, Access::Be("tidegate_plant-a_gw-1_cbor")), "{caller:?}");
        }
        for caller in EVERYONE {
            assert!(may(caller, Access::Be("tidegate-watch-1")) && may(caller, Access::Be("mosq-x")), "{caller:?}");
        }
    }
}
