//! Ports, the node behind them, and brokers elsewhere.

use std::io::ErrorKind;
use std::net::{SocketAddr, TcpListener, TcpStream, ToSocketAddrs};
use std::time::Duration;

use edge_config::{Broker, BrokerAddress, Config};
use http::StatusCode;
use serde_json::Value;

use super::super::ask::ask;
use super::Finding;

/// A broker that takes longer to say hello is as good as away.
const REACHED_WITHIN: Duration = Duration::from_secs(3);

/// The listeners of a node that runs are its own; the ports of one that does not have to be free.
pub(super) fn look(config: &Config, node_runs: bool) -> Vec<Finding> {
    let mut found = Vec::new();
    if node_runs {
        found.extend(health(config.console.listen));
        let node = node(config.console.listen);
        found.extend(in_force(config, &node));
        found.extend(links(&node));
    } else {
        let mqtt = config.mqtt.embedded_listen().map(|address| ("mqtt.listen", address));
        let hub = config.mqtt.hub().map(|hub| ("mqtt.listen_tls", hub.listen));
        let peers = config.gateway.peer_listen.map(|address| ("gateway.peer_listen", address));
        let own = [("gateway.listen", config.gateway.listen), ("console.listen", config.console.listen)];
        found.extend(
            own.into_iter().chain(mqtt).chain(hub).chain(peers).filter_map(|(key, address)| port(key, address)),
        );
    }
    found.extend(brokers(config).into_iter().map(|address| broker(&address)));
    found
}

fn port(key: &'static str, address: SocketAddr) -> Option<Finding> {
    let error = TcpListener::bind(address).err()?;
    let what = format!("{key} = \"{address}\": {error}");
    let mend = match error.kind() {
        ErrorKind::AddrInUse => format!("stop what listens there (`ss -ltnp` shows it), or set {key} to another port"),
        ErrorKind::PermissionDenied => format!("ports under 1024 are root's; set {key} to a higher one"),
        _ => format!("set {key} to an address of this box"),
    };
    Some(Finding::problem("ports", what, mend))
}

/// What the node says of itself, by its two plain answers.
fn health(console: SocketAddr) -> Vec<Finding> {
    if console.port() == 0 {
        return vec![Finding::ok("node", "it runs, at a port that only its own output tells")];
    }
    [
        ("/healthz", "restart it: systemctl restart tidegate"),
        ("/readyz", "look at: tidegate status, tidegate service list"),
    ]
    .into_iter()
    .map(|(path, mend)| match ask(&console.to_string(), path) {
        Ok((StatusCode::OK, _)) => Finding::ok("node", format!("{path} says ok")),
        Ok((status, said)) => {
            let said = String::from_utf8_lossy(&said);
            Finding::problem("node", format!("{path} answers {}: {}", status.as_u16(), said.trim()), mend)
        }
        Err(error) => Finding::problem("node", format!("{path}: {error:#}"), mend),
    })
    .collect()
}

/// What the node says of itself, where it answers.
fn node(console: SocketAddr) -> Value {
    let answer = ask(&console.to_string(), "/api/v1/node").ok().filter(|(status, _)| *status == StatusCode::OK);
    answer.and_then(|(_, said)| serde_json::from_slice(&said).ok()).unwrap_or_default()
}

/// Whether it speaks with its brokers: a port that takes connections may still let nobody in.
fn links(node: &Value) -> Vec<Finding> {
    let links = node["telemetry"]["links"].as_array();
    let down = links.into_iter().flatten().filter(|link| link["connected"] == false);
    down.map(|link| {
        let text = |key: &str| link[key].as_str();
        let broker = text("broker").map(|broker| format!(" with {broker}")).unwrap_or_default();
        let why = text("last_error").unwrap_or("no answer yet");
        let what = format!("the node's link {}{broker} does not stand: {why}", text("link").unwrap_or_default());
        Finding::problem("broker", what, "mend what it says; serving goes on, and events wait on disk meanwhile")
    })
    .collect()
}

/// Whether it runs by what stands in the files now.
fn in_force(config: &Config, node: &Value) -> Option<Finding> {
    let about = "configuration";
    let problems: Vec<&str> = node["config"]["problems"].as_array()?.iter().filter_map(Value::as_str).collect();
    if !problems.is_empty() {
        let what = format!("the running node did not take it up: {}", problems.join("; "));
        let mend = "mend it and run `tidegate config apply`, or restart the node";
        return Some(Finding::problem(about, what, mend));
    }
    let differs = node["config"]["digest"].as_str().is_some_and(|digest| digest != config.digest());
    differs.then(|| {
        let what = "the running node has another than this one, whose files were changed since, or which is another's";
        Finding::warning(about, what, "tidegate config apply")
    })
}

fn brokers(config: &Config) -> Vec<BrokerAddress> {
    if !config.mqtt.enabled {
        return Vec::new();
    }
    let elsewhere = match &config.mqtt.broker {
        Broker::External { address, .. } => Some(address.clone()),
        _ => None,
    };
    let uplink = config.mqtt.uplink.iter().flat_map(|uplink| uplink.addresses.clone());
    elsewhere.into_iter().chain(uplink).collect()
}

fn broker(address: &BrokerAddress) -> Finding {
    match reach(address) {
        Ok(()) => Finding::ok("broker", format!("{address} takes connections")),
        Err(error) => Finding::problem(
            "broker",
            format!("{address} is not reached: {error} (serving goes on without)"),
            "start it, or mend the address, the network or the name lookup",
        ),
    }
}

fn reach(address: &BrokerAddress) -> std::io::Result<()> {
    let mut last = std::io::Error::other("the name has no address");
    for found in (address.host.as_str(), address.port).to_socket_addrs()? {
        match TcpStream::connect_timeout(&found, REACHED_WITHIN) {
            Ok(_) => return Ok(()),
            Err(error) => last = error,
        }
    }
    Err(last)
}
