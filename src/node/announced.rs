//! Where others find this node's broker, as announcements tell it.

use std::net::{IpAddr, SocketAddr};

use super::Addresses;
use super::trust::Trust;

/// The broker's address as announcements tell it: where others reach it if they can, else where this box does.
pub(super) fn broker(addresses: &Addresses, trust: &Trust) -> Option<String> {
    let credential = trust.signer.credential();
    let hub = addresses.mqtt_tls.and_then(|listen| for_others(listen, &credential.facts().hosts));
    hub.or_else(|| addresses.mqtt.map(|address| address.to_string()))
}

/// By a name of its certificate, else by an address of it, else at the address that it listens on; none where only this box
/// gets there.
fn for_others(listen: SocketAddr, certified: &[String]) -> Option<String> {
    if listen.ip().to_canonical().is_loopback() {
        return None;
    }
    let address = |host: &String| host.parse::<IpAddr>().ok();
    if let Some(name) = certified.iter().find(|&host| address(host).is_none() && host != "localhost") {
        return Some(format!("mqtts://{name}:{}", listen.port()));
    }
    let mut addresses = certified.iter().filter_map(address).chain([listen.ip()]);
    let reached = addresses.find(|ip| !ip.to_canonical().is_loopback() && !ip.is_unspecified())?;
    Some(format!("mqtts://{}", SocketAddr::new(reached, listen.port())))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(listen: &str, certified: &[&str]) -> Option<String> {
        for_others(listen.parse().unwrap(), &certified.iter().map(|&host| host.to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn others_are_told_where_they_reach_the_hub_and_nothing_where_they_do_not() {
        assert_eq!(told("0.0.0.0:8883", &["localhost", "10.0.0.7", "hub.local"]).unwrap(), "mqtts://hub.local:8883");
        assert_eq!(told("0.0.0.0:8883", &["127.0.0.1", "10.0.0.7"]).unwrap(), "mqtts://10.0.0.7:8883");
        assert_eq!(told("[::]:8883", &["2001:db8::7"]).unwrap(), "mqtts://[2001:db8::7]:8883");
        assert_eq!(told("192.168.1.10:8883", &[]).unwrap(), "mqtts://192.168.1.10:8883");
        assert_eq!(told("[2001:db8::1]:8883", &["localhost"]).unwrap(), "mqtts://[2001:db8::1]:8883");
        assert_eq!(told("0.0.0.0:8883", &["localhost", "127.0.0.1"]), None, "nobody connects to any address");
        assert_eq!(told("127.0.0.1:8883", &["hub.local"]), None);
        assert_eq!(told("[::ffff:127.0.0.1]:8883", &["hub.local"]), None);
    }
}
