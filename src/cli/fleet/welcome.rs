//! What `tidegate fleet init` says to do next: commands and lines that work as they are printed.

use std::path::Path;

use super::NODES;
use super::user::USERS;
use crate::cli::broker::split;
use crate::cli::terminal::say;

/// MQTT's registered port for TLS.
const TLS_PORT: u16 = 8883;
/// Where files of a node stand.
const ETC: &str = "/etc/tidegate";

/// Where a fleet's hub is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct HubAddress {
    host: String,
    port: u16,
}

impl std::str::FromStr for HubAddress {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let refusal = || format!("{text:?} is not HOST or HOST:PORT, as in hub.local or 192.168.1.10:8883");
        let (host, port) = split(text).ok_or_else(refusal)?;
        let port = port.map_or(Ok(TLS_PORT), str::parse).map_err(|_| refusal())?;
        let usable = |letter: char| letter.is_ascii_alphanumeric() || ".-:".contains(letter);
        match !host.is_empty() && host.chars().all(usable) && port > 0 {
            true => Ok(Self { host: host.to_owned(), port }),
            false => Err(refusal()),
        }
    }
}

impl std::fmt::Display for HubAddress {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.host.contains(':') {
            true => write!(f, "[{}]:{}", self.host, self.port),
            false => write!(f, "{}:{}", self.host, self.port),
        }
    }
}

/// Prints it: for nodes, for a hub, and for who watches with `watcher`'s password, which is shown here alone.
pub(super) fn print(fleet: &str, folder: &Path, hub: &HubAddress, (watcher, password): (&str, &str)) {
    let (dir, HubAddress { host, port }) = (folder.display(), hub);
    say!("founded the fleet {fleet} in {dir}; who has {dir}/root.key can let anyone in: keep it off the gateways");
    say!();
    say!("for each node:");
    say!("    tidegate fleet enroll gateway-1 --dir {dir}");
    say!();
    say!("for a hub, a node whose broker serves the others:");
    say!("    tidegate fleet enroll hub --host {host} --dir {dir}");
    say!("copy {dir}/{USERS} to it as {ETC}/{USERS}, readable for tidegate alone, and set there");
    say!("    [mqtt]");
    say!("    listen_tls = \"0.0.0.0:{port}\"");
    say!("    users_file = \"{ETC}/{USERS}\"");
    say!("and at the other nodes");
    say!("    [mqtt]");
    say!("    broker = \"mqtts://{hub}\"");
    say!();
    say!("to watch from a laptop that has {dir}/roots.pem; the password is shown this once:");
    say!("    mosquitto_sub -h {host} -p {port} --cafile {dir}/roots.pem -u {watcher} -P {password} \\");
    say!("        -v -t 'tidegate-json/v1/{fleet}/#'");
    say!("and with a broker that wants certificates:");
    say!("    tidegate fleet enroll laptop --role operator --dir {dir}");
    say!("    mosquitto_sub -h BROKER -p {TLS_PORT} --cafile {dir}/{NODES}/laptop/roots.pem \\");
    say!("        --cert {dir}/{NODES}/laptop/node.pem --key {dir}/{NODES}/laptop/node.key \\");
    say!("        -v -t 'tidegate-json/v1/{fleet}/#'");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hub_is_a_host_and_perhaps_a_port() {
        let read = |text: &str| text.parse::<HubAddress>().map(|hub| hub.to_string()).ok();
        assert_eq!(read("hub.local").unwrap(), "hub.local:8883");
        assert_eq!(read("192.168.1.10:443").unwrap(), "192.168.1.10:443");
        assert_eq!(read("[2001:db8::1]").unwrap(), "[2001:db8::1]:8883");
        assert_eq!(read("[2001:db8::1]:443").unwrap(), "[2001:db8::1]:443");
        for bad in ["", ":8883", "hub:", "hub:0", "hub:x", "mqtts://hub", "hub local", "[::1", "[::1]x", "a;b"] {
            assert_eq!(read(bad), None, "{bad}");
        }
    }
}
