//! The part of the node: one trial, through the real engine, operator and journal, with an adapter that goes wrong.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use cloud_adapters::deadline::with_deadline;
use tidegate::actors::burst::AdapterSlot;
use tidegate::actors::burst::trial::{self, Step, TrialParts};
use tidegate::actors::publisher::Identity;
use tidegate::host::clock::Clock;
use tidegate::journal::{Journal, StateDir};
use tidegate::logic::breaker::{self, Backoff};
use tidegate::logic::budget::{Caps, Money, Terms};
use tidegate::logic::burst::AdapterSettings;
use tidegate::tls::{Dialer, LaunchIdentity, launch_token};

use super::cell::Cell;
use super::faulty::Faulty;
use super::link::Link;
use super::mischief::Mischief;
use super::provider::{Kind, node_of};
use super::{CAP_UNITS, DRAIN, MINIMUM_BILLING, say};

/// How much of a lease an instance is kept once it is ready: two renewals at least.
const KEEP_OF_LEASE: f64 = 0.9;
/// A start on a busy machine.
const START_TIMEOUT: Duration = Duration::from_secs(20);

/// Runs the trial and says how it went; never returns where the cell kills it.
pub(crate) fn play(kind: Kind, home: &Path, cell: Cell, is_restart: bool) {
    // As the node's own log: what cannot be written is lost.
    let log = tracing_subscriber::fmt().with_writer(std::io::stderr).with_ansi(false).log_internal_errors(false);
    log.init();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("runtime");
    let mischief = Arc::new(Mischief::new(cell, is_restart, kind));
    runtime.block_on(async {
        let state_dir = StateDir::open(&home.join("state")).expect("a state directory");
        let secret = state_dir.secret().to_vec();
        let link = Link::new(Arc::clone(&mischief), secret.clone(), home.to_owned());
        let faulty = Faulty::new(kind.client(home), Arc::clone(&link), Arc::clone(&mischief), is_restart);
        let slot = AdapterSlot { adapter: Arc::new(with_deadline(faulty, kind.deadline())), settings: settings(kind) };
        let parts = parts(kind, home, &state_dir, slot);
        let ended = trial::run(parts, |step| {
            tell(step, &link, &secret);
            mischief.at(step);
        });
        match ended.await {
            Ok(report) => say(&format!("ended {report}")),
            Err(error) => say(&format!("ended without: {error}")),
        }
    });
}

/// A client has a way of its own to an instance, which no fault of the node's touches.
fn tell(step: &Step, link: &Link, secret: &[u8]) {
    match step {
        Step::Ready { launch, address } => {
            let authority = link.behind(&address.authority);
            let pin = LaunchIdentity::derive(secret, launch).expect("an identity").pin();
            say(&format!("ready {launch} {authority} {} {pin}", launch_token(secret, launch)));
        }
        step => say(&format!("step {step}")),
    }
}

fn parts(kind: Kind, home: &Path, state_dir: &StateDir, slot: AdapterSlot) -> TrialParts {
    TrialParts {
        identity: Identity { fleet: "matrix".into(), node: node_of(home), session: state_dir.session() },
        clock: Clock::start(),
        journal: Arc::new(Journal::open(state_dir).expect("a journal")),
        secret: state_dir.secret().to_vec(),
        adapter: ("cloud".into(), slot),
        service: ("matrix".into(), kind.workload(home)),
        caps: Caps { per_hour: Some(units(CAP_UNITS)), per_day: None },
        currency: "EUR".into(),
        dialer: Dialer::new(None).expect("a dialer"),
        keep: kind.lease().mul_f64(KEEP_OF_LEASE),
    }
}

/// One unit of money a second.
fn settings(kind: Kind) -> AdapterSettings {
    AdapterSettings {
        terms: Terms {
            price_per_hour: units(3_600.0),
            minimum_billing: MINIMUM_BILLING,
            billing_step: Duration::from_secs(1),
        },
        lease_ttl: Some(kind.lease()),
        start_timeout: START_TIMEOUT,
        drain_timeout: DRAIN,
        max: 4,
        spot: false,
        max_life: None,
        circuit: breaker::Config {
            failures: 3,
            open: Backoff { base: Duration::from_millis(500), cap: Duration::from_secs(2) },
            probe_timeout: Duration::from_secs(10),
        },
        full: Backoff { base: Duration::from_millis(500), cap: Duration::from_secs(2) },
        list_every: Duration::from_millis(500),
    }
}

fn units(units: f64) -> Money {
    Money::from_units(units).expect("an amount")
}
