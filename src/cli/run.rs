//! `tidegate run`: a node until it is told to stop.

use std::io::IsTerminal;
use std::path::PathBuf;
use std::process::ExitCode;

use edge_config::{Config, Runtime as ReplicaRuntime, Sources};
use tokio::runtime::Runtime;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::oneshot;

use super::terminal::{complain, mention};
use super::{EXIT_USAGE, config, terminal};
use crate::host::service_manager;
use crate::node::{Addresses, Node, NodeError, Options};

/// Forbids every instance, whatever the configuration says.
pub const NO_CLOUD: &str = "TIDEGATE_NO_CLOUD";

/// Run a node: serve locally, burst the overflow, say everything on MQTT.
///
/// Example: tidegate run --model yolo.onnx
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The configuration; without it /etc/tidegate/tidegate.toml, else the quickstart profile.
    #[arg(short, long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Serve this ONNX model, as a service named by the file's stem.
    #[arg(long, value_name = "FILE.onnx")]
    model: Option<PathBuf>,
}

impl Args {
    pub(super) fn run(self) -> ExitCode {
        let config = match config::load(self.config.clone(), self.model.clone()) {
            Ok(config) => config,
            Err(code) => return code,
        };
        terminal::log(&config.node.log);
        if let Err(code) = config::check(&config) {
            return code;
        }
        // Before the start: it answers from within that, and whoever asks it to take something up must not end it. What ends it
        // does so at once until it has started.
        let listening = tokio::runtime::Builder::new_current_thread().enable_all().build().and_then(|runtime| {
            let hangup = runtime.block_on(async { signal(SignalKind::hangup()) })?;
            Ok((runtime, hangup))
        });
        let (runtime, hangup) = match listening {
            Ok(listening) => listening,
            Err(error) => return cannot_listen(&error),
        };
        match Node::start(&config, &options()) {
            Ok(node) => self.until_stopped(&config, node, runtime, hangup),
            Err(error @ (NodeError::Setting(_) | NodeError::Passed(_))) => {
                complain!("error: {error}");
                ExitCode::from(EXIT_USAGE)
            }
            Err(error) => {
                complain!("error: {error}");
                ExitCode::FAILURE
            }
        }
    }

    fn until_stopped(&self, config: &Config, node: Node, runtime: Runtime, hangup: Signal) -> ExitCode {
        announce(config, node.addresses());
        let mut signals = match runtime.block_on(async { Signals::listen(hangup) }) {
            Ok(signals) => signals,
            Err(error) => return cannot_listen(&error),
        };
        let status = format!("{} services at http://{}", config.services.len(), node.addresses().gateway);
        service_manager::ready(&status);
        let has_terminal = std::io::stdin().is_terminal();
        let mut in_force = config.clone();
        while runtime.block_on(signals.next()) == Asked::Reload {
            if has_terminal && !std::io::stdin().is_terminal() {
                // The terminal that it ran in was closed.
                break;
            }
            service_manager::reloading();
            let Some(read) = runtime.block_on(signals.unless_stopped(self.read_again(&in_force))) else { break };
            terminal::notify(&go_over(&node, &mut in_force, read));
            service_manager::ready(&status);
        }
        service_manager::stopping();
        terminal::notify("stopping: requests finish, instances end (a second signal forces the end)");
        std::thread::spawn(move || {
            while runtime.block_on(signals.next()) == Asked::Reload {}
            terminal::notify("forced: instances end themselves when their lease expires");
            std::process::exit(1);
        });
        node.stop();
        ExitCode::SUCCESS
    }

    /// Reads the configuration again, and what stands in its way. On a thread of its own: it may load models, and whoever wants a stop
    /// meanwhile is heard.
    fn read_again(&self, in_force: &Config) -> oneshot::Receiver<Read> {
        let (done, wait) = oneshot::channel();
        let (file, model, in_force) = (self.config.clone(), self.model.clone(), in_force.clone());
        // Where there is no thread for it, the sender goes, and that is told.
        let _none = std::thread::Builder::new().spawn(move || {
            let read = edge_config::load(Sources::for_run(file, model));
            let read = read.map_err(|errors| errors.problems().iter().map(ToString::to_string).collect());
            let _stopped_meanwhile = done.send(read.and_then(|read| without_problems(&in_force, read)));
        });
        wait
    }
}

/// Another configuration, or what stands in its way.
type Read = Result<Config, Vec<String>>;

