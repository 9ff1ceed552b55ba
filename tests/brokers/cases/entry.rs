//! How a link gets in: the version that is spoken, passwords, TLS, certificates.

use tidegate::mqtt::link::Protocol;

use crate::gaps::Finding;
use crate::peer::{Peer, live, unique};
use crate::site::{Door, Site, login};
use crate::stranger;

/// Our link and a client that is not ours agree on it.
pub(crate) fn version(site: &mut dyn Site) -> Finding {
    let door = Door::plain(site);
    let peer = Peer::up(&door, &[]);
    let spoken = peer.status().protocol.expect("it is connected");
    assert_eq!(stranger::version(&door), if spoken == Protocol::V5 { "5" } else { "311" });
    match spoken {
        Protocol::V5 => Finding::Has,
        Protocol::V311 => Finding::Lacks(format!("{spoken} is spoken")),
    }
}

/// The right one gets in; a wrong one does not, and is not taken for a version refused.
pub(crate) fn password(site: &mut dyn Site) -> Finding {
    let Some(door) = site.asks_for_login() else {
        Peer::start(&Door::plain(site), &unique("peer"), &[], None).wait_connected(1);
        return Finding::Lacks("anyone is let in".to_owned());
    };
    Peer::start(&door, &unique("peer"), &[], None).wait_connected(1);
    let wrong = Some(("tester".to_owned(), "wrong".to_owned()));
    let peer = Peer::start(&Door { login: wrong, ..door }, &unique("peer"), &[], None);
    let status = peer.wait_refused("mqtt.password_file");
    assert_eq!(status.protocol, None);
    Finding::Has
}

/// The broker proves its name to us by the authority that we trust, and by no other.
pub(crate) fn tls(site: &mut dyn Site) -> Finding {
    let certificates = site.certificates();
    let door = Door { tls: Some(certificates.tls("ca", None)), ..Door::plain(site) };
    let Some((port, _)) = site.tls() else {
        let peer = Peer::start(&door, &unique("peer"), &[], None);
        peer.wait_refused("TLS");
        return Finding::Lacks("no TLS".to_owned());
    };
    let door = Door { port, login: login(), ..door };
    assert_carries(&door);
    let stranger = Door { tls: Some(certificates.tls("other-ca", None)), ..door.clone() };
    Peer::start(&stranger, &unique("peer"), &[], None).wait_refused("mqtt.ca_file");
    let other_name = Door { host: "localhost", ..door };
    Peer::start(&other_name, &unique("peer"), &[], None).wait_refused("mqtt.ca_file");
    Finding::Has
}

/// A node's certificate opens without a password; none does not, and one of a strange authority does not.
pub(crate) fn mutual_tls(site: &mut dyn Site) -> Finding {
    let certificates = site.certificates();
    let Some((_, port)) = site.tls() else { return tls(site) };
    let door = |tls| Door { host: "127.0.0.1", port, login: None, tls: Some(tls) };
    assert_carries(&door(certificates.tls("ca", Some("node"))));
    for refused in [certificates.tls("ca", None), certificates.tls("ca", Some("foreign"))] {
        let peer = Peer::start(&door(refused), &unique("peer"), &[], None);
        let status = peer.wait_refused("certificate");
        assert_eq!(status.protocol, None);
    }
    Finding::Has
}

/// A message larger than a TLS record comes through whole.
fn assert_carries(door: &Door) {
    let topic = unique("entry/large");
    let peer = Peer::up(door, &[&topic]);
    let payload = "x".repeat(60_000);
    peer.publish(live(&topic, &payload));
    peer.wait_for_payload(&topic, &payload);
    peer.close();
}
