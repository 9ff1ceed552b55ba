//! What a program may do wrong, each tried with a program of one line: what the caller is told, that it ends in time, and
//! that nothing is left behind.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use cloud_adapters::contract::{arguments, id, owner, request, until};
use cloud_adapters::deadline::with_deadline;
use cloud_adapters::{
    AdapterError, CloudAdapter, ExecAdapter, ExecOptions, InstanceState, LaunchRequest, Reach, Retry, Secret, Subject,
    TlsIdentity, Verdict,
};
use nix::sys::signal::Signal;
use tempfile::TempDir;

use super::PATIENCE;

/// A program that is one line of shell. Its processes are found by a variable of their environment.
struct OneLine {
    home: TempDir,
    adapter: ExecAdapter,
}

impl OneLine {
    fn new(line: &str) -> Self {
        let home = tempfile::tempdir().expect("a directory");
        let command = ["sh", "-c", line].map(str::to_owned).to_vec();
        let mut options = ExecOptions::new("lab", command, home.path().join("state"));
        options.tls = false;
        options.env.insert("HOME_OF_TEST".into(), home.path().display().to_string());
        options.secrets.insert("API_KEY".into(), Secret::new("key-of-the-account"));
        Self { home, adapter: ExecAdapter::new(options) }
    }

    /// One that writes this, as it stands.
    fn answering(answer: &str) -> Self {
        Self::new(&format!("cat >/dev/null; printf %s '{answer}'"))
    }

    fn processes(&self) -> Vec<u32> {
        let mark = format!("HOME_OF_TEST={}", self.home.path().display());
        let carries = |environment: Vec<u8>| environment.split(|byte| *byte == 0).any(|text| text == mark.as_bytes());
        let entries = std::fs::read_dir("/proc").expect("/proc").flatten();
        let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
        pids.filter(|pid| std::fs::read(format!("/proc/{pid}/environ")).is_ok_and(carries)).collect()
    }

    /// Those that have come to sleep.
    fn sleepers(&self) -> usize {
        let sleeps = |pid: &u32| arguments(*pid).first().is_some_and(|program| program == "sleep");
        self.processes().iter().filter(|pid| sleeps(pid)).count()
    }

    async fn until_gone(&self) {
        until(PATIENCE, "its processes to be gone", async || self.processes().is_empty().then_some(())).await;
    }

    async fn launch_error(&self) -> AdapterError {
        self.adapter.launch(&simple_request()).await.expect_err("no proper answer")
    }
}

fn simple_request() -> LaunchRequest {
    request(&id("gw-1"), &owner(), &["serve"])
}

fn instance(launch: &str, node: &str, rest: &str) -> String {
    format!(
        r#"{{"launch":"{launch}","owner":{{"fleet":"plant-a","node":"{node}","session":3}},"service":"digits",{rest}}}"#
    )
}

