//! Where a daemon is and how to get there: a `DOCKER_HOST` address with its TLS files, read once, as docker itself reads it.

use std::path::PathBuf;

use super::{DockerOptions, DockerTls};
use crate::AdapterError;

/// Where docker looks when nobody says otherwise.
const DEFAULT_HOST: &str = "unix:///var/run/docker.sock";

/// The ports that are registered for a daemon without and with TLS.
const PLAIN_PORT: u16 = 2375;
const TLS_PORT: u16 = 2376;

/// One daemon.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Target {
    /// The address as it was given, for messages.
    pub(super) shown: String,
    pub(super) way: Way,
}

/// How a connection is opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Way {
    Unix { path: PathBuf },
    Tcp { host: String, port: u16 },
    Tls { host: String, port: u16, files: DockerTls },
    Ssh { user: Option<String>, host: String, port: Option<u16>, config: Option<PathBuf> },
}

impl Target {
    /// Reads the options, and the environment for what they leave open.
    pub(super) fn read(
        options: &DockerOptions,
        environment: impl Fn(&str) -> Option<String>,
    ) -> Result<Self, AdapterError> {
        let set = |name: &str| environment(name).filter(|value| !value.is_empty());
        let shown = options.host.clone().or_else(|| set("DOCKER_HOST")).unwrap_or_else(|| DEFAULT_HOST.to_owned());
        let tls = options.tls.clone().or_else(|| tls_of_environment(set));
        let way = match shown.split_once("://") {
            Some(("unix", path)) if path.starts_with('/') => Some(Way::Unix { path: path.into() }),
            Some(("tcp", authority)) => tcp(authority, tls),
            Some(("ssh", authority)) => ssh(authority, options.ssh_config.clone()),
            _ => None,
        };
        way.map(|way| Self { shown: shown.clone(), way }).ok_or_else(|| no_address(&shown))
    }

    /// The name or address of the daemon's host as this machine knows it; `None` for this machine itself.
    pub(super) fn remote_host(&self) -> Option<&str> {
        match &self.way {
            Way::Unix { .. } => None,
            Way::Tcp { host, .. } | Way::Tls { host, .. } | Way::Ssh { host, .. } => Some(host),
        }
    }
}

/// `DOCKER_TLS_VERIFY` asks for TLS; the files lie in `DOCKER_CERT_PATH`, else in `~/.docker`.
fn tls_of_environment(set: impl Fn(&str) -> Option<String>) -> Option<DockerTls> {
    set("DOCKER_TLS_VERIFY")?;
    let home = || set("HOME").map(|home| PathBuf::from(home).join(".docker"));
    let directory = set("DOCKER_CERT_PATH").map(PathBuf::from).or_else(home)?;
    let file = |name: &str| directory.join(name);
    Some(DockerTls { ca: file("ca.pem"), cert: file("cert.pem"), key: file("key.pem") })
}

fn tcp(authority: &str, tls: Option<DockerTls>) -> Option<Way> {
    let (host, port) = host_and_port(authority.trim_end_matches('/'))?;
    Some(match tls {
        None => Way::Tcp { host, port: port.unwrap_or(PLAIN_PORT) },
        Some(files) => Way::Tls { host, port: port.unwrap_or(TLS_PORT), files },
    })
}

fn ssh(authority: &str, config: Option<PathBuf>) -> Option<Way> {
    let authority = authority.trim_end_matches('/');
    let (user, rest) = match authority.rsplit_once('@') {
        Some((user, rest)) => (Some(user.to_owned()), rest),
        None => (None, authority),
    };
    let (host, port) = host_and_port(rest)?;
    // ssh would take either for an option.
    let is_option = host.starts_with('-') || user.as_ref().is_some_and(|user| user.starts_with('-'));
    (!is_option).then_some(Way::Ssh { user, host, port, config })
}

