//! What the program answers: taken apart, checked, and sorted by whether a retry can help.
//!
//! Members that are not known are passed over, so that a program may say more than this version asks for. Whatever else
//! does not fit is transient: a launch may have happened all the same, and "bad configuration" would deny that.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::process::ExitStatus;
use std::time::Duration;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer};
use serde_json::Value;

use super::hide::{Hidden, beginning, end};
use super::program::{ANSWER_MAX_BYTES, Output};
use super::request::PROTOCOL;
use crate::finding::{Finding, Subject, Verdict};
use crate::{AdapterError, Instance, InstanceState, LaunchId, Owner, Reach};

/// Ten years. A larger age is a date, or in another unit.
const AGE_MAX_MS: u64 = 10 * 365 * 24 * 3600 * 1000;

/// The most findings of one look; an operator reads them all.
const FINDINGS_MAX: usize = 64;

#[derive(Deserialize)]
pub(super) struct Launched {
    pub(super) instance: RawInstance,
}

#[derive(Deserialize)]
pub(super) struct Described {
    /// `null` must be said: an answer without the member is no answer that there is none.
    #[serde(deserialize_with = "said")]
    pub(super) instance: Option<RawInstance>,
}

#[derive(Deserialize)]
pub(super) struct Listed {
    instances: Vec<RawInstance>,
}

#[derive(Deserialize)]
pub(super) struct Terminated {}

#[derive(Deserialize)]
pub(super) struct Checked {
    findings: Vec<RawFinding>,
}

#[derive(Deserialize)]
pub(super) struct RawInstance {
    launch: String,
    owner: RawOwner,
    service: String,
    state: RawState,
    reason: Option<String>,
    reach: Option<RawReach>,
    age_ms: Option<u64>,
    notice: Option<String>,
}

#[derive(Deserialize)]
struct RawOwner {
    fleet: String,
    node: String,
    session: u64,
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum RawState {
    Pending,
    Running,
    Ended,
}

#[derive(Deserialize)]
struct RawReach {
    kind: RawReachKind,
    authority: String,
}

#[derive(Deserialize, Clone, Copy)]
#[serde(rename_all = "lowercase")]
enum RawReachKind {
    Direct,
    Ingress,
    Tunnel,
    Loopback,
}

#[derive(Deserialize)]
struct RawFinding {
    subject: RawSubject,
    verdict: RawVerdict,
    words: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum RawSubject {
    Credentials,
    Quota,
    Image,
    Network,
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum RawVerdict {
    Good,
    Doubtful,
    Bad,
}

#[derive(Deserialize)]
struct RawError {
    kind: String,
    message: String,
}

fn said<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<RawInstance>, D::Error> {
    Option::deserialize(deserializer)
}

/// Reads the answer of an ended program.
pub(super) fn read<T: DeserializeOwned>(output: &Output, hidden: &Hidden) -> Result<T, AdapterError> {
    let words = Words { output, hidden };
    let Some(exit) = output.exit else {
        let message = format!("the program wrote more than {ANSWER_MAX_BYTES} bytes and was ended{}", words.said());
        return Err(AdapterError::transient(message));
    };
    // Secrets are hidden before anything is taken out of the answer: no reason and no message can hold one.
    let text = hidden.text(&output.answer);
    let answer = match serde_json::from_str::<Value>(&text) {
        Ok(answer) if answer.is_object() => answer,
        Ok(_) => return Err(words.no_answer(exit, "is not one JSON object", &text)),
        Err(error) => return Err(words.no_answer(exit, &format!("is not one JSON object ({error})"), &text)),
    };
    check_protocol(&answer)?;
    match (answer.get("ok"), answer.get("error")) {
        (Some(ok), None) if exit.success() => fit(ok),
        (Some(_), None) => {
            Err(AdapterError::transient(format!("the program answered ok and then failed ({exit}){}", words.said())))
        }
        (None, Some(error)) => Err(refusal(error)),
        _ => Err(unfit("it must hold either `ok` or `error`")),
    }
}

/// What a program printed beside its answer, for messages.
struct Words<'a> {
    output: &'a Output,
    hidden: &'a Hidden,
}

impl Words<'_> {
    /// The end of its standard error, as the end of a sentence.
    fn said(&self) -> String {
        let Output { words, is_cut, .. } = self.output;
        let text = if *is_cut { self.hidden.end_of_text(words) } else { self.hidden.text(words) };
        match end(&text) {
            empty if empty.is_empty() => "; it said nothing on standard error".to_owned(),
            said => format!("; it said: {said}"),
        }
    }

