//! What a crash leaves at each step of making and removing an instance, and instances that never start: cases that need
//! a hand in the files.

use std::path::Path;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use super::clock::Stamp;
use super::*;
use crate::{InstanceState, ReadyCheck, Secret, TlsIdentity, Workload};

struct Bench {
    home: TempDir,
    adapter: ProcessAdapter,
}

impl Bench {
    /// An account whose "wrapper" ends at once, never having taken its lock.
    fn with_program(program: &str) -> Self {
        let home = tempfile::tempdir().expect("a directory");
        let root = home.path().join("root");
        let options = ProcessOptions { root, program: program.into(), max_instances: None, cpus: None };
        Self { home, adapter: ProcessAdapter::new(options) }
    }

    /// What a crash right after making the directory leaves.
    fn create(&self, request: &LaunchRequest) -> InstanceDirectory {
        self.adapter.provider.account.prepare().expect("prepare");
        self.adapter.provider.account.create(request).expect("create");
        self.adapter.provider.account.instance(&request.launch)
    }

    fn path(&self, part: &str) -> std::path::PathBuf {
        self.home.path().join("root").join(part).join("gw-1")
    }

    async fn state(&self) -> InstanceState {
        self.adapter.describe(&request().launch).await.expect("describe").expect("it is known").state
    }

