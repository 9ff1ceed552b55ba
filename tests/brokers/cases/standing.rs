//! How a link stands what happens to it.

use crate::gaps::Finding;
use crate::peer::{Peer, live, look, retained, unique};
use crate::site::{Door, Site};
use crate::stranger;
use crate::support::{PATIENCE, wait_until};

/// Who takes our name ends our connection; the link comes back, and goes on as before.
pub(crate) fn takeover(site: &mut dyn Site) -> Finding {
    let door = Door::plain(site);
    let (client_id, topic) = (unique("owner"), unique("takeover/topic"));
    let owner = Peer::start(&door, &client_id, &[&topic], None);
    owner.wait_connected(1);
    stranger::connect_as(&door, &client_id);
    let status = owner.wait_connected(2);
    // Each change is told after it shows in the status.
    let ups: Vec<bool> = wait_until(PATIENCE, "the changes are told", || {
        let ups: Vec<bool> = owner.changes().iter().map(|change| change.connected).collect();
        (ups.len() >= 3).then_some(ups)
    });
    assert_eq!(ups[..3], [true, false, true], "{status:?}");
    owner.publish(live(&topic, "still here"));
    owner.wait_for_payload(&topic, "still here");
    Finding::Has
}

/// A broker that comes back without any memory hears everything again, and gives us what we asked for.
pub(crate) fn restart(site: &mut dyn Site) -> Finding {
    let door = Door::plain(site);
    let (state, event) = (unique("restart/state"), unique("restart/event"));
    let writer = Peer::up(&door, &[]);
    let reader = Peer::up(&door, &[&event]);
    let spoken = writer.status().protocol;
    writer.publish(retained(&state, "online"));
    writer.publish(live(&event, "before"));
    reader.wait_for_payload(&event, "before");

    site.restart();
    writer.wait_connected(2);
    reader.wait_connected(2);
    assert_eq!(writer.status().protocol, spoken);
    let late = Peer::start(&door, &unique("late"), &[&state], None);
    late.wait_for_payload(&state, "online");
    assert_eq!(look(&door, &state).len(), 1, "retained, not only said");
    wait_until(PATIENCE, "the subscription stands again", || {
        writer.publish(live(&event, "after"));
        reader.payloads(&event).contains(&"after".to_owned()).then_some(())
    });
    Finding::Has
}