fn ok(members: &str) -> String {
    format!(r#"{{"protocol":1,"ok":{{{members}}}}}"#)
}

fn pending(launch: &str) -> String {
    instance(launch, "gateway-7", r#""state":"pending""#)
}

#[tokio::test]
async fn what_is_no_answer_is_transient_and_told() {
    let launched = |rest: &str| ok(&format!(r#""instance":{}"#, instance("gw-1", "gateway-7", rest)));
    let good = launched(r#""state":"pending""#);
    let running = |reach: &str| launched(&format!(r#""state":"running","reach":{reach}"#));
    let cases = [
        ("without an answer", String::new()),
        ("not one JSON object", "Traceback: no".into()),
        ("not one JSON object", "[1]".into()),
        ("not one JSON object", good[..good.len() - 1].into()),
        ("not one JSON object", format!("{good}{good}")),
        ("not one JSON object", format!("{good} done")),
        ("`\"protocol\": 1`", r#"{"ok":{}}"#.into()),
        ("`\"protocol\": 1`", r#"{"protocol":"1","ok":{}}"#.into()),
        ("either `ok` or `error`", r#"{"protocol":1}"#.into()),
        ("either `ok` or `error`", r#"{"protocol":1,"ok":{},"error":{"kind":"transient","message":"m"}}"#.into()),
        ("no object", r#"{"protocol":1,"ok":[]}"#.into()),
        ("missing field `instance`", ok("")),
        ("missing field `message`", r#"{"protocol":1,"error":{"kind":"no_capacity"}}"#.into()),
        ("`on_fire` is no kind", r#"{"protocol":1,"error":{"kind":"on_fire","message":"m"}}"#.into()),
        ("about launch gw-2", ok(&format!(r#""instance":{}"#, pending("gw-2")))),
        ("no launch id", ok(&format!(r#""instance":{}"#, pending("GW 1")))),
        ("unknown variant `broken`", launched(r#""state":"broken""#)),
        ("no reach", launched(r#""state":"running""#)),
        ("no host:port", running(r#"{"kind":"direct","authority":"http://10.0.0.1"}"#)),
        ("not on a loopback address", running(r#"{"kind":"loopback","authority":"10.0.0.1:80"}"#)),
        ("age_ms", launched(r#""state":"pending","age_ms":1764000000000"#)),
        ("age_ms", launched(r#""state":"pending","age_ms":999999999999"#)),
        ("invalid value", launched(r#""state":"pending","age_ms":-1"#)),
        ("which was not asked for", good.replace("digits", "letters")),
    ];
    for (word, answer) in cases {
        let error = OneLine::answering(&answer).launch_error().await;
        assert_eq!(error.retry(), Retry::Backoff, "{answer}: {error}");
        assert!(error.to_string().contains(word), "{answer}: `{error}` should speak of `{word}`");
        assert!(error.to_string().starts_with("adapter `lab`, launch of gw-1: "), "{error}");
    }
    OneLine::answering(&good).adapter.launch(&simple_request()).await.expect("the one that is proper");
}

#[tokio::test]
async fn each_kind_of_refusal_is_passed_on() {
    for (kind, retry) in
        [("no_capacity", Retry::NextAdapter), ("bad_configuration", Retry::Never), ("transient", Retry::Backoff)]
    {
        let answer = format!(r#"{{"protocol":1,"error":{{"kind":"{kind}","message":"because of rain"}}}}"#);
        for line in [format!("echo '{answer}'"), format!("echo '{answer}'; exit 3")] {
            let error = OneLine::new(&line).launch_error().await;
            assert_eq!(error.retry(), retry, "{error}");
            assert!(error.to_string().contains("because of rain"), "{error}");
        }
    }
}

#[tokio::test]
async fn how_a_program_ends_is_told_with_its_last_words() {
    let proper = ok(&format!(r#""instance":{}"#, pending("gw-1")));
    for (retry, word, line) in [
        (Retry::Backoff, "exit status: 3", "echo first >&2; echo out of luck >&2; exit 3".to_owned()),
        (Retry::Backoff, "signal: 9", "echo out of luck >&2; kill -9 $$".to_owned()),
        (Retry::Backoff, "answered ok and then failed", format!("echo '{proper}'; echo out of luck >&2; exit 1")),
        (Retry::Backoff, "exit status: 127", "echo out of luck >&2; exit 127".to_owned()),
    ] {
        let error = OneLine::new(&line).launch_error().await;
        assert_eq!(error.retry(), retry, "{error}");
        assert!(error.to_string().contains(word) && error.to_string().contains("out of luck"), "{error}");
    }
}

#[tokio::test]
async fn another_protocol_is_for_a_person_to_mend() {
    let error = OneLine::answering(r#"{"protocol":2,"ok":{"instance":null}}"#).launch_error().await;
    assert_eq!(error.retry(), Retry::Never, "{error}");
    assert!(error.to_string().contains("protocol 2"), "{error}");
}

#[tokio::test]
async fn members_that_are_not_known_are_passed_over() {
    let more = r#""state":"running","zone":"b","reach":{"kind":"direct","authority":"[2001:db8::1]:8443","via":"x"},"age_ms":1500,"notice":"taken away at noon""#;
    let answer =
        format!(r#"{{"protocol":1,"trace":7,"ok":{{"cost":1,"instance":{}}}}}"#, instance("gw-1", "gateway-7", more));
    let told = OneLine::answering(&answer).adapter.launch(&simple_request()).await.expect("launch");
    assert_eq!(told.state, InstanceState::Running);
    assert_eq!(told.reach, Some(Reach::Direct { authority: "[2001:db8::1]:8443".into() }));
    assert_eq!(told.age, Some(Duration::from_millis(1500)));
    assert_eq!(told.notice.as_deref(), Some("taken away at noon"));
}

#[tokio::test]
async fn no_answer_is_not_the_answer_that_there_is_none() {
    let launch = id("gw-1");
    let silent = OneLine::answering(&ok(""));
    assert_eq!(silent.adapter.describe(&launch).await.expect_err("no member").retry(), Retry::Backoff);
    assert_eq!(silent.adapter.list(&owner()).await.expect_err("no member").retry(), Retry::Backoff);
    let unknown = OneLine::answering(&ok(r#""instance":null"#));
    assert_eq!(unknown.adapter.describe(&launch).await.expect("said"), None);
}

#[tokio::test]
async fn a_list_is_whole_sorted_and_of_one_node() {
    let list = |rows: &[String]| OneLine::answering(&ok(&format!(r#""instances":[{}]"#, rows.join(","))));
    let foreign = instance("gw-3", "gateway-2", r#""state":"pending""#);
    let mixed = list(&[pending("gw-2"), foreign, pending("gw-1")]);
    let listed = mixed.adapter.list(&owner()).await.expect("list");
    assert_eq!(listed.iter().map(|it| it.launch.as_str()).collect::<Vec<_>>(), ["gw-1", "gw-2"]);
    for (word, rows) in [
        ("stands twice", vec![pending("gw-1"), pending("gw-1")]),
        ("unknown variant", vec![pending("gw-1"), instance("gw-2", "gateway-7", r#""state":"lost""#)]),
    ] {
        let error = list(&rows).adapter.list(&owner()).await.expect_err(word);
        assert_eq!(error.retry(), Retry::Backoff, "{error}");
        assert!(error.to_string().contains(word), "{error}");
    }
}

#[tokio::test]
async fn an_id_of_another_node_is_not_ours() {
    let foreign = instance("gw-1", "gateway-2", r#""state":"pending""#);
    let error = OneLine::answering(&ok(&format!(r#""instance":{foreign}"#))).launch_error().await;
    assert_eq!(error.retry(), Retry::Never, "{error}");
    assert!(error.to_string().contains("gateway-2"), "{error}");
}

#[tokio::test]
async fn a_program_that_writes_without_end_is_ended() {
    let endless = OneLine::new("yes");
    let error = with_deadline(endless.adapter.clone(), super::PATIENCE).list(&owner()).await.expect_err("too much");
    assert_eq!(error.retry(), Retry::Backoff);
    assert!(error.to_string().contains("more than 4194304 bytes"), "{error}");
    endless.until_gone().await;
    let loud = OneLine::new("head -c 5000000 /dev/zero | tr '\\0' x >&2; exit 1");
    let error = loud.launch_error().await.to_string();
    assert!(error.len() < 2000 && error.contains("xxx"), "{} bytes", error.len());
}

#[tokio::test]
async fn a_large_answer_comes_whole() {
    let line = r#"printf '{"protocol":1,"ok":{"instances":['; i=1000; while [ $i -lt 6000 ]; do [ $i -gt 1000 ] && printf ,;
        printf '{"launch":"gw-%s","owner":{"fleet":"plant-a","node":"gateway-7","session":3},"service":"digits","state":"pending"}' $i;
        i=$((i+1)); done; printf ']}}'"#;
    assert_eq!(OneLine::new(line).adapter.list(&owner()).await.expect("list").len(), 5000);
}

#[tokio::test]
async fn a_request_that_is_never_read_holds_nothing_up() {
    let mut large = simple_request();
    large.workload.env = BTreeMap::from([("LARGE".to_owned(), "x".repeat(1 << 20))]);
    let answer = ok(&format!(r#""instance":{}"#, pending("gw-1")));
    let deaf = OneLine::new(&format!("echo '{answer}'"));
    let patient = with_deadline(deaf.adapter.clone(), super::PATIENCE);
    patient.launch(&large).await.expect("it answered all the same");
    let reading = OneLine::new(&format!("test $(wc -c) -gt 1000000 && echo '{answer}'"));
    reading.adapter.launch(&large).await.expect("all of the request arrives");
}

#[tokio::test]
async fn a_child_that_holds_the_pipes_open_holds_nothing_up() {
    let answer = ok(r#""instance":null"#);
    for line in [format!("sleep 600 & echo '{answer}'"), format!("setsid sleep 600 & echo '{answer}'")] {
        let program = OneLine::new(&line);
        let began = Instant::now();
        assert_eq!(program.adapter.describe(&id("gw-1")).await.expect("describe"), None);
        assert!(began.elapsed() < PATIENCE, "{:?}", began.elapsed());
        if line.starts_with("setsid") {
            // It moved to a session of its own, as an instance does, and stays.
            program.processes().into_iter().for_each(|pid| super::account::signal(pid, Signal::SIGKILL));
        }
        program.until_gone().await;
    }
}

#[tokio::test]
async fn a_dropped_call_leaves_no_process() {
    let slow = OneLine::new("sleep 600 & sleep 600");
    let adapter = slow.adapter.clone();
    let call = tokio::spawn(async move { adapter.describe(&id("gw-1")).await });
    until(PATIENCE, "its processes", async || (slow.sleepers() == 2).then_some(())).await;
    call.abort();
    slow.until_gone().await;
    let late = with_deadline(slow.adapter.clone(), Duration::from_millis(300));
    assert_eq!(late.terminate(&id("gw-1")).await.expect_err("it is slow").retry(), Retry::Backoff);
    slow.until_gone().await;
}

#[tokio::test]
async fn calls_beyond_the_limit_wait_and_terminations_have_room_of_their_own() {
    let slow = OneLine::new("grep -q terminate || exec sleep 600; echo '{\"protocol\":1,\"ok\":{}}'");
    let describe = || {
        let adapter = slow.adapter.clone();
        tokio::spawn(async move { adapter.describe(&id("gw-1")).await })
    };
    let calls: Vec<_> = (0..12).map(|_| describe()).collect();
    until(PATIENCE, "the first ones", async || (slow.sleepers() == 8).then_some(())).await;
    slow.adapter.terminate(&id("gw-1")).await.expect("it need not wait for the others");
    assert_eq!(slow.sleepers(), 8, "eight at once, and the rest waits");
    calls.iter().for_each(tokio::task::JoinHandle::abort);
    slow.until_gone().await;
}

#[tokio::test]
async fn secrets_are_hidden_in_whatever_the_program_says() {
    let identity =
        TlsIdentity { certificate: "c".into(), key: Secret::new("-----BEGIN-----\nMIIabcdefgh\n-----END-----") };
    let request = LaunchRequest { identity, ..simple_request() };
    let reason = instance("gw-1", "gateway-7", r#""state":"ended","reason":"bad token sesame-4711""#);
    let refusal = r#"{"protocol":1,"error":{"kind":"transient","message":"sesame-4711 key-of-the-account"}}"#;
    for line in [
        "cat >&2; exit 1".to_owned(),
        "printf sesame-4711; cat; exit 1".to_owned(),
        "cat >&2; echo key-of-the-account MIIabcdefgh >&2; exit 1".to_owned(),
        "yes sesame-4711 | head -c 40003 >&2; exit 1".to_owned(),
        format!("echo '{refusal}'"),
        r#"echo '{"protocol":1,"ok":{"instance":"sesame-4711"}}'"#.to_owned(),
        format!("echo '{}'", ok(&format!(r#""instance":{reason}"#))),
    ] {
        let program = OneLine::new(&line);
        let told = program.adapter.launch(&request).await;
        let told = format!("{told:?} {:?} {:?}", told.as_ref().err().map(AdapterError::with_causes), program.adapter);
        for secret in ["esame-4711", "key-of-the-account", "MIIabcdefgh"] {
            assert!(!told.contains(secret), "{secret} stands in {told}");
        }
        assert!(told.contains("[secret]"), "{line}: {told}");
    }
}

#[tokio::test]
async fn the_environment_is_only_what_was_configured() {
    let shown = OneLine::new("env >&2; pwd >&2; exit 1");
    let told = shown.launch_error().await.to_string();
    assert!(told.contains("HOME_OF_TEST=") && told.contains("PATH="), "{told}");
    assert!(told.contains("API_KEY=[secret]"), "{told}");
    assert!(told.contains(&shown.home.path().join("state").display().to_string()), "{told}");
    assert!(!told.contains("CARGO"), "the node's own environment is not passed on: {told}");
}

#[tokio::test]
async fn a_check_tells_what_the_program_found_and_what_it_is_silent_about() {
    let found = r#""findings":[{"subject":"quota","verdict":"doubtful","words":"two left"}]"#;
    let told = OneLine::answering(&ok(found)).adapter.check().await;
    let words = |subject: Subject| told.iter().filter(|it| it.subject == subject).map(|it| it.words.as_str()).collect();
    let quota: Vec<&str> = words(Subject::Quota);
    assert_eq!(quota, ["two left"]);
    let network: Vec<&str> = words(Subject::Network);
    assert_eq!(network, ["the program says nothing of the network"]);
    let broken = OneLine::new("echo no luck >&2; exit 1").adapter.check().await;
    assert!(broken.iter().any(|it| it.verdict == Verdict::Bad && it.words.contains("no luck")), "{broken:?}");
}
