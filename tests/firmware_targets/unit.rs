//! A systemd unit as its checks see it. Sections and keys are held against lists, since systemd itself only warns about
//! a misspelt key and starts without it: a hardening option with a typo is no hardening.

/// The drain timeout that a node has unless told otherwise, seconds (`node.drain_timeout`).
const DEFAULT_DRAIN_S: u64 = 30;

const UNIT_KEYS: &[&str] =
    &["Description", "Documentation", "Wants", "After", "StartLimitIntervalSec", "StartLimitBurst"];

const SERVICE_KEYS: &[&str] = &[
    "Type",
    "NotifyAccess",
    "WatchdogSec",
    "User",
    "Group",
    "ExecStart",
    "ExecReload",
    "Restart",
    "RestartSec",
    "RestartPreventExitStatus",
    "KillMode",
    "KillSignal",
    "TimeoutStopSec",
    "TimeoutStartSec",
    "StateDirectory",
    "StateDirectoryMode",
    "ConfigurationDirectory",
    "ReadWritePaths",
    "Environment",
    "UMask",
    "LimitNOFILE",
    "TasksMax",
    "OOMPolicy",
    "NoNewPrivileges",
    "CapabilityBoundingSet",
    "AmbientCapabilities",
    "ProtectSystem",
    "ProtectHome",
    "PrivateTmp",
    "ProtectClock",
    "ProtectControlGroups",
    "ProtectHostname",
    "ProtectKernelLogs",
    "ProtectKernelModules",
    "ProtectKernelTunables",
    "RestrictAddressFamilies",
    "RestrictNamespaces",
    "RestrictRealtime",
    "RestrictSUIDSGID",
    "LockPersonality",
    "SystemCallArchitectures",
];

/// How systemd lets a service take up its changed configuration.
const HANGUP: &str = "/bin/kill -HUP $MAINPID";

const INSTALL_KEYS: &[&str] = &["WantedBy"];

/// Settings that must stand exactly so, with the reason.
const REQUIRED: &[(&str, &str, &str)] = &[
    ("RestartPreventExitStatus", "2", "a wrong configuration does not mend itself by trying again"),
    ("KillMode", "mixed", "the node ends its children itself; what is left after the time is killed"),
    ("Restart", "on-failure", "a node that aborts comes back and recovers from its journal"),
    ("StateDirectory", "tidegate", "the journal outlives the process"),
    ("Type", "notify", "started means that it listens, not that it was executed"),
    ("NotifyAccess", "main", "no replica speaks for the node"),
    ("NoNewPrivileges", "yes", "a replica must not rise above the node"),
    ("ProtectSystem", "strict", "only the state directory and credentials are written"),
    ("ProtectHome", "yes", "nothing of a person's is read"),
];

/// A unit file: sections with their settings, in order.
#[derive(Debug, Clone)]
pub(crate) struct Unit {
    settings: Vec<(String, String, String)>,
    /// Lines that are no section, setting or comment.
    strays: Vec<String>,
}

