//! A fleet on disk: whom it lets in, what it believes of them, and how its root is replaced.

use std::path::Path;

use tempfile::TempDir;

use super::*;
use crate::wire::{Encoding, Message, NodeState, Root, Stamp, Topic};

const NOW: UnixSeconds = 1_800_000_000;
const DAY: UnixSeconds = 86_400;
const STAMP: Stamp = Stamp { session: 3, sequence: 1 };

fn fleet(folder: &Path) -> Authority {
    Authority::found(&folder.join("fleet"), "plant-a", NOW).unwrap()
}

fn subject(name: &str, role: Role) -> Subject {
    Subject { fleet: "plant-a".into(), name: name.into(), role, hosts: vec!["gw.local".into(), "10.0.0.7".into()] }
}

fn tree() -> Root {
    Root::new(Encoding::Cbor, "plant-a").unwrap()
}

fn verifier(authority: &Authority) -> Verifier {
    Verifier::new(tree(), authority.anchors().clone(), authority.trust_message().unwrap())
}

fn state(node: &str) -> (Topic, Vec<u8>) {
    let state = NodeState { fleet: "plant-a".into(), node: node.into(), ..NodeState::default() };
    (Topic::state(node).unwrap(), Message::State(state).encode(Encoding::Cbor).unwrap())
}

fn said(by: &Credential, node: &str) -> (Topic, Vec<u8>) {
    let (topic, payload) = state(node);
    let message = by.seal(&tree(), &topic, STAMP, payload).unwrap();
    (topic, message)
}

fn kind(verifier: &Verifier, said: &(Topic, Vec<u8>), now: UnixSeconds) -> &'static str {
    match verifier.open(&said.0, &said.1, now) {
        Ok(_) => "believed",
        Err(rejected) => rejected.kind(),
    }
}

#[test]
fn a_node_of_the_fleet_is_believed_on_its_own_topics_alone() {
    let folder = TempDir::new().unwrap();
    let authority = fleet(folder.path());
    let node = authority.enroll(&subject("gw-1", Role::Node), DAY, NOW).unwrap();
    let verifier = verifier(&authority);
    let (topic, message) = said(&node, "gw-1");
    let believed = verifier.open(&topic, &message, NOW).unwrap();
    assert_eq!((believed.speaker.name.as_str(), believed.speaker.role, believed.stamp), ("gw-1", Role::Node, STAMP));
    assert_eq!(believed.payload, state("gw-1").1);
    assert_eq!(kind(&verifier, &said(&node, "gw-2"), NOW), "not_theirs");
    let operator = authority.enroll(&subject("gw-1", Role::Operator), DAY, NOW).unwrap();
    assert_eq!(kind(&verifier, &said(&operator, "gw-1"), NOW), "not_theirs");
}

#[test]
fn nobody_else_is_believed_and_each_reason_has_its_name() {
    let folder = TempDir::new().unwrap();
    let authority = fleet(folder.path());
    let node = authority.enroll(&subject("gw-1", Role::Node), DAY, NOW).unwrap();
    let verifier = verifier(&authority);
    let good = said(&node, "gw-1");

    let stranger = Authority::found(&folder.path().join("other"), "plant-a", NOW).unwrap();
    let stranger = stranger.enroll(&subject("gw-1", Role::Node), DAY, NOW).unwrap();
    assert_eq!(kind(&verifier, &said(&stranger, "gw-1"), NOW), "foreign");
    assert_eq!(kind(&verifier, &state("gw-1"), NOW), "unsigned");
    assert_eq!(kind(&verifier, &good, NOW + DAY + 1), "expired");
    assert_eq!(kind(&verifier, &good, NOW - 2 * DAY), "expired");

    let mut forged = good.clone();
    *forged.1.last_mut().unwrap() ^= 1;
    assert_eq!(kind(&verifier, &forged, NOW), "forged");
    let payload_at = forged.1.windows(4).position(|bytes| bytes == b"gw-1").unwrap();
    let mut altered = good.clone();
    altered.1[payload_at] = b'x';
    assert_ne!(kind(&verifier, &altered, NOW), "believed");
    assert_eq!(kind(&verifier, &(Topic::state("gw-1").unwrap(), vec![0x84]), NOW), "malformed");
    assert_eq!(kind(&verifier, &good, NOW), "believed", "what was known before is known still");
}

#[test]
fn a_certificate_of_the_same_key_holder_but_another_key_does_not_pass() {
    let folder = TempDir::new().unwrap();
    let authority = fleet(folder.path());
    let node = authority.enroll(&subject("gw-1", Role::Node), DAY, NOW).unwrap();
    let other_key = Key::generate().unwrap();
    assert!(matches!(Credential::new(other_key, node.chain().to_vec()), Err(CredentialError::Mixed)));
}

