//! Readiness of the wrapped server: asked again and again, fast at first, until it answers.

use std::ffi::OsString;
use std::str::FromStr;
use std::time::Duration;

use http::Request;
use http::uri::Authority;
use tokio::net::TcpStream;

use super::front::{ServerClient, describe};
use super::problem::no_body;
use super::ready_command;

/// The first pause between two probes: a small server is up within a few of them.
const FIRST_PAUSE: Duration = Duration::from_millis(10);

/// The longest pause: what a slow server costs at most between being ready and being known to be.
const LONGEST_PAUSE: Duration = Duration::from_millis(250);

/// The longest pause between two commands: each is a process to start, which costs a small box more than a question.
const LONGEST_COMMAND_PAUSE: Duration = Duration::from_secs(1);

/// How long one question may take: a server that loads a model may accept and then think.
const PROBE_TIMEOUT: Duration = Duration::from_secs(2);

/// How to see that a server is ready.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Probe {
    /// It accepts a connection.
    Tcp,
    /// It answers `GET` of this path with 2xx.
    Http(String),
    /// This command, with the server's port in `PORT`, exits with 0.
    Command(Vec<OsString>),
}

impl FromStr for Probe {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "tcp" => Ok(Self::Tcp),
            path if path.starts_with('/') && path.parse::<http::uri::PathAndQuery>().is_ok() => {
                Ok(Self::Http(path.to_owned()))
            }
            _ => Err("readiness is 'tcp' or a path such as /health"),
        }
    }
}

impl Probe {
    /// Returns once the server at `authority` (`127.0.0.1:port`) is ready; the caller sets the limit. Tells each time why
    /// it is not.
    pub(super) async fn wait_until_ready(&self, client: &ServerClient, authority: &Authority, tell: impl Fn(String)) {
        let mut pause = FIRST_PAUSE;
        while let Err(why) = self.check(client, authority).await {
            tell(why);
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(self.longest_pause());
        }
    }

    fn longest_pause(&self) -> Duration {
        match self {
            Self::Tcp | Self::Http(_) => LONGEST_PAUSE,
            Self::Command(_) => LONGEST_COMMAND_PAUSE,
        }
    }

    /// Asks once; an error says why it is not ready.
    async fn check(&self, client: &ServerClient, authority: &Authority) -> Result<(), String> {
        let slow = || Err(format!("no answer within {PROBE_TIMEOUT:?}"));
        match self {
            Self::Tcp => {
                let connected = tokio::time::timeout(PROBE_TIMEOUT, TcpStream::connect(authority.as_str())).await;
                connected.map_or_else(|_| slow(), |connected| connected.map(drop).map_err(|error| error.to_string()))
            }
            Self::Http(path) => {
                let asked = tokio::time::timeout(PROBE_TIMEOUT, ask(client, authority, path)).await;
                asked.unwrap_or_else(|_| slow())
            }
            // It has a limit of its own.
            Self::Command(argv) => ready_command::check(argv, authority.port_u16().unwrap_or_default()).await,
        }
    }
}

async fn ask(client: &ServerClient, authority: &Authority, path: &str) -> Result<(), String> {
    let request =
        Request::get(format!("http://{authority}{path}")).body(no_body()).map_err(|error| error.to_string())?;
    let status = client.request(request).await.map_err(|error| describe(&error))?.status();
    if status.is_success() { Ok(()) } else { Err(format!("GET {path} was answered {status}")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_probe_is_tcp_or_a_path() {
        assert_eq!("tcp".parse(), Ok(Probe::Tcp));
        assert_eq!("/v2/health/ready".parse(), Ok(Probe::Http("/v2/health/ready".to_owned())));
        for bad in ["", "http", "health", "/a b"] {
            assert!(bad.parse::<Probe>().is_err(), "{bad}");
        }
    }
}
