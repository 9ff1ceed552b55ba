//! How busy the box is: processor, memory, network and this process, by sysinfo.

use std::time::Duration;

use sysinfo::{MemoryRefreshKind, NetworkData, Networks, Pid, ProcessRefreshKind, ProcessesToUpdate, System};

/// One reading. Fractions are of 1; `None` where the box does not tell.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Reading {
    /// Busy share of all processors since the last reading.
    pub cpu: Option<f64>,
    /// Processors that this process may use.
    pub cpu_count: u32,
    /// Memory in use, as the kernel counts what is not available.
    pub memory_used_bytes: u64,
    /// Memory of the box.
    pub memory_total_bytes: u64,
    /// Busier direction of the busiest link over its speed.
    pub network: Option<f64>,
    /// Received per second on all links but loopback.
    pub network_rx_bytes_per_s: Option<f64>,
    /// Sent per second on all links but loopback.
    pub network_tx_bytes_per_s: Option<f64>,
    /// The kernel's load average over one minute.
    pub load_average_1m: f64,
    /// Processors used by this process since the last reading (1 is one processor).
    pub process_cpu: f64,
    /// Resident memory of this process.
    pub process_memory_bytes: u64,
}

/// Reads the box; keeps what is needed for rates between readings.
pub struct Probe {
    system: Option<System>,
    networks: Option<Networks>,
    link_speed_bytes_per_s: Option<f64>,
    own: Pid,
    cpu_count: u32,
}

impl Probe {
    /// `link_speed_mbit` overrides what the kernel reports of the links.
    pub fn new(link_speed_mbit: Option<f64>) -> Self {
        let mut probe = Self {
            system: told("processor and memory", System::new()),
            networks: told("network", Networks::new_with_refreshed_list()),
            link_speed_bytes_per_s: link_speed_mbit.map(|mbit| mbit * 125_000.0),
            own: Pid::from_u32(std::process::id()),
            cpu_count: std::thread::available_parallelism().map_or(1, |n| u32::try_from(n.get()).unwrap_or(1)),
        };
        probe.refresh();
        probe
    }

    fn refresh(&mut self) {
        if let Some(networks) = &mut self.networks {
            networks.refresh(true);
        }
        if let Some(system) = &mut self.system {
            system.refresh_cpu_usage();
            system.refresh_memory_specifics(MemoryRefreshKind::nothing().with_ram());
            let what = ProcessRefreshKind::nothing().with_cpu().with_memory().without_tasks();
            system.refresh_processes_specifics(ProcessesToUpdate::Some(&[self.own]), false, what);
        }
    }

    /// Reads now; rates are over `elapsed`, the time since the last reading.
    pub fn read(&mut self, elapsed: Duration) -> Reading {
        self.refresh();
        let system = self.system.as_ref();
        let process = system.and_then(|system| system.process(self.own));
        let (rx, tx, network) = self.network(elapsed.as_secs_f64());
        Reading {
            cpu: system.map(|s| f64::from(s.global_cpu_usage()) / 100.0).filter(|cpu| cpu.is_finite()),
            cpu_count: self.cpu_count,
            memory_used_bytes: system.map_or(0, System::used_memory),
            memory_total_bytes: system.map_or(0, System::total_memory),
            network,
            network_rx_bytes_per_s: rx,
            network_tx_bytes_per_s: tx,
            load_average_1m: System::load_average().map_or(0.0, |average| average.one),
            process_cpu: process.map_or(0.0, |p| f64::from(p.cpu_usage()) / 100.0),
            process_memory_bytes: process.map_or(0, sysinfo::Process::memory),
        }
    }

    fn network(&self, seconds: f64) -> (Option<f64>, Option<f64>, Option<f64>) {
        let Some(networks) = self.networks.as_ref().filter(|_| seconds > 0.0) else { return (None, None, None) };
        let (mut rx, mut tx, mut busiest) = (0.0, 0.0, None::<f64>);
        for (_, data) in networks.iter().filter(|(name, _)| *name != "lo") {
            let (received, sent) = (per_second(data.received(), seconds), per_second(data.transmitted(), seconds));
            rx += received;
            tx += sent;
            if let Some(speed) = self.link_speed_bytes_per_s.or_else(|| reported_speed(data)) {
                busiest = Some(busiest.unwrap_or(0.0).max(received.max(sent) / speed));
            }
        }
        (Some(rx), Some(tx), busiest)
    }
}

#[expect(clippy::cast_precision_loss, reason = "bytes of one tick are far below 2^52")]
fn per_second(bytes: u64, seconds: f64) -> f64 {
    bytes as f64 / seconds
}

/// The kernel's word on a link, in bytes per second; virtual links have none.
#[expect(clippy::cast_precision_loss, reason = "no link does 2^52 bits per second")]
fn reported_speed(link: &NetworkData) -> Option<f64> {
    let bits = link.transmit_link_speed()?.min(link.receive_link_speed().unwrap_or(u64::MAX));
    (bits > 0).then_some(bits as f64 / 8.0)
}

/// A box that does not tell one thing still tells the others.
fn told<T>(what: &str, answer: Result<T, sysinfo::Error>) -> Option<T> {
    answer.inspect_err(|error| tracing::warn!(%error, "this box does not tell its {what} load")).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reading_has_this_box_in_it() {
        let reading = Probe::new(Some(1_000.0)).read(Duration::from_millis(100));
        assert!(reading.memory_total_bytes > 0 && reading.memory_used_bytes <= reading.memory_total_bytes);
        assert!(reading.process_memory_bytes > 1_000_000, "{reading:?}");
        assert!(reading.cpu.is_some_and(|cpu| (0.0..=1.0).contains(&cpu)), "{reading:?}");
        assert!(reading.cpu_count >= 1);
        assert!(reading.network_rx_bytes_per_s.is_some() && reading.network_tx_bytes_per_s.is_some(), "{reading:?}");
    }
}
