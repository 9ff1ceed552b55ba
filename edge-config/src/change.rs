//! What changed from one configuration to the next, and which of that a running node can take up.

use std::collections::BTreeMap;

use crate::show::Setting;
use crate::{Config, Service};

/// From the configuration in force to another.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Change {
    /// Keys that a running node takes up, as in `service.digits.scaling.threshold`.
    pub live: Vec<String>,
    /// Keys that it has only at its start: sockets, identities, accounts. Of a service or an adapter that is new or gone
    /// its table alone is named, here or there.
    pub at_start: Vec<String>,
}

impl Config {
    /// What differs in another configuration.
    pub fn change_to(&self, other: &Self) -> Change {
        let (before, after) = (by_key(&self.settings), by_key(&other.settings));
        let mut change = Change::default();
        let is_other = |key: &&Key| before.get(*key) != after.get(*key) && !is_idle(key, [self, other]);
        for key in before.keys().chain(after.keys()).filter(is_other) {
            let (keys, told) = match whole_table(key, [self, other]) {
                Some(table) if is_live_table(key, other) => (&mut change.live, table),
                Some(table) => (&mut change.at_start, table),
                None if is_live(key) => (&mut change.live, key.join(".")),
                None => (&mut change.at_start, key.join(".")),
            };
            if !keys.contains(&told) {
                keys.push(told);
            }
        }
        change.live.extend(self.changed_environments(other, &change.live));
        change.at_start.extend(self.changed_adapters(other, &change.at_start));
        change
    }

    /// Values of environments are not among the settings, since they may be secrets.
    fn changed_environments(&self, other: &Self, told: &[String]) -> Vec<String> {
        let services = self.services.iter().filter_map(|(name, before)| {
            let after = other.services.get(name)?;
            (before.local.env != after.local.env).then(|| format!("service.{name}.local.env"))
        });
        services.filter(|key| !told.contains(key)).collect()
    }

    /// The same of an adapter: where it is.
    fn changed_adapters(&self, other: &Self, told: &[String]) -> Vec<String> {
        let adapters = self.adapters.iter().filter_map(|(name, before)| {
            let after = other.adapters.get(name)?;
            (before.kind != after.kind).then(|| format!("adapter.{name}"))
        });
        adapters.filter(|key| !told.iter().any(|known| known.starts_with(&format!("{key}.")))).collect()
    }
}

type Key = Vec<String>;

fn by_key(settings: &[Setting]) -> BTreeMap<Key, Option<&str>> {
    let keyed = settings.iter().map(|setting| {
        let key = setting.table.iter().cloned().chain([setting.key.to_string()]).collect();
        (key, setting.value.as_deref())
    });
    keyed.collect()
}

/// The table of a service or an adapter that only one of the two has.
fn whole_table(key: &Key, configs: [&Config; 2]) -> Option<String> {
    let [section, name, ..] = key.as_slice() else { return None };
    let [before, after] = configs.map(|config| match section.as_str() {
        "service" => config.services.keys().any(|service| service.as_str() == name),
        "adapter" => config.adapters.keys().any(|adapter| adapter.as_str() == name),
        _ => true,
    });
    (before != after).then(|| format!("{section}.{name}"))
}

/// Services and adapters come and go while a node runs, but for a service that is asked over MQTT, or scaled by what is measured elsewhere:
/// links subscribe as they begin.
fn is_live_table(key: &Key, after: &Config) -> bool {
    let [section, name, ..] = key.as_slice() else { return false };
    let found = after.services.iter().find(|(service, _)| service.as_str() == name);
    let is_bound = |service: &Service| service.mqtt.is_some() || service.scaling.custom.is_some();
    section == "adapter" || found.is_none_or(|(_, service)| !is_bound(service))
}

/// How a service that nobody asks over MQTT would be asked there.
fn is_idle(key: &Key, configs: [&Config; 2]) -> bool {
    let [section, name, table, _] = key.as_slice() else { return false };
    let is_asked = |config: &Config| {
        config.services.iter().any(|(service, settings)| service.as_str() == name && settings.mqtt.is_some())
    };
    section == "service" && table == "mqtt" && !configs.into_iter().any(is_asked)
}

/// What decisions are made from, how requests are treated, and what services run. Whatever is bound, connected or written by a key
/// was so at the start.
fn is_live(key: &Key) -> bool {
    let words: Vec<&str> = key.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["node", "log"]
        | ["budget", "per_hour" | "per_day"]
        | ["gateway", "queue" | "request_timeout" | "balance" | "max_body_bytes"]
        | ["service", _, "scaling", _]
        | [
            "service",
            _,
            "queue" | "request_timeout" | "repeatable" | "balance" | "peers" | "placement" | "residency",
        ]
        | ["service", _, "burst", _]
        | ["service", _, "burst", "files", _]
        | ["adapter", _, "price_per_hour" | "free" | "minimum_billing" | "billing_step" | "lease_ttl" | "spot"] => true,
        // What a replica takes at once is counted where its requests are under way.
        ["service", _, "local", key] => *key != "concurrency",
        _ => false,
    }
}
