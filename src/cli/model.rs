//! `tidegate model serve`: one built-in ONNX replica.

use std::num::NonZeroUsize;
use std::process::ExitCode;
use std::sync::Arc;

use super::terminal::say;
use crate::host::fetch::{FetchError, fetch};
use crate::model::{Engine, LoadError, ModelSource, ServeError, ServeOptions, serve};
use crate::tls::Dialer;
use crate::wrap::CpuList;

/// Work with ONNX models.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    Serve(ServeArgs),
    Check(CheckArgs),
}

/// Load an ONNX model as a replica would, and say whether the built-in engine takes it.
///
/// Example: tidegate model check yolo.onnx
#[derive(Debug, clap::Args)]
#[command(after_help = "Exit codes: 0 usable, 2 not")]
struct CheckArgs {
    #[command(flatten)]
    model: ModelArgs,
}

/// Which model.
#[derive(Debug, clap::Args)]
struct ModelArgs {
    /// The ONNX file, its address (http:// or https://), or `builtin:digits`.
    #[arg(value_name = "FILE.onnx")]
    model: String,
    /// The SHA-256 that a fetched file must have, in hexadecimal; needed with an address.
    #[arg(long, value_name = "HEX", value_parser = digest)]
    sha256: Option<[u8; 32]>,
}

/// Serve one ONNX model over the Open Inference Protocol v2 on 127.0.0.1.
///
/// Prints one line with the address when it answers, and runs until SIGTERM or Ctrl-C.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  tidegate model serve digits.onnx --port 9000\n  \
                        curl http://127.0.0.1:9000/v2/models/digits\n\n\
                        Exit codes: 0 ended as asked, 1 failed (port taken), 2 bad usage or unusable model")]
struct ServeArgs {
    #[command(flatten)]
    model: ModelArgs,
    /// The model's name in the protocol's paths [default: the file's name without .onnx].
    #[arg(long, value_parser = model_name)]
    name: Option<String>,
    /// The port on 127.0.0.1; 0 takes a free one.
    #[arg(long, default_value_t = 0)]
    port: u16,
    /// Engine threads of one inference.
    #[arg(long, default_value = "1")]
    threads: NonZeroUsize,
    /// Inferences at once; further requests wait in line.
    #[arg(long, default_value = "1")]
    concurrency: NonZeroUsize,
    /// Cores to run on, such as 0,1 or 0-3 [default: all].
    #[arg(long, value_name = "LIST")]
    cpus: Option<CpuList>,
    /// End at end of file on standard input: whoever started this holds the other end of a pipe.
    #[arg(long)]
    watch_stdin: bool,
}

impl Args {
    pub(super) fn run(self) -> ExitCode {
        match self.command {
            Command::Serve(args) => args.run(),
            Command::Check(args) => args.run(),
        }
    }
}

impl CheckArgs {
    fn run(self) -> ExitCode {
        let source = match self.model.source() {
            Ok(source) => source,
            Err(error) => return super::wrap::fail(super::EXIT_USAGE, &error),
        };
        match Engine::load(&source) {
            Ok(_) => {
                say!("ok: {}", self.model.model);
                ExitCode::SUCCESS
            }
            Err(error) => super::wrap::fail(super::EXIT_USAGE, &error),
        }
    }
}

impl ServeArgs {
    fn run(self) -> ExitCode {
        // Before any thread starts: threads inherit the cores.
        if let Some(error) = self.cpus.as_ref().and_then(|cpus| cpus.apply().err()) {
            return super::wrap::fail(super::EXIT_USAGE, &error);
        }
        let source = match self.model.source() {
            Ok(source) => source,
            // Nobody answers, or there is no runtime: the same may work another time.
            Err(error @ (Unfetched::Start(_) | Unfetched::Fetch(FetchError::Broken { .. }))) => {
                return super::wrap::fail(super::wrap::EXIT_FAILED, &error);
            }
            Err(error) => return super::wrap::fail(super::EXIT_USAGE, &error),
        };
        match serve(&self.options(source)) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error @ ServeError::Model(_)) => super::wrap::fail(super::EXIT_USAGE, &error),
            Err(error) => super::wrap::fail(super::wrap::EXIT_FAILED, &error),
        }
    }

    fn options(self, source: ModelSource) -> ServeOptions {
        ServeOptions {
            name: self.name.unwrap_or_else(|| source.default_name()),
            source,
            port: self.port,
            threads: self.threads,
            concurrency: self.concurrency,
            watch_stdin: self.watch_stdin,
        }
    }
}

/// Why there is no model to load.
#[derive(Debug, thiserror::Error)]
enum Unfetched {
    #[error("{0} is fetched only with --sha256 and the digest that it must have (`sha256sum FILE` tells it)")]
    NoDigest(String),
    #[error(transparent)]
    Model(#[from] LoadError),
    #[error(transparent)]
    Fetch(#[from] FetchError),
    #[error("cannot start: {0}")]
    Start(#[from] std::io::Error),
}

impl ModelArgs {
    /// Where it is; one that stands in the network is fetched.
    fn source(&self) -> Result<ModelSource, Unfetched> {
        if !["http://", "https://"].iter().any(|scheme| self.model.starts_with(scheme)) {
            return Ok(ModelSource::parse(&self.model)?);
        }
        let sha256 = self.sha256.ok_or_else(|| Unfetched::NoDigest(self.model.clone()))?;
        let url = self.model.parse().map_err(|_| FetchError::Address(self.model.clone()))?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let bytes = runtime.block_on(fetch(&url, sha256, &Dialer::default()))?;
        Ok(ModelSource::Fetched { url: self.model.clone(), bytes: Arc::new(bytes) })
    }
}

/// A SHA-256 as `sha256sum` shows it.
fn digest(text: &str) -> Result<[u8; 32], &'static str> {
    const ADVICE: &str = "a SHA-256 is 64 hexadecimal digits, as sha256sum shows it";
    if text.len() != 64 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Err(ADVICE);
    }
    let mut digest = [0; 32];
    for (byte, at) in digest.iter_mut().zip((0..).step_by(2)) {
        *byte = u8::from_str_radix(&text[at..at + 2], 16).map_err(|_| ADVICE)?;
    }
    Ok(digest)
}

/// A name is one segment of a path.
fn model_name(name: &str) -> Result<String, &'static str> {
    let plain = |letter: char| letter.is_ascii_alphanumeric() || "-_.".contains(letter);
    if !name.is_empty() && name.chars().all(plain) {
        return Ok(name.to_owned());
    }
    Err("a model's name consists of letters, digits, '-', '_' and '.'")
}
