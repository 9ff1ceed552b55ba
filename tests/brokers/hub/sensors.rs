//! A camera that asks for inference at a hub: a user with a password, `mosquitto_rr` as it is typed.

use std::process::{Command, Output};

use serde_json::Value;

use super::{Hub, fleet, nodes};
use crate::peer::Peer;
use crate::support::{PATIENCE, images, wait_until};

/// A camera, by the password that `fleet user` has shown.
struct Camera<'a> {
    hub: &'a Hub,
    password: String,
}

impl Camera<'_> {
    /// Asks on a topic, and waits so many seconds for a reply on another.
    fn asks(&self, [topic, reply]: [&str; 2], wait: &str) -> Output {
        let (pixels, _) = edge_config::models::heldout().next().unwrap();
        let [port, roots] = [self.hub.port.to_string(), format!("{}/roots.pem", self.hub.dir())];
        let below = |topic| format!("tidegate/v1/plant-a/{topic}");
        let mut command = Command::new("mosquitto_rr");
        command.args(["-h", "127.0.0.1", "-p", &port, "--cafile", &roots, "-u", "cam-1", "-P", &self.password]);
        command.args(["-q", "1", "-W", wait, "-t", &below(topic), "-e", &below(reply), "-F", "%p"]);
        command.args(["-m", &images(&[pixels]).to_string()]).output().expect("mosquitto-clients are installed")
    }
}

#[test]
fn a_sensor_asks_at_a_hub_under_its_own_name_and_a_node_behind_it_answers() {
    let hub = Hub::start();
    let node = nodes::at_hub(&hub, "gateway-1", "[service.digits.mqtt]\nenabled = true");
    let told = fleet(&hub.home, &["user", "cam-1", "--dir", &hub.dir()]);
    let password = told.lines().next().unwrap().rsplit_once(": ").unwrap().1.to_owned();
    let camera = Camera { hub: &hub, password };
    let own = ["infer/digits/cam-1", "reply/cam-1/digits"];
    let answer = wait_until(PATIENCE, "the node answers", || {
        let asked = camera.asks(own, "2");
        asked.status.success().then(|| serde_json::from_slice::<Value>(&asked.stdout).unwrap())
    });
    assert_eq!(answer["outputs"][0]["data"].as_array().map(Vec::len), Some(10), "{answer}");

    // Another's name is refused by the hub; what was asked afterwards comes after it.
    let listener = Peer::up(&hub.own_box(), &["tidegate/v1/plant-a/infer/#"]);
    let others = camera.asks(["infer/digits/cam-2", "reply/cam-1/digits"], "1");
    assert!(!others.status.success() && others.stdout.is_empty(), "{others:?}");
    let last = ["infer/digits/cam-1/last", "reply/cam-1/digits/last"];
    assert!(camera.asks(last, "30").status.success());
    wait_until(PATIENCE, "the last one is heard", || {
        (!listener.payloads(&format!("tidegate/v1/plant-a/{}", last[0])).is_empty()).then_some(())
    });
    assert_eq!(listener.payloads("tidegate/v1/plant-a/infer/digits/cam-2"), Vec::<String>::new());
    assert!(node.terminate().code == Some(0));
}
