//! What a broker says for those who cannot, and to whom of several.

use crate::gaps::Finding;
use crate::peer::{Peer, live, retained, unique};
use crate::site::{Door, Site};

/// Messages to a group of two; enough that both get some by any fair rule.
const SHARED: usize = 40;

/// Said when the connection breaks, and kept for late ones; not said after a goodbye.
pub(crate) fn last_will(site: &mut dyn Site) -> Finding {
    let door = Door::plain(site);
    let topic = unique("will/state");
    let reader = Peer::up(&door, &[&topic]);
    drop(Peer::up_with(&door, &[], Some(retained(&topic, "lost"))));
    reader.wait_for_payload(&topic, "lost");
    let late = Peer::start(&door, &unique("late"), &[&topic], None);
    assert!(late.wait_for_payload(&topic, "lost").retained);

    let leaving = Peer::up_with(&door, &[], Some(retained(&topic, "lost again")));
    leaving.publish(retained(&topic, "offline"));
    leaving.close();
    let other = Peer::up(&door, &[]);
    other.publish(live(&topic, "end"));
    reader.wait_for_payload(&topic, "end");
    assert_eq!(reader.payloads(&topic), ["lost", "offline", "end"]);
    Finding::Has
}

/// Each message to one of the group, and some to each.
pub(crate) fn shared(site: &mut dyn Site) -> Finding {
    let door = Door::plain(site);
    let topic = unique("shared/work");
    let filter = format!("$share/{}/{topic}", unique("group"));
    let done = format!("{topic}/done");
    let group = [(); 2].map(|()| Peer::up(&door, &[&filter, &done]));
    let writer = Peer::up(&door, &[]);
    (0..SHARED).for_each(|number| writer.publish(live(&topic, &number.to_string())));
    writer.publish(live(&done, "done"));
    group.iter().for_each(|peer| drop(peer.wait_for_payload(&done, "done")));
    let shares = group.each_ref().map(|peer| peer.payloads(&topic));
    let mut all: Vec<usize> = shares.iter().flatten().map(|number| number.parse().unwrap()).collect();
    if all.is_empty() {
        return Finding::Lacks("nothing is given to the group".to_owned());
    }
    all.sort_unstable();
    assert_eq!(all, (0..SHARED).collect::<Vec<_>>());
    assert!(shares.iter().all(|share| !share.is_empty()), "one got all");
    Finding::Has
}
