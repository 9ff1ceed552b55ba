//! Each recipe of the README, with nothing but addresses and keys of this test's own: a real node bursts to the real
//! thing, answers come from there, and nothing is left there afterwards.

mod support;

#[allow(dead_code, reason = "the adapters' own tests use the rest")]
#[path = "../cloud-adapters/tests/docker/certificates.rs"]
mod certificates;
#[allow(dead_code, reason = "the adapters' own tests use the rest")]
#[path = "../cloud-adapters/tests/docker/engine.rs"]
mod engine;
#[allow(dead_code, reason = "the adapters' own tests use the rest")]
#[path = "../cloud-adapters/tests/ssh/host.rs"]
mod host;

use std::path::Path;
use std::time::Duration;

use support::account::Account;
use support::{Home, PATIENCE, Spec, wait_until};

/// The longest recipe that may be called short.
const MOST_LINES: usize = 9;

/// Making an image of a development build, or copying it, takes longer than any other start.
const FIRST_START: Duration = Duration::from_secs(110);

/// The TOML below `<!-- recipe: NAME -->` in the README.
fn recipe(name: &str) -> String {
    let readme = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md")).unwrap();
    let after = readme.split(&format!("<!-- recipe: {name} -->\n```toml\n")).nth(1);
    let text = after.unwrap_or_else(|| panic!("the README has no recipe {name}")).split("```").next().unwrap();
    let lines = text.lines().filter(|line| !line.trim().is_empty()).count();
    assert!(lines <= MOST_LINES, "the recipe {name} has {lines} lines");
    text.to_owned()
}

/// The digits service without an adapter, to which a recipe adds one.
fn spec(name: &str, of_this_test: &str) -> Spec {
    let mut spec = Spec::new().with(&recipe(name)).with(of_this_test).with("[node]\ndrain_timeout = '10s'");
    spec.remove("adapter", "cloud");
    spec
}

/// Bursts and comes back; `alive` counts instances at the provider.
fn play(home: &Home, spec: &Spec, adapter: &str, mut alive: impl FnMut() -> usize) {
    let config = home.config(spec);
    let node = home.start(spec);
    let load = node.load(8);
    wait_until(FIRST_START, "an instance is ready", || {
        let failed = node.events("burst.failed");
        assert!(failed.is_empty(), "{failed:?}");
        (node.service("digits")["ready_cloud"].as_u64()? >= 1).then_some(())
    });
    assert!(alive() >= 1, "the provider runs it");
    let answered = load.answered() + 100;
    wait_until(PATIENCE, "requests are answered", || (load.answered() >= answered).then_some(()));
    let tally = load.stop();
    tally.assert_sound();
    assert!(tally.from("local") > 0 && tally.from("cloud") > 0, "{:?}", tally.answers);
    let listed = node.get_json("/api/v1/adapters");
    assert_eq!(listed[0]["adapter"], adapter, "{listed}");
    wait_until(PATIENCE, "the tide falls", || (alive() == 0).then_some(()));
    let ended = node.terminate();
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    assert_eq!(alive(), 0);
    drop(config);
}

#[test]
fn the_recipe_for_docker_bursts_into_containers_and_back() {
    let Some(engine) = engine::Engine::start() else { return };
    let home = Home::new();
    let socket = format!("unix://{}", engine.socket().display());
    let spec = spec("docker", "").env("DOCKER_HOST", &socket);
    let running = || {
        let (status, answer) = engine.api("GET", "/containers/json", &[]);
        assert_eq!(status, 200, "{answer}");
        serde_json::from_str::<Vec<serde_json::Value>>(&answer).unwrap().len()
    };
    play(&home, &spec, "containers", running);
    let (_, all) = engine.api("GET", "/containers/json?all=1", &[]);
    assert_eq!(all.trim(), "[]", "no container is left, running or not");
}

