//! What is special about a far machine: arguments that must not be read by its shell, a line that breaks, copies, the
//! tunnel, the forced command.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::time::Instant;

use cloud_adapters::contract::{end_reason, id, is_left_out_without_root, owner, until, until_running, with_env};
use cloud_adapters::deadline::with_deadline;
use cloud_adapters::{Instance, InstanceState, Reach, Retry, Subject, Verdict};

use super::*;

fn authority(instance: &Instance) -> String {
    instance.reach.as_ref().map(Reach::authority).expect("a running instance is reachable").to_owned()
}

/// A server of this machine that sends back what it gets, beside the stand-in which says that it is its own.
fn echo_server() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("bind");
    let address = listener.local_addr().expect("an address").to_string();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            std::thread::spawn(move || {
                let mut bytes = [0; 64];
                while let Ok(read @ 1..) = stream.read(&mut bytes) {
                    let _ = stream.write_all(&bytes[..read]);
                }
            });
        }
    });
    address
}

fn echoes(authority: &str) -> bool {
    let Ok(mut stream) = TcpStream::connect(authority) else { return false };
    let mut answer = [0; 4];
    stream.write_all(b"ping").is_ok() && stream.read_exact(&mut answer).is_ok() && &answer == b"ping"
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn arguments_and_variables_arrive_byte_for_byte_and_no_shell_reads_them() {
    let (far, launch) = (Far::new(), id("gw-1"));
    let odd = [
        "",
        " ",
        "a b",
        "it's",
        "\"quoted\"",
        "$(touch x)`id`",
        "line\nbreak\n",
        "\\0012 \\n %s",
        "grün ☃",
        "-n",
        "*",
        "\u{7f}\t",
    ];
    let keep = "printf '%s\\0' \"$@\" >argv; printf '%s\\0' \"$STAGE\" >stage; exec sleep 600";
    let mut argv = vec!["sh", "-c", keep, "sh"];
    argv.extend(odd);
    let env = [("STAGE", odd[6]), ("dotted.name", "x y"), ("PATH", "/usr/bin:/bin:/odd"), ("dir", "mine")];
    let request = LaunchRequest { service: "it's \"x\"\n".into(), ..with_env(request(&launch, &owner(), &argv), &env) };
    let adapter = far.adapter();
    adapter.launch(&request).await.expect("launch");
    let running = until_running(PATIENCE, &*adapter, &launch).await;
    assert_eq!(running.service, request.service);
    let expected: Vec<u8> = odd.iter().flat_map(|text| [text.as_bytes(), b"\0"].concat()).collect();
    until(PATIENCE, "the workload to start", async || file_in(&far, &launch, "stage").exists().then_some(())).await;
    assert_eq!(std::fs::read(file_in(&far, &launch, "argv")).expect("argv"), expected);
    assert_eq!(std::fs::read(file_in(&far, &launch, "stage")).expect("stage"), [odd[6].as_bytes(), b"\0"].concat());
    let environ = std::fs::read_to_string(format!("/proc/{}/environ", far.wrapper(&launch))).expect("environ");
    let names: Vec<&str> = environ.split('\0').filter_map(|variable| Some(variable.split_once('=')?.0)).collect();
    for variable in ["dotted.name=x y", "PATH=/usr/bin:/bin:/odd", "dir=mine"] {
        assert!(environ.split('\0').any(|held| held == variable), "{variable} in {environ:?}");
    }
    let allowed = ["PATH", "HOME", "LANG", "PWD", "STAGE", "TIDEGATE_INSTANCE_DIR", "dotted.name", "dir"];
    assert!(names.iter().all(|name| allowed.contains(name)), "nothing of the session's environment: {names:?}");
    let token = file_in(&far, &launch, "token");
    assert_eq!(std::fs::read_to_string(&token).expect("token"), "sesame-4711");
    assert_eq!(std::fs::metadata(&token).expect("token").permissions().mode() & 0o777, 0o600);
    assert!(!file_in(&far, &launch, "request").exists(), "what was read is not left");
    adapter.terminate(&launch).await.expect("terminate");
    assert!(!far.host.run_dir(&launch).exists());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn our_own_program_and_files_are_those_of_the_far_side_and_are_copied_once() {
    let far = Far::new();
    let options = far.options();
    let model = far.host.write("digits model.onnx", vec![7; 300_000]);
    let own = cloud_adapters::wrapper::PROGRAM;
    let with_files = |launch: &LaunchId| {
        let mut request = request(launch, &owner(), &[own, "serve", "{file:model.onnx}"]);
        request.workload.files.insert("model.onnx".into(), model.clone());
        request
    };
    let adapter = far.client(options);
    let launches = [id("gw-1"), id("gw-2")];
    for launch in &launches {
        adapter.launch(&with_files(launch)).await.expect("launch");
        until(PATIENCE, "the wrapper to start", async || (file_in(&far, launch, "starter").exists()).then_some(()))
            .await;
        let run_dir = far.host.run_dir(launch);
        assert_eq!(std::fs::read(run_dir.join("files/model.onnx")).expect("the model").len(), 300_000);
        let told = until(PATIENCE, "the wrapper's arguments", async || {
            let lines = far.host.command_lines();
            lines.into_iter().find(|line| line.contains(&format!("--launch {launch} ")) && line.contains(" -- "))
        })
        .await;
        let expected = format!("-- {0}/tidegate serve {0}/files/model.onnx", run_dir.display());
        assert!(told.contains(&expected), "{told}\nshould hold\n{expected}");
    }
    let stored: Vec<_> = std::fs::read_dir(far.host.root().join("store")).expect("store").flatten().collect();
    assert_eq!(stored.len(), 2, "one program, one model: {stored:?}");
    let links = |entry: &std::fs::DirEntry| entry.metadata().expect("metadata").nlink();
    assert!(stored.iter().all(|entry| links(entry) == 3), "each once, and a name in two instances");
    for launch in &launches {
        adapter.terminate(launch).await.expect("terminate");
    }
    assert!(stored.iter().all(|entry| links(entry) == 1), "what no instance uses is only in the store");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn old_versions_leave_the_store_and_what_an_instance_uses_stays() {
    let (far, launch) = (Far::new(), id("gw-1"));
    let adapter = far.adapter();
    adapter.launch(&far.request(&launch, &owner())).await.expect("launch");
    until_running(PATIENCE, &*adapter, &launch).await;
    let store = far.host.root().join("store");
    let unused = store.join("0".repeat(64));
    std::fs::write(&unused, "an older version").expect("write");
    for entry in std::fs::read_dir(&store).expect("store").flatten() {
        let touched = std::process::Command::new("touch").args(["-d", "30 days ago"]).arg(entry.path()).status();
        assert!(touched.expect("touch").success());
    }
    let newer = std::fs::read_to_string(host::crate_file("tests/stand-in.sh")).expect("stand-in") + "\n# newer\n";
    let program = far.host.program("newer", newer);
    let next = far.client(SshOptions { program, ..far.options() });
    next.launch(&far.request(&id("gw-2"), &owner())).await.expect("launch");
    assert!(!unused.exists(), "nobody used it for a month");
    assert_eq!(std::fs::read_dir(&store).expect("store").count(), 2, "the newer one, and the one in use");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_tunnel_carries_bytes_stays_where_it_is_and_comes_back_after_a_cut() {
    let (far, launch) = (Far::new(), id("gw-1"));
    let (adapter, address) = (far.adapter(), echo_server());
    let request = with_env(request(&launch, &owner(), &["sleep", "600"]), &[("ADDRESS", &address)]);
    adapter.launch(&request).await.expect("launch");
    let first = authority(&until_running(PATIENCE, &*adapter, &launch).await);
    assert!(echoes(&first), "bytes go through {first}");
    assert_ne!(first, address, "not past the tunnel");
    assert_eq!(authority(&until_running(PATIENCE, &*adapter, &launch).await), first);
    let client = far.host.clients();
    assert_eq!(client.len(), 1, "one connection for all calls");
    host::signal(client[0], Signal::SIGKILL);
    until(PATIENCE, "the connection to be gone", async || (!far.host.clients().contains(&client[0])).then_some(()))
        .await;
    let again = until(PATIENCE, "the tunnel to be back", async || {
        let instance = adapter.describe(&launch).await.ok().flatten()?;
        Some(authority(&instance)).filter(|authority| echoes(authority))
    })
    .await;
    assert_eq!(again, first, "its port was free, so it is the same");
    adapter.terminate(&launch).await.expect("terminate");
    assert!(TcpStream::connect(&again).is_err(), "nobody listens for what is no more");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_far_machine_that_is_away_is_transient_and_its_instances_are_found_when_it_is_back() {
    let (far, launch) = (Far::new(), id("gw-1"));
    let adapter = far.adapter();
    adapter.launch(&far.request(&launch, &owner())).await.expect("launch");
    until_running(PATIENCE, &*adapter, &launch).await;
    far.host.stop_serving();
    host::signal(far.host.clients()[0], Signal::SIGKILL);
    let away = until(PATIENCE, "it to be away", async || adapter.list(&owner()).await.err()).await;
    assert_eq!(away.retry(), Retry::Backoff, "{away}");
    let told = until(PATIENCE, "the refusal", async || {
        let error = adapter.list(&owner()).await.expect_err("it is away");
        error.to_string().contains("is sshd running there").then_some(error)
    })
    .await;
    assert!(told.with_causes().contains("Connection refused"), "{}", told.with_causes());
    assert_eq!(far.alive(&launch), 1, "it lives without us");
    let port = far.host.serve("");
    let back = far.client(far.host.options_at(port));
    assert_eq!(back.list(&owner()).await.expect("list").len(), 1);
    back.terminate(&launch).await.expect("terminate");
}

/// What every far machine gets first.
const REMOTE_PROGRAM: &str = include_str!("../../src/ssh/remote.sh");
/// Bytes between two cuts.
const CUT_EVERY: usize = 3_000;

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_connection_cut_after_any_number_of_bytes_leaves_one_instance() {
    let far = Far::new();
    // From the key exchange over the remote program and the copy to the launch itself, until all of it gets through.
    for limit in (100..).step_by(CUT_EVERY) {
        let (sound, launch) = (far.adapter(), id(&format!("gw-{limit}")));
        let line = Proxy::start(far.port, limit);
        let request = far.request(&launch, &owner());
        let cut = with_deadline(far.client(far.host.options_at(line.port)), Duration::from_secs(10));
        let launched = cut.launch(&request).await;
        sound.launch(&request).await.expect("launch again");
        until_running(PATIENCE, &*sound, &launch).await;
        assert_eq!(far.alive(&launch), 1, "after {limit} bytes");
        sound.terminate(&launch).await.expect("terminate");
        assert_eq!(sound.list(&owner()).await.expect("list"), []);
        let Err(error) = launched else {
            assert!(limit > REMOTE_PROGRAM.len(), "the program itself did not fit into {limit} bytes");
            return;
        };
        assert_eq!(error.retry(), Retry::Backoff, "after {limit} bytes: {}", error.with_causes());
        std::fs::remove_dir_all(far.host.root()).expect("the next one brings everything again");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn what_runs_needs_its_files_no_more() {
    let (far, launch) = (Far::new(), id("gw-1"));
    let model = far.host.write("model", "the weights");
    let mut request = far.request(&launch, &owner());
    request.workload.files.insert("model".into(), model.clone());
    far.adapter().launch(&request).await.expect("launch");
    std::fs::remove_file(&model).expect("remove");
    let again = far.adapter().launch(&request).await.expect("it was launched before");
    assert_eq!((again.launch, far.alive(&launch)), (launch, 1));
    let new = LaunchRequest { launch: id("gw-2"), ..request };
    assert_eq!(far.adapter().launch(&new).await.expect_err("its file is gone").retry(), Retry::Never);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_launch_that_arrives_after_its_termination_starts_nothing() {
    let (far, launch) = (Far::new(), id("gw-1"));
    let adapter = far.adapter();
    adapter.terminate(&launch).await.expect("an unknown id is ok");
    let late = adapter.launch(&far.request(&launch, &owner())).await.expect("it is answered");
    assert_eq!(late.state, InstanceState::Ended { reason: "it was terminated".into() });
    assert_eq!(far.alive(&launch), 0);
    assert_eq!(adapter.list(&owner()).await.expect("list"), []);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_stubborn_instance_is_asked_once_and_then_killed_with_what_moved_away() {
    let (far, launch) = (Far::new(), id("gw-1"));
    let adapter = far.adapter();
    let stubborn = with_env(request(&launch, &owner(), &["setsid", "sleep", "600"]), &[("STUBBORN", "1")]);
    let stubborn = LaunchRequest { drain_timeout: Duration::from_secs(8), ..stubborn };
    adapter.launch(&stubborn).await.expect("launch");
    until_running(PATIENCE, &*adapter, &launch).await;
    let log = file_in(&far, &launch, "log");
    let asked = || std::fs::read_to_string(&log).unwrap_or_default().matches("asked to end").count();
    for _ in 0..3 {
        let hasty = with_deadline(adapter.clone(), Duration::from_millis(500));
        assert_eq!(hasty.terminate(&launch).await.expect_err("it drains").retry(), Retry::Backoff);
    }
    until(PATIENCE, "it to be asked to end", async || (asked() > 0).then_some(())).await;
    assert_eq!(asked(), 1, "a second SIGTERM could cut its drain short");
    adapter.terminate(&launch).await.expect("terminate");
    assert!(processes_of(&far.host.run_dir(&launch)).is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_wrapper_that_cannot_start_is_told_with_its_last_words() {
    let (far, launch) = (Far::new(), id("gw-1"));
    let program = far
        .host
        .program("broken", "#!/bin/sh\n[ \"$1\" = --version ] && exit\necho cannot bind: no such address\nexit 1\n");
    let adapter = far.client(SshOptions { program, ..far.options() });
    adapter.launch(&far.request(&launch, &owner())).await.expect("launch");
    let reason = end_reason(PATIENCE, &*adapter, &launch).await;
    assert_eq!(reason, "never started: cannot bind: no such address");
    adapter.terminate(&launch).await.expect("terminate");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_restart_of_the_far_machine_ends_what_ran_there() {
    let (far, launch) = (Far::new(), id("gw-1"));
    let adapter = far.adapter();
    adapter.launch(&far.request(&launch, &owner())).await.expect("launch");
    until_running(PATIENCE, &*adapter, &launch).await;
    far.kill_hard(&launch);
    until(PATIENCE, "the wrapper to be gone", async || (far.alive(&launch) == 0).then_some(())).await;
    std::fs::write(file_in(&far, &launch, "spawned"), "another-boot 4711\n").expect("write");
    let told = adapter.describe(&launch).await.expect("describe").expect("it is kept");
    assert_eq!(told.state, InstanceState::Ended { reason: "the machine was restarted".into() });
    assert_eq!((told.age, told.reach), (None, None));
}

/// proc_pid_stat(5): the name stands in parentheses and may hold anything; the niceness is the 17th word after it.
fn niceness(pid: u32) -> i32 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).expect("stat");
    let word = stat.rsplit(')').next().and_then(|rest| rest.split_whitespace().nth(16));
    word.and_then(|word| word.parse().ok()).expect("niceness")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn limits_that_need_no_root_are_applied() {
    let (far, launch) = (Far::new(), id("gw-1"));
    let bounds = SshLimits { memory_bytes: Some(512 << 20), cpus: Some(vec![0]), niceness: 7 };
    let adapter = far.client(limits(bounds, far.options()));
    let mut request = far.request(&launch, &owner());
    request.workload.resources.memory_bytes = Some(256 << 20);
    adapter.launch(&request).await.expect("launch");
    until_running(PATIENCE, &*adapter, &launch).await;
    let wrapper = far.wrapper(&launch);
    let limits = std::fs::read_to_string(format!("/proc/{wrapper}/limits")).expect("limits");
    let data = limits.lines().find(|line| line.starts_with("Max data size")).expect("a limit");
    assert!(data.contains(&(256_u64 << 20).to_string()), "the lesser of both: {data}");
    assert_eq!(niceness(wrapper), (niceness(std::process::id()) + 7).min(19));
    assert!(arguments(wrapper).join(" ").contains("--cpus 0"), "the wrapper holds itself to its CPUs");
    let found = adapter.check().await;
    let quota = found.iter().find(|finding| finding.subject == Subject::Quota).expect("a quota");
    assert!(quota.words.contains("512 MB of data") && quota.words.contains("niceness 7"), "{quota:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_full_disk_over_there_is_no_capacity() {
    if is_left_out_without_root("a small disk") {
        return;
    }
    let far = Far::new();
    let disk = far.host.path("disk");
    std::fs::create_dir(&disk).expect("mkdir");
    let mut mount = std::process::Command::new("mount");
    let mounted = mount.args(["-t", "tmpfs", "-o", "size=256k", "none"]).arg(&disk).output().expect("mount");
    assert!(mounted.status.success(), "{}", String::from_utf8_lossy(&mounted.stderr));
    let directory = disk.join("far").display().to_string();
    let big = far.host.program("big", [b"#!/bin/sh\nexit\n".to_vec(), vec![b'#'; 400_000]].concat());
    let adapter = far.client(SshOptions { directory, program: big, ..far.options() });
    let error = adapter.launch(&far.request(&id("gw-1"), &owner())).await;
    let left: Vec<_> = std::fs::read_dir(disk.join("far/store")).expect("store").flatten().collect();
    let _ = std::process::Command::new("umount").arg("-l").arg(&disk).status();
    let error = error.expect_err("there is no room");
    assert_eq!(error.retry(), Retry::NextAdapter, "{}", error.with_causes());
    assert!(left.is_empty(), "no part of a copy is left: {left:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn corrupt_labels_are_reported_skipped_and_kept() {
    let (far, good, bad) = (Far::new(), id("gw-1"), id("gw-2"));
    let adapter = far.adapter();
    for launch in [&good, &bad] {
        adapter.launch(&far.request(launch, &owner())).await.expect("launch");
        until_running(PATIENCE, &*adapter, launch).await;
    }
    let labels = file_in(&far, &bad, "labels");
    let sound = std::fs::read_to_string(&labels).expect("labels");
    for text in
        ["", "launch=gw-2\nfleet=plant", &sound.replace("session=3", "session="), &sound.replace("gw-2", "gw-1")]
    {
        std::fs::write(&labels, text).expect("write");
        let listed = adapter.list(&owner()).await.expect("a list of the others");
        assert_eq!(listed.iter().map(|instance| &instance.launch).collect::<Vec<_>>(), [&good], "{text:?}");
    }
    for error in [
        adapter.describe(&bad).await.expect_err("it cannot be told whose it is"),
        adapter.terminate(&bad).await.expect_err("it may be another's"),
        far.adapter().launch(&far.request(&bad, &owner())).await.expect_err("the id is in use"),
    ] {
        assert_eq!(error.retry(), Retry::Never, "{error}");
    }
    assert_eq!(far.alive(&bad), 1);
    let full = far.adapter_with_capacity(2).expect("it can be limited");
    let error = full.launch(&far.request(&id("gw-3"), &owner())).await.expect_err("both take room");
    assert_eq!(error.retry(), Retry::NextAdapter, "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_key_that_may_not_forward_is_told_by_a_check() {
    let far = Far::new();
    let port = far.host.serve("AllowTcpForwarding no");
    let found = far.client(far.host.options_at(port)).check().await;
    let network = found.iter().find(|finding| finding.subject == Subject::Network).expect("the network");
    assert_eq!(network.verdict, Verdict::Bad, "{network:?}");
    assert!(network.words.contains("AllowTcpForwarding"), "{network:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_server_that_allows_too_few_sessions_is_told_with_what_to_set() {
    let far = Far::new();
    let port = far.host.serve("MaxSessions 1");
    let error =
        far.client(far.host.options_at(port)).list(&owner()).await.expect_err("one session holds the connection");
    assert!(error.to_string().contains("MaxSessions"), "{}", error.with_causes());
    assert_eq!(error.retry(), Retry::Backoff);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn the_forced_command_refuses_everything_that_is_not_ours() {
    let far = Far::with_policy();
    let digest = "0".repeat(64);
    let own = format!("sh .tidegate/bin/remote-{digest}.sh");
    for refused in [
        "id".to_owned(),
        "cat /etc/passwd".to_owned(),
        String::new(),
        format!("{own} run /etc"),
        format!("{own} list; id"),
        format!("{own} list\nid"),
        format!("{own} describe $(id)"),
        format!("{own} describe ../../etc"),
        format!("{own} put {digest}"),
        format!("{own} nonsense"),
        format!("sh -c id {own} list"),
    ] {
        let printed = far.host.run(&[refused.as_str()]);
        assert!(printed.contains("error=refused"), "{refused:?} was answered with {printed}");
        assert!(!printed.contains("uid=") && !printed.contains("root:"), "{refused:?} was run: {printed}");
    }
    let served = far.host.run(&[format!("{own} list").as_str()]);
    assert_eq!(served, "tidegate-remote 1\nend=0\n", "what is ours is served");
    let listening =
        far.host.run(&["-R", "127.0.0.1:0:127.0.0.1:9", "-o", "ExitOnForwardFailure=yes", &format!("{own} list")]);
    assert!(listening.contains("orwarding"), "the machine must not listen for the key: {listening}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn no_client_outlives_its_adapter() {
    let far = Far::new();
    let adapter = far.adapter();
    adapter.list(&owner()).await.expect("list");
    assert_eq!(far.host.clients().len(), 1);
    drop(adapter);
    until(PATIENCE, "the connection to end", async || far.host.clients().is_empty().then_some(())).await;
}

/// From a launch on a warm connection to the first bytes through its tunnel, beside what `true` takes on the same kind of
/// connection: prints both, and fails only where something is badly wrong.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn the_first_answer_through_the_tunnel_comes_soon_after_a_launch() {
    let far = Far::new();
    let (adapter, address) = (far.adapter(), echo_server());
    let mut took = Vec::new();
    for index in 0..6 {
        let launch = id(&format!("gw-{index}"));
        let request = with_env(request(&launch, &owner(), &["sleep", "600"]), &[("ADDRESS", &address)]);
        let asked = Instant::now();
        let mut instance = adapter.launch(&request).await.expect("launch");
        let launched = asked.elapsed();
        while instance.state != InstanceState::Running {
            instance = until_running(PATIENCE, &*adapter, &launch).await;
        }
        assert!(echoes(&authority(&instance)));
        took.push((launched, asked.elapsed()));
    }
    let asked = Instant::now();
    adapter.describe(&id("gw-0")).await.expect("describe");
    eprintln!("launch, and launch to first bytes, the first with a connection and a copy: {took:?}");
    eprintln!("describe on the warm connection: {:?}", asked.elapsed());
    eprintln!("ssh true on the warm connection: {:?}", far.host.time_true());
    let warm = took[1..].iter().map(|(_, whole)| *whole).min().expect("some");
    assert!(warm < Duration::from_secs(2), "{warm:?}");
}
