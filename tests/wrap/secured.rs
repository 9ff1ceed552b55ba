//! An instance with a certificate: who is answered, who is not, and that the lease and the token mean the same as without.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::StatusCode;
use tidegate::host::call::{Call, CallError, call};
use tidegate::logic::route::{PublicKeyPin, Transport};
use tidegate::tls::{DialError, Dialer, LaunchIdentity, launch_pin};

use super::replica::{PATIENCE, descendants, eventually, get, tidegate, try_request};
use super::{Instance, Program, relu};

const SECRET: &[u8] = b"a node's secret";
const TOKEN_HEADER: (&str, &str) = ("x-tidegate-authorization", "Bearer secret");

fn identity() -> LaunchIdentity {
    LaunchIdentity::derive(SECRET, "l-1").unwrap()
}

/// Writes certificate and key, and returns the flags that name them.
fn key_files(directory: &Path, identity: &LaunchIdentity) -> [String; 4] {
    let (certificate, key) = (directory.join("tls.crt"), directory.join("tls.key"));
    std::fs::write(&certificate, identity.certificate_pem()).unwrap();
    std::fs::write(&key, identity.key_pem()).unwrap();
    let shown = |path: PathBuf| path.to_str().unwrap().to_owned();
    ["--tls-cert-file".to_owned(), shown(certificate), "--tls-key-file".to_owned(), shown(key)]
}

fn secured(arguments: &[&str]) -> Instance {
    Instance::start_with(arguments, |command, directory| {
        command.args(key_files(directory, &identity()));
        command.arg("--").arg(env!("CARGO_BIN_EXE_tidegate")).args(["model", "serve", "--port", "{port}"]);
        command.arg(relu(directory));
    })
}

struct Ask<'a> {
    address: &'a str,
    pin: PublicKeyPin,
    path: &'a str,
    header: Option<(&'a str, &'a str)>,
    json: Option<&'a [u8]>,
}

/// As a node asks its instance.
fn ask(ask: Ask<'_>) -> Result<(StatusCode, Bytes), CallError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(call(Call {
        authority: ask.address,
        transport: Transport::Pinned(ask.pin),
        dialer: &Dialer::default(),
        path: ask.path,
        header: ask.header,
        json: ask.json,
        deadline: PATIENCE,
    }))
}

fn status(address: &str) -> Result<(StatusCode, Bytes), CallError> {
    ask(Ask { address, pin: identity().pin(), path: "/.tidegate/status", header: None, json: None })
}

fn state(address: &str) -> String {
    let (_, body) = status(address).expect("it answers");
    let status: serde_json::Value = serde_json::from_slice(&body).unwrap();
    status["state"].as_str().unwrap().to_owned()
}

fn wait_until_ready(address: &str) {
    eventually("the server is ready", || (state(address) == "ready").then_some(()));
}

#[test]
fn the_node_speaks_with_the_holder_of_the_launchs_key() {
    let instance = secured(&[]);
    let address = instance.address();
    wait_until_ready(&address);
    // Derived anew, as after a lost journal.
    let pin = launch_pin(SECRET, "l-1").unwrap();
    let (status, body) =
        ask(Ask { address: &address, pin, path: "/v2/models/relu/infer", header: None, json: Some(INFER) }).unwrap();
    assert_eq!(status, StatusCode::OK, "{body:?}");
}

const INFER: &[u8] = br#"{"inputs":[{"name":"x","shape":[1,2],"datatype":"FP32","data":[-1,2]}]}"#;

#[test]
fn an_instance_with_another_key_is_told_apart_and_gets_no_request() {
    let instance = secured(&[]);
    let address = instance.address();
    wait_until_ready(&address);
    let pin = launch_pin(SECRET, "l-2").unwrap();
    let refused = ask(Ask { address: &address, pin, path: "/v2/models/relu", header: Some(TOKEN_HEADER), json: None });
    let error = refused.expect_err("another launch's key");
    assert!(matches!(error, CallError::Secure { reason: DialError::WrongKey, .. }), "{error}");
    assert!(error.to_string().contains("another key than the expected one"), "{error}");
    let (_, body) = status(&address).unwrap();
    let told: serde_json::Value = serde_json::from_slice(&body).unwrap();
    assert_eq!((&told["served"], &told["in_flight"]), (&0.into(), &0.into()));
}