/// `host`, `host:port`, `[::1]` or `[::1]:port`; the host without its brackets.
fn host_and_port(authority: &str) -> Option<(String, Option<u16>)> {
    let (host, port) = match authority.strip_prefix('[') {
        Some(rest) => rest.split_once(']').map(|(host, port)| (host, port.strip_prefix(':')))?,
        None => authority.split_once(':').map_or((authority, None), |(host, port)| (host, Some(port))),
    };
    let is_host = !host.is_empty() && !host.contains(['/', ' ', '@']);
    let port = port.map(str::parse::<u16>).transpose().ok()?;
    is_host.then(|| (host.to_owned(), port))
}

fn no_address(shown: &str) -> AdapterError {
    AdapterError::bad_configuration(format!(
        "`{shown}` is no address of a Docker daemon: use unix:///PATH, tcp://HOST[:PORT] or ssh://[USER@]HOST[:PORT]"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(host: Option<&str>, environment: &[(&str, &str)]) -> Result<Target, AdapterError> {
        let options = DockerOptions { host: host.map(str::to_owned), ..DockerOptions::new("d", "/bin/tidegate") };
        let find = |name: &str| environment.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned());
        Target::read(&options, find)
    }

    fn way(host: &str) -> Way {
        read(Some(host), &[]).expect(host).way
    }

    #[test]
    fn an_address_is_read_as_docker_reads_it() {
        let ssh = |user: Option<&str>, host: &str, port| {
            let (user, host) = (user.map(str::to_owned), host.to_owned());
            Way::Ssh { user, host, port, config: None }
        };
        let tcp = |host: &str, port| Way::Tcp { host: host.to_owned(), port };
        assert_eq!(way("unix:///run/d.sock"), Way::Unix { path: "/run/d.sock".into() });
        assert_eq!(way("tcp://box"), tcp("box", 2375));
        assert_eq!(way("tcp://10.0.0.7:4711/"), tcp("10.0.0.7", 4711));
        assert_eq!(way("tcp://[::1]:4711"), tcp("::1", 4711));
        assert_eq!(way("ssh://box"), ssh(None, "box", None));
        assert_eq!(way("ssh://ops@box:2222"), ssh(Some("ops"), "box", Some(2222)));
    }

    #[test]
    fn what_is_no_address_is_refused_with_what_would_be() {
        for bad in [
            "",
            "box",
            "unix://",
            "unix://relative",
            "http://box",
            "tcp://",
            "tcp://box:port",
            "ssh://-oProxyCommand=x",
            "ssh://-l@box",
            "tcp://[::1",
        ] {
            let error = read(Some(bad), &[]).expect_err(bad);
            assert_eq!(error.retry(), crate::Retry::Never);
            assert!(error.to_string().contains("tcp://HOST"), "{error}");
        }
    }

    #[test]
    fn the_environment_stands_in_for_what_the_options_leave_open() {
        assert_eq!(read(None, &[]).expect("default").shown, DEFAULT_HOST);
        assert_eq!(read(None, &[("DOCKER_HOST", "")]).expect("empty is unset").shown, DEFAULT_HOST);
        assert_eq!(read(None, &[("DOCKER_HOST", "tcp://box")]).expect("host").shown, "tcp://box");
        let set = [("DOCKER_HOST", "tcp://box"), ("DOCKER_TLS_VERIFY", "1"), ("DOCKER_CERT_PATH", "/certs")];
        let Way::Tls { port, files, .. } = read(None, &set).expect("tls").way else { panic!("TLS is asked for") };
        assert_eq!((port, files.ca), (2376, PathBuf::from("/certs/ca.pem")));
        let at_home = [("DOCKER_HOST", "tcp://box"), ("DOCKER_TLS_VERIFY", "1"), ("HOME", "/home/op")];
        let Way::Tls { files, .. } = read(None, &at_home).expect("tls").way else { panic!("TLS is asked for") };
        assert_eq!(files.key, PathBuf::from("/home/op/.docker/key.pem"));
    }
}
