//! One value of every message with every field set to something of its own, and one with as little as possible.

use tidegate::wire::{
    ALL_NODES, Announcement, AnnouncementKind, Argument, BurstState, BurstStatus, Bytes, CERTIFICATE, Command,
    CommandName, Encoding, Endpoints, Event, EventData, EventKind, FleetTrust, ISSUER, LoadReport, Message, NodeState,
    NodeStateKind, PUBLIC_KEY, Placement, PlacementRule, Response, Root, ServiceLoadReport, ServiceOffer,
    ServiceStatus, Topic, WIRE_VERSION,
};

pub(super) struct Sample {
    /// Name of its golden vector.
    pub(super) name: &'static str,
    /// Its rule in `docs/wire.cddl`.
    pub(super) rule: &'static str,
    pub(super) topic: Topic,
    pub(super) message: Message,
}

impl Sample {
    pub(super) fn cbor(&self) -> Vec<u8> {
        self.message.encode(Encoding::Cbor).unwrap()
    }

    pub(super) fn json(&self) -> serde_json::Value {
        self.message.to_value().unwrap()
    }

    pub(super) fn decode(&self, payload: &[u8]) -> Result<Message, tidegate::wire::WireError> {
        Message::decode(&root(), &self.topic, payload)
    }
}

pub(super) fn root() -> Root {
    Root::new(Encoding::Cbor, "plant-a").unwrap()
}

const NODE: &str = "gateway-7";
const LAUNCH: &str = "gateway-7-12-1";
const AT: &str = "2025-03-01T12:00:00Z";

pub(super) fn all() -> Vec<Sample> {
    let announced = |message| Message::Announcement(Box::new(message));
    let sample = |name, rule, topic: Result<Topic, _>, message| Sample { name, rule, topic: topic.unwrap(), message };
    let load = || Topic::load(NODE);
    let service = |name| Topic::service(NODE, name);
    vec![
        sample("announcement-node", "announcement", Topic::discovery(NODE), announced(node_announcement())),
        sample(
            "announcement-instance",
            "announcement",
            Topic::instance(NODE, LAUNCH),
            announced(instance_announcement()),
        ),
        sample("node-state", "node-state", Topic::state(NODE), Message::State(node_state())),
        sample("load-report", "load-report", load(), Message::Load(Box::new(load_report()))),
        sample("load-report-no-data", "load-report", load(), Message::Load(Box::new(load_report_without_data()))),
        sample("service-status", "service-status", service("digits"), Message::Service(Box::new(service_status()))),
        sample(
            "service-status-new",
            "service-status",
            service("flask"),
            Message::Service(Box::new(new_service_status())),
        ),
        sample("burst-status", "burst-status", Topic::burst(NODE, LAUNCH), Message::Burst(Box::new(burst_status()))),
        sample(
            "burst-status-launching",
            "burst-status",
            Topic::burst(NODE, "l-2"),
            Message::Burst(Box::new(launching())),
        ),
        sample("burst-status-ending", "burst-status", Topic::burst(NODE, "l-3"), Message::Burst(Box::new(ending()))),
        sample("command", "command", Topic::command(NODE, CommandName::Who), Message::Command(Box::new(command()))),
        sample(
            "command-renew",
            "command",
            Topic::command(ALL_NODES, CommandName::Renew),
            Message::Command(Box::new(renew())),
        ),
        sample("response", "response", Topic::response(NODE, "0a1b"), Message::Response(Box::new(response()))),
        sample("response-renew", "response", Topic::response("hub", RENEW_ID), Message::Response(Box::new(renewed()))),
        sample("fleet-trust", "fleet-trust", Ok(Topic::Trust), Message::Trust(Box::new(fleet_trust()))),
        sample("event", "event", Topic::event(NODE, EventKind::BurstEnded), Message::Event(Box::new(event()))),
        sample(
            "event-sparse",
            "event",
            Topic::event(NODE, EventKind::NodeStarted),
            Message::Event(Box::new(sparse_event())),
        ),
    ]
}

fn text(text: &str) -> Option<String> {
    Some(text.to_owned())
}

