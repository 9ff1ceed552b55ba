//! The process adapter against a stand-in for the wrapper: the contract suite, and what is special about processes.
//! Processes are counted in the process table.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use cloud_adapters::contract::{
    ContractHarness, arguments, id, launch_and_run, owner, request, until, with_env, wrappers_in,
};
use cloud_adapters::deadline::with_deadline;
use cloud_adapters::process::processes_of;
use cloud_adapters::{
    CloudAdapter, InstanceState, LaunchId, LaunchRequest, Owner, ProcessAdapter, ProcessOptions, Retry,
};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;

// Nothing is on the way to processes of this machine that could be wrong, and nobody asks for credentials.
cloud_adapters::contract_tests!(Processes::new(), on_this_machine);

/// Generous: the tests run beside others on two cores.
const PATIENCE: Duration = Duration::from_secs(20);

/// No process.
const NONE: [u32; 0] = [];

/// One root of its own; nothing that ran in it outlives it, however the test ends.
struct Processes {
    home: TempDir,
}

impl Processes {
    fn new() -> Self {
        Self { home: tempfile::tempdir().expect("a directory") }
    }

    fn options(&self) -> ProcessOptions {
        ProcessOptions { root: self.home.path().join("root"), program: stand_in(), max_instances: None, cpus: None }
    }

    fn client(&self, options: ProcessOptions) -> Arc<dyn CloudAdapter> {
        Arc::new(ProcessAdapter::new(options))
    }

    fn run_dir(&self, launch: &LaunchId) -> PathBuf {
        self.home.path().join("root/instances").join(launch.as_str())
    }

    fn file(&self, name: &str, text: &str, mode: u32) -> PathBuf {
        let path = self.home.path().join(name);
        std::fs::write(&path, text).expect("write");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).expect("chmod");
        path
    }

    fn processes(&self, launch: &LaunchId) -> Vec<u32> {
        processes_of(&self.run_dir(launch))
    }

    fn wrapper(&self, launch: &LaunchId) -> u32 {
        let wrappers = wrappers_in(&self.run_dir(launch));
        assert_eq!(wrappers.len(), 1, "{wrappers:?}");
        wrappers[0]
    }
}

impl Processes {
    /// Until a killed wrapper is gone, and its lock with it: what it was just starting holds that a moment longer.
    async fn until_unlocked(&self, launch: &LaunchId) {
        let lock = self.run_dir(launch).join("lock");
        let is_free = || {
            let file = std::fs::File::open(&lock).expect("open");
            file.try_lock_shared().map(|()| file.unlock()).is_ok()
        };
        let is_gone = || self.alive(launch) == 0 && is_free();
        until(PATIENCE, "the wrapper to be gone", async || is_gone().then_some(())).await;
    }
}

impl Drop for Processes {
    fn drop(&mut self) {
        let instances = std::fs::read_dir(self.home.path().join("root/instances")).into_iter().flatten().flatten();
        for pid in instances.flat_map(|entry| processes_of(&entry.path())) {
            signal(pid, Signal::SIGKILL);
        }
    }
}

impl ContractHarness for Processes {
    fn adapter(&self) -> Arc<dyn CloudAdapter> {
        self.client(self.options())
    }

    fn adapter_with_capacity(&self, max_instances: u32) -> Option<Arc<dyn CloudAdapter>> {
        Some(self.client(ProcessOptions { max_instances: Some(max_instances), ..self.options() }))
    }

    fn misconfigured(&self) -> Vec<(&'static str, Arc<dyn CloudAdapter>)> {
        let plain = self.file("plain", "no program", 0o600);
        let foreign = self.file("foreign", "#!/nonexistent/interpreter\n", 0o700);
        let program = |program: PathBuf| self.client(ProcessOptions { program, ..self.options() });
        let cpus = |cpus: Vec<usize>| self.client(ProcessOptions { cpus: Some(cpus), ..self.options() });
        vec![
            ("cannot find the program", program(self.home.path().join("missing"))),
            ("executable", program(plain.clone())),
            ("executable", program(self.home.path().to_owned())),
            ("built for this machine", program(foreign)),
            ("cpu 100000", cpus(vec![0, 100_000])),
            ("empty list", cpus(Vec::new())),
            ("let this user write there", self.client(ProcessOptions { root: plain.join("root"), ..self.options() })),
        ]
    }