#[test]
fn plain_http_is_not_answered_where_there_is_a_certificate() {
    let instance = secured(&[]);
    let address = instance.address();
    let answered = try_request(&address, "GET /.tidegate/status HTTP/1.1\r\n", b"");
    assert!(answered.is_none(), "{answered:?}");
    assert_eq!(status(&address).unwrap().0, StatusCode::OK);
}

#[test]
fn tls_is_not_spoken_where_there_is_no_certificate() {
    let instance = Instance::start(&[]);
    let address = instance.ready();
    let error = status(&address).expect_err("a plain server");
    assert!(matches!(error, CallError::Secure { reason: DialError::Handshake(_), .. }), "{error}");
}

#[test]
fn the_token_is_asked_for_inside_tls_too() {
    let directory = tempfile::tempdir().unwrap();
    let token_file = directory.path().join("token");
    std::fs::write(&token_file, "secret\n").unwrap();
    let instance = secured(&["--token-file", token_file.to_str().unwrap()]);
    let address = instance.address();
    let with = |header| {
        ask(Ask { address: &address, pin: identity().pin(), path: "/.tidegate/status", header, json: None }).unwrap().0
    };
    assert_eq!(with(None), StatusCode::UNAUTHORIZED);
    assert_eq!(with(Some(("x-tidegate-authorization", "Bearer secre"))), StatusCode::UNAUTHORIZED);
    assert_eq!(with(Some(TOKEN_HEADER)), StatusCode::OK);
}

