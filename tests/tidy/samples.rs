//! For each rule texts that break it in one line, and the same text mended. `▶` marks the bad line, `▷` the line that
//! stands in its place when mended; both are taken away before reading.

/// A file that breaks exactly one rule in exactly one line.
pub(crate) struct Sample {
    pub(crate) rule: &'static str,
    pub(crate) path: &'static str,
    text: &'static str,
}

impl Sample {
    pub(crate) fn bad(&self) -> String {
        self.keep('▶', '▷')
    }

    pub(crate) fn good(&self) -> String {
        self.keep('▷', '▶')
    }

    /// The bad line's number, from 1.
    pub(crate) fn line(&self) -> usize {
        self.text.lines().position(|line| line.starts_with('▶')).map_or(0, |n| n + 1)
    }

    fn keep(&self, kept: char, dropped: char) -> String {
        let lines = self.text.lines().filter(|line| !line.starts_with(dropped));
        lines.map(|line| format!("{}\n", line.trim_start_matches(kept))).collect()
    }
}

const fn sample(rule: &'static str, path: &'static str, text: &'static str) -> Sample {
    Sample { rule, path, text }
}

pub(crate) const SAMPLES: &[Sample] = &[
    sample(
        "rooms",
        "src/gateway/forward.rs",
        "//! Forwards a request.\n▶use crate::actors::monitor::Monitor;\n▷use crate::logic::route::RouteTable;\n",
    ),
    sample(
        "rooms",
        "src/actors/burst.rs",
        "//! Launches instances.\n▶use super::super::gateway::Gateway;\n▷use super::scheduler::Tick;\n",
    ),
    sample(
        "rooms",
        "src/actors.rs",
        "//! Thin shells.\nfn f() {\n▶    crate::gateway::install();\n▷    crate::host::probe();\n}\n",
    ),
    sample(
        "rooms",
        "src/journal/memory.rs",
        "//! Keeps what was learnt.\n▶use crate::wire::announcement::Announcement;\n▷use crate::logic::fleet::Fleet;\n",
    ),
    sample("rooms", "src/mqtt/link.rs", "//! The link.\n▶use logic::load::Window;\n▷use crate::tls::Pin;\n"),
    sample("rooms", "src/console.rs", "//! The API.\n▶use crate::node::Node;\n▷use crate::wire::event::Event;\n"),
    sample(
        "rooms",
        "src/node/start.rs",
        "//! Starts the node.\n▶use crate::cli::Args;\n▷use crate::{actors, gateway::Gateway, mqtt, wrap};\n",
    ),
    sample(
        "rooms",
        "src/wrap/lease.rs",
        "//! The lease.\n▶use crate::{wire::lease, host::process};\n▷use crate::{wire::lease, wrap::shim};\n",
    ),
    sample(
        "rooms",
        "src/model.rs",
        "//! The model server.\nmod inner {\n▶    use super::super::wire::Lease;\n▷    use super::engine::Engine;\n}\n",
    ),
    sample(
        "rooms",
        "src/mqtt/link.rs",
        "//! The link.\n▶use crate::wire::topics;\n▷use crate::mqtt::backlog::Backlog;\n",
    ),
    sample(
        "guests",
        "src/actors/monitor.rs",
        "//! Samples the load.\n▶use sysinfo::System;\n▷use crate::host::probe::Probe;\n",
    ),
    sample(
        "guests",
        "src/cli/watch.rs",
        "//! Watches.\n▶use rumqttc::v5::AsyncClient;\n▷use crate::mqtt::link::Link;\n",
    ),
    sample(
        "guests",
        "src/node.rs",
        "//! Builds the parts.\nfn f() {\n▶    let broker = mqtt5::broker::Broker::new();\n▷    let broker = crate::mqtt::broker::start();\n}\n",
    ),
    sample(
        "guests",
        "src/actors/burst.rs",
        "//! Launches.\n▶use rusqlite::Connection;\n▷use crate::journal::Journal;\n",
    ),
    sample(
        "guests",
        "src/host/process.rs",
        "//! Processes.\n▶#[derive(serde::Serialize)]\n▷#[derive(Debug)]\nstruct Process;\n",
    ),
    sample("guests", "src/wire/topics.rs", "//! Topics.\n▶use edge_config::NodeId;\n▷use serde::Serialize;\n"),
    sample("guests", "src/gateway.rs", "//! Data plane.\n▶use anyhow::Context;\n▷use thiserror::Error;\n"),
    sample("guests", "src/gateway.rs", "//! Data plane.\n▶use actix::prelude::*;\n▷use hyper::Request;\n"),
    sample(
        "guests",
        "edge-config/src/lib.rs",
        "//! Configuration.\n▶use cloud_adapters::Kind;\n▷use config::Config;\n",
    ),
    sample("guests", "src/journal.rs", "//! The journal.\n▶use rten::Model;\n▷use cloud_adapters::LaunchId;\n"),
    sample("pure-logic", "src/logic/load.rs", "//! The load.\n▶use std::time::Instant;\n▷use std::time::Duration;\n"),
    sample(
        "pure-logic",
        "src/logic/load.rs",
        "//! The load.\nuse std::time;\nfn f() {\n▶    let now = time::Instant::now();\n▷    let now = time::Duration::ZERO;\n}\n",
    ),
    sample(
        "pure-logic",
        "src/logic/fleet.rs",
        "//! The fleet.\n▶use std::collections::{BTreeMap, HashMap};\n▷use std::collections::{BTreeMap, VecDeque};\n",
    ),
    sample(
        "pure-logic",
        "src/logic/policy/threshold.rs",
        "//! Threshold.\n▶use tokio::sync::watch;\n▷use crate::policy::Reason;\n",
    ),
    sample(
        "pure-logic",
        "src/logic/route.rs",
        "//! Picks a route.\nfn f() {\n▶    let roll = fastrand::f64();\n▷    let roll = f64::from(u32::MAX);\n}\n",
    ),
    sample("pure-logic", "src/logic/breaker.rs", "//! Breaks.\n▶async fn open() {}\n▷fn open() {}\n"),
    sample(
        "pure-logic",
        "src/logic/plan.rs",
        "//! Plans.\nfn f() {\n▶    tracing::info!(\"planned\");\n▷    let _ = \"tracing::info\";\n}\n",
    ),
    sample(
        "one-async-trait",
        "src/host/probe.rs",
        "//! Probes.\n▶trait Probe { async fn read(&self); }\n▷trait Probe { fn read(&self); }\n",
    ),
    sample("unsafe", "src/wrap.rs", "//! The wrapper.\n▶fn f() { unsafe { g() } }\n▷fn f() { g() }\n"),
    sample("unsafe", "src/wrap.rs", "//! The wrapper.\n▶#[allow(unsafe_code)]\n▷#[allow(dead_code)]\nfn f() {}\n"),
    sample(
        "unsafe",
        "src/wrap/parent_death.rs",
        "//! Dies with its parent.\n▶fn f() { unsafe { g() } }\n▷// SAFETY: g has no conditions.\n▷fn f() { unsafe { g() } }\n",
    ),
    sample(
        "no-test-sleep",
        "tests/demo.rs",
        "//! The demo.\nuse std::thread;\nfn settles() {\n▶    thread::sleep(A);\n▷    wait_until(ready);\n}\n",
    ),
    sample(
        "no-test-sleep",
        "src/gateway/tests.rs",
        "//! Tests of the gateway.\nuse tokio::time::sleep;\n▶async fn x() { sleep(A).await; }\n▷async fn wait_ready() { while now() < deadline { sleep(A).await; } }\n",
    ),
    sample(
        "no-test-sleep",
        "src/gateway.rs",
        "//! Data plane.\n#[cfg(test)]\nmod tests {\n    #[tokio::test]\n    async fn slow() {\n▶        tokio::time::sleep(A).await;\n▷        tokio::time::sleep(A).await; // delay: a slow replica is under test\n    }\n}\n",
    ),
    sample(
        "no-test-sleep",
        "tests/wait.rs",
        "//! Waits.\n▶fn wait_ready() { while !ready() { std::thread::sleep(A); } }\n▷fn wait_ready(deadline: Instant) { while !ready() { std::thread::sleep(A); } }\n",
    ),
    sample(
        "no-test-sleep",
        "src/actors.rs",
        "//! Shells.\n#[cfg(test)]\nmod tests {\n▶    #[tokio::test]  async fn ticks() { tokio::time::sleep(DAY).await; }\n▷    #[tokio::test(start_paused = true)] async fn ticks() { tokio::time::sleep(DAY).await; }\n}\n",
    ),
    sample(
        "no-test-sleep",
        "cloud-adapters/src/slow/tests.rs",
        "async fn slow() {\n    tokio::time::pass();\n▶    tokio::time::sleep(A).await;\n▷    // delay: the provider is slow, the deadline is under test\n▷    tokio::time::sleep(A).await;\n}\n#[tokio::test]\nasync fn t() { slow().await }\n",
    ),
    sample(
        "no-test-sleep",
        "cloud-adapters/src/slow/tests.rs",
        "#[tokio::test(start_paused = true)]\nasync fn t() { slow().await }\nasync fn slow() {\n▶    std::thread::sleep(A);\n▷    tokio::time::sleep(A).await;\n}\n",
    ),
    sample(
        "no-blocked-thread",
        "src/mqtt/link.rs",
        "//! The link.\nasync fn back_off() {\n▶    std::thread::sleep(A);\n▷    tokio::time::sleep(A).await;\n}\n",
    ),
    sample("finished", "src/wire.rs", concat!("//! Bytes on MQTT.\n▶// TO", "DO: versions\n▷// Versions come last.\n")),
    sample("finished", "src/wire.rs", concat!("//! Bytes on MQTT.\n▶fn f() { to", "do!() }\n▷fn f() { done() }\n")),
    sample(
        "finished",
        "tests/wire.rs",
        concat!("//! Bytes on MQTT.\n▶fn f() {} // FIX", "ME\n▷fn f() {} // mktemp /tmp/XXXXXX\n"),
    ),
    sample("opening", "src/wire.rs", "▶use serde::Serialize;\n▷//! What goes over the wire.\n"),
];
