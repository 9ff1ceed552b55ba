//! Which services are asked over MQTT, and by which topics: from the configuration to the parts of `infer`.

use std::collections::BTreeMap;
use std::sync::Arc;

use edge_config::{Config, Inference};
use tokio::runtime::Handle;
use tokio::sync::watch;

use super::NodeError;
use crate::actors::publisher::Identity;
use crate::gateway::Gateway;
use crate::infer::{Clerk, Desk};
use crate::mqtt::Qos;
use crate::mqtt::link::{Link, LinkObserver};
use crate::wire::access::NODES_GROUP;
use crate::wire::{Encoding, Root};

/// What a node that is asked over MQTT has for its links.
pub(super) struct Infer {
    clerk: Arc<Clerk>,
    filters: Vec<(String, Qos)>,
    data: Handle,
}

/// None where no service is asked over MQTT: then nothing is subscribed to. `data` is the gateway's runtime.
pub(super) fn prepare(
    config: &Config,
    identity: &Identity,
    gateway: &Arc<Gateway>,
    data: &Handle,
) -> Result<Option<Infer>, NodeError> {
    let asked = config.services.iter().filter_map(|(name, service)| Some((name.as_str(), service.mqtt.as_ref()?)));
    let paths: BTreeMap<String, String> =
        asked.map(|(name, mqtt)| (name.to_owned(), gateway_path(name, &mqtt.path))).collect();
    if paths.is_empty() {
        return Ok(None);
    }
    let setting = |error: &dyn std::fmt::Display| NodeError::Setting(error.to_string());
    let root = Root::new(Encoding::Cbor, &identity.fleet).map_err(|error| setting(&error))?;
    let filters = filters(&root, paths.keys(), config.mqtt.infer);
    let clerk = Clerk::new(root, paths, Arc::clone(gateway)).map_err(|error| setting(&error))?;
    Ok(Some(Infer { clerk, filters, data: data.clone() }))
}

/// A model's own path is the gateway's too, which knows there that an inference may be repeated.
fn gateway_path(service: &str, path: &str) -> String {
    match path.starts_with(&format!("/v2/models/{service}/")) {
        true => path.to_owned(),
        false => format!("/services/{service}{path}"),
    }
}

fn filters<'a>(root: &Root, services: impl Iterator<Item = &'a String>, infer: Inference) -> Vec<(String, Qos)> {
    let filters: Vec<String> = match infer {
        Inference::Own => vec![root.all_requests()],
        _ => services.map(|service| format!("$share/{NODES_GROUP}/{}", root.requests(service))).collect(),
    };
    filters.into_iter().map(|filter| (filter, Qos::AtLeastOnce)).collect()
}

impl Infer {
    /// What a link that brings requests subscribes to, beside all else.
    pub(super) fn filters(&self) -> impl Iterator<Item = (String, Qos)> {
        self.filters.iter().cloned()
    }

    /// Leaves what sensors ask to the other nodes as soon as this one stops: what it would still be given, it would refuse.
    pub(super) fn leave_at_stop(&self, links: Vec<Link>, mut stopping: watch::Receiver<bool>) {
        let filters = self.filters.clone();
        self.data.spawn(async move {
            // An error means that the node is gone.
            let _ = stopping.wait_for(|stop| *stop).await;
            links.iter().for_each(|link| filters.iter().for_each(|(filter, _)| link.unsubscribe(filter)));
        });
    }

    /// The observer for such a link, and what answers once the link is there.
    pub(super) fn open(&self, rest: Arc<dyn LinkObserver>) -> (Arc<dyn LinkObserver>, Answering) {
        let (observer, desk) = self.clerk.open(rest);
        (observer, Answering { desk, data: self.data.clone() })
    }
}

/// The requests of a link, before the link is there.
pub(super) struct Answering {
    desk: Desk,
    data: Handle,
}

impl Answering {
    /// By this link, on the gateway's runtime.
    pub(super) fn start(self, link: &Link) {
        self.data.spawn(self.desk.serve(link.clone()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_models_path_is_the_gateways_and_any_other_is_below_its_service() {
        assert_eq!(gateway_path("digits", "/v2/models/digits/infer"), "/v2/models/digits/infer");
        assert_eq!(gateway_path("digits", "/v2/models/other/infer"), "/services/digits/v2/models/other/infer");
        assert_eq!(gateway_path("hello", "/"), "/services/hello/");
    }

    #[test]
    fn what_is_shared_is_asked_for_by_service_and_an_own_broker_as_a_whole() {
        let root = Root::new(Encoding::Cbor, "plant-a").unwrap();
        let services = ["digits".to_owned(), "hello".to_owned()];
        let of =
            |infer| filters(&root, services.iter(), infer).into_iter().map(|(filter, _)| filter).collect::<Vec<_>>();
        let shared = ["digits", "hello"].map(|name| format!("$share/tidegate/tidegate/v1/plant-a/infer/{name}/#"));
        assert_eq!(of(Inference::Shared), shared);
        assert_eq!(of(Inference::Own), ["tidegate/v1/plant-a/infer/#"]);
    }
}