    fn no_answer(&self, exit: ExitStatus, problem: &str, text: &str) -> AdapterError {
        let message = if text.trim().is_empty() {
            format!("the program ended without an answer ({exit}){}", self.said())
        } else {
            format!("the program's answer ({exit}) {problem}: `{}`{}", first_words(text), self.said())
        };
        AdapterError::transient(message)
    }
}

/// As much of an answer as tells what it is.
fn first_words(text: &str) -> String {
    const FIRST_CHARS: usize = 200;
    beginning(&text.chars().take(FIRST_CHARS).collect::<String>())
}

/// Another protocol is for a person to mend: by it, the program did nothing.
fn check_protocol(answer: &Value) -> Result<(), AdapterError> {
    match answer.get("protocol") {
        Some(version) if version.as_u64() == Some(PROTOCOL) => Ok(()),
        Some(version) if version.is_number() => Err(AdapterError::bad_configuration(format!(
            "the program speaks protocol {version} and this node protocol {PROTOCOL}: use versions that fit"
        ))),
        _ => Err(unfit(&format!("it must hold `\"protocol\": {PROTOCOL}`"))),
    }
}

fn fit<T: DeserializeOwned>(ok: &Value) -> Result<T, AdapterError> {
    // serde would take a list of values for a struct.
    if !ok.is_object() {
        return Err(unfit("its `ok` is no object"));
    }
    T::deserialize(ok).map_err(|error| unfit(&format!("in its `ok`: {error}")))
}

fn refusal(error: &Value) -> AdapterError {
    let RawError { kind, message } = match RawError::deserialize(error) {
        Ok(error) => error,
        Err(problem) => return unfit(&format!("in its `error`: {problem}")),
    };
    match kind.as_str() {
        "no_capacity" => AdapterError::no_capacity(message),
        "bad_configuration" => AdapterError::bad_configuration(message),
        "transient" => AdapterError::transient(message),
        _ => unfit(&format!("`{kind}` is no kind of error; it said: {message}")),
    }
}

/// An answer that does not follow the protocol.
pub(super) fn unfit(problem: &str) -> AdapterError {
    AdapterError::transient(format!("the program's answer does not fit the protocol: {problem}"))
}

impl RawInstance {
    /// The instance, which must be that of the launch that was asked about.
    pub(super) fn of_launch(self, launch: &LaunchId) -> Result<Instance, AdapterError> {
        let instance = self.checked()?;
        if instance.launch == *launch {
            return Ok(instance);
        }
        Err(unfit(&format!("it is about launch {} instead of {launch}", instance.launch)))
    }

    fn checked(self) -> Result<Instance, AdapterError> {
        let launch: LaunchId = self.launch.parse().map_err(|error| unfit(&format!("{error}")))?;
        let about = |problem: &str| unfit(&format!("instance {launch}: {problem}"));
        if self.age_ms.is_some_and(|age_ms| age_ms > AGE_MAX_MS) {
            return Err(about("its age_ms is above ten years: is it a date, or in another unit?"));
        }
        let (state, reach) = match (self.state, self.reach) {
            (RawState::Pending, _) => (InstanceState::Pending, None),
            (RawState::Ended, _) => (InstanceState::Ended { reason: reason(self.reason) }, None),
            (RawState::Running, None) => return Err(about("it is running and has no reach")),
            (RawState::Running, Some(reach)) => {
                (InstanceState::Running, Some(reach.checked().map_err(|text| about(&text))?))
            }
        };
        let owner = Owner { fleet: self.owner.fleet, node: self.owner.node, session: self.owner.session };
        let (age, notice) = (self.age_ms.map(Duration::from_millis), self.notice.map(|notice| beginning(&notice)));
        Ok(Instance { launch, owner, service: self.service, state, reach, age, notice })
    }
}

fn reason(reason: Option<String>) -> String {
    reason.map(|reason| beginning(&reason)).filter(|reason| !reason.is_empty()).unwrap_or("no reason was given".into())
}

impl RawReach {
    fn checked(self) -> Result<Reach, String> {
        let Self { kind, authority } = self;
        let host = host(&authority).ok_or(format!("its authority `{authority}` is no host:port"))?;
        let is_plain = matches!(kind, RawReachKind::Loopback | RawReachKind::Tunnel);
        // The token goes over it in the clear.
        if is_plain && !is_loopback(host) {
            return Err(format!("`{authority}` is not on a loopback address, which a plain connection needs"));
        }
        Ok(match kind {
            RawReachKind::Direct => Reach::Direct { authority },
            RawReachKind::Ingress => Reach::Ingress { authority },
            RawReachKind::Tunnel => Reach::Tunnel { authority },
            RawReachKind::Loopback => Reach::Loopback { authority },
        })
    }
}

/// The host of `host:port`; an IPv6 address stands in brackets (RFC 3986, 3.2).
fn host(authority: &str) -> Option<&str> {
    let (host, port) = authority.rsplit_once(':')?;
    let is_port = port.bytes().all(|byte| byte.is_ascii_digit()) && port.parse::<u16>().is_ok_and(|port| port > 0);
    let is_name = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_');
    let is_host = match host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        Some(address) => address.parse::<std::net::Ipv6Addr>().is_ok(),
        None => !host.is_empty() && host.bytes().all(is_name),
    };
    (is_port && is_host).then_some(host)
}

