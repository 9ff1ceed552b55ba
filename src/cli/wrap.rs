//! `tidegate wrap`: a server under the shim, or as a leased instance.

use std::error::Error;
use std::ffi::OsString;
use std::io::Write;
use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use crate::wrap::{
    CpuList, InstanceError, InstanceOptions, KeyFiles, Probe, RunDirError, ShimError, ShimOptions, init,
    is_first_process, serve, shim,
};

/// Exit code of what failed.
pub(super) const EXIT_FAILED: u8 = 1;

/// Exit code where another instance holds the run directory: EX_TEMPFAIL of sysexits(3), try again later.
const EXIT_TAKEN: u8 = 75;

/// Exit code where the command does not start, as shells have it.
const EXIT_NOT_STARTED: u8 = 127;

/// Wrap a server: readiness, lease, drain and self-termination.
///
/// Starts the command on a free port, passes HTTP requests on to it, and ends it and itself when the lease expires, the
/// owner asks, or SIGTERM comes. The owner renews the lease with POST /.tidegate/lease, and finds figures at
/// /.tidegate/metrics. As the first process of a container it also buries orphans.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Example:\n  tidegate wrap --service digits --run-dir /run/digits-1 --ready /v2/health/ready -- \\\n    \
                        tidegate model serve digits.onnx --port {port}\n\n\
                        Exit codes: 0 lease expired, drained or signalled; 1 failed; 2 bad usage; 75 run directory taken"
)]
pub struct Args {
    /// Only tie the command to standard input: end its process group at end of file.
    #[arg(long, hide = true)]
    shim: bool,
    /// The service that the server serves.
    #[arg(long, required_unless_present = "shim")]
    service: Option<String>,
    /// The launch that this instance belongs to; renewals must name it [default: the service's name].
    #[arg(long)]
    launch: Option<String>,
    /// Keep lock, address and ended in this directory; a second instance in it exits with 75.
    #[arg(long, value_name = "DIR")]
    run_dir: Option<PathBuf>,
    /// Ask every request for the token in this file: `x-tidegate-authorization: Bearer TOKEN`.
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// Serve TLS with the certificate in this file (PEM); without it plain HTTP, for a place behind an ingress.
    #[arg(long, value_name = "FILE", requires = "tls_key_file")]
    tls_cert_file: Option<PathBuf>,
    /// The certificate's private key (PEM, without a password).
    #[arg(long, value_name = "FILE", requires = "tls_cert_file")]
    tls_key_file: Option<PathBuf>,
    /// Where to listen; port 0 takes a free one.
    #[arg(long, default_value = "127.0.0.1:0")]
    listen: SocketAddr,
    /// How long to live until the first renewal.
    #[arg(long, default_value = "180s", value_parser = humantime::parse_duration)]
    lease_ttl: Duration,
    /// How long requests in flight may take to finish at the end.
    #[arg(long, default_value = "10s", value_parser = humantime::parse_duration)]
    drain_timeout: Duration,
    /// Between asking the server to end and killing it.
    #[arg(long, default_value = "10s", value_parser = humantime::parse_duration)]
    grace: Duration,
    /// Readiness: `tcp` for a connection, or a path that answers 2xx.
    #[arg(long, default_value = "tcp", value_name = "tcp|/PATH", conflicts_with = "ready_command")]
    ready: Probe,
    /// Readiness by a command that exits with 0, given once for each of its words; $PORT is the server's port.
    #[arg(long, value_name = "WORD", allow_hyphen_values = true)]
    ready_command: Vec<OsString>,
    /// How long the server may take to become ready; the owner's own patience usually ends before.
    #[arg(long, default_value = "1h", value_parser = humantime::parse_duration)]
    ready_timeout: Duration,
    /// Requests passed to the server at once [default: no limit].
    #[arg(long, value_name = "N")]
    concurrency: Option<NonZeroU32>,
    /// Where the server has Prometheus metrics, to be told with ours at /.tidegate/metrics [default: only ours].
    #[arg(long, value_name = "/PATH", value_parser = metrics_path)]
    metrics: Option<String>,
    /// Cores to run on, such as 0,1 or 0-3 [default: all].
    #[arg(long, value_name = "LIST")]
    cpus: Option<CpuList>,
    /// The server and its arguments; `{port}` and $PORT are its port.
    #[arg(last = true, required = true, value_name = "CMD")]
    command: Vec<OsString>,
}

impl Args {
    pub(super) fn run(self) -> ExitCode {
        // Before any thread or process starts: they inherit the cores.
        if let Some(error) = self.cpus.as_ref().and_then(|cpus| cpus.apply().err()) {
            return fail(super::EXIT_USAGE, &error);
        }
        if self.shim { self.run_shim() } else { self.run_instance() }
    }

    fn run_shim(self) -> ExitCode {
        match shim(&ShimOptions { command: self.command, grace: self.grace }) {
            Ok(code) => ExitCode::from(code),
            Err(error @ ShimError::Spawn { .. }) => fail(EXIT_NOT_STARTED, &error),
            Err(error) => fail(EXIT_FAILED, &error),
        }
    }

    fn run_instance(self) -> ExitCode {
        if is_first_process() {
            return init().map_or_else(|error| fail(EXIT_FAILED, &error), ExitCode::from);
        }
        match serve(&self.instance_options()) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error @ InstanceError::RunDir(RunDirError::Taken(_))) => fail(EXIT_TAKEN, &error),
            Err(error) => fail(EXIT_FAILED, &error),
        }
    }

    fn instance_options(self) -> InstanceOptions {
        let service = self.service.unwrap_or_default();
        InstanceOptions {
            launch: self.launch.unwrap_or_else(|| service.clone()),
            service,
            run_dir: self.run_dir,
            token_file: self.token_file,
            key_files: self
                .tls_cert_file
                .zip(self.tls_key_file)
                .map(|(certificate, key)| KeyFiles { certificate, key }),
            listen: self.listen,
            lease_ttl: self.lease_ttl,
            drain_timeout: self.drain_timeout,
            grace: self.grace,
            ready: if self.ready_command.is_empty() { self.ready } else { Probe::Command(self.ready_command) },
            ready_timeout: self.ready_timeout,
            concurrency: self.concurrency.map(NonZeroU32::get),
            metrics: self.metrics,
            command: self.command,
        }
    }
}

fn metrics_path(text: &str) -> Result<String, &'static str> {
    match text.parse::<Probe>() {
        Ok(Probe::Http(path)) => Ok(path),
        _ => Err("metrics are at a path such as /metrics"),
    }
}

/// Says what went wrong and gives the exit code. Whoever kept our output may be gone, which is no reason to panic.
pub(super) fn fail(code: u8, error: &dyn Error) -> ExitCode {
    let _nobody_reads = writeln!(std::io::stderr(), "error: {error}");
    ExitCode::from(code)
}