#[test]
fn what_was_revoked_is_believed_no_longer_and_the_word_on_it_must_be_the_roots() {
    let folder = TempDir::new().unwrap();
    let mut authority = fleet(folder.path());
    let node = authority.enroll(&subject("gw-1", Role::Node), DAY, NOW).unwrap();
    let verifier = verifier(&authority);
    assert_eq!(kind(&verifier, &said(&node, "gw-1"), NOW), "believed");
    assert_eq!(authority.revoke("gw-1", NOW).unwrap(), 1);
    assert!(matches!(authority.revoke("gw-9", NOW), Err(AuthorityError::Unknown(_))));

    let word = authority.trust_message().unwrap();
    let newer = verifier.anchors().updated(&tree(), &word).unwrap().expect("it is newer");
    assert_eq!((newer.version(), newer.revoked()), (2, 1));
    assert_eq!(verifier.update(&word).unwrap(), Update::Newer);
    assert_eq!(verifier.update(&word).unwrap(), Update::Same);
    assert_eq!(kind(&verifier, &said(&node, "gw-1"), NOW), "revoked");
    assert_eq!(newer.updated(&tree(), &word).unwrap(), None, "the same once more is nothing new");

    let stranger = Authority::found(&folder.path().join("other"), "plant-a", NOW).unwrap();
    let refused = newer.updated(&tree(), &stranger.trust_message().unwrap());
    assert!(matches!(refused, Err(AnchorsError::NotSigned)), "{refused:?}");
}

#[test]
fn a_root_is_replaced_while_both_pass_and_then_the_old_one_does_not() {
    let folder = TempDir::new().unwrap();
    let mut authority = fleet(folder.path());
    let old = authority.enroll(&subject("gw-1", Role::Node), DAY, NOW).unwrap();
    let verifier = verifier(&authority);

    authority.begin_rotation(NOW).unwrap();
    assert!(authority.begin_rotation(NOW).is_err(), "one at a time");
    // What is on disk goes on where it was, at every step.
    let mut authority = Authority::open(&folder.path().join("fleet")).unwrap();
    let new = authority.enroll(&subject("gw-2", Role::Node), DAY, NOW).unwrap();
    authority.enroll(&subject("gw-3", Role::Node), DAY, NOW).unwrap();
    assert_eq!(kind(&verifier, &said(&new, "gw-2"), NOW), "foreign", "the new root is not known yet");
    let take = |word: Vec<u8>| assert_eq!(verifier.update(&word).unwrap(), Update::Newer);
    // Whatever is written while both stand is signed by the root that every node believes.
    assert_eq!(authority.revoke("gw-3", NOW).unwrap(), 1);
    let mut authority = Authority::open(&folder.path().join("fleet")).unwrap();
    take(authority.trust_message().unwrap());
    assert_eq!(kind(&verifier, &said(&old, "gw-1"), NOW), "believed");
    assert_eq!(kind(&verifier, &said(&new, "gw-2"), NOW), "believed");

    authority.finish_rotation(NOW).unwrap();
    assert!(authority.finish_rotation(NOW).is_err(), "none has begun");
    let authority = Authority::open(&folder.path().join("fleet")).unwrap();
    take(authority.trust_message().unwrap());
    assert_eq!(kind(&verifier, &said(&old, "gw-1"), NOW), "foreign");
    assert_eq!(kind(&verifier, &said(&new, "gw-2"), NOW), "believed");
}

#[test]
fn an_authority_lets_nodes_in_and_nobody_who_may_do_more() {
    let folder = TempDir::new().unwrap();
    let mut fleet = fleet(folder.path());
    let hub = fleet.enroll(&subject("hub", Role::Authority), DAY, NOW).unwrap();
    let verifier = verifier(&fleet);
    let enrolled = |role| {
        let key = Key::generate().unwrap();
        let chain = hub.certify(&subject("gw-5", role), &key.public(), (NOW, NOW + 9 * DAY)).unwrap();
        Credential::new(key, chain).unwrap()
    };
    let node = enrolled(Role::Node);
    assert_eq!(node.facts().not_after, NOW + DAY, "not longer than the authority's own");
    assert_eq!(kind(&verifier, &said(&node, "gw-5"), NOW), "believed");
    assert_eq!(kind(&verifier, &said(&hub, "hub"), NOW), "foreign", "what issues says nothing itself");
    assert_eq!(kind(&verifier, &said(&enrolled(Role::Authority), "gw-5"), NOW), "foreign");

    let plain = fleet.enroll(&subject("gw-1", Role::Node), DAY, NOW).unwrap();
    let key = Key::generate().unwrap();
    let chain = plain.certify(&subject("gw-6", Role::Node), &key.public(), (NOW, NOW + DAY)).unwrap();
    assert_eq!(kind(&verifier, &said(&Credential::new(key, chain).unwrap(), "gw-6"), NOW), "foreign");

    fleet.revoke("hub", NOW).unwrap();
    verifier.update(&fleet.trust_message().unwrap()).unwrap();
    assert_eq!(kind(&verifier, &said(&node, "gw-5"), NOW), "revoked", "with whoever let it in");
}