    async fn end_reason(&self) -> String {
        let deadline = Instant::now() + Duration::from_secs(5);
        loop {
            match self.state().await {
                InstanceState::Ended { reason } => return reason,
                state => assert!(Instant::now() < deadline, "still {state:?}"),
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

fn request() -> LaunchRequest {
    LaunchRequest {
        launch: "gw-1".parse().expect("a launch id"),
        owner: Owner { fleet: "f".into(), node: "n".into(), session: 1 },
        service: "digits".into(),
        workload: Workload { argv: vec!["serve".into()], ..Workload::default() },
        ready: ReadyCheck::Tcp,
        lease_ttl: Duration::from_secs(20),
        drain_timeout: Duration::from_secs(1),
        token: Secret::new("t0ken"),
        identity: TlsIdentity::default(),
        concurrency: 1,
    }
}

fn write_stamp(directory: &InstanceDirectory, stamp: &Stamp) {
    let stamp = serde_json::to_vec(stamp).expect("json");
    std::fs::write(directory.path().join("spawned"), stamp).expect("write");
}

fn write(path: &Path, text: &str) {
    std::fs::write(path, text).expect("write");
}

#[tokio::test]
async fn a_crash_between_directory_and_spawn_is_mended_by_launching_again() {
    let bench = Bench::with_program("/bin/true");
    let directory = bench.create(&request());
    assert_eq!(bench.state().await, InstanceState::Pending);
    assert!(directory.spawned().is_none());
    bench.adapter.launch(&request()).await.expect("launch again");
    assert!(directory.spawned().is_some(), "the repeated launch starts the process");
    let reason = bench.end_reason().await;
    assert!(reason.starts_with("never started (exit status: 0)"), "{reason}");
}

#[tokio::test]
async fn a_wrapper_that_fails_before_its_lock_is_told_with_its_last_words() {
    let bench = Bench::with_program("/bin/cat");
    bench.adapter.launch(&request()).await.expect("the system starts it");
    let reason = bench.end_reason().await;
    assert!(reason.starts_with("never started (exit status: 1): ") && reason.contains("cat"), "{reason}");
    let again = bench.adapter.launch(&request()).await.expect("launch again");
    assert!(again.is_ended(), "a launch that was tried is not tried twice: {again:?}");
    bench.adapter.terminate(&request().launch).await.expect("terminate");
    assert_eq!(bench.adapter.describe(&request().launch).await.expect("describe"), None);
}

#[tokio::test]
async fn a_spawned_wrapper_is_pending_for_its_time_to_start_and_no_longer() {
    let bench = Bench::with_program("/bin/true");
    let directory = bench.create(&request());
    write_stamp(&directory, &Stamp::ago(observe::START_TIMEOUT / 2));
    assert_eq!(bench.state().await, InstanceState::Pending);
    write_stamp(&directory, &Stamp::ago(observe::START_TIMEOUT));
    let reason = bench.end_reason().await;
    assert!(reason.contains("no sign of life within 10s"), "{reason}");
}

#[tokio::test]
async fn looking_at_a_starting_instance_never_takes_its_lock() {
    let bench = Bench::with_program("/bin/true");
    let directory = bench.create(&request());
    directory.note_spawned();
    let wrapper = directory.take().expect("lock").expect("it is free");
    assert_eq!(bench.state().await, InstanceState::Pending, "locked, its process id not written yet");
    drop(wrapper);
    let observer = bench.adapter.clone();
    let looking = std::thread::spawn(move || {
        for _ in 0..2000 {
            observer.provider.describe(&request().launch).expect("describe");
        }
    });
    while !looking.is_finished() {
        let wrapper = directory.take().expect("lock");
        assert!(wrapper.is_some(), "a wrapper that starts now would give up");
    }
    looking.join().expect("no panic");
}

#[tokio::test]
async fn a_termination_lets_a_cut_off_launch_finish_and_ends_what_it_made() {
    let bench = Bench::with_program("/bin/true");
    let account = &bench.adapter.provider.account;
    account.prepare().expect("prepare");
    let launching = account::lock(account).await.expect("lock");
    let launch = request().launch;
    let mut terminate = std::pin::pin!(bench.adapter.terminate(&launch));
    let early = tokio::time::timeout(Duration::from_millis(100), &mut terminate).await;
    assert!(early.is_err(), "it must wait for the launch, and answered {early:?}");
    bench.create(&request());
    drop(launching);
    terminate.await.expect("terminate");
    assert!(!bench.path("instances").exists());
}

#[tokio::test]
async fn nothing_survives_a_restart_of_the_machine() {
    let bench = Bench::with_program("/bin/true");
    let directory = bench.create(&request());
    write_stamp(&directory, &Stamp::of_another_boot());
    write(&directory.path().join("lock"), "4711");
    write(&directory.path().join("address"), "127.0.0.1:4711");
    assert_eq!(bench.end_reason().await, "the machine was restarted");
    let instance = bench.adapter.describe(&request().launch).await.expect("describe").expect("it is known");
    assert_eq!((instance.age, instance.reach), (None, None));
}

#[tokio::test]
async fn the_wrappers_own_reason_is_the_reason() {
    let bench = Bench::with_program("/bin/true");
    let directory = bench.create(&request());
    directory.note_spawned();
    let wrapper = directory.take().expect("lock").expect("it is free");
    write(&directory.path().join("lock"), "4711");
    write(&directory.path().join("ended"), "its lease expired\n");
    assert_eq!(bench.end_reason().await, "its lease expired", "also while the wrapper is on its way out");
    drop(wrapper);
    assert_eq!(bench.end_reason().await, "its lease expired");
}

#[tokio::test]
async fn a_held_lock_is_a_living_instance_that_is_reachable_once_it_says_where() {
    let bench = Bench::with_program("/bin/true");
    let directory = bench.create(&request());
    directory.note_spawned();
    let wrapper = directory.take().expect("lock").expect("it is free");
    write(&directory.path().join("lock"), "4711");
    for not_an_address in ["", "localhost", "127.0.0.1:"] {
        write(&directory.path().join("address"), not_an_address);
        assert_eq!(bench.state().await, InstanceState::Pending, "{not_an_address:?}");
    }
    write(&directory.path().join("address"), "127.0.0.1:4711");
    assert_eq!(bench.state().await, InstanceState::Running);
    drop(wrapper);
    assert!(bench.end_reason().await.contains("killed, or crashed"));
}

#[tokio::test]
async fn what_a_crash_left_half_made_or_half_removed_is_in_nobodys_way() {
    let bench = Bench::with_program("/bin/true");
    for part in ["staging", "trash"] {
        std::fs::create_dir_all(bench.path(part)).expect("mkdir");
        write(&bench.path(part).join("labels.json"), "{");
    }
    assert_eq!(bench.adapter.list(&request().owner).await.expect("list"), [], "it has no name yet, or no more");
    bench.adapter.launch(&request()).await.expect("launch");
    assert_eq!(bench.adapter.list(&request().owner).await.expect("list").len(), 1);
    bench.adapter.terminate(&request().launch).await.expect("terminate");
    for part in ["staging", "instances", "trash"] {
        assert!(!bench.path(part).exists(), "{part}");
    }
}

#[tokio::test]
async fn terminating_what_was_only_half_made_removes_it() {
    let bench = Bench::with_program("/bin/true");
    bench.adapter.provider.account.prepare().expect("prepare");
    std::fs::create_dir_all(bench.path("staging")).expect("mkdir");
    write(&bench.path("staging").join("token"), "t0ken");
    bench.adapter.terminate(&request().launch).await.expect("terminate");
    assert!(!bench.path("staging").exists(), "a secret must not stay behind");
}

#[tokio::test]
async fn a_program_that_cannot_be_started_leaves_no_directory() {
    let bench = Bench::with_program("/nonexistent/tidegate");
    bench.create(&request());
    let error = bench.adapter.launch(&request()).await.expect_err("there is no such program");
    assert_eq!(error.retry(), crate::Retry::Never);
    assert!(!bench.path("instances").exists());
}

#[test]
fn file_errors_are_sorted_by_who_can_mend_them() {
    use crate::Retry::{Backoff, Never, NextAdapter};
    for (errno, retry) in [
        (nix::libc::EACCES, Never),
        (nix::libc::EROFS, Never),
        (nix::libc::ENOTDIR, Never),
        (nix::libc::ENOSPC, NextAdapter),
        (nix::libc::EDQUOT, NextAdapter),
        (nix::libc::EIO, Backoff),
        (nix::libc::EMFILE, Backoff),
    ] {
        let error = file_error("cannot write".into(), io::Error::from_raw_os_error(errno));
        assert_eq!(error.retry(), retry, "{errno}");
    }
}
