//! A fleet on disk: whom it lets in, what it believes of them, and how its root is replaced.

use std::path::Path;

use tempfile::TempDir;

use super::*;
use crate::wire::registry::Standing;
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
fn a_change_tells_apart_whose_words_still_count() {
    let folder = TempDir::new().unwrap();
    let mut fleet = fleet(folder.path());
    let hub = fleet.enroll(&subject("hub", Role::Authority), DAY, NOW).unwrap();
    let key = Key::generate().unwrap();
    let chain = hub.certify(&subject("gw-3", Role::Node), &key.public(), (NOW, NOW + DAY)).unwrap();
    let by_hub = Credential::new(key, chain).unwrap();
    let [first, second] = ["gw-1", "gw-2"].map(|name| fleet.enroll(&subject(name, Role::Node), DAY, NOW).unwrap());
    let verifier = verifier(&fleet);
    let nodes = [&first, &second, &by_hub];
    nodes.iter().for_each(|node| {
        assert_eq!(kind(&verifier, &said(node, &node.facts().name), NOW), "believed");
    });
    let of_all = |verifier: &Verifier| {
        let standing = verifier.standings();
        nodes.map(|node| standing(&node.facts().pin().0))
    };
    let mut change = |what: fn(&mut Authority)| {
        what(&mut fleet);
        verifier.update(&fleet.trust_message().unwrap()).unwrap();
        of_all(&verifier)
    };
    use Standing::{Believed, PutOut};
    assert_eq!(change(|fleet| assert_eq!(fleet.revoke("gw-2", NOW).unwrap(), 1)), [Believed, PutOut, Believed]);
    assert_eq!(
        change(|fleet| assert_eq!(fleet.revoke("hub", NOW).unwrap(), 1)),
        [Believed, PutOut, PutOut],
        "with its authority"
    );
    assert_eq!(change(|fleet| fleet.begin_rotation(NOW).unwrap()), [Believed, PutOut, PutOut]);
    assert_eq!(change(|fleet| fleet.finish_rotation(NOW).unwrap()), [PutOut; 3], "the root is gone");
    let knows_nobody = Verifier::new(tree(), fleet.anchors().clone(), fleet.trust_message().unwrap());
    assert_eq!(of_all(&knows_nobody), [Standing::Unknown; 3]);
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

#[test]
fn a_root_or_an_authority_renews_for_the_same_node_and_what_it_issues_goes_with_the_enrolment() {
    let folder = TempDir::new().unwrap();
    let mut fleet = fleet(folder.path());
    let hub = fleet.enroll(&subject("hub", Role::Authority), 10 * DAY, NOW).unwrap();
    let hub_folder = folder.path().join("hub");
    CredentialFiles::new(&hub_folder).store(&hub, fleet.anchors(), &fleet.trust_message().unwrap()).unwrap();
    let node = fleet.enroll(&subject("gw-1", Role::Node), 3 * DAY, NOW).unwrap();
    let later = NOW + 2 * DAY;
    let verifier = verifier(&fleet);
    let mut renewed = Vec::new();
    for place in [folder.path().join("fleet"), hub_folder.clone()] {
        let issuer = Issuer::open(&place).unwrap();
        issuer.check(fleet.anchors(), later).unwrap();
        let key = Key::generate().unwrap();
        let chain = issuer.renew(node.chain(), &key.public(), fleet.anchors(), later).unwrap();
        let again = Credential::new(key, chain).unwrap();
        let (before, after) = (node.facts(), again.facts());
        assert_eq!((after.subject(), after.not_after), (before.subject(), later + 3 * DAY), "no longer than before");
        assert_eq!(after.hosts, ["gw.local", "10.0.0.7"]);
        assert_eq!(issued(&place).unwrap().last().map(|one| one.serial.0.clone()), Some(after.serial.clone()));
        assert_eq!(kind(&verifier, &said(&again, "gw-1"), later), "believed");
        renewed.push(again);
    }
    // One that was renewed is renewed again, and still goes with the first.
    let key = Key::generate().unwrap();
    let chain =
        Issuer::open(&hub_folder).unwrap().renew(renewed[1].chain(), &key.public(), fleet.anchors(), later + DAY);
    renewed.push(Credential::new(key, chain.unwrap()).unwrap());
    assert_eq!(renewed[2].facts().enrolled_as(), node.facts().serial);

    fleet.revoke("gw-1", later).unwrap();
    verifier.update(&fleet.trust_message().unwrap()).unwrap();
    for credential in &renewed {
        assert_eq!(kind(&verifier, &said(credential, "gw-1"), later + DAY), "revoked");
    }
    // The hub's folder has heard of nothing; what is believed has.
    let key = Key::generate().unwrap().public();
    for place in [folder.path().join("fleet"), hub_folder] {
        let refused = Issuer::open(&place).unwrap().renew(renewed[1].chain(), &key, fleet.anchors(), later);
        assert!(refused.unwrap_err().to_string().contains("was revoked"));
    }
}

#[test]
fn nobody_else_is_renewed_and_nobody_else_renews() {
    let folder = TempDir::new().unwrap();
    let fleet = fleet(folder.path());
    let enroll = |name: &str, role: Role, life: UnixSeconds| fleet.enroll(&subject(name, role), life, NOW).unwrap();
    let store = |credential: &Credential| {
        let place = folder.path().join(&credential.facts().name);
        CredentialFiles::new(&place).store(credential, fleet.anchors(), &fleet.trust_message().unwrap()).unwrap();
        place
    };
    let (hub, node) = (enroll("hub", Role::Authority, 2 * DAY), enroll("gw-1", Role::Node, 3 * DAY));
    let key = Key::generate().unwrap().public();
    let refused = |place: &std::path::Path, credential: &Credential, now: UnixSeconds| {
        Issuer::open(place).unwrap().renew(credential.chain(), &key, fleet.anchors(), now).unwrap_err().to_string()
    };
    let place = store(&hub);
    assert!(refused(&place, &node, NOW).contains("enroll the authority anew"));
    assert!(refused(&place, &enroll("laptop", Role::Operator, DAY), NOW).contains("of the role operator"));
    assert!(refused(&place, &node, NOW + 4 * DAY).contains("has expired"));
    assert!(Issuer::open(&place).unwrap().check(fleet.anchors(), NOW + 3 * DAY).is_err(), "it has ended itself");

    let told = Issuer::open(&store(&node)).unwrap_err().to_string();
    assert!(told.contains("is of the role node") && told.contains("--role authority"), "{told}");
    assert!(Issuer::open(&folder.path().join("nowhere")).unwrap_err().to_string().contains("holds no credential"));
    let other = Authority::found(&folder.path().join("other"), "plant-a", NOW).unwrap();
    let of_other = Issuer::open(&folder.path().join("other")).unwrap();
    assert!(of_other.check(fleet.anchors(), NOW).unwrap_err().to_string().contains("another root"));
    assert!(of_other.renew(node.chain(), &key, other.anchors(), NOW).is_err());
}

#[test]
fn a_power_cut_at_any_point_of_a_renewal_leaves_a_whole_credential() {
    let folder = TempDir::new().unwrap();
    let authority = fleet(folder.path());
    let old = authority.enroll(&subject("gw-1", Role::Node), DAY, NOW).unwrap();
    let place = folder.path().join("credentials");
    let files = CredentialFiles::new(&place);
    files.store(&old, authority.anchors(), &authority.trust_message().unwrap()).unwrap();
    let key = files.next_key().unwrap();
    assert_eq!(files.next_key().unwrap().public(), key.public(), "the one that was asked for");
    assert_eq!(files.load().unwrap().unwrap().0.facts(), old.facts());

    let certificate = authority.certify(&subject("gw-1", Role::Node), &key.public(), 2 * DAY, NOW).unwrap();
    let renewed = files.renewed(vec![certificate]).unwrap();
    assert_eq!(files.load().unwrap().unwrap().0.facts(), old.facts(), "nothing is changed yet");
    // Cut off between the certificate and its key.
    std::fs::write(place.join("node.pem"), renewed.certificate_pem()).unwrap();
    assert_eq!(files.load().unwrap().unwrap().0.facts(), renewed.facts());
    assert!(!place.join("node-next.key").exists());
    files.promote(&renewed).unwrap();
    assert_eq!(
        Key::from_pem(&std::fs::read_to_string(place.join("node.key")).unwrap()).unwrap().public(),
        key.public()
    );
    assert_ne!(files.next_key().unwrap().public(), key.public(), "every certificate has a key of its own");
}

#[test]
fn of_two_words_of_one_version_every_node_takes_the_same_whichever_it_heard_first() {
    let folder = TempDir::new().unwrap();
    let first = fleet(folder.path());
    for name in ["gw-1", "gw-2", "gw-3"] {
        first.enroll(&subject(name, Role::Node), DAY, NOW).unwrap();
    }
    // A copy of the folder, and something else is done in each.
    let copy = folder.path().join("copy");
    std::fs::create_dir(&copy).unwrap();
    for file in std::fs::read_dir(folder.path().join("fleet")).unwrap() {
        let file = file.unwrap();
        std::fs::copy(file.path(), copy.join(file.file_name())).unwrap();
    }
    let (mut first, mut second) = (first, Authority::open(&copy).unwrap());
    first.revoke("gw-1", NOW).unwrap();
    second.revoke("gw-2", NOW + 5).unwrap();
    assert_eq!(first.anchors().version(), second.anchors().version());
    let words = [first.trust_message().unwrap(), second.trust_message().unwrap()];
    let of_each = |order: [usize; 2]| {
        let first = believing(&words[order[0]]);
        let update = first.update(&words[order[1]]).unwrap();
        assert_eq!(first.update(&words[order[0]]).unwrap() == Update::Same, update == Update::RivalRefused);
        (update, first.anchors())
    };
    let (one, other) = (of_each([0, 1]), of_each([1, 0]));
    assert_eq!(one.1, other.1, "all end up with one of them");
    assert_eq!([one.0, other.0], [Update::RivalTaken, Update::RivalRefused], "the later of two that revoke as many");
    // One that revokes more counts, and the next version counts in any case.
    let third = Authority::open(&copy).unwrap();
    let verifier = believing(&words[1]);
    assert_eq!(verifier.update(&words[1]).unwrap(), Update::Same);
    first.revoke("gw-3", NOW).unwrap();
    assert_eq!(verifier.update(&first.trust_message().unwrap()).unwrap(), Update::Newer);
    assert_eq!(verifier.update(&third.trust_message().unwrap()).unwrap(), Update::Older);
}

fn believing(word: &[u8]) -> Verifier {
    let anchors = Anchors::read_trusted(&tree(), word).unwrap();
    Verifier::new(tree(), anchors, word.to_vec())
}

#[test]
fn what_was_known_by_one_word_is_checked_anew_by_its_rival() {
    let folder = TempDir::new().unwrap();
    let mut first = fleet(folder.path());
    let node = first.enroll(&subject("gw-1", Role::Node), DAY, NOW).unwrap();
    first.enroll(&subject("gw-2", Role::Node), DAY, NOW).unwrap();
    let (before, sealed) = (first.anchors().clone(), first.trust_message().unwrap());
    first.revoke("gw-2", NOW).unwrap();
    let believing = Verifier::new(tree(), first.anchors().clone(), first.trust_message().unwrap());
    assert_eq!(kind(&believing, &said(&node, "gw-1"), NOW), "believed");
    // The same version, two revoked.
    let rival = before.revoking([node.facts().serial.clone(), vec![7]], |_| false, NOW);
    let key = Key::from_pem(&std::fs::read_to_string(folder.path().join("fleet/root.key")).unwrap()).unwrap();
    let rival = rival.sealed(&tree(), &key, &before.roots()[0]).unwrap();
    assert_eq!(believing.update(&rival).unwrap(), Update::RivalTaken);
    assert_eq!(kind(&believing, &said(&node, "gw-1"), NOW), "revoked");
    assert_eq!(believing.update(&sealed).unwrap(), Update::Older);
}

#[test]
fn a_clock_that_was_never_set_believes_and_one_that_is_ahead_says_expired_until_it_is_right() {
    let folder = TempDir::new().unwrap();
    let fleet = fleet(folder.path());
    // Let in long after the fleet's last change.
    let (later, year) = (NOW + 400 * DAY, 365 * DAY);
    let node = fleet.enroll(&subject("gw-1", Role::Node), 90 * DAY, later).unwrap();
    let verifier = verifier(&fleet);
    let message = said(&node, "gw-1");
    let at = |now: UnixSeconds| kind(&verifier, &message, now);
    assert_eq!([at(0), at(EARLIEST - 1)], ["believed", "believed"], "1970, and a firmware's own date");
    assert_eq!(at(later), "believed");
    let in_2099 = 4_070_908_800;
    assert_eq!([at(in_2099), at(later + year)], ["expired", "expired"]);
    assert_eq!([at(later), at(0)], ["believed", "believed"], "back again");
    assert_eq!(at(NOW), "expired", "a clock that was set is taken at its word");
}