fn node_announcement() -> Announcement {
    Announcement {
        kind: AnnouncementKind::Node,
        fleet: "plant-a".into(),
        node: NODE.into(),
        session: 12,
        instance: None,
        ttl_s: 90,
        sent_at: AT.into(),
        version: "0.1.0".into(),
        wire: WIRE_VERSION,
        config_digest: "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08".into(),
        endpoints: Endpoints {
            gateway: text("10.0.0.7:8080"),
            console: text("10.0.0.7:8081"),
            mqtt: text("10.0.0.7:1883"),
            peers: text("10.0.0.7:8443"),
        },
        site: text("hall-3"),
        region: text("eu-central"),
        services: vec![
            ServiceOffer {
                name: "digits".into(),
                protocol: "oip-v2".into(),
                placement: Some(PlacementRule::Any),
                ready_local: 2,
                ready_cloud: 1,
                concurrency: 4,
                capacity: 12,
                spare: 5,
                adapter: text("demo-cloud"),
                price_per_hour: Some(0.4),
                currency: text("EUR"),
            },
            ServiceOffer { name: "flask".into(), protocol: "http".into(), ..ServiceOffer::default() },
        ],
    }
}

fn instance_announcement() -> Announcement {
    Announcement {
        kind: AnnouncementKind::Instance,
        instance: text(LAUNCH),
        endpoints: Endpoints { gateway: text("192.0.2.9:40123"), ..Endpoints::default() },
        services: Vec::new(),
        ..node_announcement()
    }
}

fn command() -> Command {
    Command {
        fleet: "plant-a".into(),
        node: NODE.into(),
        name: CommandName::Who,
        id: "0a1b".into(),
        from: "gateway-8".into(),
        expires_at: 1_740_830_400,
        arguments: vec![Argument { name: "since".into(), value: "12".into() }],
    }
}

/// An id that a node chooses begins with its name.
const RENEW_ID: &str = "gateway-7.00112233445566ff";

fn renew() -> Command {
    Command {
        fleet: "plant-a".into(),
        node: ALL_NODES.into(),
        name: CommandName::Renew,
        id: RENEW_ID.into(),
        from: NODE.into(),
        expires_at: 1_740_830_700,
        arguments: vec![Argument {
            name: PUBLIC_KEY.into(),
            value: "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a".into(),
        }],
    }
}

fn renewed() -> Response {
    let part = |name: &str, value: &str| Argument { name: name.into(), value: value.into() };
    Response {
        fleet: "plant-a".into(),
        node: "hub".into(),
        id: RENEW_ID.into(),
        done: true,
        detail: "a new certificate".into(),
        // Cut short: a certificate has some 500 bytes.
        results: vec![part(CERTIFICATE, "3082018a3082013c"), part(ISSUER, "308201663082011a")],
    }
}

fn response() -> Response {
    Response {
        fleet: "plant-a".into(),
        node: NODE.into(),
        id: "0a1b".into(),
        done: true,
        detail: "announced".into(),
        results: vec![Argument { name: "services".into(), value: "2".into() }],
    }
}

fn fleet_trust() -> FleetTrust {
    FleetTrust {
        fleet: "plant-a".into(),
        version: 3,
        issued_at: 1_740_830_400,
        roots: vec![Bytes(vec![0x30, 0x82, 0x01]), Bytes(vec![0x30, 0x82, 0x02])],
        revoked: vec![Bytes(vec![0x40, 0xff])],
    }
}

fn node_state() -> NodeState {
    NodeState {
        state: NodeStateKind::Draining,
        fleet: "plant-a".into(),
        node: NODE.into(),
        session: 12,
        at: AT.into(),
        reason: "asked to stop".into(),
        connection: 4,
    }
}

fn load_report() -> LoadReport {
    let service = |service: &str| ServiceLoadReport {
        service: service.into(),
        requests_per_s: 181.25,
        in_flight: 7,
        queued: 3,
        utilisation: Some(0.8333333333333334),
        service_time_s: Some(0.00512),
        latency_p50_s: Some(0.006143),
        latency_p95_s: Some(0.021503),
        latency_p99_s: Some(0.043007),
        ready_local: 2,
        ready_cloud: 1,
        wanted: 4,
    };
    LoadReport {
        node: NODE.into(),
        session: 12,
        sequence: 345,
        at: AT.into(),
        uptime_s: 86_400,
        tick_ms: 250,
        cpu: Some(0.913),
        cpu_count: 2,
        memory: Some(0.41),
        memory_used_bytes: 880_803_840,
        memory_total_bytes: 2_147_483_648,
        network: Some(0.0123),
        network_rx_bytes_per_s: Some(153_412.7),
        network_tx_bytes_per_s: Some(20_981.3),
        load_average_1m: Some(1.87),
        process_cpu: Some(0.21),
        process_memory_bytes: 13_631_488,
        requests_per_s: 362.5,
        in_flight: 14,
        queued: 6,
        errors_per_s: 0.25,
        replicas_local: 3,
        replicas_cloud: 5,
        spend_hour: 0.35,
        broker_connected: true,
        services: vec![service("digits"), service("flask")],
    }
}