fn is_loopback(host: &str) -> bool {
    let address = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    host == "localhost" || address.is_ok_and(|address| address.is_loopback())
}

impl Listed {
    /// Those of the owner's node, sorted. One row that does not fit spoils the list: it may be one of ours.
    pub(super) fn of_node(self, owner: &Owner) -> Result<Vec<Instance>, AdapterError> {
        let all: Vec<Instance> = self.instances.into_iter().map(RawInstance::checked).collect::<Result<_, _>>()?;
        let mut seen = BTreeSet::new();
        if let Some(twice) = all.iter().find(|instance| !seen.insert(&instance.launch)) {
            return Err(unfit(&format!("launch {} stands twice in the list", twice.launch)));
        }
        let (mut ours, others): (Vec<_>, Vec<_>) =
            all.into_iter().partition(|instance| instance.owner.is_same_node(owner));
        if !others.is_empty() {
            tracing::debug!(others = others.len(), "the program listed instances of others, which are left out");
        }
        ours.sort_by(|one, other| one.launch.cmp(&other.launch));
        Ok(ours)
    }
}

impl Checked {
    pub(super) fn findings(self) -> Vec<Finding> {
        self.findings.into_iter().take(FINDINGS_MAX).map(Finding::from).collect()
    }
}

impl From<RawFinding> for Finding {
    fn from(raw: RawFinding) -> Self {
        let subject = match raw.subject {
            RawSubject::Credentials => Subject::Credentials,
            RawSubject::Quota => Subject::Quota,
            RawSubject::Image => Subject::Image,
            RawSubject::Network => Subject::Network,
        };
        let verdict = match raw.verdict {
            RawVerdict::Good => Verdict::Good,
            RawVerdict::Doubtful => Verdict::Doubtful,
            RawVerdict::Bad => Verdict::Bad,
        };
        Self { subject, verdict, words: beginning(&raw.words) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_authority_is_a_host_and_a_port() {
        for good in ["127.0.0.1:1", "[::1]:65535", "gw-1.example.org:443", "localhost:80"] {
            assert!(host(good).is_some(), "{good}");
        }
        let bad =
            ["", ":80", "host", "host:", "host:0", "host:65536", "host:+1", "a b:80", "::1:80", "[x]:80", "u@h:80"];
        for bad in bad.into_iter().chain(["http://h:80", "h/p:80"]) {
            assert_eq!(host(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_plain_connection_stays_on_this_machine() {
        let reach = |kind, authority: &str| RawReach { kind, authority: authority.into() }.checked();
        for kind in [RawReachKind::Loopback, RawReachKind::Tunnel] {
            assert!(reach(kind, "127.0.0.9:80").is_ok() && reach(kind, "[::1]:80").is_ok());
            assert!(reach(kind, "10.0.0.1:80").is_err() && reach(kind, "localhost.example.org:80").is_err());
        }
        assert!(reach(RawReachKind::Direct, "10.0.0.1:80").is_ok());
    }
}
