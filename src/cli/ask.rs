//! Asking a running node's console.

use std::time::Duration;

use anyhow::{Context, bail};
use bytes::Bytes;
use http::StatusCode;
use serde::de::DeserializeOwned;

use crate::cli::terminal::complain;
use crate::host::call::{Call, call};
use crate::logic::route::Transport;
use crate::tls::Dialer;

/// Where the console is when nothing else is said.
const DEFAULT_CONSOLE: &str = "http://127.0.0.1:8081";
/// A console answers from memory.
const DEADLINE: Duration = Duration::from_secs(5);

/// Which node to ask.
#[derive(Debug, clap::Args)]
pub struct Target {
    /// The node's console.
    #[arg(long, env = "TIDEGATE_CONSOLE", default_value = DEFAULT_CONSOLE, value_name = "URL")]
    console: String,
}

impl Target {
    /// GETs a path of the console's API.
    pub fn get<T: DeserializeOwned>(&self, path: &str) -> anyhow::Result<T> {
        let authority = self.console.strip_prefix("http://").unwrap_or(&self.console).trim_end_matches('/');
        if authority.contains("://") {
            bail!("--console takes http://HOST:PORT, not {}", self.console);
        }
        let (status, body) = ask(authority, path).with_context(|| {
            format!(
                "no node answers at {}; start one with `tidegate run`, or name its console with --console",
                self.console
            )
        })?;
        if !status.is_success() {
            bail!("{} answered {status} to {path}; is it a Tidegate console of this version?", self.console);
        }
        serde_json::from_slice(&body).with_context(|| format!("{} answered no JSON to {path}", self.console))
    }
}

/// GETs a path at `host:port`, whatever the answer is.
pub fn ask(authority: &str, path: &str) -> anyhow::Result<(StatusCode, Bytes)> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (transport, dialer) = (Transport::Plain, &Dialer::default());
    let request = Call { authority, transport, dialer, path, header: None, json: None, deadline: DEADLINE };
    Ok(runtime.block_on(call(request))?)
}

/// Prints an error with its causes, and says that the command failed.
pub fn failed(error: &anyhow::Error) -> std::process::ExitCode {
    complain!("error: {error:#}");
    std::process::ExitCode::FAILURE
}
