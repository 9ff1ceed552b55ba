//! Inference for who speaks only MQTT: cameras that are `mosquitto_rr`, `mosquitto_pub` and `mosquitto_sub`, at the embedded
//! broker and at a Mosquitto of the site.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::process::{Command, Output, Stdio};
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use tidegate::mqtt::link::{Link, LinkObserver, LinkOptions, LinkStatus};
use tidegate::mqtt::{Incoming, Outgoing, Qos};

use super::clients::{Broker, Message, Subscriber, at_broker, connect_as};
use super::embedded::{CBOR, mqtt};
use crate::support::{Home, Node, PATIENCE, Spec, free_port, images, python, wait_until};

const INFER: &str = "[service.digits.mqtt]\nenabled = true";

/// A node that answers over MQTT, and where its broker is.
struct Site {
    node: Node,
    address: String,
    /// Last, so that the node's goodbye finds it.
    broker: Option<Broker>,
}

impl Site {
    fn embedded(home: &Home, more: &str) -> Self {
        let node = home.start(&Spec::new().with(INFER).with("[service.digits.burst]\nmax_replicas = 0").with(more));
        let address = mqtt(&node);
        Self { node, address, broker: None }.listening()
    }

    fn mosquitto(home: &Home, more: &str) -> Self {
        let broker = Broker::start(home);
        let address = broker.address();
        let spec = at_broker(&address).with(INFER).with("[service.digits.burst]\nmax_replicas = 0").with(more);
        Self { node: home.start(&spec), address, broker: Some(broker) }.listening()
    }

    /// Another node at the same broker, which has answered something.
    fn joined_by_another(&self, home: &Home) -> Self {
        let state_dir = home.path().join("state-2");
        let spec = at_broker(&self.address).with(INFER).with(&format!(
            "[node]\nid = 'gateway-u'\nstate_dir = {state_dir:?}\n[service.digits.burst]\nmax_replicas = 0"
        ));
        let other = Self { node: home.start(&spec), address: self.address.clone(), broker: None };
        wait_until(PATIENCE, "both get some", || {
            assert!(self.ask("digits", &[], &image().0).has("status:200"));
            (other.counted()["answered"] > 0).then_some(())
        });
        other
    }

    /// Who asks before the node has subscribed is heard by nobody.
    fn listening(self) -> Self {
        wait_until(PATIENCE, "the node answers", || {
            let answer = rr(&self.address, &["-W", "2", "-t", &infer("probe"), "-e", &reply("probe", "digits")], b"{}");
            answer.status.success().then_some(())
        });
        self
    }

    /// What became of requests, by result.
    fn counted(&self) -> BTreeMap<String, u64> {
        let metrics = self.node.console("/metrics").text();
        let lines =
            metrics.lines().filter_map(|line| line.strip_prefix("tidegate_mqtt_infer_requests_total{result=\""));
        let counted = lines.map(|line| line.split_once("\"} ").unwrap());
        counted.map(|(result, count)| (result.to_owned(), count.parse().unwrap())).collect()
    }

    fn wait_counted(&self, result: &str, count: u64) {
        wait_until(PATIENCE, &format!("{count} are counted as {result}"), || {
            (self.counted().get(result) == Some(&count)).then_some(())
        });
    }

    /// Asks as MQTT 5 has it, and waits for the answer.
    fn ask(&self, service: &str, more: &[&str], payload: &[u8]) -> Answer {
        let topics = [format!("{CBOR}/infer/{service}/cam-1"), reply("cam-1", "here")];
        let known = ["-t", &topics[0], "-e", &topics[1], "-F", "%P|%C|%D|%x"];
        let output = rr(&self.address, &[&known, more].concat(), payload);
        assert!(output.status.success(), "no answer to {service} {more:?}: {output:?}");
        Answer::read(&output)
    }
}

fn infer(client: &str) -> String {
    format!("{CBOR}/infer/digits/{client}")
}

