//! From the configuration of an adapter to the provider's client. None of them asks its provider yet: one that is away
//! must not stop a node.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use cloud_adapters::ssh::{self, SshLimits};
use cloud_adapters::{
    CloudAdapter, ExecAdapter, ExecOptions, LifeBound, ProcessAdapter, ProcessOptions, SshAdapter, SshOptions,
};
#[cfg(feature = "docker")]
use cloud_adapters::{DockerAdapter, DockerOptions, DockerTls, Pull};
use edge_config::{Adapter, AdapterKind, Config};

use super::NodeError;

/// The client of a configured adapter.
pub(super) fn provider(
    config: &Config,
    name: &str,
    adapter: &Adapter,
    own: &Path,
) -> Result<Arc<dyn CloudAdapter>, NodeError> {
    let account = config.node.state_dir.join("adapters").join(name);
    let max_instances = adapter.max_instances;
    Ok(match &adapter.kind {
        AdapterKind::Process(process) => Arc::new(ProcessAdapter::new(ProcessOptions {
            root: account,
            program: own.to_owned(),
            max_instances,
            cpus: process.cpus.clone(),
        })),
        AdapterKind::Exec(exec) => Arc::new(ExecAdapter::new(exec_options(name, exec, &account, max_instances))),
        AdapterKind::Ssh(ssh) => Arc::new(SshAdapter::new(ssh_options(config, name, ssh, own, max_instances))),
        #[cfg(feature = "docker")]
        AdapterKind::Docker(docker) => Arc::new(docker_adapter(name, docker, own, max_instances)?),
        other => return Err(missing(name, other)),
    })
}

/// How the provider itself bounds an instance's life; the wrapper's lease does it everywhere.
pub(super) fn max_life(kind: &AdapterKind) -> Option<Duration> {
    match kind {
        AdapterKind::Exec(exec) => exec.max_life,
        _ => None,
    }
}

fn exec_options(name: &str, exec: &edge_config::Exec, account: &Path, max_instances: Option<u32>) -> ExecOptions {
    let plain = ExecOptions::new(name, exec.command.clone(), account);
    ExecOptions {
        env: exec.env.iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect(),
        instance_dir: exec.instance_dir.clone().unwrap_or(plain.instance_dir),
        listen: exec.listen.map_or(plain.listen, |listen| listen.to_string()),
        tls: exec.tls,
        max_instances,
        life_bound: exec.max_life.map_or(LifeBound::Renewable, LifeBound::MaxLife),
        runs_images: exec.runs_images,
        takes_files: exec.takes_files,
        ..ExecOptions::new(name, Vec::new(), account)
    }
}

fn ssh_options(
    config: &Config,
    name: &str,
    ssh: &edge_config::Ssh,
    own: &Path,
    max_instances: Option<u32>,
) -> SshOptions {
    SshOptions {
        name: name.to_owned(),
        host: ssh.host.clone(),
        port: ssh.port,
        user: ssh.user.clone(),
        key: ssh.key.clone(),
        known_hosts: ssh.known_hosts.clone(),
        config_file: ssh.ssh_config.clone(),
        program: own.to_owned(),
        directory: ssh.directory.clone().unwrap_or_else(|| ssh::DEFAULT_DIRECTORY.to_owned()),
        max_instances,
        limits: SshLimits { memory_bytes: ssh.memory_bytes, cpus: ssh.cpus.clone(), niceness: ssh.niceness },
        state_dir: config.node.state_dir.clone(),
    }
}

/// The client of a Docker Engine.
#[cfg(feature = "docker")]
pub(super) fn docker_adapter(
    name: &str,
    docker: &edge_config::Docker,
    own: &Path,
    max_instances: Option<u32>,
) -> Result<DockerAdapter, NodeError> {
    let options = DockerOptions {
        host: docker.host.clone(),
        tls: docker.tls.clone().map(|[ca, cert, key]| DockerTls { ca, cert, key }),
        image: docker.image.clone(),
        pull: if docker.pull { Pull::Missing } else { Pull::Never },
        max_instances,
        publish: docker.publish,
        ..DockerOptions::new(name, own)
    };
    DockerAdapter::new(options).map_err(|error| NodeError::Setting(format!("adapter.{name}: {}", error.with_causes())))
}

fn missing(name: &str, kind: &AdapterKind) -> NodeError {
    let kind = kind.as_str();
    NodeError::Setting(format!(
        "adapter.{name}.kind = {kind:?} is not in this build; install one that was built with the feature {kind}"
    ))
}
