//! What the remote program answers: lines of `key=value` after a line that names the form, counted by the last. Read
//! strictly: an answer that broke off is none.

use std::time::Duration;

use super::escape;
use crate::{AdapterError, Instance, InstanceState, LaunchId, Owner};

/// The line that an answer begins with; what a login script may have printed before it is passed over.
const HEADER: &str = "tidegate-remote ";

/// The form of messages that this side speaks.
const VERSION: &str = "1";

/// An answer that came whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Answer {
    lines: Vec<(String, String)>,
}

/// Why an output is no answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum NoAnswer {
    /// The remote program did not speak at all.
    Silent,
    /// It speaks another form.
    Version(String),
    /// It broke off, or is not in form.
    Broken,
}

/// An instance as the far side tells it: reached there, at an address of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Told {
    /// The instance, without a reach.
    pub(super) instance: Instance,
    /// Where its wrapper listens over there, while it runs.
    pub(super) address: Option<std::net::SocketAddr>,
}

impl Answer {
    pub(super) fn read(output: &[u8]) -> Result<Self, NoAnswer> {
        let text = String::from_utf8_lossy(output);
        let mut lines = text.split_inclusive('\n').skip_while(|line| !line.starts_with(HEADER));
        let header = lines.next().ok_or(NoAnswer::Silent)?.trim_end();
        let version = header.strip_prefix(HEADER).unwrap_or_default();
        if version != VERSION {
            return Err(NoAnswer::Version(version.to_owned()));
        }
        let mut read = Vec::new();
        for line in lines {
            // A line without its end is one that broke off.
            let line = line.strip_suffix('\n').ok_or(NoAnswer::Broken)?;
            let (key, value) = line.split_once('=').ok_or(NoAnswer::Broken)?;
            if key == "end" {
                let is_whole = value.parse() == Ok(read.len());
                return if is_whole { Ok(Self { lines: read }) } else { Err(NoAnswer::Broken) };
            }
            read.push((key.to_owned(), value.to_owned()));
        }
        Err(NoAnswer::Broken)
    }

    /// The value of a key; empty where the answer does not have it.
    pub(super) fn value<'a>(&'a self, key: &'a str) -> &'a str {
        self.values(key).next().unwrap_or_default()
    }

    pub(super) fn values<'a>(&'a self, key: &'a str) -> impl Iterator<Item = &'a str> {
        self.lines.iter().filter(move |(name, _)| name == key).map(|(_, value)| value.as_str())
    }

    /// What the far side could not do: a word to sort it by, and words about it.
    pub(super) fn refusal(&self) -> Option<(&str, &str)> {
        let code = self.values("error").next()?;
        Some((code, self.value("words")))
    }

    /// Every instance that it tells of, sorted by launch id.
    pub(super) fn instances(&self) -> Result<Vec<Told>, AdapterError> {
        let starts: Vec<usize> = (0..self.lines.len()).filter(|at| self.lines[*at].0 == "instance").collect();
        let told = starts.into_iter().map(|at| {
            let told = self.lines.get(at..at + 9).and_then(told);
            told.ok_or_else(|| AdapterError::transient("an instance was told in a form that is not understood"))
        });
        let mut told = told.collect::<Result<Vec<_>, _>>()?;
        told.sort_by(|one, other| one.instance.launch.cmp(&other.instance.launch));
        Ok(told)
    }
}

/// Nine lines about one instance, in their order.
fn told(lines: &[(String, String)]) -> Option<Told> {
    const KEYS: [&str; 9] = ["instance", "fleet", "node", "session", "service", "state", "address", "reason", "age_cs"];
    if !lines.iter().map(|(key, _)| key.as_str()).eq(KEYS) {
        return None;
    }
    let value = |at: usize| lines[at].1.as_str();
    let address = value(6).parse().ok();
    let state = match (value(5), address) {
        ("running", Some(_)) => InstanceState::Running,
        // An address that is none is one that is still being written.
        ("pending" | "running", _) => InstanceState::Pending,
        ("ended", _) => InstanceState::Ended { reason: reason(value(7)) },
        _ => return None,
    };
    let address = address.filter(|_| state == InstanceState::Running);
    let instance = Instance {
        launch: value(0).parse::<LaunchId>().ok()?,
        owner: Owner { fleet: escape::undo(value(1))?, node: escape::undo(value(2))?, session: value(3).parse().ok()? },
        service: escape::undo(value(4))?,
        state,
        reach: None,
        age: value(8).parse::<u64>().ok().map(|age_cs| Duration::from_millis(age_cs.saturating_mul(10))),
        notice: None,
    };
    Some(Told { instance, address })
}

fn reason(words: &str) -> String {
    if words.is_empty() { "it ended without a word".to_owned() } else { words.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WHOLE: &str = "motd of a login script\ntidegate-remote 1\ninstance=gw-1\nfleet=f\nnode=n\\0012x\nsession=3\n\
                         service=digits\nstate=running\naddress=127.0.0.1:4711\nreason=\nage_cs=150\nend=9\n";

    #[test]
    fn a_whole_answer_is_read_and_its_labels_are_unescaped() {
        let answer = Answer::read(WHOLE.as_bytes()).expect("it is whole");
        let [told] = &answer.instances().expect("in form")[..] else { panic!("one instance") };
        assert_eq!(told.instance.owner, Owner { fleet: "f".into(), node: "n\nx".into(), session: 3 });
        assert_eq!(told.instance.age, Some(Duration::from_millis(1500)));
        assert_eq!(told.address, Some("127.0.0.1:4711".parse().expect("an address")));
    }

    #[test]
    fn an_answer_cut_anywhere_is_none() {
        for cut in 0..WHOLE.len() {
            assert!(Answer::read(&WHOLE.as_bytes()[..cut]).is_err(), "cut after {cut} bytes");
        }
    }

    #[test]
    fn other_forms_are_told_apart_from_silence() {
        assert_eq!(Answer::read(b"sh: not found\n"), Err(NoAnswer::Silent));
        assert_eq!(Answer::read(b"tidegate-remote 2\nend=0\n"), Err(NoAnswer::Version("2".into())));
        assert_eq!(Answer::read(b"tidegate-remote 1\nend=1\n"), Err(NoAnswer::Broken));
        assert_eq!(Answer::read(b"tidegate-remote 1\nno key\nend=1\n"), Err(NoAnswer::Broken));
        let answer = Answer::read(WHOLE.replace("running", "dancing").as_bytes()).expect("it is whole");
        assert!(answer.instances().is_err(), "a state that is not known is no state");
        let answer = Answer::read(WHOLE.replace("127.0.0.1:", "localhost").as_bytes()).expect("it is whole");
        assert_eq!(answer.instances().expect("in form")[0].instance.state, InstanceState::Pending);
    }
}
