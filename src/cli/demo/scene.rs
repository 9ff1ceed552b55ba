//! Where the demo plays: the quickstart profile in a temporary directory, with local replicas held to one core.

use std::net::{SocketAddr, TcpListener};
use std::path::Path;

use anyhow::Context;
use edge_config::{Config, Override, Profile, Sources};

use super::machine::usable_cores;

/// The one service.
pub(super) const SERVICE: &str = "digits";
/// Most local replicas; the second one shares the first one's core.
const LOCAL_MAX: u32 = 2;
/// Most instances: as many as local replicas, on the other cores.
const BURST_MAX: u32 = 2;
/// A surge is known within this, and an instance becomes ready within a few of them.
const TICK: &str = "250ms";
/// Adds at T + band / 2 = 0.80 and removes at T - band / 2 = 0.20: so wide because one replica more or less is a quarter
/// of this small system.
const THRESHOLD: f64 = 0.50;
const BAND: f64 = 0.60;
/// Two replicas at the first crossing, and again each second.
const PACE: [(&str, &str); 3] = [("scale_factor", "120"), ("interval", "1s"), ("window", "500ms")];

/// Where a replica is added.
pub(super) fn upper_edge() -> f64 {
    THRESHOLD + BAND / 2.0
}

/// What the demo's cloud is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Cloud {
    /// Other processes on this machine.
    Process,
    /// Containers at the Docker Engine of `DOCKER_HOST`, else of this machine.
    Docker,
}

/// The adapter's name in the quickstart profile.
pub(super) const ADAPTER: &str = "demo-cloud";

/// What both plays have in common.
pub(super) struct Scene {
    pub(super) cloud: Cloud,
    /// At an engine that others use too, the demo's instances are told by a name of their own.
    node: String,
    directory: tempfile::TempDir,
    /// The core of the local replicas.
    pub(super) local_core: usize,
    cloud_cores: Vec<usize>,
}

impl Scene {
    pub(super) fn new(cloud: Cloud) -> anyhow::Result<Self> {
        let directory = tempfile::Builder::new().prefix("tidegate-demo-").tempdir().context("a temporary directory")?;
        let cores = usable_cores();
        let (first, rest) = cores.split_first().context("no core to run on")?;
        let cloud_cores = if rest.is_empty() { vec![*first] } else { rest.to_vec() };
        let node = format!("demo-gateway-{:08x}", fastrand::u32(..));
        Ok(Self { cloud, node, directory, local_core: *first, cloud_cores })
    }

    /// Everything that the demo writes is below it.
    pub(super) fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// The configuration of one play; each has a state directory of its own, so that nothing is carried over.
    pub(super) fn config(&self, play: &str) -> anyhow::Result<Config> {
        let mut sources = Sources { profile: Some(Profile::Quickstart), ..Sources::default() };
        let state = self.directory().join(play);
        let mut set = |path: &[&str], value: &str| {
            sources.overrides.push(Override::new(path.iter().copied(), value));
        };
        set(&["node", "id"], &self.node);
        set(&["node", "state_dir"], &state.to_string_lossy());
        set(&["node", "tick"], TICK);
        set(&["node", "drain_timeout"], "10s");
        set(&["mqtt", "listen"], &usual_or_free(1883).to_string());
        set(&["gateway", "listen"], &usual_or_free(8080).to_string());
        set(&["console", "listen"], &usual_or_free(8081).to_string());
        set(&["service", SERVICE, "local", "max_replicas"], &LOCAL_MAX.to_string());
        set(&["service", SERVICE, "local", "cpus"], &list(&[self.local_core]));
        set(&["service", SERVICE, "burst", "max_replicas"], &BURST_MAX.to_string());
        set(&["service", SERVICE, "scaling", "threshold"], &THRESHOLD.to_string());
        set(&["service", SERVICE, "scaling", "band"], &BAND.to_string());
        for (key, value) in PACE {
            set(&["service", SERVICE, "scaling", key], value);
        }
        set(&["adapter", ADAPTER, "lease_ttl"], "20s");
        match self.cloud {
            Cloud::Process => set(&["adapter", ADAPTER, "cpus"], &list(&self.cloud_cores)),
            Cloud::Docker => set(&["adapter", ADAPTER, "kind"], "docker"),
        }
        edge_config::load(sources).map_err(|errors| anyhow::anyhow!("{errors}"))
    }
}

fn list(cores: &[usize]) -> String {
    format!("[{}]", cores.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "))
}

/// The usual port, so that the README's commands work beside a demo; where it is taken, a free one.
fn usual_or_free(port: u16) -> SocketAddr {
    let usual = SocketAddr::from(([127, 0, 0, 1], port));
    if TcpListener::bind(usual).is_ok() { usual } else { SocketAddr::from(([127, 0, 0, 1], 0)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_scene_is_a_valid_configuration_with_a_free_port_where_the_usual_is_taken() {
        let scene = Scene::new(Cloud::Process).unwrap();
        let config = scene.config("play").unwrap();
        assert_eq!(config.services[SERVICE].local.max_replicas, LOCAL_MAX);
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        assert_eq!(usual_or_free(taken.local_addr().unwrap().port()).port(), 0);
    }
}