fn reply(client: &str, below: &str) -> String {
    format!("{CBOR}/reply/{client}/{below}")
}

/// An answer with what MQTT 5 says beside it.
#[derive(Debug)]
struct Answer {
    /// `name:value` pairs, with blanks between.
    user: String,
    content_type: String,
    correlation: String,
    payload: Vec<u8>,
}

impl Answer {
    fn read(output: &Output) -> Self {
        let text = String::from_utf8(output.stdout.clone()).unwrap();
        let [user, content_type, correlation, payload] = text.trim().splitn(4, '|').collect::<Vec<_>>()[..] else {
            panic!("{text:?}")
        };
        let bytes = payload.as_bytes().chunks(2).map(|pair| u8::from_str_radix(str::from_utf8(pair).unwrap(), 16));
        Self {
            user: format!(" {user} "),
            content_type: content_type.to_owned(),
            correlation: correlation.to_owned(),
            payload: bytes.collect::<Result<_, _>>().unwrap(),
        }
    }

    fn json(&self) -> Value {
        serde_json::from_slice(&self.payload).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    fn has(&self, property: &str) -> bool {
        self.user.contains(&format!(" {property} "))
    }

    /// An error in the one shape of all errors, its status said twice.
    fn assert_problem(&self, status: u16, slug: &str) {
        let problem = self.json();
        assert_eq!(problem["type"], format!("urn:tidegate:problem:{slug}"), "{problem}");
        assert_eq!((&problem["status"], &problem["error"]), (&status.into(), &problem["detail"]));
        assert!(self.has(&format!("status:{status}")), "{self:?}");
        assert_eq!(self.content_type, "application/problem+json");
    }
}

/// `mosquitto_rr` as it is typed.
fn rr(address: &str, arguments: &[&str], payload: &[u8]) -> Output {
    // Its options for a file and for its input send nothing in Mosquitto 2.0.11.
    let mut command = client("mosquitto_rr", address, &[&["-W", "30"], arguments].concat());
    command.arg("-m").arg(OsStr::from_bytes(payload)).output().expect(INSTALLED)
}

fn publish(address: &str, arguments: &[&str], payload: &[u8]) {
    let mut command = client("mosquitto_pub", address, arguments);
    let output = command.arg("-m").arg(OsStr::from_bytes(payload)).output().expect(INSTALLED);
    assert!(output.status.success(), "{output:?}");
}

const INSTALLED: &str = "mosquitto-clients are installed (tests/run does it)";

fn client(program: &str, address: &str, arguments: &[&str]) -> Command {
    let (host, port) = address.rsplit_once(':').unwrap();
    let mut command = Command::new(program);
    command.args(["-h", host, "-p", port, "-q", "1"]).args(arguments).stdin(Stdio::null());
    command
}

/// The first image of the held-out set as a request, and what it shows.
fn image() -> (Vec<u8>, usize) {
    let (pixels, digit) = edge_config::models::heldout().next().unwrap();
    (images(&[pixels]).to_string().into_bytes(), usize::from(digit))
}

/// What the model takes the image for.
fn digit(answer: &[u8]) -> usize {
    let answer: Value = serde_json::from_slice(answer).unwrap_or_else(|error| panic!("{error}"));
    let logits = answer["outputs"][0]["data"].as_array().unwrap_or_else(|| panic!("no logits: {answer}"));
    let logits: Vec<f64> = logits.iter().map(|logit| logit.as_f64().unwrap()).collect();
    (0..logits.len()).max_by(|a, b| logits[*a].total_cmp(&logits[*b])).unwrap()
}

/// A service of Python's at `echo`, which writes down what it runs.
fn echo(home: &Home, more: &str) -> (String, std::path::PathBuf) {
    let runs = home.file("runs", "");
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/mqtt/echo_server.py");
    let command = format!("[{:?}, {script:?}, \"{{port}}\", {runs:?}]", python::interpreter());
    let text = format!(
        "[service.echo.local]\nruntime = 'process'\ncommand = {command}\n{more}\n[service.echo.mqtt]\nenabled = true"
    );
    (text, runs)
}

fn wait_echo(site: &Site) {
    wait_until(PATIENCE, "the server is ready", || (site.node.service("echo")["ready_local"] == 1).then_some(()));
}

fn assert_answers(site: &Site) {
    let (request, shown) = image();
    let answer = site.ask("digits", &["-D", "publish", "correlation-data", "frame-7"], &request);
    assert_eq!(digit(&answer.payload), shown);
    assert_eq!((answer.content_type.as_str(), answer.correlation.as_str()), ("application/json", "frame-7"));
    assert!(answer.has("status:200") && answer.has("x-tidegate-placement:local"), "{answer:?}");

    // In one line as MQTT 3.1.1 has it: the answer comes on the topic of client and service.
    let old = ["-V", "311", "-t", &infer("cam-2"), "-e", &reply("cam-2", "digits")];
    let output = rr(&site.address, &old, &request);
    assert_eq!(digit(&output.stdout), shown, "{output:?}");

    // A client that only publishes and subscribes, with an id of its own in the topic.
    let seen = Subscriber::start(&site.address, &format!("{CBOR}/reply/plc/#"));
    wait_until(PATIENCE, "its subscription stands", || {
        publish(&site.address, &["-t", &reply("plc", "up")], b"up");
        (seen.count() > 0).then_some(())
    });
    publish(&site.address, &["-V", "311", "-t", &infer("plc/17")], &request);
    let answer = seen.wait_for_topic(&reply("plc", "digits/17"));
    assert_eq!((digit(&answer.bytes), answer.retained), (shown, false));
    publish(&site.address, &["-V", "311", "-t", &infer("plc/18")], b"{}");
    let answer = seen.wait_for_topic(&reply("plc", "digits/18")).json();
    assert_eq!((&answer["status"], answer["error"].is_string()), (&400.into(), true), "{answer}");

    // What the gateway counts of them.
    let metrics = site.node.console("/metrics").text();
    let route = metrics.lines().find(|line| {
        line.starts_with("http_server_request_duration_seconds_count") && line.contains("http_route=\"mqtt\"")
    });
    assert!(route.is_some(), "the way they came is told in metrics");
}

#[test]
fn a_sensor_asks_in_one_line_and_is_answered_by_the_embedded_brokers_node() {
    let home = Home::new();
    assert_answers(&Site::embedded(&home, ""));
}

#[test]
fn a_sensor_asks_in_one_line_and_is_answered_through_a_broker_elsewhere() {
    let home = Home::new();
    let site = Site::mosquitto(&home, "");
    assert!(site.broker.is_some());
    assert_answers(&site);
}

#[test]
fn a_server_of_ones_own_is_asked_too_and_learns_who_asks() {
    let home = Home::new();
    let (service, _) = echo(&home, "");
    let site = Site::embedded(&home, &format!("{service}\npath = '/classify?size=1'"));
    wait_echo(&site);
    let more =
        ["-D", "publish", "content-type", "image/png", "-D", "publish", "user-property", "x-request-id", "frame-7"];
    let answer = site.ask("echo", &more, b"\x89PNG");
    let seen = answer.json();
    assert_eq!((&seen["path"], &seen["headers"]["content-type"]), (&"/classify?size=1".into(), &"image/png".into()));
    assert_eq!(seen["headers"]["x-forwarded-for"], "_cam-1");
    assert_eq!(seen["headers"]["x-request-id"], "frame-7");
    assert!(answer.has("x-request-id:frame-7"), "{answer:?}");
    // What the service says of its own errors has the shape of all errors.
    let failed = site.ask("echo", &[], b"fail");
    failed.assert_problem(500, "service-error");
    assert_eq!(failed.json()["detail"], "it does not work");
}

#[test]
fn what_is_too_large_is_said_to_be_in_both_directions() {
    let home = Home::new();
    let (service, runs) = echo(&home, "");
    let site = Site::embedded(&home, &format!("[gateway]\nmax_body_bytes = 2000\n{service}"));
    wait_echo(&site);
    site.ask("echo", &[], &[b'x'; 2_001]).assert_problem(413, "body-too-large");
    assert_eq!(std::fs::read(&runs).unwrap(), b"", "it was not run");
    site.ask("echo", &[], b"big 126977").assert_problem(502, "answer-too-large");
    assert_eq!(site.ask("echo", &[], b"big 126976").payload.len(), 126_976, "what fits comes whole");
    assert_eq!(site.counted()["no_answer"], 1);
}

#[test]
fn a_service_that_comes_again_without_being_asked_by_messages_is_not_answered_by_them() {
    let (home, console) = (Home::new(), free_port());
    let base = format!("[console]\nlisten = '127.0.0.1:{console}'\n[service.digits.burst]\nmax_replicas = 0");
    let extra = "[service.extra.local]\nruntime = 'onnx'\nmodel = 'builtin:digits'\nmax_replicas = 1\n";
    let spec = |more: &str| Spec::new().with(INFER).with(&base).with(more);
    let node = home.start(&spec(&format!("{extra}[service.extra.mqtt]\nenabled = true")));
    let address = mqtt(&node);
    let site = Site { node, address, broker: None }.listening();
    let (request, _) = image();
    assert!(site.ask("extra", &[], &request).has("status:200"));
    for more in ["", extra] {
        home.config(&spec(more));
        let applied = home.command(&["config", "apply", "--console", &format!("http://127.0.0.1:{console}")]);
        assert_eq!(applied.code, Some(0), "{applied:?}");
        site.ask("extra", &[], &request).assert_problem(404, "unknown-service");
    }
    let (pixels, _) = edge_config::models::heldout().next().unwrap();
    assert_eq!(site.node.client().post("/v2/models/extra/infer", &images(&[pixels])).status, 200);
    assert!(site.ask("digits", &[], &request).has("status:200"));
    assert_eq!(site.node.terminate().code, Some(0));
}

#[test]
fn a_reply_goes_to_nobody_but_the_client_that_stands_in_the_topic() {
    let home = Home::new();
    let site = Site::embedded(&home, "");
    let (request, _) = image();
    let victim = Subscriber::start(&site.address, &format!("{CBOR}/reply/victim/#"));
    let own = Subscriber::start(&site.address, &format!("{CBOR}/reply/cam-1/#"));
    for (seen, client) in [(&victim, "victim"), (&own, "cam-1")] {
        wait_until(PATIENCE, "the subscription stands", || {
            publish(&site.address, &["-t", &reply(client, "up")], b"up");
            (seen.count() > 0).then_some(())
        });
    }
    let wrong =
        [reply("victim", "x"), format!("{CBOR}/reply/cam-1"), format!("{CBOR}/node/gateway-t/load"), "x".to_owned()];
    for (count, topic) in (1..).zip(&wrong) {
        publish(&site.address, &["-V", "5", "-t", &infer("cam-1"), "-D", "publish", "response-topic", topic], &request);
        site.wait_counted("malformed", count);
    }
    let told = own.wait_for_topic(&reply("cam-1", "digits")).json();
    assert_eq!(told["type"], "urn:tidegate:problem:bad-request");
    assert!(told["error"].as_str().unwrap().contains("reply/cam-1/"), "{told}");
    assert!(victim.heard().iter().all(|message| message.payload == "up"), "{:?}", victim.heard());
}

#[test]
fn a_service_that_is_not_here_is_answered_at_a_broker_of_ones_own_and_left_to_others_elsewhere() {
    let home = Home::new();
    let site = Site::embedded(&home, "[mqtt]\ninfer = 'own'");
    let answer = site.ask("faces", &[], b"{}");
    answer.assert_problem(404, "unknown-service");
    assert!(answer.json()["detail"].as_str().unwrap().contains("digits"));
    drop(site);
    let home = Home::new();
    let site = Site::embedded(&home, "");
    let topics = [format!("{CBOR}/infer/faces/cam-1"), reply("cam-1", "x")];
    let output = rr(&site.address, &["-W", "1", "-t", &topics[0], "-e", &topics[1]], b"{}");
    assert!(!output.status.success() && output.stdout.is_empty(), "{output:?}");
    assert_eq!(site.counted()["unknown_service"], 0);
}

#[test]
fn a_service_is_asked_over_mqtt_only_where_that_is_enabled() {
    let home = Home::new();
    let node = home.start(&Spec::new());
    let topics = [infer("cam-1"), reply("cam-1", "x")];
    let output = rr(&mqtt(&node), &["-W", "1", "-t", &topics[0], "-e", &topics[1]], &image().0);
    assert!(!output.status.success() && output.stdout.is_empty(), "{output:?}");
    assert!(!node.console("/metrics").text().contains("tidegate_mqtt_infer_requests_total"));
}

#[test]
fn what_has_expired_is_not_run() {
    let home = Home::new();
    let (service, runs) = echo(&home, "concurrency = 1");
    let site = Site::embedded(&home, &service);
    wait_echo(&site);
    let topic = format!("{CBOR}/infer/echo/cam-1");
    publish(&site.address, &["-t", &format!("{topic}/1")], b"sleep 3");
    wait_until(PATIENCE, "the first one runs", || (!std::fs::read(&runs).unwrap().is_empty()).then_some(()));
    let expiring = site.ask("echo", &["-D", "publish", "message-expiry-interval", "1"], b"late");
    expiring.assert_problem(503, "queue-expired");
    assert_eq!(std::fs::read_to_string(&runs).unwrap(), "sleep 3\n");
    // The client's own words count too.
    let hurried = site.ask("echo", &["-D", "publish", "user-property", "x-tidegate-deadline-ms", "20"], b"sleep 1");
    assert!(
        ["queue-expired", "deadline-exceeded"]
            .iter()
            .any(|slug| hurried.json()["type"].as_str().unwrap().ends_with(slug))
    );
    assert!(site.ask("echo", &["-D", "publish", "message-expiry-interval", "60"], b"in time").has("status:200"));
}

#[test]
fn what_comes_twice_runs_once() {
    let home = Home::new();
    let (service, runs) = echo(&home, "");
    let site = Site::embedded(&home, &service);
    wait_echo(&site);
    let seen = Subscriber::start(&site.address, &format!("{CBOR}/reply/#"));
    wait_until(PATIENCE, "the subscription stands", || {
        publish(&site.address, &["-t", &reply("cam-1", "up")], b"up");
        (seen.count() > 0).then_some(())
    });
    let correlation = ["-V", "5", "-D", "publish", "correlation-data", "frame-7"];
    let send = |client: &str, more: &[&str]| {
        publish(&site.address, &[&["-t", &format!("{CBOR}/infer/echo/{client}")], more].concat(), client.as_bytes());
    };
    (0..3).for_each(|_| send("cam-1", &correlation));
    (0..3).for_each(|_| send("plc/17", &["-V", "311"]));
    send("cam-2", &correlation);
    site.wait_counted("duplicate", 4);
    // Nothing tells these apart, so that each is one of its own.
    (0..2).for_each(|_| send("cam-3", &[]));
    wait_until(PATIENCE, "all are answered", || {
        (seen.heard().iter().filter(|m| m.payload != "up").count() >= 5).then_some(())
    });
    let mut run: Vec<String> = std::fs::read_to_string(&runs).unwrap().lines().map(str::to_owned).collect();
    run.sort_unstable();
    assert_eq!(run, ["cam-1", "cam-2", "cam-3", "cam-3", "plc/17"]);
    assert_eq!(seen.heard().iter().filter(|m| m.payload != "up").count(), 5);
}

#[test]
fn what_is_retained_is_no_request() {
    let home = Home::new();
    // A plain subscription is given what is retained, a shared one is not.
    let site = Site::embedded(&home, "[mqtt]\ninfer = 'own'");
    let before = site.counted()["answered"];
    publish(&site.address, &["-r", "-t", &infer("cam-1")], &image().0);
    // To who listens already it is a message like others; who comes anew would be asked it again each time.
    site.wait_counted("answered", before + 1);
    for count in 1..=2 {
        connect_as(&site.address, "tidegate_test_gateway-t_cbor");
        site.wait_counted("retained", count);
    }
    assert_eq!(site.counted()["answered"], before + 1);
}

/// The lines of a page that ask, as they stand there.
fn typed(page: &str) -> Vec<String> {
    let blocks = page.split("```sh\n").skip(1).filter_map(|rest| rest.split("```").next());
    let whole: Vec<String> = blocks.map(|block| block.replace("\\\n", " ")).collect();
    whole
        .iter()
        .flat_map(|block| block.lines())
        .filter(|line| line.starts_with("mosquitto_rr "))
        .map(str::to_owned)
        .collect()
}

#[test]
fn the_lines_that_the_pages_show_ask_and_are_answered() {
    let home = Home::new();
    let site = Site::embedded(&home, "");
    let image_json = String::from_utf8(image().0).unwrap();
    home.file("image.json", &image_json);
    let port = site.address.rsplit_once(':').unwrap().1;
    let lines = [include_str!("../../README.md"), include_str!("../../docs/topics.md")].map(typed);
    assert!(lines.iter().all(|lines| !lines.is_empty()), "each page shows a line: {lines:?}");
    for line in lines.concat() {
        let here = line.replace("-h 127.0.0.1 -p 1883", &format!("-h 127.0.0.1 -p {port}"));
        let here = here.replace("tidegate/v1/default/", "tidegate/v1/test/");
        assert_ne!(here, line, "the page names the broker");
        let output =
            Command::new("sh").args(["-c", &here]).env("IMAGE", &image_json).current_dir(home.path()).output().unwrap();
        assert_eq!(digit(&output.stdout), image().1, "{line}: {output:?}");
    }
}

/// A client that publishes as fast as it can, and hears nothing.
struct Silent;

impl LinkObserver for Silent {
    fn received(&self, _: Incoming) {}
    fn changed(&self, _: &LinkStatus) {}
}

/// Publishes at QoS 1 by one connection, and waits until the broker has all of it.
fn publish_all(address: &str, messages: impl Iterator<Item = (String, Vec<u8>)>) {
    let (host, port) = address.rsplit_once(':').unwrap();
    let options = LinkOptions {
        alternatives: Vec::new(),
        name: "camera",
        client_id: "camera".to_owned(),
        host: host.to_owned(),
        port: port.parse().unwrap(),
        keepalive: Duration::from_secs(5),
        credentials: None,
        tls: None,
        last_will: None,
        subscriptions: Vec::new(),
        others_alone: false,
        prepare: None,
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let link = runtime.block_on(async { Link::start(options, Arc::new(Silent)) });
    for (topic, payload) in messages {
        let (retained, qos) = (false, Qos::AtLeastOnce);
        link.publish(Outgoing { topic, payload, retained, qos, expiry: None, properties: None });
    }
    runtime.block_on(link.close(PATIENCE));
    assert_eq!(link.status().dropped, 0);
}

#[test]
fn what_was_turned_away_unseen_may_come_again_under_its_id() {
    let home = Home::new();
    let (service, runs) = echo(&home, "concurrency = 1\nmax_replicas = 1\n[service.echo]\nqueue = 0");
    let site = Site::embedded(&home, &service);
    wait_echo(&site);
    publish(&site.address, &["-t", &format!("{CBOR}/infer/echo/plc/1")], b"sleep 2");
    wait_until(PATIENCE, "the first one runs", || (!std::fs::read(&runs).unwrap().is_empty()).then_some(()));
    let again = ["-D", "publish", "correlation-data", "frame-7"];
    let refused = site.ask("echo", &again, b"again");
    refused.assert_problem(429, "queue-full");
    assert!(refused.has("retry-after:1"), "{refused:?}");
    wait_until(PATIENCE, "it is answered under the same id", || {
        let answer = site.ask("echo", &again, b"again");
        answer.has("status:200").then_some(())
    });
    assert_eq!(std::fs::read_to_string(&runs).unwrap(), "sleep 2\nagain\n");
    assert_eq!(site.counted()["duplicate"], 0);
}

#[test]
fn what_is_more_than_can_be_held_is_dropped_and_counted() {
    const HELD: u64 = 2_048;
    let home = Home::new();
    let (service, _) =
        echo(&home, "concurrency = 1\nmax_replicas = 1\n[service.echo]\nqueue = 100000\nrequest_timeout = '10m'");
    let site = Site::embedded(&home, &service);
    wait_echo(&site);
    // A link holds back no more than a thousand.
    for batch in 0..3 {
        let request = |number: u64| (format!("{CBOR}/infer/echo/cam-1/{batch}-{number}"), b"sleep 600".to_vec());
        publish_all(&site.address, (0..800).map(request));
    }
    site.wait_counted("too_many", 3 * 800 - HELD);
    let (request, shown) = image();
    let client = &mut site.node.client();
    let answer = client.post("/v2/models/digits/infer", &serde_json::from_slice(&request).unwrap());
    assert_eq!(digit(&answer.body), shown, "others are served");
    site.node.kill9();
}

/// Each is answered with what it says, so that an answer to another would be seen.
fn assert_a_thousand_are_answered_once(start: impl FnOnce(&Home, &str) -> Site) {
    const COUNT: u64 = 1_000;
    let home = Home::new();
    let (service, runs) = echo(&home, "concurrency = 8");
    let site = start(&home, &format!("[gateway]\nrequest_timeout = '5m'\n{service}"));
    wait_echo(&site);
    let seen = Subscriber::start(&site.address, &format!("{CBOR}/reply/cam-1/#"));
    wait_until(PATIENCE, "the subscription stands", || {
        publish(&site.address, &["-t", &reply("cam-1", "up")], b"up");
        (seen.count() > 0).then_some(())
    });
    let before = site.counted()["answered"];
    let started = std::time::Instant::now();
    let request = |number: u64| (format!("{CBOR}/infer/echo/cam-1/{number}"), number.to_string().into_bytes());
    publish_all(&site.address, (0..COUNT).map(request));
    wait_until(PATIENCE * 2, "all are answered", || (site.counted()["answered"] >= before + COUNT).then_some(()));
    println!("{COUNT} requests over MQTT were answered in {:?}", started.elapsed());
    let answers = || seen.heard().into_iter().filter(|message| message.payload != "up").collect::<Vec<_>>();
    wait_until(PATIENCE, "all answers are there", || (answers().len() as u64 >= COUNT).then_some(()));
    let answered = |message: Message| {
        let said = message.json()["body"].as_str().unwrap_or_else(|| panic!("{message:?}")).to_owned();
        assert_eq!(message.topic, reply("cam-1", &format!("echo/{said}")));
        said.parse::<u64>().unwrap()
    };
    let mut numbers: Vec<u64> = answers().into_iter().map(answered).collect();
    numbers.sort_unstable();
    assert_eq!(numbers, (0..COUNT).collect::<Vec<_>>(), "each once");
    let mut run: Vec<u64> = std::fs::read_to_string(&runs).unwrap().lines().map(|line| line.parse().unwrap()).collect();
    run.sort_unstable();
    assert_eq!(run, numbers, "each was run once");
    assert_eq!(site.counted()["too_many"] + site.counted()["duplicate"], 0);
}

#[test]
fn a_thousand_requests_at_once_are_each_answered_once() {
    assert_a_thousand_are_answered_once(Site::embedded);
}

#[test]
fn a_thousand_requests_through_a_broker_elsewhere_are_each_answered_once() {
    assert_a_thousand_are_answered_once(Site::mosquitto);
}

#[test]
fn two_nodes_at_one_broker_share_what_is_asked() {
    let home = Home::new();
    let site = Site::mosquitto(&home, "");
    let second = site.joined_by_another(&home);
    let before = site.counted()["answered"] + second.counted()["answered"];
    for _ in 0..20 {
        assert!(site.ask("digits", &[], &image().0).has("status:200"));
    }
    assert_eq!(site.counted()["answered"] + second.counted()["answered"], before + 20, "each by one of them");
}

#[test]
fn what_a_box_cannot_do_alone_is_answered_by_instances() {
    let home = Home::new();
    let node = home.start(&Spec::new().with(INFER).with("[service.digits.local]\nmax_replicas = 1"));
    let address = mqtt(&node);
    let site = Site { node, address, broker: None }.listening();
    let load = site.node.load(6);
    wait_until(PATIENCE, "an instance answers a camera", || {
        let answer = site.ask("digits", &[], &image().0);
        assert!(answer.has("status:200"), "{answer:?}");
        answer.has("x-tidegate-placement:cloud").then_some(())
    });
    load.stop().assert_sound();
}

#[test]
fn requests_in_flight_are_answered_before_a_node_ends() {
    let home = Home::new();
    let (service, runs) = echo(&home, "");
    let site = Site::embedded(&home, &service);
    wait_echo(&site);
    let asked = std::thread::scope(|scope| {
        let asking = scope.spawn(|| site.ask("echo", &[], b"sleep 2"));
        wait_until(PATIENCE, "it runs", || (!std::fs::read(&runs).unwrap().is_empty()).then_some(()));
        site.node.signal(nix::sys::signal::Signal::SIGTERM);
        asking.join().unwrap()
    });
    assert!(asked.has("status:200"), "{asked:?}");
    assert_eq!(site.node.wait().code, Some(0));
}

#[test]
fn a_node_that_stops_leaves_what_is_asked_to_the_others() {
    let home = Home::new();
    let (service, runs) = echo(&home, "");
    let site = Site::mosquitto(&home, &format!("{service}\n[node]\ndrain_timeout = '60s'"));
    wait_echo(&site);
    let _second = site.joined_by_another(&home);
    std::thread::scope(|scope| {
        // Keeps it in its drain; by a client of its own, since all who listen on a topic hear every reply there.
        let (asked, reply) = (format!("{CBOR}/infer/echo/cam-2"), reply("cam-2", "here"));
        let (address, arguments) =
            (site.address.clone(), ["-t", &asked, "-e", &reply, "-F", "%P|%C|%D|%x"].map(str::to_owned));
        let held = scope.spawn(move || rr(&address, &arguments.each_ref().map(String::as_str), b"sleep 8"));
        wait_until(PATIENCE, "it runs", || (!std::fs::read(&runs).unwrap().is_empty()).then_some(()));
        site.node.signal(nix::sys::signal::Signal::SIGTERM);
        wait_until(PATIENCE, "it drains", || (site.node.console("/readyz").status != 200).then_some(()));
        wait_until(PATIENCE, "it has left", || site.ask("digits", &[], &image().0).has("status:200").then_some(()));
        for _ in 0..6 {
            let answer = site.ask("digits", &[], &image().0);
            assert!(answer.has("status:200"), "{answer:?}");
        }
        assert!(!held.is_finished(), "it drained meanwhile");
        assert!(Answer::read(&held.join().unwrap()).has("status:200"));
    });
}
