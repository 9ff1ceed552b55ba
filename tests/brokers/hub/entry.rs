//! Who is let in at a hub, and what those who are not cost it.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::process::Command;

use super::{FLEET, Hub, fleet, member, wait_until_it_hears};
use crate::peer::{Peer, unique};
use crate::site::Door;
use crate::support::{Home, PATIENCE, Spec, wait_until};

#[test]
fn a_hub_lets_nobody_in_without_a_certificate_of_the_fleet_or_a_password() {
    let hub = Hub::start();
    let node = hub.enroll("gateway-1", "node");
    member(&hub, &node, &[]).close();

    Peer::start(&hub.door(None), &unique("nobody"), &[], None).wait_refused("NotAuthorized");
    assert!(!speaks_in_the_clear(hub.port));
    // A fleet of the same name, and the same names in it.
    let other = hub.home.path().join("other").display().to_string();
    fleet(&hub.home, &["init", FLEET, "--dir", &other]);
    fleet(&hub.home, &["enroll", "gateway-1", "--dir", &other]);
    let foreign = hub.home.path().join("other/nodes/gateway-1");
    Peer::start(&hub.door(Some(&foreign)), &unique("foreign"), &[], None).wait_refused("certificate");
    // Whoever lets others in says nothing itself.
    let authority = hub.enroll("issuer", "authority");
    Peer::start(&hub.door(Some(&authority)), &unique("authority"), &[], None).wait_refused("certificate");
    assert!(hub.refused("anonymous") > 0 && hub.refused("handshake") > 0);
    // A password beside a certificate that is not taken opens nothing.
    let both = Door { login: hub.watcher().login, ..hub.door(Some(&foreign)) };
    Peer::start(&both, &unique("both"), &[], None).wait_refused("certificate");
}

/// Whether it answers a CONNECT without TLS with a CONNACK.
fn speaks_in_the_clear(port: u16) -> bool {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.write_all(b"\x10\x10\x00\x04MQTT\x05\x02\x00\x05\x00\x00\x03abc").unwrap();
    let mut answer = Vec::new();
    // A reset is an end as well.
    let _ended = stream.read_to_end(&mut answer);
    answer.first() == Some(&0x20)
}

#[test]
fn wrong_passwords_are_counted_and_soon_not_looked_at() {
    let hub = Hub::start();
    let (user, right) = hub.watcher().login.unwrap();
    let attempt = |password: &str| {
        let mut command = Command::new("mosquitto_sub");
        command.args(["-h", "127.0.0.1", "-p", &hub.port.to_string(), "-V", "5", "-u", &user, "-P", password]);
        command.args(["--cafile", &format!("{}/roots.pem", hub.dir()), "-t", "tidegate-json/v1/plant-a/#", "-E"]);
        command.output().unwrap().status.success()
    };
    assert!(attempt(&right));
    for _ in 0..5 {
        assert!(!attempt("wrong"));
    }
    assert_eq!(hub.refused("password"), 5);
    assert!(!attempt(&right), "not even the right one, for a minute");
    assert_eq!((hub.refused("password"), hub.refused("too_many")), (5, 1));
    // Certificates are another matter.
    member(&hub, &hub.enroll("gateway-1", "node"), &[]);
    Peer::up(&hub.own_box(), &[]);
}

#[test]
fn those_outside_keep_out_neither_the_box_nor_who_is_let_in() {
    let hub = Hub::start();
    let files = hub.enroll("gateway-1", "node");
    let inside = member(&hub, &files, &[]);
    // More than one address may have waiting, all of them silent.
    let silent: Vec<_> = (0..40).map(|_| TcpStream::connect(("127.0.0.1", hub.port)).unwrap()).collect();
    wait_until(PATIENCE, "some are turned away", || (hub.refused("busy") > 0).then_some(()));
    Peer::up(&hub.own_box(), &[]);
    let mut from_elsewhere = Command::new("mosquitto_sub");
    from_elsewhere.args(["-A", "127.0.0.2", "-h", "127.0.0.1", "-p", &hub.port.to_string(), "-V", "5", "-E"]);
    for (option, name) in [("--cafile", "roots.pem"), ("--cert", "node.pem"), ("--key", "node.key")] {
        from_elsewhere.arg(option).arg(files.join(name));
    }
    let output = from_elsewhere.args(["-t", "tidegate-json/v1/plant-a/#"]).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    assert_eq!((inside.status().connections, inside.status().connected), (1, true));
    // Silence ends by itself.
    wait_until(PATIENCE, "the silent ones are put out", || (hub.refused("handshake") > 0).then_some(()));
    drop(silent);
}