#[test]
fn a_lease_that_is_renewed_inside_tls_holds_and_its_end_is_the_end() {
    let mut instance = secured(&["--lease-ttl", "30s"]);
    let address = instance.address();
    wait_until_ready(&address);
    let renew = |sequence: u64, ttl_ms: u64| {
        let json = format!(r#"{{"launch":"l-1","session":1,"sequence":{sequence},"ttl_ms":{ttl_ms}}}"#);
        let (pin, path) = (identity().pin(), "/.tidegate/lease");
        ask(Ask { address: &address, pin, path, header: None, json: Some(json.as_bytes()) }).unwrap()
    };
    let (status, body) = renew(1, 3_600_000);
    let told: serde_json::Value = serde_json::from_slice(&body).unwrap();
    assert!(status == StatusCode::OK && told["remaining_ms"].as_u64().unwrap() > 3_500_000, "{told}");
    let started = descendants(instance.program.pid());
    assert_eq!(renew(2, 0).0, StatusCode::OK);
    instance.ends(0, "the lease expired", &started);
}

#[test]
fn who_connects_and_says_nothing_is_let_go_and_holds_up_nobody() {
    let instance = secured(&[]);
    let address = instance.address();
    let mut silent: Vec<TcpStream> = (0..8).map(|_| TcpStream::connect(&address).unwrap()).collect();
    let connected = Instant::now();
    assert_eq!(status(&address).unwrap().0, StatusCode::OK);
    for stream in &mut silent {
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let ended = stream.read(&mut [0; 64]);
        let is_reset = ended.as_ref().is_err_and(|error| error.kind() == std::io::ErrorKind::ConnectionReset);
        assert!(is_reset || matches!(ended, Ok(0)), "{ended:?}");
    }
    assert!(connected.elapsed() > Duration::from_secs(5), "the deadline is for the slow, too");
}

#[test]
fn http_1_1_is_what_is_spoken_and_nothing_newer_is_agreed_upon() {
    let instance = secured(&[]);
    let address = instance.address();
    let output = std::process::Command::new("openssl")
        .args(["s_client", "-connect", &address, "-alpn", "h2,http/1.1", "-tls1_3"])
        .stdin(std::process::Stdio::null())
        .output()
        .expect("openssl, to look at the handshake from outside");
    let told = String::from_utf8_lossy(&output.stdout);
    assert!(told.contains("ALPN protocol: http/1.1"), "{told}");
    assert!(told.contains("TLSv1.3") && told.contains("CN = l-1"), "{told}");
}

/// Runs to the end and returns exit code and what it said.
fn refused(arguments: &[&str]) -> (Option<i32>, String) {
    let mut command = tidegate(&["wrap", "--service", "s"]);
    command.args(arguments).args(["--", "sleep", "1000"]).stderr(std::process::Stdio::piped());
    let mut program = Program::start(command);
    let code = program.ended().code();
    let mut said = String::new();
    program.child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
    (code, said)
}

#[test]
fn certificate_and_key_that_cannot_be_used_are_refused_with_the_reason() {
    let directory = tempfile::tempdir().unwrap();
    let files = key_files(directory.path(), &identity());
    let (certificate, key) = (files[1].as_str(), files[3].as_str());
    let other = tempfile::tempdir().unwrap();
    let others = key_files(other.path(), &LaunchIdentity::derive(SECRET, "l-2").unwrap());
    let text = directory.path().join("text");
    std::fs::File::create(&text).unwrap().write_all(b"no PEM").unwrap();
    let text = text.to_str().unwrap();
    let cases: [(&[&str], i32, &str); 7] = [
        (&["--tls-cert-file", certificate], 2, "--tls-key-file"),
        (&["--tls-key-file", key], 2, "--tls-cert-file"),
        (&["--tls-cert-file", "/no/such.crt", "--tls-key-file", key], 1, "cannot read --tls-cert-file /no/such.crt"),
        (&["--tls-cert-file", certificate, "--tls-key-file", "/no/such.key"], 1, "cannot read --tls-key-file"),
        (&["--tls-cert-file", text, "--tls-key-file", key], 1, "there is no certificate in it"),
        (&["--tls-cert-file", certificate, "--tls-key-file", text], 1, "BEGIN PRIVATE KEY"),
        (&["--tls-cert-file", certificate, "--tls-key-file", &others[3]], 1, "does not belong to the certificate"),
    ];
    for (arguments, code, words) in cases {
        let (ended, said) = refused(arguments);
        assert_eq!(ended, Some(code), "{arguments:?}: {said}");
        assert!(said.contains(words), "{arguments:?}: {said}");
    }
}

#[test]
fn what_an_adapter_writes_as_arguments_is_understood() {
    use cloud_adapters::wrapper::{Place, arguments};
    use cloud_adapters::{LaunchRequest, Owner, ReadyCheck, Secret, TlsIdentity, Workload};
    let directory = tempfile::tempdir().unwrap();
    let files = key_files(directory.path(), &identity());
    let path = |name: &str| directory.path().join(name).to_str().unwrap().to_owned();
    std::fs::write(path("token"), "secret").unwrap();
    let check = ["sh", "-c", "test -n \"$PORT\" && echo --ready"].map(str::to_owned).to_vec();
    let request = LaunchRequest {
        launch: "l-1".parse().unwrap(),
        owner: Owner { fleet: "f".into(), node: "n".into(), session: 1 },
        service: "s".into(),
        workload: Workload { argv: ["sleep", "1000"].map(str::to_owned).to_vec(), ..Workload::default() },
        ready: ReadyCheck::Command { argv: check },
        lease_ttl: Duration::from_millis(60_500),
        drain_timeout: Duration::from_secs(1),
        token: Secret::new("secret"),
        identity: TlsIdentity::default(),
        concurrency: 2,
    };
    let place = Place {
        program: "tidegate".to_owned(),
        run_dir: Some(path("")),
        token_file: path("token"),
        identity_files: Some((files[1].clone(), files[3].clone())),
        listen: "127.0.0.1:0".into(),
        cpus: Some(vec![0]),
        files_dir: path(""),
    };
    let arguments = arguments(&request, &place);
    let program = Program::start(tidegate(&arguments.iter().map(String::as_str).collect::<Vec<_>>()));
    let instance = Instance { program, directory };
    let address = instance.address();
    eventually("the command says ready", || {
        let pin = identity().pin();
        let asked = Ask { address: &address, pin, path: "/.tidegate/status", header: Some(TOKEN_HEADER), json: None };
        let (_, body) = ask(asked).unwrap();
        String::from_utf8_lossy(&body).contains(r#""state":"ready""#).then_some(())
    });
    assert!(std::panic::catch_unwind(|| get(&address, "/")).is_err(), "plain HTTP has no answer here");
}