#[test]
fn a_credential_survives_its_files_and_says_what_is_wrong_with_them() {
    let folder = TempDir::new().unwrap();
    let authority = fleet(folder.path());
    let node = authority.enroll(&subject("gw-1", Role::Node), DAY, NOW).unwrap();
    let files = CredentialFiles::new(&folder.path().join("credentials"));
    assert!(files.load().unwrap().is_none());
    files.store(&node, authority.anchors(), &authority.trust_message().unwrap()).unwrap();
    let (again, anchors) = files.load().unwrap().unwrap();
    assert_eq!((again.facts(), &anchors), (node.facts(), authority.anchors()));
    assert_eq!((node.facts().not_before, node.facts().not_after), (NOW - DAY, NOW + DAY));

    let key = folder.path().join("credentials/node.key");
    std::fs::write(&key, "no key").unwrap();
    assert!(files.load().unwrap_err().to_string().contains("node.key"));
    std::fs::remove_file(&key).unwrap();
    let told = files.load().unwrap_err().to_string();
    assert!(told.contains("lacks node.key") && told.contains("fleet enroll"), "{told}");
}

#[test]
fn a_folder_takes_one_fleet_and_a_broken_one_says_which_file() {
    let folder = TempDir::new().unwrap();
    fleet(folder.path());
    let path = folder.path().join("fleet");
    assert!(matches!(Authority::found(&path, "plant-b", NOW), Err(AuthorityError::Exists(_))));
    std::fs::write(path.join("trust.cbor"), "nothing").unwrap();
    assert!(Authority::open(&path).unwrap_err().to_string().contains("trust.cbor"));
}

/// OpenSSL, and so nearly every broker, has to agree.
#[test]
fn openssl_verifies_what_is_issued() {
    let folder = TempDir::new().unwrap();
    let authority = fleet(folder.path());
    let hub = authority.enroll(&subject("hub", Role::Authority), DAY, NOW).unwrap();
    let key = Key::generate().unwrap();
    let chain = hub.certify(&subject("gw-5", Role::Node), &key.public(), (NOW - 1, NOW + DAY)).unwrap();
    let node = Credential::new(key, chain).unwrap();
    let write = |name: &str, text: String| std::fs::write(folder.path().join(name), text).unwrap();
    write("node.pem", node.certificate_pem());
    write("hub.pem", hub.certificate_pem());
    let openssl = |arguments: &[&str]| {
        let run = std::process::Command::new("openssl").args(arguments).current_dir(folder.path()).output().unwrap();
        format!("{}{}", String::from_utf8_lossy(&run.stdout), String::from_utf8_lossy(&run.stderr))
    };
    let at = NOW.to_string();
    let verify = ["verify", "-attime", &at, "-purpose", "sslclient", "-CAfile", "fleet/root.pem"];
    let verified = openssl(&[&verify[..], &["-untrusted", "hub.pem", "node.pem"]].concat());
    assert!(verified.contains("node.pem: OK"), "{verified}");
    let shown = openssl(&["x509", "-in", "node.pem", "-noout", "-text"]);
    for expected in
        ["CN = gw-5", "URI:urn:tidegate:plant-a:node:gw-5", "DNS:gw.local", "IP Address:10.0.0.7", "ED25519"]
    {
        assert!(shown.contains(expected), "{expected} in {shown}");
    }
}

#[test]
fn a_chain_that_is_shown_counts_with_and_without_the_root_and_the_root_alone_for_nothing() {
    let folder = TempDir::new().unwrap();
    let mut authority = fleet(folder.path());
    let root = authority.anchors().roots()[0].clone();
    let node = authority.enroll(&subject("gw-1", Role::Node), DAY, NOW).unwrap();
    let stranger = Authority::found(&folder.path().join("other"), "plant-a", NOW).unwrap();
    let foreign = stranger.enroll(&subject("gw-1", Role::Node), DAY, NOW).unwrap();
    let leaf = |credential: &Credential| credential.chain()[0].clone();
    let before = verifier(&authority);
    let holder = |verifier: &Verifier, chain: &[Vec<u8>]| match verifier.holder(chain, NOW) {
        Ok(facts) => facts.name.clone(),
        Err(rejected) => rejected.kind().to_owned(),
    };
    for chain in [vec![leaf(&node)], vec![leaf(&node), root.clone()]] {
        assert_eq!(holder(&before, &chain), "gw-1");
    }
    let other_root = stranger.anchors().roots()[0].clone();
    for chain in [vec![], vec![root.clone()], vec![leaf(&foreign), root.clone()], vec![leaf(&foreign), other_root]] {
        assert_eq!(holder(&before, &chain), "foreign");
    }
    authority.revoke("gw-1", NOW).unwrap();
    assert_eq!(holder(&verifier(&authority), &[leaf(&node), root]), "revoked");
}
