//! From the configuration of an adapter to the provider's client. None of them asks its provider yet: one that is away
//! must not stop a node.

use std::path::Path;
use std::sync::Arc;

use cloud_adapters::ssh::{self, SshLimits};
use cloud_adapters::{
    CloudAdapter, ExecAdapter, ExecOptions, ProcessAdapter, ProcessOptions, Secret, SshAdapter, SshOptions,
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
        AdapterKind::Ssh(ssh) => Arc::new(SshAdapter::new(ssh_options(config, ssh, own, max_instances))),
        #[cfg(feature = "docker")]
        AdapterKind::Docker(docker) => Arc::new(docker_adapter(name, docker, own, max_instances)?),
        #[cfg(feature = "kubernetes")]
        AdapterKind::Kubernetes(cluster) => {
            Arc::new(cloud_adapters::KubernetesAdapter::new(cluster_options(name, cluster, adapter)))
        }
        other => return Err(missing(name, other)),
    })
}

fn exec_options(name: &str, exec: &edge_config::Exec, account: &Path, max_instances: Option<u32>) -> ExecOptions {
    let plain = ExecOptions::new(name, exec.command.clone(), account);
    ExecOptions {
        env: exec.env.iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect(),
        secrets: exec.secrets.iter().map(|(key, value)| (key.to_owned(), Secret::new(value))).collect(),
        instance_dir: exec.instance_dir.clone().unwrap_or_else(|| plain.instance_dir.clone()),
        listen: exec.listen.map_or_else(|| plain.listen.clone(), |listen| listen.to_string()),
        tls: exec.tls,
        max_instances,
        takes_files: exec.takes_files,
        ..plain
    }
}

fn ssh_options(config: &Config, ssh: &edge_config::Ssh, own: &Path, max_instances: Option<u32>) -> SshOptions {
    SshOptions {
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

/// How a cluster is used.
#[cfg(feature = "kubernetes")]
fn cluster_options(
    name: &str,
    cluster: &edge_config::Kubernetes,
    adapter: &Adapter,
) -> cloud_adapters::KubernetesOptions {
    use cloud_adapters::kubernetes::{KubernetesOptions, Toleration};
    let toleration = |of: &edge_config::Toleration| Toleration {
        key: Some(of.key.clone()),
        value: of.value.clone(),
        effect: of.effect.clone(),
    };
    let plain = KubernetesOptions::new(name, cluster.namespace.clone());
    KubernetesOptions {
        kubeconfig: cluster.kubeconfig.clone(),
        context: cluster.context.clone(),
        image: cluster.image.clone(),
        reach: reach_by(cluster),
        node_selector: cluster.node_selector.clone(),
        tolerations: cluster.tolerations.iter().map(toleration).collect(),
        image_pull_secrets: cluster.image_pull_secrets.clone(),
        gpu_resource: cluster.gpu_resource.clone(),
        service_account: cluster.service_account.clone(),
        priority_class: cluster.priority_class.clone(),
        run_as_user: cluster.run_as_user,
        max_instances: adapter.max_instances,
        max_life: cluster.max_life,
        start_timeout: adapter.start_timeout,
        ..plain
    }
}

#[cfg(feature = "kubernetes")]
fn reach_by(cluster: &edge_config::Kubernetes) -> cloud_adapters::kubernetes::ReachBy {
    use cloud_adapters::kubernetes::{Exposure, IngressRule, ReachBy};
    use edge_config::KubernetesReach as Reach;
    match cluster.reach {
        Reach::Pod => ReachBy::PodAddress,
        Reach::NodePort => ReachBy::Service(Exposure::NodePort { address: cluster.node_address.clone() }),
        Reach::LoadBalancer => ReachBy::Service(Exposure::LoadBalancer),
        Reach::Ingress => ReachBy::Ingress(IngressRule {
            host: cluster.ingress_host.clone().unwrap_or_default(),
            class: cluster.ingress_class.clone(),
            tls_secret: cluster.ingress_tls_secret.clone(),
            ..IngressRule::default()
        }),
        _ => ReachBy::PortForward,
    }
}

fn missing(name: &str, kind: &AdapterKind) -> NodeError {
    let kind = kind.as_str();
    NodeError::Setting(format!(
        "adapter.{name}.kind = {kind:?} is not in this build; build one that has it: \
         cargo install --path . --locked --features {kind}"
    ))
}