impl Unit {
    pub(crate) fn parse(text: &str) -> Self {
        let mut unit = Self { settings: Vec::new(), strays: Vec::new() };
        let mut section = String::new();
        for line in text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with(['#', ';'])) {
            if let Some(name) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
                section = name.to_owned();
            } else if let Some((key, value)) = line.split_once('=') {
                unit.settings.push((section.clone(), key.trim().to_owned(), value.trim().to_owned()));
            } else {
                unit.strays.push(line.to_owned());
            }
        }
        unit
    }

    /// The same unit with one setting replaced or added.
    pub(crate) fn with(&self, section: &str, key: &str, value: &str) -> Self {
        let mut changed = self.clone();
        changed.settings.retain(|(s, k, _)| s != section || k != key);
        changed.settings.push((section.to_owned(), key.to_owned(), value.to_owned()));
        changed
    }

    /// The setting's value where it stands once.
    pub(crate) fn one(&self, section: &str, key: &str) -> Option<&str> {
        let mut found = self.settings.iter().filter(|(s, k, _)| s == section && k == key);
        let (_, _, value) = found.next()?;
        found.next().is_none().then_some(value)
    }

    /// The command lines of all `Exec…` settings, but for the one that sends a signal.
    pub(crate) fn commands(&self) -> Vec<String> {
        let is_command = |(_, key, value): &&(String, String, String)| key.starts_with("Exec") && value != HANGUP;
        self.settings.iter().filter(is_command).map(|(_, _, value)| value.clone()).collect()
    }

    /// All that is wrong with the unit.
    pub(crate) fn problems(&self) -> Vec<String> {
        let mut found: Vec<String> = self.strays.iter().map(|line| format!("`{line}` is no setting")).collect();
        found.extend(self.unknown());
        let wrong = REQUIRED.iter().filter(|(key, value, _)| self.one("Service", key) != Some(value));
        found.extend(wrong.map(|(key, value, why)| format!("[Service] {key}={value} is wanted: {why}")));
        if self.stop_seconds().is_none_or(|seconds| seconds <= DEFAULT_DRAIN_S) {
            found.push(format!("[Service] TimeoutStopSec must exceed the drain timeout of {DEFAULT_DRAIN_S} s"));
        }
        if self.one("Service", "User").is_none_or(|user| user == "root") {
            found.push("[Service] User: a user of its own is wanted".to_owned());
        }
        if self.one("Install", "WantedBy").is_none() {
            found.push("[Install] WantedBy is missing: the unit could not be enabled".to_owned());
        }
        found.extend(self.start_problems());
        found.extend(self.reload_problems());
        found
    }

    fn unknown(&self) -> Vec<String> {
        let known = |section: &str, key: &str| match section {
            "Unit" => UNIT_KEYS.contains(&key),
            "Service" => SERVICE_KEYS.contains(&key),
            "Install" => INSTALL_KEYS.contains(&key),
            _ => false,
        };
        let unknown = self.settings.iter().filter(|(section, key, _)| !known(section, key));
        unknown.map(|(section, key, _)| format!("[{section}] {key} is unknown")).collect()
    }

    fn stop_seconds(&self) -> Option<u64> {
        self.one("Service", "TimeoutStopSec")?.trim_end_matches('s').parse().ok()
    }

    /// The start names the configuration, so that a missing file is an error. It checks the file by itself; a command before
    /// it would be tried again by systemd whatever it exits with (`RestartPreventExitStatus` is for the main process).
    fn start_problems(&self) -> Option<String> {
        let start = self.one("Service", "ExecStart").and_then(Call::parse);
        let is_good =
            start.is_some_and(|call| call.subcommands == ["run"] && call.options == ["-c"] && call.file.is_some());
        (!is_good).then(|| "[Service] ExecStart is `run -c FILE`".to_owned())
    }

    /// The node is told first, so that it says on MQTT what came of it; the check makes the reload fail where the file is wrong.
    fn reload_problems(&self) -> Option<String> {
        let start = self.one("Service", "ExecStart").and_then(Call::parse);
        let check = start.and_then(|call| call.file).map(|file| format!("/usr/bin/tidegate config check {file}"));
        let reload = self.settings.iter().filter(|(_, key, _)| key == "ExecReload");
        let reload: Vec<&str> = reload.map(|(_, _, value)| value.as_str()).collect();
        let is_good = check.is_some_and(|check| reload == [HANGUP, &check]);
        (!is_good)
            .then(|| "[Service] ExecReload is SIGHUP, then `config check` of the file that ExecStart names".to_owned())
    }
}

/// A call of the program, taken apart.
#[derive(Debug)]
pub(crate) struct Call {
    pub(crate) subcommands: Vec<String>,
    pub(crate) options: Vec<String>,
    file: Option<String>,
}

impl Call {
    /// `None` where the line starts anything but `/usr/bin/tidegate`.
    pub(crate) fn parse(line: &str) -> Option<Self> {
        let mut words = line.split_whitespace();
        words.next().filter(|program| *program == "/usr/bin/tidegate")?;
        let words: Vec<String> = words.map(str::to_owned).collect();
        let (options, plain): (Vec<String>, Vec<String>) = words.into_iter().partition(|word| word.starts_with('-'));
        let (files, subcommands): (Vec<String>, Vec<String>) = plain.into_iter().partition(|word| word.contains('/'));
        Some(Self { subcommands, options, file: files.into_iter().next() })
    }
}