#[test]
fn an_image_that_a_service_names_and_the_engine_lacks_is_told_by_the_check() {
    let Some(engine) = engine::Engine::start() else { return };
    let home = Home::new();
    let spec = spec("docker", "[service.digits.burst]\nimage = 'no/such:1'");
    let config = home.config(&spec).display().to_string();
    let mut check = home.tidegate(&["adapter", "check", "containers", "-c", &config].map(Into::into), &[]);
    let checked = check.env("DOCKER_HOST", format!("unix://{}", engine.socket().display())).output().unwrap();
    let text = String::from_utf8_lossy(&checked.stdout);
    assert_eq!(checked.status.code(), Some(1), "{text}");
    assert!(text.lines().any(|l| l.starts_with("image") && l.contains("BAD") && l.contains("no/such:1")), "{text}");
}

#[test]
fn the_recipe_for_ssh_bursts_to_another_machine_and_back() {
    let (home, far) = (Home::new(), host::Host::new());
    let options = far.options_at(far.port);
    let here = format!(
        "[adapter.big-box]\nhost = '127.0.0.1'\nport = {}\nkey = '{}'\nknown_hosts = '{}'\ndirectory = '{}'",
        far.port,
        options.key.unwrap().display(),
        options.known_hosts.unwrap().display(),
        far.root().display()
    );
    let instances = far.root().join("instances");
    let alive = || {
        let entries = std::fs::read_dir(&instances).into_iter().flatten().flatten();
        entries.map(|entry| cloud_adapters::contract::wrappers_in(&entry.path()).len()).sum()
    };
    play(&home, &spec("ssh", &here), "big-box", alive);
}

#[test]
fn the_recipe_for_exec_bursts_through_a_program_and_back() {
    let home = Home::new();
    let account = Account::new(&home);
    play(&home, &account.joined(spec("exec", ""), "my-cloud"), "my-cloud", || account.alive().len());
}

#[test]
fn the_demo_bursts_into_containers_and_leaves_none() {
    let Some(engine) = engine::Engine::start() else { return };
    let home = Home::new();
    let mut demo =
        home.tidegate(&["demo", "--adapter", "docker", "--no-timing", "--seconds", "40"].map(Into::into), &[]);
    demo.env("DOCKER_HOST", format!("unix://{}", engine.socket().display())).env("TMPDIR", home.path());
    let output = demo.output().unwrap();
    let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert_eq!(output.status.code(), Some(0), "{text}");
    for part in [
        "containers at a Docker Engine",
        "image      tidegate-own:",
        "held    a burst happened",
        "held    no process is left: none",
    ] {
        assert!(text.contains(part), "no {part:?} in:\n{text}");
    }
    let (_, all) = engine.api("GET", "/containers/json?all=1", &[]);
    assert_eq!(all.trim(), "[]", "no container is left, running or not");
}

/// A Python server's image made ready by two lines of Dockerfile, as docs/wrap.md has them.
#[test]
fn a_python_server_is_burst_to_in_an_image_of_two_lines() {
    let Some(engine) = engine::Engine::start() else { return };
    let home = Home::new();
    engine.import("your-python-server:1", &[], &python_image());
    let lines = dockerfile().replace("your-image", "your-python-server:1");
    assert_eq!(lines.lines().count(), 2, "{lines}");
    let context = home.path().join("context");
    std::fs::create_dir(&context).unwrap();
    std::fs::copy(env!("CARGO_BIN_EXE_tidegate"), context.join("tidegate")).unwrap();
    std::fs::write(context.join("Dockerfile"), lines).unwrap();
    let socket = format!("unix://{}", engine.socket().display());
    let mut build = std::process::Command::new("docker");
    build.args(["build", "--quiet", "--tag", "burst-python:1"]).arg(&context);
    // The classic builder takes images that the engine has; the other one would ask a registry for them.
    let built = build.env("DOCKER_HOST", &socket).env("DOCKER_BUILDKIT", "0").output().unwrap();
    assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));

    let spec = Spec::without_services().env("DOCKER_HOST", &socket).with(
        "[service.web.local]\nruntime = 'process'\n\
         command = ['python3', '-m', 'http.server', '{port}', '--bind', '127.0.0.1', '--directory', '/etc']\n\
         [service.web.scaling]\nmin_replicas = 2\ninterval = '1s'\n\
         [service.web.burst]\nadapters = ['containers']\nimage = 'burst-python:1'\n\
         [adapter.containers]\nkind = 'docker'\nfree = true",
    );
    let node = home.start(&spec);
    wait_until(FIRST_START, "the instance is ready", || {
        let failed = node.events("burst.failed");
        assert!(failed.is_empty(), "{failed:?}");
        (node.service("web")["ready_cloud"] == 1).then_some(())
    });
    let mut client = node.client();
    wait_until(PATIENCE, "an answer comes from the container", || {
        let answer = client.get("/services/web/passwd");
        let from = |placement: &str| answer.placement() == Some(placement);
        assert!(answer.status == 200 || from("cloud"), "{answer:?}");
        // The container has a file of its own there.
        (from("cloud") && answer.text() == "app:x:1234:567::/:/bin/sh\n").then_some(())
    });
    assert_eq!(node.terminate().code, Some(0));
    let (_, all) = engine.api("GET", "/containers/json?all=1", &[]);
    assert_eq!(all.trim(), "[]", "no container is left, running or not");
}

