//! What a broker keeps for those who come late.

use std::time::{Duration, Instant};

use tidegate::mqtt::{Incoming, Outgoing};

use crate::gaps::Finding;
use crate::peer::{Peer, look, retained, unique};
use crate::site::{Door, Site};
use crate::stranger;

/// A fleet of this many instances and nodes is more than one site has.
const MANY: usize = 10_000;
/// Each of our links keeps at most 1,024 messages for a broker.
const WRITERS: usize = 10;

/// The newest value is given to whoever comes late, as retained, and nothing once it is cleared.
pub(crate) fn exact(site: &mut dyn Site) -> Finding {
    let door = Door::plain(site);
    let topic = unique("retained/one");
    say(&door, &[retained(&topic, "first"), retained(&topic, "second")]);
    assert_eq!(stranger::first(&door, &topic, 1), [format!("1 {topic} second")]);
    assert_eq!(payloads(&look(&door, &topic)), ["second"]);
    assert!(look(&door, &topic).iter().all(|message| message.retained));
    say(&door, &[retained(&topic, "")]);
    assert_eq!(payloads(&look(&door, &topic)), Vec::<String>::new());
    Finding::Has
}

/// One subscription sees the whole fleet.
pub(crate) fn wildcard(site: &mut dyn Site) -> Finding {
    let door = Door::plain(site);
    let tree = unique("retained/tree");
    say(&door, &[retained(&format!("{tree}/a"), "a"), retained(&format!("{tree}/b/c"), "c")]);
    assert_eq!(payloads(&look(&door, &format!("{tree}/b/c"))), ["c"], "it is there");
    let mut seen = payloads(&look(&door, &format!("{tree}/#")));
    seen.sort_unstable();
    match seen.len() {
        0 => Finding::Lacks("nothing is given to a wildcard".to_owned()),
        _ => {
            assert_eq!(seen, ["a", "c"]);
            Finding::Has
        }
    }
}

/// A value that is not said again is forgotten.
pub(crate) fn expiry(site: &mut dyn Site) -> Finding {
    let door = Door::plain(site);
    let (tree, expiry) = (unique("retained/expiry"), Duration::from_secs(1));
    let [brief, long] = ["brief", "long"].map(|name| format!("{tree}/{name}"));
    let with = |topic: &str, expiry| Outgoing { expiry: Some(expiry), ..retained(topic, "here") };
    say(&door, &[with(&brief, expiry), with(&long, Duration::from_secs(3_600))]);
    let deadline = Instant::now() + expiry * 4;
    loop {
        // The last look begins after the deadline.
        let is_over = Instant::now() >= deadline;
        if look(&door, &brief).is_empty() {
            assert_eq!(payloads(&look(&door, &long)), ["here"], "the other one stays");
            return Finding::Has;
        }
        if is_over {
            return Finding::Lacks("it stays".to_owned());
        }
    }
}

/// All of them reach one that comes late and subscribes as discovery does.
pub(crate) fn ten_thousand(site: &mut dyn Site) -> Finding {
    let door = Door::plain(site);
    let tree = unique("retained/many");
    std::thread::scope(|scope| {
        for writer in 0..WRITERS {
            let (door, tree) = (&door, &tree);
            scope.spawn(move || {
                let topics = (0..MANY / WRITERS).map(|number| format!("{tree}/{writer}/{number}"));
                say(door, &topics.map(|topic| retained(&topic, &"x".repeat(200))).collect::<Vec<_>>());
            });
        }
    });
    let filter = format!("{tree}/#");
    let mut topics: Vec<_> = look(&door, &filter).into_iter().map(|message| message.topic).collect();
    if topics.is_empty() {
        return Finding::Lacks("nothing is given to a wildcard".to_owned());
    }
    topics.sort_unstable();
    topics.dedup();
    assert_eq!(topics.len(), MANY);
    assert_eq!(stranger::first(&door, &filter, MANY).len(), MANY);
    Finding::Has
}

/// Publishes, waits until all is acknowledged, and goes.
fn say(door: &Door, messages: &[Outgoing]) {
    let peer = Peer::up(door, &[]);
    messages.iter().for_each(|message| peer.publish(message.clone()));
    peer.close();
}

fn payloads(messages: &[Incoming]) -> Vec<String> {
    messages.iter().map(|message| String::from_utf8_lossy(&message.payload).into_owned()).collect()
}
