use super::*;
use crate::trust::{Authority, EARLIEST, Role, Subject};
use crate::wire::Encoding;

const FLEET: &str = "plant-a";

fn root() -> Root {
    Root::new(Encoding::Cbor, FLEET).unwrap()
}

fn hearing(fleet: &Authority, ears: &[Ear]) -> Hearing {
    let verifier = Verifier::new(root(), fleet.anchors().clone(), fleet.trust_message().unwrap());
    let identity = Identity { fleet: FLEET.into(), node: "gw-a".into(), session: 1 };
    let subject = Subject { fleet: FLEET.into(), name: "gw-a".into(), role: Role::Node, hosts: Vec::new() };
    let signer = Signer::new(root(), 1, fleet.enroll(&subject, 86_400, EARLIEST).unwrap());
    Hearing::new(identity, Clock::start(), Arc::new(signer), Arc::new(verifier), Arc::default(), ears.to_vec())
}

fn word(fleet: &Authority) -> Incoming {
    let (topic, payload) = (root().topic(&Topic::Trust), fleet.trust_message().unwrap());
    Incoming { topic, payload, retained: true, expiry: None, properties: None }
}

#[test]
fn a_newer_word_at_one_broker_is_lacking_at_the_other_and_at_no_third() {
    let folder = tempfile::tempdir().unwrap();
    let mut fleet = Authority::found(&folder.path().join("fleet"), FLEET, EARLIEST).unwrap();
    let both = hearing(&fleet, &Ear::ALL);
    let alone = hearing(&fleet, &[Ear::Home]);
    assert_eq!(both.lacking_trust(), [Ear::Home], "what an uplink keeps is not judged before it is connected to");
    for ear in Ear::ALL {
        both.trust_is_to_be_heard(ear);
        both.hear(&word(&fleet), ear);
    }
    alone.hear(&word(&fleet), Ear::Home);
    assert_eq!(both.lacking_trust(), []);

    fleet.begin_rotation(EARLIEST + 1).unwrap();
    both.hear(&word(&fleet), Ear::Uplink);
    assert_eq!(both.lacking_trust(), [Ear::Home]);
    both.trust_is_said(Ear::Home);
    both.hear(&word(&fleet), Ear::Uplink);
    assert_eq!(both.lacking_trust(), []);
    alone.hear(&word(&fleet), Ear::Home);
    assert_eq!(alone.lacking_trust(), []);
    // A broker that forgot, and a new connection to it.
    both.trust_is_to_be_heard(Ear::Uplink);
    assert_eq!(both.lacking_trust(), [Ear::Uplink]);
}
