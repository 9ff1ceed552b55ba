//! What is special about containers: how they are confined, how they end, and whose they are.

use super::*;

#[tokio::test]
async fn what_runs_needs_its_files_no_more() {
    let harness = containers!();
    let (launch, model) = (id("gw-1"), harness.engine.path("m.onnx"));
    std::fs::write(&model, "the weights").expect("write");
    let mut request = harness.request(&launch, &owner());
    request.workload.files = BTreeMap::from([("model".to_owned(), model.clone())]);
    launch_and_run(PATIENCE, &*harness.adapter(), &request).await;
    std::fs::remove_file(&model).expect("remove");
    let again = harness.adapter().launch(&request).await.expect("it was launched before");
    assert_eq!((again.launch, harness.alive(&launch)), (launch, 1));
    let new = LaunchRequest { launch: id("gw-2"), ..request };
    assert_eq!(harness.adapter().launch(&new).await.expect_err("its file is gone").retry(), Retry::Never);
}

#[tokio::test]
async fn an_instance_is_confined_and_its_files_are_for_its_user_alone() {
    let harness = containers!();
    harness.engine.import("as-app:1", &[("USER", "app")], &engine::image());
    let (adapter, launch) = (harness.adapter(), id("gw-1"));
    let model = harness.engine.path("m.onnx");
    // A line, as the daemon logs nothing less before the end.
    std::fs::write(&model, "the weights\n").expect("write");
    let script = "stat -c '%a %u %g %n' /run/tidegate/* /run/tidegate/files/*; id -u; cat {file:model}; sleep 600";
    let mut request = request(&launch, &owner(), &["sh", "-c", script]);
    request.workload.image = Some("as-app:1".to_owned());
    request.workload.files = BTreeMap::from([("model".to_owned(), model)]);
    request.workload.env = BTreeMap::from([("STAGE".to_owned(), "test".to_owned())]);
    request.workload.resources = Resources { cpu_millis: Some(500), memory_bytes: Some(64 << 20), gpus: 0 };
    launch_and_run(PATIENCE, &*adapter, &request).await;
    until(PATIENCE, "the files to be read", async || harness.engine.log("gw-1").contains("the weights").then_some(()))
        .await;
    let log = harness.engine.log("gw-1");
    for line in
        ["600 1234 567 /run/tidegate/token", "600 1234 567 /run/tidegate/tls.key", "700 1234 567 /run/tidegate/files"]
    {
        assert!(log.contains(line), "{line} should be in {log}");
    }
    assert!(log.contains("600 1234 567 /run/tidegate/files/model") && log.contains("1234\n"), "{log}");
    let inspected = harness.engine.inspect("gw-1");
    let settings = &inspected["HostConfig"];
    assert_eq!(settings["NanoCpus"], 500_000_000);
    assert_eq!((&settings["Memory"], &settings["MemorySwap"]), (&(64 << 20).into(), &(64 << 20).into()));
    assert_eq!(settings["CapDrop"], serde_json::json!(["ALL"]));
    assert_eq!(settings["SecurityOpt"], serde_json::json!(["no-new-privileges"]));
    assert_eq!(settings["RestartPolicy"]["Name"], "no");
    assert_eq!(settings["AutoRemove"], false);
    assert_eq!(settings["PidsLimit"], 4096);
    assert_eq!(inspected["Config"]["Entrypoint"], serde_json::json!(["tidegate"]));
    assert!(inspected["Config"]["Env"].to_string().contains("STAGE=test"));
    let expected = "wrap --service digits --launch gw-1 --token-file /run/tidegate/token --tls-cert-file \
                    /run/tidegate/tls.crt --tls-key-file /run/tidegate/tls.key --listen 0.0.0.0:8443 --lease-ttl 300s";
    let told = inspected["Config"]["Cmd"].as_array().expect("a command").iter().filter_map(|word| word.as_str());
    assert!(told.collect::<Vec<_>>().join(" ").starts_with(expected), "{}", inspected["Config"]["Cmd"]);
    adapter.terminate(&launch).await.expect("terminate");
}

