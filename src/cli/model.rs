//! `tidegate model serve`: one built-in ONNX replica.

use std::num::NonZeroUsize;
use std::process::ExitCode;

use crate::model::{Engine, LoadError, ModelSource, ServeError, ServeOptions, serve};
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
    /// The ONNX file, or `builtin:digits`.
    #[arg(value_name = "FILE.onnx")]
    model: String,
}

/// Serve one ONNX model over the Open Inference Protocol v2 on 127.0.0.1.
///
/// Prints one line with the address when it answers, and runs until SIGTERM or Ctrl-C.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  tidegate model serve digits.onnx --port 9000\n  \
                        curl http://127.0.0.1:9000/v2/models/digits\n\n\
                        Exit codes: 0 ended as asked, 1 failed (port taken), 2 bad usage or unusable model")]
struct ServeArgs {
    /// The ONNX file, or `builtin:digits`.
    #[arg(value_name = "FILE.onnx")]
    model: String,
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
        match ModelSource::parse(&self.model).and_then(|source| Engine::load(&source)) {
            Ok(_) => {
                println!("ok: {}", self.model);
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
        match self.options().map_err(ServeError::Model).and_then(|options| serve(&options)) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error @ ServeError::Model(_)) => super::wrap::fail(super::EXIT_USAGE, &error),
            Err(error) => super::wrap::fail(super::wrap::EXIT_FAILED, &error),
        }
    }

    fn options(self) -> Result<ServeOptions, LoadError> {
        let source = ModelSource::parse(&self.model)?;
        Ok(ServeOptions {
            name: self.name.unwrap_or_else(|| source.default_name()),
            source,
            port: self.port,
            threads: self.threads,
            concurrency: self.concurrency,
            watch_stdin: self.watch_stdin,
        })
    }
}

/// A name is one segment of a path.
fn model_name(name: &str) -> Result<String, &'static str> {
    let plain = |letter: char| letter.is_ascii_alphanumeric() || "-_.".contains(letter);
    if !name.is_empty() && name.chars().all(plain) {
        return Ok(name.to_owned());
    }
    Err("a model's name consists of letters, digits, '-', '_' and '.'")
}
