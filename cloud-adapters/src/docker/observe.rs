//! What the daemon says about a container, as an instance.

use std::time::SystemTime;

use bollard::models::{ContainerInspectResponse, ContainerState, ContainerStateStatusEnum as Status};

use super::labels::Labels;
use super::{clock, spec};
use crate::{Instance, InstanceState, Reach};

/// The exit code of a process that SIGKILL ended, as shells and the daemon count: 128 + 9.
const KILLED: i64 = 137;
/// How the wrapper tells that its server was.
const SERVER_KILLED: &str = "its server ended with 137";

/// How a container is, apart from what it says itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    /// Made, and never started.
    Created,
    Alive,
    Over,
}

pub(super) fn stage(container: &ContainerInspectResponse) -> Stage {
    match container.state.as_ref().and_then(|state| state.status) {
        None | Some(Status::EMPTY | Status::CREATED) => Stage::Created,
        // A paused one is reached again when whoever paused it lets it go on.
        Some(Status::RUNNING | Status::PAUSED | Status::RESTARTING) => Stage::Alive,
        Some(Status::EXITED | Status::DEAD | Status::REMOVING | Status::STOPPING) => Stage::Over,
    }
}

/// The instance of a container. `host` is where published ports are reached, `now` the daemon's time, and `last_line`
/// what an ended one said last.
pub(super) fn instance(
    container: &ContainerInspectResponse,
    labels: Labels,
    host: &str,
    now: Option<SystemTime>,
    last_line: Option<&str>,
) -> Instance {
    let stage = stage(container);
    let authority = published_port(container).map(|port| authority(host, &port));
    let (state, reach) = match (stage, authority) {
        (Stage::Over, _) => (InstanceState::Ended { reason: end_reason(container.state.as_ref(), last_line) }, None),
        (Stage::Alive, Some(authority)) => (InstanceState::Running, Some(Reach::Direct { authority })),
        (Stage::Alive, None) | (Stage::Created, _) => (InstanceState::Pending, None),
    };
    let started = container.state.as_ref().and_then(|state| state.started_at.as_deref());
    let since = if stage == Stage::Created { container.created.as_deref() } else { started };
    let Labels { launch, owner, service, .. } = labels;
    Instance { launch, owner, service, state, reach, age: clock::age(since, now), notice: None }
}

fn published_port(container: &ContainerInspectResponse) -> Option<String> {
    let ports = container.network_settings.as_ref()?.ports.as_ref()?;
    let binding = ports.get(spec::PORT)?.as_ref()?.first()?;
    binding.host_port.clone().filter(|port| port.parse::<u16>().is_ok_and(|port| port > 0))
}

/// Host and port, with the brackets that an IPv6 address needs.
pub(super) fn authority(host: &str, port: &str) -> String {
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

fn end_reason(state: Option<&ContainerState>, last_line: Option<&str>) -> String {
    let code = state.and_then(|state| state.exit_code).unwrap_or(-1);
    let error = state.and_then(|state| state.error.as_deref()).filter(|error| !error.is_empty());
    let why = match (state.and_then(|state| state.oom_killed), error) {
        (Some(true), _) => "out of memory: the kernel killed it at its memory limit".to_owned(),
        (_, Some(error)) => format!("failed ({error})"),
        _ if code == KILLED => format!("killed (exit code {code})"),
        // The daemon hears of the kernel's kill by another way, which may be the slower one; the wrapper saw its server go.
        _ if last_line.is_some_and(|line| line.ends_with(SERVER_KILLED)) => {
            format!("exited with {code}, its server killed: out of memory, unless somebody did it")
        }
        _ => format!("exited with {code}"),
    };
    match last_line {
        Some(line) => format!("{why}: {line}"),
        None => why,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::time::Duration;

    use bollard::models::{NetworkSettings, PortBinding};

    use super::*;
    use crate::Owner;

    fn container(state: ContainerState, port: Option<&str>) -> ContainerInspectResponse {
        let binding = PortBinding { host_ip: Some("0.0.0.0".into()), host_port: port.map(str::to_owned) };
        let ports = Some(HashMap::from([(spec::PORT.to_owned(), port.map(|_| vec![binding]))]));
        let network_settings = Some(NetworkSettings { ports, ..NetworkSettings::default() });
        let created = Some("2026-11-25T18:40:00Z".to_owned());
        ContainerInspectResponse { state: Some(state), network_settings, created, ..Default::default() }
    }

    fn observed(state: ContainerState, port: Option<&str>, line: Option<&str>) -> Instance {
        let owner = Owner { fleet: "f".into(), node: "n".into(), session: 1 };
        let (launch, service) = ("gw-1".parse().expect("an id"), "digits".to_owned());
        let labels = Labels { launch, owner, service, drain_timeout: Duration::ZERO };
        instance(&container(state, port), labels, "::1", clock::moment("2026-11-25T18:40:10Z"), line)
    }

    fn at(status: Status) -> ContainerState {
        let started_at = Some("2026-11-25T18:40:04Z".to_owned());
        ContainerState { status: Some(status), started_at, ..ContainerState::default() }
    }

    #[test]
    fn a_running_container_is_reached_at_its_published_port() {
        let running = observed(at(Status::RUNNING), Some("32768"), None);
        assert_eq!(running.state, InstanceState::Running);
        assert_eq!(running.reach, Some(Reach::Direct { authority: "[::1]:32768".into() }));
        assert_eq!(running.age, Some(Duration::from_secs(6)));
        for unpublished in [None, Some(""), Some("0")] {
            let pending = observed(at(Status::RUNNING), unpublished, None);
            assert_eq!((pending.state, pending.reach), (InstanceState::Pending, None));
        }
    }

    #[test]
    fn a_created_container_is_pending_and_as_old_as_it_is() {
        let created = observed(at(Status::CREATED), None, None);
        assert_eq!((created.state, created.age), (InstanceState::Pending, Some(Duration::from_secs(10))));
    }

    #[test]
    fn an_end_is_told_with_what_ended_it() {
        let ended = |change: fn(&mut ContainerState), line| {
            let mut state = at(Status::EXITED);
            state.exit_code = Some(137);
            change(&mut state);
            let instance = observed(state, Some("32768"), line);
            assert_eq!(instance.reach, None);
            let InstanceState::Ended { reason } = instance.state else { panic!("it ended") };
            reason
        };
        assert_eq!(ended(|_| {}, None), "killed (exit code 137)");
        assert_eq!(ended(|state| state.exit_code = Some(1), Some("boom")), "exited with 1: boom");
        assert!(ended(|state| state.oom_killed = Some(true), None).starts_with("out of memory"));
        let told = ended(|state| state.exit_code = Some(1), Some("its server ended with 137"));
        assert!(told.contains("out of memory, unless somebody did it"), "{told}");
        assert_eq!(ended(|state| state.error = Some("no such device".into()), None), "failed (no such device)");
        assert!(ended(|state| state.status = Some(Status::DEAD), None).starts_with("killed"));
    }
}
