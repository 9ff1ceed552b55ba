//! The exec adapter against the Python example, whose instances are processes counted in the process table: the contract
//! suite, and what the protocol's page and schema say. What a program can do wrong is in `exec/edges.rs`.

#[path = "exec/account.rs"]
mod account;
#[path = "exec/edges.rs"]
mod edges;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use cloud_adapters::contract::{
    ContractHarness, arguments, id, launch_and_run, owner, request, until_ended, wrappers_in,
};
use cloud_adapters::{
    CloudAdapter, LaunchId, LaunchRequest, LifeBound, ReadyCheck, Resources, Retry, Secret, TlsIdentity, Workload,
};

use account::{ExampleAccount, here, repository};

cloud_adapters::contract_tests!(ExampleAccount::new());

/// Generous: the tests run beside others on two cores.
const PATIENCE: Duration = Duration::from_secs(40);

/// Everything that a request can hold.
fn full_request(launch: &LaunchId, file: PathBuf) -> LaunchRequest {
    let plain = request(launch, &owner(), &["sleep", "600", "{file:model}"]);
    let workload = Workload {
        image: Some("registry.example.org/digits:1".into()),
        env: BTreeMap::from([("STAGE".into(), "test".into())]),
        files: BTreeMap::from([("model".into(), file)]),
        resources: Resources { cpu_millis: Some(500), memory_bytes: Some(1 << 30), gpus: 0 },
        ..plain.workload.clone()
    };
    let identity = TlsIdentity { certificate: "a certificate".into(), key: Secret::new("the key of gw-1") };
    LaunchRequest { workload, identity, ..plain }
}

#[tokio::test]
async fn the_instance_is_given_its_command_files_and_secrets() {
    let (account, launch) = (ExampleAccount::new(), id("gw-1"));
    let adapter = account.client(|options| options.tls = true);
    let request = full_request(&launch, here("recorder.sh"));
    let request = LaunchRequest { ready: ReadyCheck::Tcp, ..request };
    // With `sleep 600 FILE` as the server, which fails: the command line is what counts.
    adapter.launch(&request).await.expect("launch");
    let run_dir = account.run_dir(&launch);
    let text = |name: &str| std::fs::read_to_string(run_dir.join(name)).expect(name);
    assert_eq!((text("token"), text("key.pem")), ("sesame-4711".into(), "the key of gw-1".into()));
    assert_eq!(text("certificate.pem"), "a certificate");
    for name in ["token", "key.pem"] {
        let mode = std::os::unix::fs::PermissionsExt::mode(&run_dir.join(name).metadata().expect(name).permissions());
        assert_eq!(mode & 0o777, 0o600, "{name}");
    }
    assert_eq!(text("files/model"), std::fs::read_to_string(here("recorder.sh")).expect("the file itself"));
    let labels = text("labels.json");
    assert!(!labels.contains("sesame") && !labels.contains("the key"), "{labels}");
    adapter.terminate(&launch).await.expect("terminate");
    assert!(!run_dir.exists());
}

#[tokio::test]
async fn the_wrapper_is_started_as_it_was_asked_for_and_with_nothing_of_the_programs_environment() {
    let (account, launch) = (ExampleAccount::new(), id("gw-1"));
    let adapter = account.adapter();
    launch_and_run(PATIENCE, &*adapter, &request(&launch, &owner(), &["sleep", "600"])).await;
    let wrappers = wrappers_in(&account.run_dir(&launch));
    let told = arguments(wrappers[0]).join(" ");
    let expected = format!(
        "wrap --service digits --launch gw-1 --run-dir {0} --token-file {0}/token --listen 127.0.0.1:0 --lease-ttl 300s \
         --drain-timeout 5s --ready /v2/health/ready --concurrency 4 -- sleep 600",
        account.run_dir(&launch).display()
    );
    assert!(told.contains(&expected), "{told}\nshould hold\n{expected}");
    let environment = std::fs::read_to_string(format!("/proc/{}/environ", wrappers[0])).expect("environ");
    assert!(!environment.contains("ACCOUNT_KEY"), "{environment}");
    adapter.terminate(&launch).await.expect("terminate");
}