#[tokio::test]
async fn an_instance_over_its_memory_is_ended_and_told_as_such() {
    let harness = containers!();
    let (adapter, launch) = (harness.adapter(), id("gw-1"));
    // The whole device in one block: more than the limit. The shell that waits for it is killed with it.
    let mut request = request(&launch, &owner(), &["dd", "if=/dev/zero", "of=/dev/null", "bs=64M", "count=100000"]);
    request.workload.resources.memory_bytes = Some(16 << 20);
    adapter.launch(&request).await.expect("launch");
    let reason = end_reason(PATIENCE, &*adapter, &launch).await;
    assert!(reason.contains("out of memory"), "{reason}");
    adapter.terminate(&launch).await.expect("terminate");
}

#[tokio::test]
async fn an_end_is_told_with_the_instances_last_line() {
    let harness = containers!();
    let (adapter, launch) = (harness.adapter(), id("gw-1"));
    adapter.launch(&request(&launch, &owner(), &["sh", "-c", "exit 7"])).await.expect("launch");
    let reason = end_reason(PATIENCE, &*adapter, &launch).await;
    assert_eq!(reason, "exited with 1: its server ended with 7");
    adapter.terminate(&launch).await.expect("terminate");
}

#[tokio::test]
async fn what_cannot_be_had_is_told_and_leaves_nothing() {
    let harness = containers!();
    let launch = id("gw-1");
    let (mut gpu, mut many_cpus, mut no_memory) = {
        let plain = || request(&launch, &owner(), &["sleep", "600"]);
        (plain(), plain(), plain())
    };
    gpu.workload.resources.gpus = 1;
    many_cpus.workload.resources.cpu_millis = Some(4_000_000);
    no_memory.workload.resources.memory_bytes = Some(1024);
    let mut missing_file = request(&launch, &owner(), &["sleep", "600"]);
    missing_file.workload.files = BTreeMap::from([("model".to_owned(), harness.engine.path("missing"))]);
    let elsewhere = DockerOptions { publish: Some([192, 0, 2, 1].into()), ..harness.options() };
    let no_network = DockerOptions { network: Some("no-such-network".into()), ..harness.options() };
    let sound = harness.adapter();
    let plain = request(&launch, &owner(), &["sleep", "600"]);
    for (adapter, request, retry, word) in [
        (&sound, &gpu, Retry::Never, "GPU"),
        (&sound, &many_cpus, Retry::NextAdapter, "CPUs"),
        (&sound, &no_memory, Retry::Never, "memory"),
        (&sound, &missing_file, Retry::Never, "missing"),
        (&harness.client(elsewhere), &plain, Retry::Never, "publish"),
        (&harness.client(no_network), &plain, Retry::Never, "no-such-network"),
    ] {
        let error = adapter.launch(request).await.expect_err(word);
        assert_eq!(error.retry(), retry, "{}", error.with_causes());
        assert!(error.to_string().contains(word), "`{error}` should speak of {word}");
        assert_eq!(sound.describe(&launch).await.expect("describe"), None, "{word}");
    }
}

#[tokio::test]
async fn a_missing_image_is_pulled_when_that_is_asked_for() {
    let harness = containers!();
    // No registry listens there, so that the daemon's own try is what is seen.
    let image = Some(format!("127.0.0.1:{}/tidegate:1", engine::free_port()));
    let pulling = harness.client(DockerOptions { image: image.clone(), pull: Pull::Missing, ..harness.options() });
    let error = pulling.launch(&request(&id("gw-1"), &owner(), &["sleep", "600"])).await.expect_err("no registry");
    assert!(error.to_string().contains("cannot pull") && error.retry() == Retry::Backoff, "{}", error.with_causes());
    let idle = harness.client(DockerOptions { image, ..harness.options() });
    let error = idle.launch(&request(&id("gw-1"), &owner(), &["sleep", "600"])).await.expect_err("no image");
    assert!(error.to_string().contains("pull or build it") && error.retry() == Retry::Never, "{error}");
}

