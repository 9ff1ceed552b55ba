//! How a daemon is reached, over TLS and SSH too, and how its instances are.

use super::*;

async fn launch_list_and_terminate(harness: &Containers, adapter: &dyn CloudAdapter) {
    let launch = id("gw-1");
    let running = launch_and_run(PATIENCE, adapter, &request(&launch, &owner(), &["sleep", "600"])).await;
    assert_eq!(harness.alive(&launch), 1);
    let greeted = until(PATIENCE, "the published port", async || greeting(&running)).await;
    assert_eq!(greeted, "tidegate\n");
    let listed = adapter.list(&owner()).await.expect("list");
    assert_eq!(listed.iter().map(|instance| &instance.launch).collect::<Vec<_>>(), [&launch]);
    adapter.terminate(&launch).await.expect("terminate");
    assert_eq!(harness.alive(&launch), 0);
    assert_eq!(adapter.list(&owner()).await.expect("list"), []);
}

#[tokio::test]
async fn a_launched_instance_answers_on_its_published_port() {
    let harness = containers!();
    let (adapter, launch) = (harness.adapter(), id("gw-1"));
    adapter.list(&owner()).await.expect("connected");
    let began = Instant::now();
    adapter.launch(&request(&launch, &owner(), &["sleep", "600"])).await.expect("launch");
    let launched = began.elapsed();
    let answered = until(PATIENCE, "the published port", async || {
        let instance = adapter.describe(&launch).await.expect("describe")?;
        greeting(&instance).map(|_| began.elapsed())
    })
    .await;
    println!("launch() took {launched:?}; the first connection was answered after {answered:?}");
    let instance = adapter.describe(&launch).await.expect("describe").expect("it runs");
    assert!(matches!(&instance.reach, Some(Reach::Direct { authority }) if authority.starts_with("127.0.0.1:")));
    adapter.terminate(&launch).await.expect("terminate");
}

#[tokio::test]
async fn a_daemon_is_reached_over_tls() {
    let harness = containers!();
    let adapter = harness.over_tls(harness.engine.certificates().client());
    launch_list_and_terminate(&harness, &*adapter).await;
}

#[tokio::test]
async fn a_daemon_is_reached_over_ssh_and_only_by_its_own_host_key() {
    let harness = containers!();
    let shell = SecureShell::start(&harness.engine);
    let over = |config: &PathBuf| {
        let host = Some(format!("ssh://root@127.0.0.1:{}", shell.port));
        harness.client(DockerOptions { host, ssh_config: Some(config.clone()), ..harness.options() })
    };
    launch_list_and_terminate(&harness, &*over(&shell.config)).await;
    let error = over(&shell.config_of_a_stranger).list(&owner()).await.expect_err("another host answers");
    assert_eq!(error.retry(), Retry::Never, "{}", error.with_causes());
    assert!(error.to_string().to_lowercase().contains("host key verification failed"), "{error}");
}

#[tokio::test]
async fn a_daemon_that_is_away_is_transient_and_is_found_when_it_is_back() {
    let harness = containers!();
    let host = Some(format!("tcp://127.0.0.1:{}", engine::free_port()));
    let error = harness.client(DockerOptions { host, ..harness.options() }).list(&owner()).await.expect_err("nobody");
    assert_eq!(error.retry(), Retry::Backoff, "{error}");
    let adapter = with_deadline(harness.adapter(), Duration::from_millis(500));
    harness.engine.pause();
    assert_eq!(adapter.list(&owner()).await.expect_err("it hangs").retry(), Retry::Backoff);
    harness.engine.resume();
    until(PATIENCE, "the daemon to be back", async || adapter.list(&owner()).await.ok()).await;
}

#[tokio::test]
async fn a_remote_daemon_that_publishes_on_its_loopback_is_doubted() {
    let harness = containers!();
    let host = Some(format!("tcp://127.0.0.1:{}", harness.engine.tcp_port));
    let tls = Some(harness.engine.certificates().client());
    let publish = Some([127, 0, 0, 1].into());
    let options = DockerOptions { host, tls, publish, ..harness.options() };
    let found = harness.client(options.clone()).check().await;
    let doubt = |found: &[cloud_adapters::Finding]| {
        found.iter().any(|it| it.verdict == Verdict::Doubtful && it.words.contains("publish"))
    };
    assert!(doubt(&found), "{found:?}");
    let address = Some("127.0.0.1".to_owned());
    let found = harness.client(DockerOptions { address, ..options }).check().await;
    assert!(!doubt(&found), "the operator has said how it is reached: {found:?}");
}
