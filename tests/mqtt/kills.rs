//! Brokers that die at random moments, and a node that dies while its broker is away: no event is lost, each has one
//! content, and no local request notices.
//!
//! `TIDEGATE_BROKER_KILLS` kills (the lane `broker-kills`; three unless set), `TIDEGATE_BROKER_KILLS_SEED` plays the moments
//! of an earlier run again.

use std::time::{Duration, Instant};

use super::clients::{Broker, Subscriber, at_broker, free_port, publish};
use super::proxy::{Proxy, Weather};
use super::story::{Story, last_event, logged_events};
use crate::support::{Home, Node, PATIENCE, Spec, wait_until};

/// Kills in a round: one, then one with the node itself, then one again with the next session.
const KILLS_A_ROUND: u64 = 3;

/// A replica that dies as soon as it starts, so that there is always something to tell, and instances, whose end tells what
/// they cost.
fn talkative(address: &str) -> Spec {
    at_broker(address).with(
        "[service.digits.burst]\nmax_replicas = 1\n[service.flaky.local]\nruntime = 'process'\ncommand = ['false']\n\
         restart_backoff_max = '200ms'\n[service.flaky.scaling]\ninterval = '1s'\nmin_replicas = 1",
    )
}

/// A broker, a way to it that opens once somebody listens, and all that was heard.
struct Stage {
    home: Home,
    broker: Broker,
    proxy: Proxy,
    ears: Vec<Subscriber>,
    random: fastrand::Rng,
}

impl Stage {
    fn new(seed: u64) -> Self {
        let home = Home::new();
        let broker = Broker::at(&home, free_port(), "allow_anonymous true");
        let proxy = Proxy::start(&broker.address());
        proxy.set(Weather::Storm);
        let mut stage = Self { home, broker, proxy, ears: Vec::new(), random: fastrand::Rng::with_seed(seed) };
        stage.raise();
        stage
    }

    /// Starts the broker; nobody reaches it before a subscriber does, since what is said to a broker that keeps nothing and
    /// has no subscriber is lost there.
    fn raise(&mut self) {
        self.broker.up();
        let marker = format!("marker/{}", self.ears.len());
        publish(&self.broker.address(), &marker, b"here");
        let ear = Subscriber::start(&self.broker.address(), "#");
        ear.wait_for_topic(&marker);
        self.ears.push(ear);
        self.proxy.set(Weather::Fair);
    }

    /// The node's connections break at this moment, whatever is on its way in them; the broker is killed once it has handed
    /// on what it acknowledged until then, since what it acknowledges and loses is not the node's to keep.
    fn kill(&mut self) {
        self.proxy.set(Weather::Storm);
        let ear = self.ears.last().expect("somebody listens");
        let marker = format!("marker/last/{}", self.ears.len());
        publish(&self.broker.address(), &marker, b"last");
        ear.wait_for_topic(&marker);
        self.broker.kill();
    }

    /// A moment below `most`, chosen by the seed.
    fn moment(&mut self, most: Duration) {
        let deadline = Instant::now() + most.mul_f64(self.random.f64());
        while Instant::now() < deadline {
            // The moment itself is under test; the loop ends at its deadline.
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    fn story(&self) -> Story {
        let heard: Vec<_> = self.ears.iter().flat_map(Subscriber::heard).collect();
        Story::of(&heard)
    }
}

fn spool(node: &Node) -> serde_json::Value {
    node.get_json("/api/v1/node")["telemetry"]["spool"].clone()
}

fn wait_connected(node: &Node) {
    wait_until(PATIENCE, "both links are back", || {
        let links = node.get_json("/api/v1/node")["telemetry"]["links"].clone();
        links.as_array().unwrap().iter().all(|link| link["connected"] == true).then_some(())
    });
}

/// Kills the broker of a running node at a random moment and lets it return after another; the links come back by themselves.
fn kill_and_return(stage: &mut Stage, node: &Node) {
    stage.moment(Duration::from_millis(1_500));
    stage.kill();
    stage.moment(Duration::from_millis(500));
    stage.raise();
    wait_connected(node);
}

/// One round; returns how many events were heard, and how many of them more than once.
fn play(seed: u64) -> (usize, usize) {
    println!("TIDEGATE_BROKER_KILLS_SEED={seed}");
    let mut stage = Stage::new(seed);
    let spec = talkative(stage.proxy.address());
    let node = stage.home.start(&spec);
    wait_connected(&node);
    let load = node.load(2);
    kill_and_return(&mut stage, &node);

    stage.moment(Duration::from_millis(1_500));
    stage.kill();
    let said = last_event(&node);
    wait_until(PATIENCE, "what was said is on disk, in both trees", || {
        (spool(&node)["saved"].as_u64()? >= 2 * said).then_some(())
    });
    stage.moment(Duration::from_millis(500));
    load.stop().assert_sound();
    assert_eq!(node.console("/healthz").status, 200);
    node.kill9();

    let node = stage.home.start(&spec);
    let load = node.load(2);
    assert!(spool(&node)["events"]["json"].as_u64() > Some(0), "what the killed one could not say waits on disk");
    stage.raise();
    wait_connected(&node);
    kill_and_return(&mut stage, &node);
    wait_until(PATIENCE, "a burst", || node.events("burst.ready").into_iter().next());
    load.stop().assert_sound();

    let ended = node.terminate();
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    assert!(!ended.stderr.contains("wait on disk for the next start"), "{}", ended.stderr);
    let told = logged_events(&ended.stderr);
    assert!(told > 10, "{told} events in the log: {}", ended.stderr);
    wait_until(PATIENCE, "the last event", || stage.story().has(2, told).then_some(()));
    let story = stage.story();
    story.assert_whole(1, said);
    story.assert_whole(2, told);
    let ends = stage
        .ears
        .iter()
        .flat_map(Subscriber::heard)
        .filter(|m| m.topic.ends_with("json/v1/test/node/gateway-t/event/burst.ended"));
    let costs: Vec<_> = ends.map(|message| message.json()["data"]["cost"].clone()).collect();
    assert!(!costs.is_empty() && costs.iter().all(serde_json::Value::is_number), "what was spent is told: {costs:?}");
    // By each subscriber apart: an earlier one comes back to the next broker too.
    let repeated = stage.ears.iter().map(|ear| Story::of(&ear.heard()).repeated).sum();
    (story.len(), repeated)
}

pub(crate) fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{name} is a number, not {text:?}")))
}

#[test]
fn brokers_killed_at_random_cost_no_event_and_no_request() {
    let kills = number("TIDEGATE_BROKER_KILLS").unwrap_or(KILLS_A_ROUND);
    let seed = number("TIDEGATE_BROKER_KILLS_SEED").unwrap_or_else(|| fastrand::u64(..));
    for round in 0..kills.div_ceil(KILLS_A_ROUND) {
        let (events, repeated) = play(seed.wrapping_add(round));
        println!(
            "round {round}: {KILLS_A_ROUND} kills, {events} events of both trees heard, {repeated} more than once"
        );
    }
}
