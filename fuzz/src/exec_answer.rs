//! What the program of an exec adapter answers, read as the answer to each verb.

use cloud_adapters::exec::decoder::read;
use cloud_adapters::{Instance, InstanceState, LaunchId, Owner, Reach};

/// The launch that is asked about, as in docs/exec-adapter.md.
const LAUNCH: &str = "gw-7-12";

/// Reads it and nothing else.
pub fn decode(data: &[u8]) {
    drop(read(data, &launch(), &owner()));
}

/// An instance that is taken is the one that was asked about, or one of ours in a list of them, each once, and what is
/// said of how to reach it is possible.
pub fn target(data: &[u8]) {
    let told = read(data, &launch(), &owner());
    let [launched, described, listed, ..] = &told[..] else { panic!("a verb has no answer") };
    for instance in launched.iter().chain(described).flatten() {
        assert_eq!(instance.launch, launch());
    }
    if let Ok(listed) = listed {
        assert!(listed.is_sorted_by(|one, next| one.launch < next.launch), "not sorted, or one comes twice");
        assert!(listed.iter().all(|instance| instance.owner.is_same_node(&owner())), "one of another node");
    }
    told.iter().flatten().flatten().for_each(assert_possible);
}

fn assert_possible(instance: &Instance) {
    assert_eq!(instance.reach.is_some(), instance.state == InstanceState::Running, "{instance:?}");
    if let Some(Reach::Loopback { authority } | Reach::Tunnel { authority }) = &instance.reach {
        let is_here =
            ["127.", "localhost:", "[::1]:", "[0:", "[::ffff:127."].iter().any(|host| authority.starts_with(host));
        assert!(is_here || authority.starts_with('['), "a token would leave the box in the clear: {authority}");
    }
}

fn launch() -> LaunchId {
    LAUNCH.parse().expect("an id")
}

fn owner() -> Owner {
    Owner { fleet: "plant-a".to_owned(), node: "gateway-7".to_owned(), session: 4 }
}
