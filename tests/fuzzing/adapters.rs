//! Answers of providers: those of the exec adapter's page and damage to them, and lines of the ssh adapter's far side.

use super::corpus::Inputs;

/// Answers in which one thing is wrong or strange.
const EXEC: &[(&str, &str)] = &[
    ("empty", ""),
    ("no-json", "Traceback (most recent call last):"),
    ("null", "null"),
    ("list-for-an-instance", r#"{"protocol":1,"ok":["gw-7-12",["plant-a","gateway-7",3],"digits","pending"]}"#),
    ("list-for-ok", r#"{"protocol":1,"ok":[]}"#),
    ("no-protocol", r#"{"ok":{}}"#),
    ("another-protocol", r#"{"protocol":2,"ok":{}}"#),
    ("protocol-as-text", r#"{"protocol":"1","ok":{}}"#),
    ("ok-and-error", r#"{"protocol":1,"ok":{},"error":{"kind":"transient","message":"x"}}"#),
    ("neither", r#"{"protocol":1}"#),
    ("unknown-error", r#"{"protocol":1,"error":{"kind":"tired","message":"x"}}"#),
    ("no-instance", r#"{"protocol":1,"ok":{"instance":null}}"#),
    ("two-answers", r#"{"protocol":1,"ok":{}}{"protocol":1,"ok":{}}"#),
    ("member-twice", r#"{"protocol":1,"ok":{"instances":[]},"ok":{"instances":[{}]}}"#),
    ("findings-without-end", r#"{"protocol":1,"ok":{"findings":[{"subject":"quota","verdict":"bad","words":""},{}]}}"#),
];

/// Things that an instance may be told to be: each in the place of the state and what belongs to it.
const INSTANCES: &[(&str, &str)] = &[
    ("running-nowhere", r#""state":"running""#),
    (
        "running-on-a-plain-connection-far-away",
        r#""state":"running","reach":{"kind":"loopback","authority":"203.0.113.7:80"}"#,
    ),
    (
        "running-at-a-name-that-looks-local",
        r#""state":"running","reach":{"kind":"tunnel","authority":"localhost.example.org:80"}"#,
    ),
    ("running-with-a-user", r#""state":"running","reach":{"kind":"ingress","authority":"u@h:80"}"#),
    ("running-at-port-zero", r#""state":"running","reach":{"kind":"direct","authority":"h:0"}"#),
    ("running-at-loopback-v6", r#""state":"running","reach":{"kind":"loopback","authority":"[::1]:4711"}"#),
    ("pending-and-reached", r#""state":"pending","reach":{"kind":"direct","authority":"h:1"}"#),
    ("dancing", r#""state":"dancing""#),
    (
        "ended-with-a-long-reason",
        r#""state":"ended","reason":"\u001b[2J\ud83c\udf0axxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx""#,
    ),
    ("of-great-age", r#""state":"pending","age_ms":18446744073709551615"#),
    ("of-a-date", r#""state":"pending","age_ms":1767225600000"#),
    ("older-than-its-start", r#""state":"pending","age_ms":-1"#),
];

/// The page's answers, cut and damaged, and those above.
pub(super) fn exec_answers(page: &str) -> Inputs {
    let blocks = page.split("```json\n").skip(1).filter_map(|rest| rest.split("```").next());
    let answers: Vec<&str> = blocks.filter(|block| !block.contains("\"verb\"")).collect();
    assert!(answers.len() > 5, "the page has answers");
    let numbered = |(number, text): (usize, &&str)| made(&format!("of-the-page-{number}"), text.as_bytes());
    let mut inputs: Inputs = answers.iter().enumerate().map(numbered).collect();
    inputs.extend(
        answers
            .iter()
            .enumerate()
            .map(|(number, text)| made(&format!("of-the-page-{number}-cut"), &text.as_bytes()[..text.len() / 2])),
    );
    inputs.extend(EXEC.iter().map(|(name, text)| made(name, text.as_bytes())));
    for (name, state) in INSTANCES {
        let instance = instance("gw-7-12", state);
        inputs.extend([made(name, format!(r#"{{"protocol":1,"ok":{{"instance":{instance}}}}}"#).as_bytes())]);
    }
    let ids = ["gw-7-12", "gw-7-12", "gw-7-9", "-", "GW", ""].map(|id| instance(id, r#""state":"pending""#));
    for count in 1..=ids.len() {
        let list = ids[ids.len() - count..].join(",");
        inputs.extend([made(
            &format!("list-of-{count}"),
            format!(r#"{{"protocol":1,"ok":{{"instances":[{list}]}}}}"#).as_bytes(),
        )]);
    }
    inputs.extend([made("deep", format!(r#"{{"protocol":1,"ok":{}"#, "[".repeat(1_000)).as_bytes())]);
    inputs.extend([made(
        "flood",
        format!(r#"{{"protocol":1,"ok":{{"instances":[{}0]}}}}"#, "[],".repeat(1_000)).as_bytes(),
    )]);
    inputs.extend([made("not-utf-8", b"{\"protocol\":1,\"ok\":{\"instance\":\"\xc3\x28\"}}")]);
    inputs
}

fn instance(launch: &str, state: &str) -> String {
    let owner = r#"{"fleet":"plant-a","node":"gateway-7","session":3}"#;
    format!(r#"{{"launch":"{launch}","owner":{owner},"service":"digits",{state}}}"#)
}

/// A whole answer of the far side, without its last line.
const SSH: &str = "tidegate-remote 1\ninstance=gw-1\nfleet=f\nnode=n\\0012x\nsession=3\nservice=digits\nstate=running\n\
                   address=127.0.0.1:4711\nreason=\nage_cs=150\n";

/// The answer, and what may be wrong with it: `(name, what stands, what stands instead)`.
const SSH_DAMAGE: &[(&str, &str, &str)] = &[
    ("another-form", "remote 1", "remote 2"),
    ("no-header", "tidegate-remote", "tidegate"),
    ("dancing", "running", "dancing"),
    ("no-address", "127.0.0.1:4711", "nowhere"),
    ("session-over-the-largest", "session=3", "session=18446744073709551616"),
    ("largest-age", "age_cs=150", "age_cs=18446744073709551615"),
    ("half-an-escape", "n\\0012x", "n\\00"),
    ("escape-of-no-text", "n\\0012x", "n\\0377"),
    ("no-launch-id", "gw-1", "../../etc"),
    ("no-key", "reason=", "reason"),
    ("carriage-returns", "\n", "\r\n"),
    ("nul", "digits", "dig\0its"),
];

/// Whole, with a login script before it, and damaged.
pub(super) fn ssh_answers() -> Inputs {
    let ended = |text: &str, lines: usize| format!("{text}end={lines}\n");
    let whole = ended(SSH, 9);
    let twice = format!("{SSH}{}", SSH.split_once('\n').unwrap().1);
    let mut inputs: Inputs = [
        made("whole", whole.as_bytes()),
        made("after-a-login-script", format!("Welcome!\nend=0\n{whole}").as_bytes()),
        made("told-twice", ended(&twice, 18).as_bytes()),
        made("cut", &whole.as_bytes()[..whole.len() - 2]),
        made("count-too-small", ended(SSH, 8).as_bytes()),
        made("count-too-large", ended(SSH, usize::MAX).as_bytes()),
        made("end-twice", format!("{whole}end=9\n").as_bytes()),
        made("nothing-told", b"tidegate-remote 1\nend=0\n"),
        made("refused", b"tidegate-remote 1\nerror=full\nwords=2 of 2\nend=2\n"),
        made("silent", b"sh: 1: tidegate: not found\n"),
        made("not-utf-8", b"\xff\xfe\ntidegate-remote 1\nwords=\xc3\x28\nend=1\n"),
        made("flood", format!("tidegate-remote 1\n{}end=1000\n", "=\n".repeat(1_000)).as_bytes()),
    ]
    .into();
    let damaged = SSH_DAMAGE.iter().map(|(name, from, to)| made(name, whole.replace(from, to).as_bytes()));
    inputs.extend(damaged);
    inputs
}

fn made(name: &str, data: &[u8]) -> (String, Vec<u8>) {
    (format!("made-{name}"), data.to_vec())
}