/// The two lines as the page has them.
fn dockerfile() -> String {
    let page = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/wrap.md")).unwrap();
    let text = page.split("```dockerfile\n").nth(1).expect("a Dockerfile").split("```").next().unwrap();
    text.trim().to_owned()
}

/// This machine's Python with its standard library, and the libraries that it and `tidegate` are linked with.
fn python_image() -> Vec<u8> {
    let ask = "import os, sys, sysconfig; print(os.path.realpath(sys.executable)); print(sysconfig.get_path('stdlib'))";
    // Debian's own, where there is one: the smallest.
    let python = if Path::new("/usr/bin/python3").exists() { "/usr/bin/python3" } else { "python3" };
    let output = std::process::Command::new(python).args(["-c", ask]).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let (program, library) = text.trim().split_once('\n').expect("two paths");
    let mut tar = tar::Builder::new(Vec::new());
    engine::add(&mut tar, "etc/passwd", b"app:x:1234:567::/:/bin/sh\n", 0o644);
    engine::add(&mut tar, engine::inside(Path::new(program)), &std::fs::read(program).unwrap(), 0o755);
    engine::link_to(&mut tar, "usr/local/bin/python3", program);
    add_library(&mut tar, Path::new(library));
    engine::add_libraries(&mut tar, &[program, env!("CARGO_BIN_EXE_tidegate")].map(Path::new));
    tar.into_inner().unwrap()
}

/// The standard library without its tests and what only a build needs.
fn add_library(tar: &mut tar::Builder<Vec<u8>>, folder: &Path) {
    const LEFT_OUT: [&str; 6] = ["test", "tests", "site-packages", "dist-packages", "__pycache__", "idlelib"];
    for entry in std::fs::read_dir(folder).unwrap().flatten() {
        let (path, name) = (entry.path(), entry.file_name());
        let name = name.to_string_lossy();
        if LEFT_OUT.contains(&&*name) || name.starts_with("config-") {
            continue;
        }
        if path.is_dir() {
            add_library(tar, &path);
        } else if let Ok(content) = std::fs::read(&path) {
            engine::add(tar, engine::inside(&path), &content, 0o644);
        }
    }
}

/// The cluster's part of it is the lane's: the contract suite on a real control plane.
#[test]
fn the_recipe_for_kubernetes_is_a_configuration_and_says_what_a_build_without_it_lacks() {
    let home = Home::new();
    let config = home.config(&spec("kubernetes", "")).display().to_string();
    let checked = home.command(&["config", "check", &config]);
    if cfg!(feature = "kubernetes") {
        assert_eq!(checked.code, Some(0), "{checked:?}");
    } else {
        assert_eq!(checked.code, Some(2), "{checked:?}");
        assert!(checked.stderr.contains("cargo install --path . --locked --features kubernetes"), "{checked:?}");
        let refused = home.command(&["adapter", "check", "cluster", "-c", &config]);
        assert!(refused.stdout.contains("is not in this build"), "{refused:?}");
    }
}
