//! `[node]`: who this node is, where it keeps its state, how often it looks.

use std::path::PathBuf;
use std::time::Duration;

use crate::adapter::is_region;
use crate::name::{FleetId, NodeId};
use crate::section::Section;
use crate::shape::{Count, FilePath, Parsed, Span};
use crate::sources::Sources;

/// `[node]`.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Node {
    /// This node's name in its fleet. Default: the host name, made to fit.
    pub id: NodeId,
    /// The fleet it belongs to. Default: `default`.
    pub fleet: FleetId,
    /// Where the journal, the lock and the secrets are; absolute. Default: `/var/lib/tidegate` as root, else
    /// `$XDG_STATE_HOME/tidegate` or `~/.local/state/tidegate`.
    pub state_dir: PathBuf,
    /// How long requests in flight may take when the node or a replica ends. Default 30 s.
    pub drain_timeout: Duration,
    /// Time from one load sample to the next. Default 1 s.
    pub tick: Duration,
    /// Filter of the log, in the syntax of tracing's `EnvFilter`. Default `info`.
    pub log: String,
    /// What the uplink carries, in megabits a second. Without it there is no network utilisation.
    pub link_speed_mbit: Option<u32>,
    /// Authorities (PEM) that are trusted beside the public ones where an instance is reached by name, as at an ingress
    /// of a company's own.
    pub ca_file: Option<PathBuf>,
    /// Folder of the credential that `tidegate fleet enroll` made for this node. Without it the node makes one for itself
    /// and is a fleet of its own.
    pub credentials: Option<PathBuf>,
    /// Where the node stands, in one word of its operator's: services with `placement = "site"` may go to other nodes there.
    pub site: Option<String>,
    /// The region that it is in, such as `eu-central`, for services of other nodes that may not leave theirs.
    pub region: Option<String>,
}

/// The state directory of a node that runs as root, as the file hierarchy standard has it.
const STATE_DIR_OF_ROOT: &str = "/var/lib/tidegate";

pub(crate) fn read(section: &mut Section<'_>, sources: &Sources) -> Node {
    Node {
        id: section.get("id", &NODE_ID, NodeId::of_host(&sources.machine.host_name)),
        fleet: section.get("fleet", &FLEET_ID, FleetId::new("default").expect("a name")),
        state_dir: state_dir(section, sources),
        drain_timeout: section.get("drain_timeout", &DRAIN, Duration::from_secs(30)),
        tick: section.get("tick", &TICK, Duration::from_secs(1)),
        log: section.get("log", &LOG, "info".to_owned()),
        // 400 Gbit/s is the fastest port one can buy today.
        link_speed_mbit: section.optional("link_speed_mbit", &Count(1..=400_000)),
        ca_file: section.optional("ca_file", &FilePath),
        credentials: section.optional("credentials", &FilePath),
        site: section.optional("site", &PLACE),
        region: section.optional("region", &PLACE),
    }
}

const NODE_ID: Parsed<NodeId> = Parsed {
    allowed: "1 to 40 of a-z, 0-9 and -",
    parse: |text| NodeId::new(text).map_err(|error| error.to_string()),
    show: NodeId::to_string,
    secret: false,
};

const FLEET_ID: Parsed<FleetId> = Parsed {
    allowed: "1 to 40 of a-z, 0-9 and -",
    parse: |text| FleetId::new(text).map_err(|error| error.to_string()),
    show: FleetId::to_string,
    secret: false,
};

const PLACE: Parsed<String> = Parsed {
    allowed: "one word, as in \"hall-3\" or \"eu-central\"",
    parse: |text| match is_region(text) {
        true => Ok(text.to_owned()),
        false => Err("must be one word, as in \"hall-3\" or \"eu-central\"".to_owned()),
    },
    show: String::clone,
    secret: false,
};

/// An hour is longer than any inference; zero means that requests in flight are cut off.
const DRAIN: Span = Span(Duration::ZERO..=Duration::from_secs(3600));

/// Faster than 50 ms the looking itself is load; slower than a minute it misses every surge.
const TICK: Span = Span(Duration::from_millis(50)..=Duration::from_secs(60));

const LOG: Parsed<String> =
    Parsed { allowed: "a log filter, as in \"info,tidegate=debug\"", parse: log, show: String::clone, secret: false };

/// Levels are checked here; whether a target exists only the running program knows.
fn log(text: &str) -> Result<String, String> {
    let refusal = || "must be a log filter of off, error, warn, info, debug or trace, as in \"info,tidegate=debug\"";
    let known = |level: &str| {
        let levels = ["off", "error", "warn", "info", "debug", "trace"];
        levels.iter().any(|one| one.eq_ignore_ascii_case(level))
    };
    let directive = |part: &str| match part.rsplit_once('=') {
        // A span's fields, as in `target[span{field=value}]=level`, hold more than a level after the last `=`.
        Some((_, level)) if !part.ends_with(['}', ']']) => known(level.trim()),
        _ => !part.trim().is_empty(),
    };
    if text.split(',').all(directive) { Ok(text.to_owned()) } else { Err(refusal().to_owned()) }
}

fn state_dir(section: &mut Section<'_>, sources: &Sources) -> PathBuf {
    match default_state_dir(sources) {
        Some(default) => section.get("state_dir", &FilePath, default),
        None if section.has("state_dir") => section.get("state_dir", &FilePath, PathBuf::new()),
        None => {
            section.leave(&["state_dir"]);
            section.refuse("state_dir", "is missing, and neither XDG_STATE_HOME nor HOME is set; set one of the three");
            PathBuf::new()
        }
    }
}

fn default_state_dir(sources: &Sources) -> Option<PathBuf> {
    if sources.machine.root {
        return Some(PathBuf::from(STATE_DIR_OF_ROOT));
    }
    // The XDG base directory specification: a relative path is to be ignored.
    let absolute = |name: &str| sources.variable(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let state_home = absolute("XDG_STATE_HOME").or_else(|| Some(absolute("HOME")?.join(".local/state")));
    state_home.map(|folder| folder.join("tidegate"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sources::Machine;

    fn user(env: &[(&str, &str)]) -> Option<PathBuf> {
        let machine = Machine { root: false, ..Machine::default() };
        default_state_dir(&Sources { machine, ..Sources::default() }.env(env.iter().copied()))
    }

    #[test]
    fn the_state_directory_follows_the_xdg_specification() {
        assert_eq!(default_state_dir(&Sources::default()), Some("/var/lib/tidegate".into()));
        assert_eq!(user(&[("HOME", "/h"), ("XDG_STATE_HOME", "/s")]), Some("/s/tidegate".into()));
        assert_eq!(user(&[("HOME", "/h"), ("XDG_STATE_HOME", "")]), Some("/h/.local/state/tidegate".into()));
        assert_eq!(user(&[("HOME", "/h"), ("XDG_STATE_HOME", "rel")]), Some("/h/.local/state/tidegate".into()));
        assert_eq!(user(&[]), None);
    }

    #[test]
    fn a_log_filter_without_a_level_that_exists_is_refused() {
        for good in ["info", "INFO", "warn,tidegate=debug", "hyper", "a[b{c=d}]=trace", "a[b{c=d}]"] {
            assert!(log(good).is_ok(), "{good}");
        }
        for bad in ["", "info,", "tidegate=loud", "info=debugg"] {
            assert!(log(bad).is_err(), "{bad}");
        }
    }
}