#[tokio::test]
async fn a_container_that_was_made_and_never_started_is_mended_or_removed() {
    let harness = containers!();
    let (adapter, launch) = (harness.adapter(), id("gw-1"));
    let request = request(&launch, &owner(), &["sleep", "600"]);
    // What a crash between the two steps leaves: the same container, without its files.
    let make_half = async || {
        launch_and_run(PATIENCE, &*adapter, &request).await;
        let made = harness.engine.inspect("gw-1");
        adapter.terminate(&launch).await.expect("terminate");
        let mut body = made["Config"].clone();
        body["HostConfig"] = made["HostConfig"].clone();
        let path = "/containers/create?name=tidegate-gw-1";
        let (status, answer) = harness.engine.api("POST", path, body.to_string().as_bytes());
        assert_eq!(status, 201, "{answer}");
    };
    make_half().await;
    let half = adapter.describe(&launch).await.expect("describe").expect("it is there");
    assert_eq!((half.state, half.reach), (InstanceState::Pending, None));
    let mended = launch_and_run(PATIENCE, &*adapter, &request).await;
    until(PATIENCE, "the mended instance to answer", async || greeting(&mended)).await;
    adapter.terminate(&launch).await.expect("terminate");
    make_half().await;
    adapter.terminate(&launch).await.expect("terminate");
    assert_eq!(adapter.describe(&launch).await.expect("describe"), None);
}

#[tokio::test]
async fn a_stubborn_instance_is_asked_once_and_then_killed() {
    let harness = containers!();
    let launch = id("gw-1");
    let mut stubborn = request(&launch, &owner(), &["sleep", "600"]);
    stubborn.workload.env = BTreeMap::from([("STUBBORN".to_owned(), "1".to_owned())]);
    stubborn.drain_timeout = Duration::from_secs(6);
    launch_and_run(PATIENCE, &*harness.adapter(), &stubborn).await;
    let asked = || harness.engine.log("gw-1").matches("asked to end").count();
    let began = Instant::now();
    for _ in 0..3 {
        let hasty = with_deadline(harness.adapter(), Duration::from_millis(500));
        assert_eq!(hasty.terminate(&launch).await.expect_err("it drains").retry(), Retry::Backoff);
        until(PATIENCE, "it to be asked to end", async || (asked() > 0).then_some(())).await;
    }
    assert_eq!(asked(), 1, "a second SIGTERM could cut its drain short");
    harness.adapter().terminate(&launch).await.expect("terminate");
    assert!(began.elapsed() >= Duration::from_secs(6), "it had its time to drain");
    assert_eq!(harness.alive(&launch), 0);
}

#[tokio::test]
async fn a_strangers_container_is_neither_taken_nor_touched() {
    let harness = containers!();
    let (adapter, launch) = (harness.adapter(), id("gw-1"));
    let body = format!("{{\"Image\":\"{IMAGE}\",\"Cmd\":[\"/bin/sleep\",\"600\"]}}");
    let (status, answer) = harness.engine.api("POST", "/containers/create?name=tidegate-gw-1", body.as_bytes());
    assert_eq!(status, 201, "{answer}");
    assert_eq!(harness.engine.api("POST", "/containers/tidegate-gw-1/start", &[]).0, 204);
    for error in [
        adapter.launch(&request(&launch, &owner(), &["sleep", "600"])).await.map(drop).expect_err("taken"),
        adapter.describe(&launch).await.map(drop).expect_err("not ours"),
        adapter.terminate(&launch).await.expect_err("not ours"),
    ] {
        assert_eq!(error.retry(), Retry::Never, "{error}");
    }
    assert_eq!(harness.engine.inspect("gw-1")["State"]["Running"], true);
    assert_eq!(adapter.list(&owner()).await.expect("list"), []);
}

#[tokio::test]
async fn the_nodes_own_binary_becomes_an_image_that_runs() {
    let harness = containers!();
    // A program of this machine that needs its libraries, as an own binary may.
    let options = DockerOptions { image: None, program: "/usr/bin/env".into(), ..harness.options() };
    let adapter = DockerAdapter::new(options).expect("an address");
    let found = adapter.check().await;
    assert!(found.iter().all(|finding| finding.verdict == Verdict::Good), "{found:?}");
    let launch = id("gw-1");
    // `env wrap …` says that there is no such program: it ran, and found all of its libraries.
    adapter.launch(&request(&launch, &owner(), &["sleep", "600"])).await.expect("the image is made on the way");
    let reason = end_reason(PATIENCE, &adapter, &launch).await;
    assert!(reason.contains("exited with 127") && reason.contains("wrap"), "{reason}");
    let image = adapter.own_image().await.expect("it is there");
    assert!(image.starts_with("tidegate-own:"), "{image}");
    let labels = "/images/json?filters=%7B%22label%22%3A%5B%22tidegate.own-image%22%5D%7D";
    let answer = harness.engine.api("GET", labels, &[]).1;
    assert!(answer.contains(&image), "found by its label: {answer}");
    adapter.terminate(&launch).await.expect("terminate");
}
