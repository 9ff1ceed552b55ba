//! A launch as the far side reads it: lines of `key=value`, counted by the last, on standard input, so that neither an
//! argument nor the token ever is part of a command line there.

use std::time::Duration;

use super::escape;
use super::store::Goods;
use super::{SshLimits, SshOptions};
use crate::wrapper::{self, Place};
use crate::{AdapterError, LaunchId, LaunchRequest};

/// The variable that marks every process of an instance: ours to set.
const MARK: &str = "TIDEGATE_INSTANCE_DIR";

/// Variables that steer the shell which becomes the wrapper, or that it may not set.
const SHELL_VARIABLES: [&str; 20] = [
    "IFS", "PATH", "HOME", "PWD", "OLDPWD", "ENV", "CDPATH", "UID", "EUID", "PPID", "GROUPS", "OPTIND", "OPTARG",
    "LINENO", "PS1", "PS2", "PS4", "RANDOM", "SECONDS", "LANG",
];

/// The longest drain that the far side counts: ten years are as good as for ever, and its shell's numbers end somewhere.
const DRAIN_MAX: Duration = Duration::from_secs(10 * 365 * 24 * 3600);

/// The whole request.
pub(super) fn lines(request: &LaunchRequest, options: &SshOptions, root: &str, goods: &Goods) -> Vec<u8> {
    let mut lines = Lines::default();
    lines.push("launch", request.launch.as_str());
    lines.push("fleet", &escape::line(&request.owner.fleet));
    lines.push("node", &escape::line(&request.owner.node));
    lines.push("session", &request.owner.session.to_string());
    lines.push("service", &escape::line(&request.service));
    lines.push("drain_ms", &request.drain_timeout.min(DRAIN_MAX).as_millis().to_string());
    lines.push("root", root);
    lines.push("max", &options.max_instances.map(|most| most.to_string()).unwrap_or_default());
    lines.push("nice", &options.limits.niceness.to_string());
    lines.push("memory_kb", &memory_kb(request, &options.limits).map(|kb| kb.to_string()).unwrap_or_default());
    lines.push("program", &goods.program);
    for (name, digest) in &goods.files {
        lines.push("file", &format!("{digest} {}", escape::line(name)));
    }
    // Printable ASCII, as `LaunchRequest::check` has it.
    lines.push("token", request.token.expose());
    run(&mut lines, request, options, &instance_dir(root, &request.launch));
    lines.end()
}

/// Refuses what the far side cannot be told: names of files that are no names.
pub(super) fn check(request: &LaunchRequest) -> Result<(), AdapterError> {
    let is_name = |name: &&String| !name.is_empty() && !name.contains(['/', '\0']) && *name != "." && *name != "..";
    match request.workload.files.keys().find(|name| !is_name(name)) {
        None => Ok(()),
        Some(name) => Err(AdapterError::bad_configuration(format!(
            "cannot launch {}: `{name}` is no name for a file of its workload: use one without a slash",
            request.launch
        ))),
    }
}

pub(super) fn instance_dir(root: &str, launch: &LaunchId) -> String {
    format!("{root}/instances/{launch}")
}

/// The least of what the adapter and the workload allow, in the unit of `ulimit`.
fn memory_kb(request: &LaunchRequest, limits: &SshLimits) -> Option<u64> {
    let bounds = [limits.memory_bytes, request.workload.resources.memory_bytes];
    bounds.into_iter().flatten().min().map(|bytes| bytes / 1024)
}

fn run(lines: &mut Lines, request: &LaunchRequest, options: &SshOptions, run_dir: &str) {
    let variables = request.workload.env.iter().filter(|(name, _)| *name != MARK);
    let (plain, odd): (Vec<_>, Vec<_>) = variables.partition(|(name, _)| is_exportable(name));
    for (name, value) in plain {
        lines.push("env", &escape::line(&format!("{name}={value}")));
    }
    // A shell cannot set these, or would heed them: `env` puts them in place.
    if !odd.is_empty() {
        lines.push("arg", "env");
        odd.iter().for_each(|(name, value)| lines.push("arg", &escape::line(&format!("{name}={value}"))));
    }
    let program = format!("{run_dir}/tidegate");
    lines.push("arg", &escape::line(&program));
    for argument in wrapper::arguments(request, &place(run_dir, options)) {
        lines.push("arg", &escape::line(&argument));
    }
}

/// Whether the shell can set it and does not use the name itself: its own variables are in lower case.
fn is_exportable(name: &str) -> bool {
    let is_inner = |byte: u8| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'_';
    name.bytes().all(is_inner)
        && name.bytes().next().is_some_and(|first| !first.is_ascii_digit())
        && !SHELL_VARIABLES.contains(&name)
        && !["LC_", "BASH", "SHELLOPTS", "POSIXLY", "FUNC"].iter().any(|prefix| name.starts_with(prefix))
}

fn place(run_dir: &str, options: &SshOptions) -> Place {
    Place {
        program: format!("{run_dir}/tidegate"),
        run_dir: Some(run_dir.to_owned()),
        token_file: format!("{run_dir}/token"),
        identity_files: None,
        listen: "127.0.0.1:0".to_owned(),
        cpus: options.limits.cpus.clone(),
        files_dir: format!("{run_dir}/files"),
    }
}

#[derive(Default)]
struct Lines {
    text: String,
    count: usize,
}

impl Lines {
    fn push(&mut self, key: &str, value: &str) {
        self.text.push_str(&format!("{key}={value}\n"));
        self.count += 1;
    }

    fn end(self) -> Vec<u8> {
        let Self { text, count } = self;
        format!("{text}end={count}\n").into_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_that_a_shell_heeds_or_cannot_set_are_not_exported_by_one() {
        for name in ["STAGE", "CUDA_VISIBLE_DEVICES", "_X1"] {
            assert!(is_exportable(name), "{name}");
        }
        for name in ["PATH", "IFS", "LC_ALL", "BASH_ENV", "discovery.type", "dir", "1X", "a", ""] {
            assert!(!is_exportable(name), "{name}");
        }
    }
}