#[tokio::test]
async fn every_message_fits_the_schema_and_those_of_page_and_example_do_too() {
    let account = ExampleAccount::new();
    let folder = tempfile::tempdir().expect("a directory");
    let recorded = |change: &dyn Fn(&mut cloud_adapters::ExecOptions)| {
        let recorder = here("recorder.sh").display().to_string();
        account.client(|options| {
            options.command.splice(0..0, ["sh".into(), recorder, folder.path().display().to_string()]);
            change(options);
        })
    };
    let (plain, tls) = (recorded(&|_| {}), recorded(&|options| options.tls = true));
    let full = recorded(&|options| drop(options.env.insert("MAX_INSTANCES".into(), "1".into())));
    let (first, second) = (id("gw-1"), id("gw-2"));
    let command = ReadyCheck::Command { argv: vec!["true".into()] };
    let by_command = LaunchRequest { ready: command, ..account.request(&first, &owner()) };
    launch_and_run(PATIENCE, &*plain, &by_command).await;
    assert_eq!(plain.list(&owner()).await.expect("list").len(), 1);
    assert!(full.launch(&account.request(&second, &owner())).await.is_err(), "a refusal is a message too");
    let all = LaunchRequest { ready: ReadyCheck::Tcp, ..full_request(&second, here("recorder.sh")) };
    tls.launch(&all).await.expect("launch");
    account.kill_hard(&first);
    until_ended(PATIENCE, &*plain, &first).await;
    assert_eq!(plain.describe(&id("gw-unknown")).await.expect("describe"), None);
    assert!(plain.check().await.len() >= 4);
    for launch in [&first, &second] {
        plain.terminate(launch).await.expect("terminate");
    }
    let held = hold_against_schema(folder.path());
    for verb in ["launch", "describe", "list", "terminate", "check"] {
        for kind in ["request", "answer"] {
            assert!(held.contains(&format!("{verb}_{kind}")), "no {kind} of {verb} was held: {held:?}");
        }
    }
    assert!(held.contains("error_answer"), "{held:?}");
}

/// What was held; panics with what does not fit.
fn hold_against_schema(folder: &std::path::Path) -> BTreeSet<String> {
    let mut python = Command::new(account::python_with_jsonschema());
    python.arg(here("fits_schema.py")).arg(repository().join("docs/exec-adapter.schema.json"));
    python.arg(repository().join("docs/exec-adapter.md")).arg(repository().join("examples/exec-adapter"));
    let held = python.arg(folder).output().expect("python");
    assert!(held.status.success(), "{}", String::from_utf8_lossy(&held.stderr));
    let counts: BTreeMap<String, u64> = serde_json::from_slice(&held.stdout).expect("counts");
    counts.into_keys().collect()
}

#[tokio::test]
async fn capabilities_are_as_configured() {
    let account = ExampleAccount::new();
    let told = account
        .client(|options| {
            options.max_instances = Some(3);
        })
        .capabilities();
    assert_eq!((told.capacity, told.life_bound), (Some(3), LifeBound::Renewable));
}

#[tokio::test]
async fn a_workload_that_the_program_does_not_take_is_refused() {
    let (account, launch) = (ExampleAccount::new(), id("gw-1"));
    let full = full_request(&launch, here("recorder.sh"));
    let no_files = account.client(|options| options.takes_files = false);
    let tls = account.client(|options| options.tls = true);
    let no_identity = LaunchRequest { identity: TlsIdentity::default(), ..full.clone() };
    let mut bad_name = full.clone();
    bad_name.workload.files.insert("../token".into(), here("recorder.sh"));
    for (word, adapter, request) in
        [("takes_files", &no_files, &full), ("certificate", &tls, &no_identity), ("../token", &tls, &bad_name)]
    {
        let error = adapter.launch(request).await.expect_err(word);
        assert_eq!(error.retry(), Retry::Never, "{error}");
        assert!(error.to_string().contains(word), "{error}");
    }
    assert_eq!(account.adapter().list(&owner()).await.expect("list"), []);
    let _: Arc<dyn CloudAdapter> = tls;
}
