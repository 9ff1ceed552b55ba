//! What a container is made of: the wrapper's command line, labels, limits, and one published port.

use std::collections::HashMap;
use std::net::IpAddr;

use bollard::models::{
    ContainerCreateBody, DeviceRequest, HealthConfig, HostConfig, HostConfigLogConfig, PortBinding, PortMap,
    RestartPolicy, RestartPolicyNameEnum,
};

use super::labels::Labels;
use super::{DockerOptions, parcel};
use crate::wrapper::{self, Place};
use crate::{LaunchRequest, Resources};

/// Where the wrapper listens in the container, whose network is its own: above 1024, so that no capability is needed.
pub(super) const PORT: &str = "8443/tcp";
const LISTEN: &str = "0.0.0.0:8443";

/// Processes and threads that an instance may have: an inference server with a thread pool for each CPU of a large
/// machine, and far from what a fork bomb takes.
const MAX_PIDS: i64 = 4096;

/// What is kept of an instance's output on the daemon's disk.
const LOG_MAX_SIZE: &str = "10m";

/// The settings of a launch's container.
pub(super) fn container(
    request: &LaunchRequest,
    options: &DockerOptions,
    image: &str,
    publish: IpAddr,
) -> ContainerCreateBody {
    ContainerCreateBody {
        image: Some(image.to_owned()),
        // The image's own entrypoint and command have no say: the wrapper starts the server.
        entrypoint: Some(vec![options.wrapper.clone()]),
        cmd: Some(wrapper::arguments(request, &place(options))),
        env: Some(request.workload.env.iter().map(|(name, value)| format!("{name}={value}")).collect()),
        labels: Some(Labels::of(request).to_map()),
        exposed_ports: Some(vec![PORT.to_owned()]),
        // The edge asks the wrapper; a second check in the container would only cost.
        healthcheck: Some(HealthConfig { test: Some(vec!["NONE".to_owned()]), ..HealthConfig::default() }),
        host_config: Some(host(&request.workload.resources, options, publish)),
        ..ContainerCreateBody::default()
    }
}

fn place(options: &DockerOptions) -> Place {
    let at = |name: &str| format!("{}/{name}", parcel::DIRECTORY);
    Place {
        program: options.wrapper.clone(),
        run_dir: None,
        token_file: at(parcel::TOKEN),
        identity_files: Some((at(parcel::CERTIFICATE), at(parcel::KEY))),
        listen: LISTEN.to_owned(),
        cpus: None,
        files_dir: at(parcel::FILES),
    }
}

fn host(resources: &Resources, options: &DockerOptions, publish: IpAddr) -> HostConfig {
    let memory = resources.memory_bytes.map(|bytes| i64::try_from(bytes).unwrap_or(i64::MAX));
    HostConfig {
        nano_cpus: resources.cpu_millis.map(|millis| i64::from(millis) * 1_000_000),
        memory,
        // Memory and swap together: without this, as much again could be swapped.
        memory_swap: memory,
        device_requests: (resources.gpus > 0).then(|| vec![gpus(resources.gpus)]),
        pids_limit: Some(MAX_PIDS),
        cap_drop: Some(vec!["ALL".to_owned()]),
        security_opt: Some(vec!["no-new-privileges".to_owned()]),
        // An instance runs to completion, and its record is kept until somebody has taken note.
        restart_policy: Some(RestartPolicy { name: Some(RestartPolicyNameEnum::NO), maximum_retry_count: None }),
        auto_remove: Some(false),
        network_mode: options.network.clone(),
        port_bindings: Some(published(publish)),
        log_config: Some(log()),
        ..HostConfig::default()
    }
}

/// Any driver that gives out GPUs, as `docker run --gpus N` asks for them.
fn gpus(count: u32) -> DeviceRequest {
    let capabilities = Some(vec![vec!["gpu".to_owned()]]);
    DeviceRequest { count: Some(i64::from(count)), capabilities, ..DeviceRequest::default() }
}

/// The daemon picks a free port of its machine.
fn published(publish: IpAddr) -> PortMap {
    let binding = PortBinding { host_ip: Some(publish.to_string()), host_port: Some("0".to_owned()) };
    HashMap::from([(PORT.to_owned(), Some(vec![binding]))])
}

fn log() -> HostConfigLogConfig {
    let config = [("max-size", LOG_MAX_SIZE), ("max-file", "1")];
    let config = config.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
    HostConfigLogConfig { typ: Some("json-file".to_owned()), config: Some(config) }
}
