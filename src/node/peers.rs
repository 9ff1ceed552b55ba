//! Other nodes of the fleet: who is let in, what is told of this one, and how far each service's requests may travel.

use std::net::SocketAddr;
use std::sync::Arc;

use edge_config::{Config, PlacementRule, Service};

use super::parts;
use super::trust::Trust;
use crate::host::clock::unix_now;
use crate::logic::route::PeerRule;
use crate::tls::{OwnCredential, PeerAcceptor, Shown};
use crate::trust::{Signer, Verifier};

/// What this node shows to the others, as it is at each handshake.
pub(super) fn own_credential(trust: &Trust) -> OwnCredential {
    let signer = trust.signer.clone();
    OwnCredential::new(move || {
        let credential = signer.credential();
        Shown { chain: credential.chain().to_vec(), key_pem: credential.key_pem() }
    })
}

/// Lets nodes of the fleet in, and asks about them anew with each request.
pub(super) fn acceptor(trust: &Trust) -> PeerAcceptor {
    let (verifier, signer) = (trust.verifier.clone(), trust.signer.clone());
    PeerAcceptor::new(own_credential(trust), move |chain| is_another_node(&verifier, &signer, chain))
}

fn is_another_node(verifier: &Arc<Verifier>, signer: &Arc<Signer>, chain: &[Vec<u8>]) -> Result<(), String> {
    let now = verifier.believable(unix_now());
    let speaker = verifier.identify(chain, now).map_err(|error| error.to_string())?;
    match () {
        () if !speaker.role.is_node() => Err(format!("{} is no node but an {}", speaker.name, speaker.role)),
        () if speaker.name == signer.name() => {
            Err(format!("it shows the credential of {}, which is this node", speaker.name))
        }
        () => Ok(()),
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
    config.gateway.peer_listen.is_some() && service.peers && service.placement != PlacementRule::Local
}
