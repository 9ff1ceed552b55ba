//! Readiness of the wrapped server: asked again and again, fast at first, until it answers.

use std::str::FromStr;
use std::time::Duration;

use http::{Request, StatusCode};
use http_body_util::BodyExt;
use tokio::net::TcpStream;

use super::front::ServerClient;
use super::problem::AnswerBody;

/// The first pause between two probes: a small server is up within a few of them.
const FIRST_PAUSE: Duration = Duration::from_millis(10);

/// The longest pause: what a slow server costs at most between being ready and being known to be.
const LONGEST_PAUSE: Duration = Duration::from_millis(250);

/// How long one probe may take: a server that loads a model may accept and then think.
const PROBE_TIMEOUT: Duration = Duration::from_secs(2);

/// How to see that a server is ready.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Probe {
    /// It accepts a connection.
    Tcp,
    /// It answers `GET` of this path with 200.
    Http(String),
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
    /// Returns once the server at `authority` (`127.0.0.1:port`) is ready; the caller sets the limit.
    pub(super) async fn wait_until_ready(&self, client: &ServerClient, authority: &str) {
        let mut pause = FIRST_PAUSE;
        while !self.succeeds(client, authority).await {
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    async fn succeeds(&self, client: &ServerClient, authority: &str) -> bool {
        let attempt = async {
            match self {
                Self::Tcp => TcpStream::connect(authority).await.is_ok(),
                Self::Http(path) => answers_ok(client, authority, path).await,
            }
        };
        tokio::time::timeout(PROBE_TIMEOUT, attempt).await.unwrap_or(false)
    }
}

async fn answers_ok(client: &ServerClient, authority: &str, path: &str) -> bool {
    let body: AnswerBody = http_body_util::Empty::new().map_err(|never| match never {}).boxed_unsync();
    let Ok(request) = Request::get(format!("http://{authority}{path}")).body(body) else { return false };
    client.request(request).await.is_ok_and(|response| response.status() == StatusCode::OK)
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