    fn request(&self, launch: &LaunchId, owner: &Owner) -> LaunchRequest {
        request(launch, owner, &["sleep", "600"])
    }

    fn request_that_never_starts(&self, launch: &LaunchId, owner: &Owner) -> LaunchRequest {
        request(launch, owner, &["/nonexistent/server"])
    }

    fn kill_hard(&self, launch: &LaunchId) {
        signal(self.wrapper(launch), Signal::SIGKILL);
    }

    fn alive(&self, launch: &LaunchId) -> usize {
        wrappers_in(&self.run_dir(launch)).len()
    }

    fn public_texts(&self, launch: &LaunchId) -> Vec<String> {
        let mut texts: Vec<String> = self.processes(launch).into_iter().flat_map(arguments).collect();
        texts.push(std::fs::read_to_string(self.run_dir(launch).join("labels.json")).expect("labels"));
        texts
    }

    fn patience(&self) -> Duration {
        PATIENCE
    }
}

fn stand_in() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/stand-in.sh")
}

fn signal(pid: u32, signal: Signal) {
    // Gone already is as good.
    let _ = kill(Pid::from_raw(i32::try_from(pid).expect("a pid")), signal);
}

fn exists(pid: u32) -> bool {
    Path::new(&format!("/proc/{pid}")).exists()
}

#[tokio::test]
async fn the_wrapper_is_told_everything_but_its_secrets() {
    let (harness, launch) = (Processes::new(), id("gw-1"));
    let adapter = harness.client(ProcessOptions { cpus: Some(vec![0]), ..harness.options() });
    let request = with_env(request(&launch, &owner(), &["sleep", "600"]), &[("STAGE", "test")]);
    launch_and_run(PATIENCE, &*adapter, &request).await;
    let (wrapper, run_dir) = (harness.wrapper(&launch), harness.run_dir(&launch));
    let told = arguments(wrapper).join(" ");
    let expected = format!(
        "wrap --service digits --launch gw-1 --run-dir {0} --token-file {0}/token --listen 127.0.0.1:0 --lease-ttl 300s \
         --drain-timeout 5s --ready /v2/health/ready --concurrency 4 --cpus 0 -- sleep 600",
        run_dir.display()
    );
    assert!(told.contains(&expected), "{told}\nshould hold\n{expected}");
    let token = run_dir.join("token");
    assert_eq!(std::fs::read_to_string(&token).expect("token"), "sesame-4711");
    assert_eq!(std::fs::metadata(&token).expect("token").permissions().mode() & 0o777, 0o600);
    let environment = std::fs::read_to_string(format!("/proc/{wrapper}/environ")).expect("environ");
    let names: Vec<&str> = environment.split('\0').filter_map(|variable| Some(variable.split_once('=')?.0)).collect();
    assert!(names.contains(&"STAGE") && names.contains(&"PATH"), "{names:?}");
    let allowed = ["PATH", "HOME", "LANG", "STAGE", "TIDEGATE_INSTANCE_DIR"];
    assert!(names.iter().all(|name| allowed.contains(name)), "nothing else of the node's environment: {names:?}");
    adapter.terminate(&launch).await.expect("terminate");
    assert!(!run_dir.exists());
}

