//! Reads the box and the gateway's counters on every tick and passes the sample on.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use actix::{Actor, AsyncContext, Context, Recipient};

use super::publisher::Sampled;
use super::{MAILBOX, tell};
use crate::host::clock::Clock;
use crate::host::probe::{Probe, Reading};
use crate::logic::load::{CounterReading, HostLoad, LoadSample, ServiceCounters, ServiceLoad};

/// The monitor's parts, made by the node.
pub struct Monitor {
    /// The only clock.
    pub clock: Clock,
    /// How often.
    pub tick: Duration,
    /// The box.
    pub probe: Probe,
    /// What the gateway counts, by service: services come and go.
    pub counters: Counters,
    /// The custom metric of a service now, where it has one that was heard of lately.
    pub custom: Custom,
    /// Who gets each sample.
    pub listeners: Vec<Recipient<Sampled>>,
    /// The last tick's time and readings.
    pub last: Last,
}

/// Gives the counters of all services that there are now.
pub type Counters = Box<dyn Fn() -> BTreeMap<String, Arc<ServiceCounters>> + Send>;

/// Gives a service's custom metric.
pub type Custom = Box<dyn Fn(&str, Duration) -> Option<f64> + Send>;

/// What the next tick compares with.
#[derive(Default)]
pub struct Last {
    at: Option<Duration>,
    readings: BTreeMap<String, CounterReading>,
}

impl Actor for Monitor {
    type Context = Context<Self>;

    fn started(&mut self, context: &mut Self::Context) {
        context.set_mailbox_capacity(MAILBOX);
        self.sample();
        context.run_interval(self.tick, |monitor, _| monitor.sample());
    }
}

impl Monitor {
    fn sample(&mut self) {
        let now = self.clock.now();
        let elapsed = self.last.at.map_or(Duration::ZERO, |last| now.saturating_sub(last));
        let reading = self.probe.read(elapsed);
        let services = self.services(now, elapsed);
        self.last.at = Some(now);
        let sample = Arc::new(LoadSample { at: now, host: host_load(&reading), services });
        let reading = Arc::new(reading);
        for listener in &self.listeners {
            tell(listener, Sampled { sample: sample.clone(), reading: reading.clone() });
        }
    }

    fn services(&mut self, now: Duration, elapsed: Duration) -> BTreeMap<String, ServiceLoad> {
        let mut services = BTreeMap::new();
        let all = (self.counters)();
        self.last.readings.retain(|name, _| all.contains_key(name));
        for (name, counters) in &all {
            let next = counters.read(now);
            let latencies = counters.take_latencies();
            let previous = self.last.readings.get(name).unwrap_or(&next);
            let mut load = ServiceLoad::between(previous, &next, elapsed, &latencies);
            load.custom = (self.custom)(name, now);
            services.insert(name.clone(), load);
            self.last.readings.insert(name.clone(), next);
        }
        services
    }
}

fn host_load(reading: &Reading) -> HostLoad {
    HostLoad {
        cpu: reading.cpu,
        memory: memory_fraction(reading),
        network: reading.network,
        cpu_count: reading.cpu_count,
        memory_used: reading.memory_used_bytes,
        memory_total: reading.memory_total_bytes,
        rx_bytes_per_s: reading.network_rx_bytes_per_s.unwrap_or_default(),
        tx_bytes_per_s: reading.network_tx_bytes_per_s.unwrap_or_default(),
    }
}

#[expect(clippy::cast_precision_loss, reason = "a ratio of sizes needs no exact byte")]
fn memory_fraction(reading: &Reading) -> Option<f64> {
    let total = reading.memory_total_bytes;
    (total > 0).then(|| reading.memory_used_bytes as f64 / total as f64)
}
