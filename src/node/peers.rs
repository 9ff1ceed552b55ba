//! Other nodes of the fleet: who is let in, what is told of this one, and how far each service's requests may travel.

use std::net::SocketAddr;
use std::sync::Arc;

use edge_config::{Config, Metric, PlacementRule, Service, ServiceName};

use super::parts;
use super::trust::{Trust, shown, unwelcome};
use crate::host::clock::unix_now;
use crate::logic::route::PeerRule;
use crate::tls::{FleetIdentity, Unwelcome};
use crate::trust::{Signer, Verifier};

/// What this node shows to the others, as it is at each handshake, and whom it lets in: nodes of the fleet, asked about anew with
/// each request.
pub(super) struct Neighbour {
    signer: Arc<Signer>,
    verifier: Arc<Verifier>,
}

impl Neighbour {
    pub(super) fn new(trust: &Trust) -> Arc<Self> {
        Arc::new(Self { signer: trust.signer.clone(), verifier: trust.verifier.clone() })
    }
}

impl FleetIdentity for Neighbour {
    fn own(&self) -> (Vec<Vec<u8>>, String) {
        shown(&self.signer)
    }

    fn check(&self, chain: &[Vec<u8>]) -> Result<(), Unwelcome> {
        let facts = self.verifier.holder(chain, unix_now()).map_err(|why| unwelcome(&why))?;
        // A copy of this node is no neighbour.
        let is_neighbour = facts.role.is_node() && facts.name != self.signer.name();
        is_neighbour.then_some(()).ok_or(Unwelcome::Foreign)
    }
}

/// Where the others reach this node, as it is announced.
pub(super) fn announced(config: &Config, listening: SocketAddr) -> String {
    match &config.gateway.peer_host {
        Some(host) if host.contains(':') => format!("[{host}]:{}", listening.port()),
        Some(host) => format!("{host}:{}", listening.port()),
        None => listening.to_string(),
    }
}

/// Which other nodes may have a service's requests.
pub(super) fn rule(config: &Config, service: &Service) -> Option<PeerRule> {
    // Without a credential of a fleet there is no other node, and nothing to show to one.
    let may_leave = config.node.credentials.is_some() && service.peers && service.placement != PlacementRule::Local;
    may_leave.then(|| PeerRule {
        protocol: parts::protocol(&service.local.runtime).to_owned(),
        own_site: config.node.site.clone(),
        same_site: service.placement == PlacementRule::Site,
        residency: service.residency.clone(),
    })
}

/// Whether other nodes' requests for a service are taken.
pub(super) fn takes_guests(config: &Config, service: &Service) -> bool {
    let is_shared = service.peers && service.placement != PlacementRule::Local;
    config.gateway.peer_listen.is_some() && is_shared && moved_by_guests(config).is_none()
}

/// A service that would launch instances for other nodes' requests: it bursts by a measure that these raise, too.
fn moved_by_guests(config: &Config) -> Option<(&ServiceName, Metric)> {
    let is_moved = |metric| !matches!(metric, Metric::Utilisation | Metric::RequestRate);
    let bursting = config.services.iter().filter(|(_, service)| service.instances_max() > 0);
    bursting.map(|(name, service)| (name, service.scaling.metric)).find(|(_, metric)| is_moved(*metric))
}

/// Says why nobody's requests are taken although `gateway.peer_listen` is set.
pub(super) fn warn_of_no_guests(config: &Config) {
    let Some((service, metric)) = moved_by_guests(config).filter(|_| config.gateway.peer_listen.is_some()) else {
        return;
    };
    tracing::warn!(
        %service,
        ?metric,
        "gateway.peer_listen takes no requests: this service bursts by a measure that other nodes' requests raise, so that they \
         would cost money here; scale it by utilisation or request_rate to help others"
    );
}

#[cfg(test)]
mod tests {
    use edge_config::{Override, Profile, Sources};

    use super::*;

    /// A node of a fleet that listens for others and bursts by a measure, as far as more settings have it.
    fn takes(metric: &str, more: &[(&[&str], &str)]) -> bool {
        let usual: [(&[&str], &str); 8] = [
            (&["node", "id"], "gateway-1"),
            (&["node", "state_dir"], "/var/lib/tidegate"),
            (&["node", "credentials"], "/etc/tidegate/credentials"),
            (&["node", "link_speed_mbit"], "1000"),
            (&["gateway", "peer_listen"], "10.0.0.1:8443"),
            (&["service", "digits", "scaling", "metric"], metric),
            (&["service", "digits", "scaling", "threshold"], if metric == "latency_p95" { "200ms" } else { "0.8" }),
            (&["service", "digits", "scaling", "band"], if metric == "latency_p95" { "20ms" } else { "0.1" }),
        ];
        let mut sources = Sources { profile: Some(Profile::Quickstart), ..Sources::default() };
        for (path, value) in usual.iter().chain(more) {
            sources.overrides.push(Override::new(path.iter().copied(), *value));
        }
        let config = edge_config::load(sources).unwrap_or_else(|errors| panic!("{metric}: {errors}"));
        takes_guests(&config, &config.services["digits"])
    }

    #[test]
    fn guests_are_taken_where_they_cannot_make_a_service_burst() {
        for metric in ["utilisation", "request_rate"] {
            assert!(takes(metric, &[]), "{metric} counts the node's own requests alone");
        }
        let no_instances: (&[&str], &str) = (&["service", "digits", "burst", "max_replicas"], "0");
        for metric in ["cpu", "memory", "network", "latency_p95"] {
            assert!(!takes(metric, &[]), "{metric} rises with others' requests, and instances cost money");
            assert!(takes(metric, &[no_instances]), "{metric}: nothing is launched");
        }
    }

    #[test]
    fn guests_are_taken_by_a_service_that_is_shared() {
        for key in ["placement", "peers"] {
            let value = if key == "placement" { "local" } else { "false" };
            assert!(!takes("utilisation", &[(&["service", "digits", key], value)]), "{key} = {value}");
        }
    }
}