const UNREAD: &str = "the configuration could not be read again; the log says why, try again";

fn without_problems(in_force: &Config, config: Config) -> Read {
    let problems = config::problems_of_change(Some(in_force), &config).unwrap_or_else(|error| vec![error.to_string()]);
    if problems.is_empty() { Ok(config) } else { Err(problems) }
}

/// The running node goes over to what was read, or stays; says which.
fn go_over(node: &Node, in_force: &mut Config, read: Read) -> String {
    let taken = match read {
        Ok(config) => take_up(node, &config).map(|told| (told, config)),
        Err(problems) => Err(node.reject(problems)),
    };
    match taken {
        Ok((told, config)) => {
            *in_force = config;
            told
        }
        Err(problems) => format!("the former configuration stays in force: {}", problems.join("; ")),
    }
}

fn take_up(node: &Node, config: &Config) -> Result<String, Vec<String>> {
    let changed = node.apply(config)?;
    if changed.iter().any(|key| key == "node.log") {
        terminal::change_log(&config.node.log);
    }
    Ok(match changed.len() {
        0 => "the configuration is as it was".to_owned(),
        _ => format!("took up {}", changed.join(", ")),
    })
}

fn cannot_listen(error: &std::io::Error) -> ExitCode {
    terminal::notify(&format!("error: cannot wait for signals: {error}"));
    ExitCode::FAILURE
}

/// What the environment adds to a configuration.
pub fn options() -> Options {
    let forbidden = std::env::var_os(NO_CLOUD).is_some_and(|value| !value.is_empty() && value != "0");
    Options { no_cloud: forbidden.then(|| format!("{NO_CLOUD} is set")) }
}

/// What a signal asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked {
    /// SIGTERM and SIGINT; both mean the same.
    Stop,
    /// SIGHUP.
    Reload,
}

/// One listener for all of them, so that none is missed between.
pub struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
    /// A reload was asked for while another was under way.
    once_more: bool,
}

impl Signals {
    /// Listens from now on, inside a tokio runtime.
    pub fn listen(hangup: Signal) -> std::io::Result<Self> {
        let [terminate, interrupt] = [SignalKind::terminate(), SignalKind::interrupt()].map(signal);
        Ok(Self { terminate: terminate?, interrupt: interrupt?, hangup, once_more: false })
    }

    /// What comes of it, or nothing where a stop is asked for first. A reload that is asked for meanwhile comes next: what it means may
    /// have been written after this one was read.
    async fn unless_stopped(&mut self, mut wait: oneshot::Receiver<Read>) -> Option<Read> {
        let mut once_more = false;
        let came = loop {
            tokio::select! {
                done = &mut wait => break Some(done.unwrap_or_else(|_| Err(vec![UNREAD.to_owned()]))),
                asked = self.next() => match asked {
                    Asked::Stop => break None,
                    Asked::Reload => once_more = true,
                }
            }
        };
        self.once_more = once_more;
        came
    }

    /// What the next one asks for.
    pub async fn next(&mut self) -> Asked {
        if std::mem::take(&mut self.once_more) {
            return Asked::Reload;
        }
        tokio::select! {
            _ = self.terminate.recv() => Asked::Stop,
            _ = self.interrupt.recv() => Asked::Stop,
            _ = self.hangup.recv() => Asked::Reload,
        }
    }
}

fn announce(config: &Config, addresses: Addresses) {
    mention(&format!("node     {} of fleet {}", config.node.id, config.node.fleet));
    mention(&format!("gateway  http://{}", addresses.gateway));
    if let Some(peers) = addresses.peers {
        mention(&format!("peers    https://{peers} for other nodes of the fleet"));
    }
    mention(&format!("console  http://{}", addresses.console));
    if let Some(mqtt) = addresses.mqtt {
        mention(&format!("mqtt     mqtt://{mqtt}"));
        mention(&format!("watch    mosquitto_sub -h {} -p {} -t 'tidegate-json/#' -v", mqtt.ip(), mqtt.port()));
    }
    if let Some(hub) = addresses.mqtt_tls {
        mention(&format!("hub      mqtts://{hub}"));
    }
    for (name, service) in &config.services {
        let path = match &service.local.runtime {
            ReplicaRuntime::Onnx { .. } => format!("/v2/models/{name}"),
            _ => format!("/services/{name}/"),
        };
        mention(&format!("service  {name} at http://{}{path}", addresses.gateway));
    }
}