/// Eight busy services whose measures are no round numbers: as large as a usual report gets.
pub(super) fn busy_load_report() -> LoadReport {
    let mut report = load_report();
    let template = report.services[0].clone();
    let services = (0..8_u32).map(|index| ServiceLoadReport {
        service: format!("service-{index}"),
        requests_per_s: 181.3 + f64::from(index) / 7.0,
        ..template.clone()
    });
    report.services = services.collect();
    report
}

fn load_report_without_data() -> LoadReport {
    LoadReport {
        node: NODE.into(),
        session: 12,
        sequence: 1,
        at: "1970-01-01T00:00:07Z".into(),
        services: vec![ServiceLoadReport { service: "digits".into(), ..ServiceLoadReport::default() }],
        ..LoadReport::default()
    }
}

fn service_status() -> ServiceStatus {
    ServiceStatus {
        node: NODE.into(),
        session: 12,
        service: "digits".into(),
        at: AT.into(),
        wanted: 9,
        ready_local: 2,
        ready_cloud: 3,
        starting_local: 1,
        starting_cloud: 4,
        draining: 5,
        failed: 6,
        in_flight: 17,
        queued: 8,
        reason: "utilisation 0.85 is above 0.80: 2 more replicas".into(),
        metric: text("utilisation"),
        value: Some(0.85),
        threshold: Some(0.8),
        requests_per_s: 181.3,
        latency_p50_s: Some(0.006143),
        latency_p95_s: Some(0.021503),
        latency_p99_s: Some(0.043007),
        spend_hour: 0.35,
        currency: text("EUR"),
        forecast_error: Some(0.125),
    }
}

fn new_service_status() -> ServiceStatus {
    ServiceStatus { node: NODE.into(), session: 12, service: "flask".into(), at: AT.into(), ..ServiceStatus::default() }
}

fn burst_status() -> BurstStatus {
    BurstStatus {
        node: NODE.into(),
        session: 12,
        launch: LAUNCH.into(),
        service: "digits".into(),
        adapter: "demo-cloud".into(),
        state: BurstState::Ended,
        reason: "utilisation 0.85 is above 0.80".into(),
        started_at: "2025-03-01T11:58:00Z".into(),
        ready_at: text("2025-03-01T11:58:01Z"),
        ended_at: text(AT),
        cost: 0.0134,
        currency: text("EUR"),
        price_per_hour: Some(0.4),
        provider_id: text("4242"),
        lease_remaining_s: Some(17),
        end_reason: None,
    }
}

fn launching() -> BurstStatus {
    BurstStatus {
        node: NODE.into(),
        session: 12,
        launch: "l-2".into(),
        service: "digits".into(),
        adapter: "demo-cloud".into(),
        state: BurstState::Launching,
        started_at: AT.into(),
        ..BurstStatus::default()
    }
}

fn ending() -> BurstStatus {
    BurstStatus {
        launch: "l-3".into(),
        state: BurstState::Terminating,
        reason: "utilisation 0.85 is above 0.80".into(),
        end_reason: text("utilisation 0.75 is below 0.80"),
        ..launching()
    }
}

fn event() -> Event {
    let data = EventData {
        reason: text("utilisation 0.75 is below 0.80"),
        service: text("digits"),
        adapter: text("demo-cloud"),
        launch: text(LAUNCH),
        replica: text("digits-cloud-1"),
        placement: Some(Placement::Cloud),
        wanted: Some(2),
        metric: text("utilisation"),
        value: Some(0.75),
        threshold: Some(0.8),
        cost: Some(0.0134),
        currency: text("EUR"),
        duration_s: Some(120.5),
        error: text("exit status 1"),
    };
    Event::new(EventKind::BurstEnded, "plant-a", NODE, 12, 34, data).at(AT)
}

fn sparse_event() -> Event {
    Event::new(EventKind::NodeStarted, "plant-a", NODE, 12, 1, EventData::default())
}