#[tokio::test]
async fn a_stubborn_instance_is_asked_once_and_then_killed_with_its_server() {
    let (harness, launch) = (Processes::new(), id("gw-1"));
    let stubborn = with_env(request(&launch, &owner(), &["sleep", "600"]), &[("STUBBORN", "1")]);
    let stubborn = LaunchRequest { drain_timeout: Duration::from_secs(5), ..stubborn };
    launch_and_run(PATIENCE, &*harness.adapter(), &stubborn).await;
    let log = harness.run_dir(&launch).join("log");
    let asked = || std::fs::read_to_string(&log).unwrap_or_default().matches("asked to end").count();
    for _ in 0..3 {
        let hasty = with_deadline(harness.adapter(), Duration::from_millis(100));
        assert_eq!(hasty.terminate(&launch).await.expect_err("it drains").retry(), Retry::Backoff);
        until(PATIENCE, "it to be asked to end", async || (asked() > 0).then_some(())).await;
    }
    assert_eq!(asked(), 1, "a second SIGTERM could cut its drain short");
    harness.adapter().terminate(&launch).await.expect("terminate");
    assert_eq!(harness.processes(&launch), NONE);
    assert!(!harness.run_dir(&launch).exists());
}

#[tokio::test]
async fn a_server_that_outlives_its_wrapper_is_ended_with_the_instance() {
    let (harness, launch) = (Processes::new(), id("gw-1"));
    let adapter = harness.adapter();
    let moved_away = request(&launch, &owner(), &["setsid", "sleep", "600"]);
    launch_and_run(PATIENCE, &*adapter, &moved_away).await;
    harness.kill_hard(&launch);
    until(PATIENCE, "the wrapper to be gone", async || (harness.alive(&launch) == 0).then_some(())).await;
    assert_ne!(harness.processes(&launch), NONE, "the stand-in leaves its server behind");
    adapter.terminate(&launch).await.expect("terminate");
    assert_eq!(harness.processes(&launch), NONE);
}

#[tokio::test]
async fn an_ended_wrapper_is_reaped_without_being_asked_about() {
    let (harness, launch) = (Processes::new(), id("gw-1"));
    let adapter = harness.adapter();
    launch_and_run(PATIENCE, &*adapter, &harness.request(&launch, &owner())).await;
    let wrapper = harness.wrapper(&launch);
    signal(wrapper, Signal::SIGKILL);
    until(PATIENCE, "the zombie to be reaped", async || (!exists(wrapper)).then_some(())).await;
    harness.until_unlocked(&launch).await;
    let ended = adapter.describe(&launch).await.expect("describe").expect("it is kept");
    let InstanceState::Ended { reason } = ended.state else { panic!("it was killed") };
    assert!(reason.contains("signal: 9"), "{reason}");
}

#[tokio::test]
async fn a_reused_process_id_is_not_taken_for_the_instance() {
    let (harness, launch) = (Processes::new(), id("gw-1"));
    let adapter = harness.adapter();
    launch_and_run(PATIENCE, &*adapter, &harness.request(&launch, &owner())).await;
    harness.kill_hard(&launch);
    harness.until_unlocked(&launch).await;
    let mut bystander = tokio::process::Command::new("sleep").arg("600").kill_on_drop(true).spawn().expect("spawn");
    let pid = bystander.id().expect("it runs");
    std::fs::write(harness.run_dir(&launch).join("lock"), pid.to_string()).expect("write");
    let state = adapter.describe(&launch).await.expect("describe").expect("it is kept").state;
    assert!(matches!(state, InstanceState::Ended { .. }), "{state:?}");
    adapter.terminate(&launch).await.expect("terminate");
    assert!(bystander.try_wait().expect("wait").is_none(), "the bystander was ended");
    bystander.kill().await.expect("kill");
}

