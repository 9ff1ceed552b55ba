//! Arguments, and one file per subcommand.

use std::process::ExitCode;

use clap::{Parser, Subcommand};

pub mod adapter;
mod apply;
pub mod ask;
pub mod broker;
pub mod burst;
pub mod config;
#[cfg(all(feature = "broker", feature = "onnx"))]
pub mod demo;
pub mod doctor;
pub mod fleet;
pub mod init;
#[cfg(feature = "onnx")]
pub mod model;
pub mod run;
pub mod service;
pub mod simulate;
pub mod spend;
pub mod status;
pub mod terminal;
pub mod version;
pub mod watch;
pub mod wrap;

/// Exit code of bad usage, bad configuration and an unusable model.
pub const EXIT_USAGE: u8 = 2;

/// Runs AI inference on this gateway and bursts the overflow into any cloud and back, visible on MQTT.
#[derive(Debug, Parser)]
#[command(name = "tidegate", version, max_term_width = 110)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    #[cfg(all(feature = "broker", feature = "onnx"))]
    Demo(demo::Args),
    Init(init::Args),
    Run(run::Args),
    Status(status::Args),
    Watch(watch::Args),
    #[command(subcommand)]
    Service(service::ServiceCommand),
    #[command(subcommand)]
    Burst(burst::BurstCommand),
    Spend(spend::Args),
    Simulate(Box<simulate::Args>),
    #[command(subcommand)]
    Adapter(adapter::AdapterCommand),
    #[command(subcommand)]
    Config(config::Command),
    Doctor(doctor::Args),
    #[command(subcommand)]
    Fleet(fleet::FleetCommand),
    #[cfg(feature = "onnx")]
    Model(model::Args),
    Wrap(Box<wrap::Args>),
    Version(version::Args),
}

impl Cli {
    /// Reads the arguments, or says what is wrong with them and ends the process. On a thread of its own, whose stack goes
    /// with it: the first thread's is never given back, and there is a shim for each local replica.
    pub fn read() -> Self {
        let parser = std::thread::Builder::new().name("arguments".to_owned()).spawn(Self::parse);
        match parser.map(std::thread::JoinHandle::join) {
            Ok(Ok(cli)) => cli,
            // No thread to be had, or a panic that its hook told of.
            _ => Self::parse(),
        }
    }

    /// Runs the chosen command and returns the process's exit code.
    pub fn run(self) -> ExitCode {
        match self.command {
            #[cfg(all(feature = "broker", feature = "onnx"))]
            Command::Demo(args) => args.run(),
            Command::Init(args) => args.run(),
            Command::Run(args) => args.run(),
            Command::Status(args) => args.run(),
            Command::Watch(args) => args.run(),
            Command::Service(command) => command.run(),
            Command::Burst(command) => command.run(),
            Command::Spend(args) => args.run(),
            Command::Simulate(args) => args.run(),
            Command::Adapter(command) => command.run(),
            Command::Config(command) => command.run(),
            Command::Doctor(args) => args.run(),
            Command::Fleet(command) => command.run(),
            #[cfg(feature = "onnx")]
            Command::Model(args) => args.run(),
            Command::Wrap(args) => args.run(),
            Command::Version(args) => args.run(),
        }
    }
}
