//! `mqtt.uplink`: what it is read as, and what is refused with what to do.

use std::time::Duration;

use edge_config::{Profile, Sources, load};

use crate::{config, problems};

fn one(text: &str, words: &str) {
    let found = problems(text);
    assert!(found.len() == 1 && found[0].contains(words), "{words:?} in {found:?}");
}

#[test]
fn the_fleets_brokers_stand_beside_the_embedded_one_in_their_order() {
    let config = config(
        "[mqtt]\nuplink = [\"mqtts://a:8883\", \"mqtt://b\"]\nusername = \"me\"\npassword_file = \"/run/secret\"\n\
         ca_file = \"/ca.pem\"\nuplink_json = true\nuplink_discovery = false\nuplink_load_interval = \"1m\"\n\
         uplink_daily_bytes = 5000000",
    );
    assert!(config.mqtt.embedded_listen().is_some());
    let uplink = config.mqtt.uplink.expect("there is one");
    let addresses: Vec<String> = uplink.addresses.iter().map(ToString::to_string).collect();
    assert_eq!(addresses, ["mqtts://a:8883", "mqtt://b:1883"]);
    assert_eq!(uplink.credentials.map(|said| said.username).as_deref(), Some("me"));
    assert_eq!(uplink.tls.ca_file.as_deref(), Some("/ca.pem".as_ref()));
    assert_eq!((uplink.json, uplink.discovery, uplink.daily_bytes), (true, false, Some(5_000_000)));
    assert_eq!(uplink.load_interval, Duration::from_secs(60));
}

#[test]
fn an_uplink_that_says_little_keeps_json_here_and_hears_the_fleet() {
    let uplink = config("[mqtt]\nuplink = [\"mqtt://a\"]").mqtt.uplink.expect("there is one");
    assert_eq!((uplink.json, uplink.discovery, uplink.daily_bytes), (false, true, None));
    assert_eq!((uplink.load_interval, uplink.credentials), (Duration::from_secs(10), None));
    assert_eq!(config("").mqtt.uplink, None);
    assert_eq!(config("[mqtt]\nuplink = []\nuplink_daily_bytes = 100000").mqtt.uplink, None, "an empty list is none");
}

#[test]
fn what_is_no_list_of_different_brokers_is_refused_with_what_to_do() {
    one(
        "[mqtt]\nuplink = \"mqtt://a\"",
        "must be an array of up to 8 addresses, the preferred first, as in [\"mqtts://",
    );
    one("[mqtt]\nuplink = [\"mqtt://a\", 7]", "(address 2)");
    one("[mqtt]\nuplink = [\"mqtt://a\", \"b:1883\"]", "must be an address as in");
    let twice = "[mqtt]\nuplink = [\"mqtt://a\", \"mqtt://b\", \"mqtt://A:1883\"]";
    one(twice, "names the same broker twice (addresses 1 and 3, mqtt://A:1883); remove either");
    let many: Vec<String> = (0..9).map(|number| format!("\"mqtt://hub-{number}\"")).collect();
    one(&format!("[mqtt]\nuplink = [{}]", many.join(", ")), "up to 8 addresses");
    let found = problems("[mqtt]\nuplink = [\"mqtt://me:hunter2@a\"]");
    assert!(found.len() == 1 && !found[0].contains("hunter2") && found[0].contains("password_file"), "{found:?}");
    one(
        "[mqtt]\nuplink = [\"mqtt://127.0.0.1\"]",
        "names this node's own broker (mqtt://127.0.0.1:1883 is mqtt.listen)",
    );
    one("[mqtt]\nuplink = [\"mqtt://localhost:1884\"]\nlisten = \"127.0.0.1:1884\"", "names this node's own broker");
    config("[mqtt]\nuplink = [\"mqtt://127.0.0.1:1884\"]");
}

#[test]
fn a_site_broker_is_the_only_one() {
    one("[mqtt]\nbroker = \"mqtt://hub\"\nuplink = [\"mqtt://a\"]", "mqtt.broker names the only one that is used");
    let found = problems("[mqtt]\nbroker = \"mqtt://hub\"\nuplink = [\"mqtt://a\"]\nuplink_json = true");
    assert!(found.len() == 2 && found[1].contains("which mqtt.broker excludes"), "{found:?}");
}

#[test]
fn every_problem_of_an_uplink_is_told_at_once() {
    one("[mqtt]\nuplink_json = true", "mqtt.uplink_json = true needs mqtt.uplink beside it");
    one("[mqtt]\nuplink = [\"mqtt://a\"]\nca_file = \"/x\"", "write an address of mqtt.uplink with mqtts://");
    one("[mqtt]\nuplink = [\"mqtts://a\"]\nkey_file = \"/x\"", "needs mqtt.certificate_file beside it");
    one("[mqtt]\nuplink = [\"mqtts://a\"]\npassword_file = \"/x\"", "needs mqtt.username beside it");
    let found = problems(
        "[mqtt]\nuplink = [\"mqtt://a\", \"mqtt://a\"]\nuplink_load_interval = \"10ms\"\nuplink_daily_bytes = 5\n\
         uplink_discovery = \"perhaps\"",
    );
    assert_eq!(found.len(), 4, "{found:?}");
    let spoken = |words: &str| found.iter().any(|line| line.contains(words));
    assert!(spoken("a duration from \"1s\" to \"1h\"") && spoken("a whole number from 100000 to"), "{found:?}");
}

#[test]
fn the_cellular_profile_waits_for_its_brokers_and_bounds_what_goes_there() {
    let named = Sources { profile: Some(Profile::Cellular), ..Sources::default() };
    assert_eq!(load(named.clone()).unwrap().mqtt.uplink, None);
    let config = load(named.env([("TIDEGATE__MQTT__UPLINK", "[\"mqtts://a.example\"]")])).unwrap();
    let uplink = config.mqtt.uplink.as_ref().expect("there is one now");
    assert_eq!((uplink.json, uplink.discovery, uplink.daily_bytes), (false, false, Some(1_000_000)));
    assert!(config.mqtt.json, "at home everything stays readable");
    let shown = config.show();
    assert!(shown.contains("uplink = [\"mqtts://a.example:8883\"]  # "), "{shown}");
    assert!(shown.contains("uplink_daily_bytes = 1000000  # "), "{shown}");
}