#[tokio::test]
async fn a_lock_held_by_a_bystander_does_not_get_it_killed() {
    let (harness, launch) = (Processes::new(), id("gw-1"));
    let adapter = harness.adapter();
    launch_and_run(PATIENCE, &*adapter, &harness.request(&launch, &owner())).await;
    harness.kill_hard(&launch);
    harness.until_unlocked(&launch).await;
    let lock = harness.run_dir(&launch).join("lock");
    let mut holder = tokio::process::Command::new("flock");
    holder.arg("--no-fork").arg(&lock).args(["sleep", "600"]);
    let mut bystander = holder.process_group(0).kill_on_drop(true).spawn().expect("spawn");
    std::fs::write(&lock, bystander.id().expect("it runs").to_string()).expect("write");
    let is_free = async || {
        let file = std::fs::File::open(&lock).expect("open");
        file.try_lock_shared().map(|()| file.unlock()).is_ok()
    };
    until(PATIENCE, "the bystander to hold the lock", async || (!is_free().await).then_some(())).await;
    let hasty = with_deadline(adapter, Duration::from_millis(300));
    assert_eq!(hasty.terminate(&launch).await.expect_err("the lock is held").retry(), Retry::Backoff);
    assert!(bystander.try_wait().expect("wait").is_none(), "the bystander was ended");
    bystander.kill().await.expect("kill");
}

#[tokio::test]
async fn corrupt_labels_are_reported_skipped_and_kept() {
    let (harness, good, bad) = (Processes::new(), id("gw-1"), id("gw-2"));
    let adapter = harness.adapter();
    for launch in [&good, &bad] {
        launch_and_run(PATIENCE, &*adapter, &harness.request(launch, &owner())).await;
    }
    let labels = harness.run_dir(&bad).join("labels.json");
    let foreign = std::fs::read_to_string(harness.run_dir(&good).join("labels.json")).expect("labels");
    for text in ["", "{", "{\"launch\":\"gw-2\"}", foreign.as_str()] {
        std::fs::write(&labels, text).expect("write");
        let listed = adapter.list(&owner()).await.expect("a list of the others");
        assert_eq!(listed.iter().map(|instance| &instance.launch).collect::<Vec<_>>(), [&good], "{text:?}");
        for error in [
            adapter.describe(&bad).await.expect_err("it cannot be told whose it is"),
            adapter.terminate(&bad).await.expect_err("it may be another's"),
            adapter.launch(&harness.request(&bad, &owner())).await.expect_err("the id is in use"),
        ] {
            assert_eq!(error.retry(), Retry::Never, "{error}");
            assert!(error.to_string().contains("labels.json"), "{error}");
        }
        assert_eq!(harness.alive(&bad), 1);
        assert_eq!(std::fs::read_to_string(&labels).expect("labels"), text);
    }
    std::fs::remove_file(&labels).expect("remove");
    assert!(adapter.terminate(&bad).await.is_err(), "a directory without labels is nobody's to remove");
    adapter.terminate(&good).await.expect("terminate");
}

#[tokio::test]
async fn what_is_no_instance_is_left_alone() {
    let (harness, launch) = (Processes::new(), id("gw-1"));
    let adapter = harness.adapter();
    launch_and_run(PATIENCE, &*adapter, &harness.request(&launch, &owner())).await;
    let notes = harness.home.path().join("root/instances/Notes of the operator.txt");
    std::fs::write(&notes, "do not delete").expect("write");
    assert_eq!(adapter.list(&owner()).await.expect("list").len(), 1);
    adapter.terminate(&launch).await.expect("terminate");
    assert!(notes.exists());
}

#[tokio::test]
async fn an_instance_with_corrupt_labels_still_takes_its_room() {
    let (harness, launch) = (Processes::new(), id("gw-1"));
    let adapter = harness.adapter_with_capacity(1).expect("processes can be limited");
    launch_and_run(PATIENCE, &*adapter, &harness.request(&launch, &owner())).await;
    std::fs::write(harness.run_dir(&launch).join("labels.json"), "{").expect("write");
    let full = adapter.launch(&harness.request(&id("gw-2"), &owner())).await.expect_err("it runs all the same");
    assert_eq!(full.retry(), Retry::NextAdapter, "{full}");
}