#[test]
fn a_user_who_is_taken_out_is_put_out() {
    let hub = Hub::start();
    fleet(&hub.home, &["user", "anna", "--dir", &hub.dir()]);
    let told = fleet(&hub.home, &["user", "anna", "--dir", &hub.dir()]);
    assert!(told.contains("anna has a new password"), "{told}");
    let password = told.lines().next().unwrap().rsplit_once(": ").unwrap().1.to_owned();
    let anna = Door { login: Some(("anna".to_owned(), password)), ..hub.watcher() };
    let topic = "tidegate-json/v1/plant-a/node/x/event/x";
    let (anna, stays) = (
        Peer::start(&anna, &unique("anna"), &[topic], None),
        Peer::start(&hub.watcher(), &unique("w"), &[topic], None),
    );
    wait_until_it_hears(&hub, &anna, topic);
    wait_until_it_hears(&hub, &stays, topic);
    fleet(&hub.home, &["user", "anna", "--remove", "--dir", &hub.dir()]);
    wait_until(PATIENCE, "she is out", || (!anna.status().connected).then_some(()));
    wait_until(PATIENCE, "she is not let in again", || {
        anna.status().last_error.filter(|error| error.contains("BadUserNamePassword"))
    });
    assert_eq!((stays.status().connected, stays.status().connections), (true, 1));
    assert!(hub.refused("put_out") > 0);
    let unknown = hub.home.command(&["fleet", "user", "anna", "--remove", "--dir", &hub.dir()]);
    assert!(unknown.code == Some(1) && unknown.stderr.contains("there is no user anna"), "{}", unknown.stderr);
}

#[test]
fn what_a_hub_cannot_use_is_said_at_the_start() {
    let home = Home::new();
    let refused = |hub: &str, code: i32, expected: &str| {
        let ended = home.run_to_end(&Spec::new().with(hub));
        assert!(ended.code == Some(code) && ended.stderr.contains(expected), "{:?} {}", ended.code, ended.stderr);
    };
    let missing = home.path().join("nowhere");
    refused(&format!("[mqtt]\nlisten_tls = '127.0.0.1:0'\nusers_file = {missing:?}"), 2, "mqtt.users_file");
    let weak = home.file("weak", "anna:$7$101$c2FsdA==$c2FsdA==\n");
    refused(
        &format!("[mqtt]\nlisten_tls = '127.0.0.1:0'\nusers_file = {weak:?}"),
        2,
        "weak:1: its hash has 101 rounds",
    );
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    refused(&format!("[mqtt]\nlisten_tls = '{address}'"), 1, "set mqtt.listen_tls to a free address");
}

#[test]
fn a_node_that_nobody_enrolled_is_a_hub_of_its_own_fleet() {
    let home = Home::new();
    home.command(&["fleet", "user", "anna", "--file", &home.path().join("users").display().to_string()]);
    let users = home.path().join("users");
    let node = home.start(&Spec::new().with(&format!("[mqtt]\nlisten_tls = '127.0.0.1:0'\nusers_file = {users:?}")));
    assert!(node.log().contains("names this box only as localhost"), "{}", node.log());
    let output = node.output();
    let hub =
        output.lines().find_map(|line| line.strip_prefix("hub      mqtts://127.0.0.1:")).expect("where it listens");
    let told = home.command(&["fleet", "user", "anna", "--file", &users.display().to_string()]);
    let password = told.stdout.lines().next().unwrap().rsplit_once(": ").unwrap().1.to_owned();
    let mut command = Command::new("mosquitto_sub");
    command.args(["-h", "localhost", "-p", hub, "-u", "anna", "-P", &password, "-C", "1", "-W", "30"]);
    command.arg("--cafile").arg(home.state_dir().join("credentials/roots.pem"));
    let output = command.args(["-t", "tidegate-json/v1/test/discovery/gateway-t"]).output().unwrap();
    assert!(String::from_utf8_lossy(&output.stdout).contains("gateway-t"), "{output:?}");
}
