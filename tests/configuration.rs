//! `tidegate init` and `tidegate config schema`: what a new user starts from, and what an editor knows of it.

mod support;

use std::path::Path;
use std::process::{Child, Command, Stdio};

use support::python::interpreter;
use support::{Finished, Home, PATIENCE, Spec, free_port, wait_until};

const PROFILES: [&str; 5] = ["quickstart", "gateway-small", "gateway-gpu", "hub", "cellular"];

#[test]
fn every_profile_is_written_commented_and_passes_its_check() {
    let home = Home::new();
    for profile in PROFILES {
        let file = home.path().join("new").join(format!("{profile}.toml"));
        let shown = file.display().to_string();
        let written = home.command(&["init", "--profile", profile, &shown]);
        assert_eq!(written.code, Some(0), "{}", written.stderr);
        assert!(written.stdout.contains(&format!("tidegate run -c {shown}")), "{}", written.stdout);
        let text = std::fs::read_to_string(&file).unwrap();
        assert!(text.starts_with("# "), "{text}");
        assert_eq!(home.command(&["init", "--profile", profile, "-"]).stdout, text);
        let checked = home.command(&["config", "check", &shown]);
        assert_eq!(checked.code, Some(0), "{profile}: {}", checked.stderr);
    }
}

#[test]
fn a_file_that_is_there_is_left_as_it_is() {
    let home = Home::new();
    let file = home.file("tidegate.toml", "# mine\n");
    let refused = home.command(&["init", file.to_str().unwrap()]);
    assert_eq!(refused.code, Some(2));
    assert!(refused.stderr.contains("is there already and was left as it is"), "{}", refused.stderr);
    assert_eq!(std::fs::read_to_string(file).unwrap(), "# mine\n");
}

#[test]
fn bad_arguments_of_init_say_what_there_is() {
    let home = Home::new();
    let unknown = home.command(&["init", "--profile", "toaster"]);
    assert_eq!(unknown.code, Some(2));
    assert!(
        unknown.stderr.contains("there are quickstart, gateway-small, gateway-gpu, hub and cellular"),
        "{}",
        unknown.stderr
    );
    let file = home.file("a-file", "");
    let below = home.command(&["init", file.join("below/tidegate.toml").to_str().unwrap()]);
    assert_eq!(below.code, Some(1));
    assert!(below.stderr.contains("cannot write"), "{}", below.stderr);
}

/// Prints the problems that an independent validator finds in each TOML file, a line each.
const VALIDATE: &str = r#"
import json, sys, tomllib
from jsonschema import Draft7Validator
schema = json.load(open(sys.argv[1]))
Draft7Validator.check_schema(schema)
for name in sys.argv[2:]:
    with open(name, "rb") as file:
        for problem in Draft7Validator(schema).iter_errors(tomllib.load(file)):
            print(name, "/".join(map(str, problem.path)), problem.message)
"#;

fn validate(home: &Home, files: &[&Path]) -> String {
    let schema: Finished = home.command(&["config", "schema"]);
    assert_eq!(schema.code, Some(0), "{}", schema.stderr);
    let schema = home.file("schema.json", schema.stdout);
    let output =
        Command::new(interpreter()).args(["-c", VALIDATE]).arg(schema).args(files).output().expect("python starts");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn an_independent_validator_accepts_every_profile_by_the_schema() {
    let home = Home::new();
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("edge-config/profiles");
    let files: Vec<_> = PROFILES.iter().map(|profile| folder.join(format!("{profile}.toml"))).collect();
    assert_eq!(validate(&home, &files.iter().map(AsRef::as_ref).collect::<Vec<_>>()), "");
    let rich = home.file("rich.toml", RICH);
    assert_eq!(validate(&home, &[&rich]), "");
    let checked = home.command(&["config", "check", rich.to_str().unwrap()]);
    assert_eq!(checked.code, Some(0), "what the schema accepts here is right: {}", checked.stderr);
}

/// Of each kind something.
const RICH: &str = r#"
[node]
id = "gateway-7"
tick = "500ms"
[mqtt]
uplink = ["mqtts://a.example:8883"]
[service.vision.local]
runtime = "process"
command = ["python3", "app.py"]
env = { LANG = "C" }
cpus = [0, 1]
[service.vision.burst]
adapters = ["box", "cloud"]
cpus = 0.5
image = "registry.example/vision:1"
[service.vision.scaling]
policy = "threshold"
metric = "latency_p95"
threshold = "200ms"
[service.counter.local]
runtime = "process"
command = ["python3", "counter.py"]
[service.counter.scaling]
policy = "threshold"
metric = "request_rate"
threshold = 50
band = 4
[adapter.box]
kind = "docker"
free = true
[adapter.cloud]
kind = "exec"
command = ["/bin/true"]
runs_images = true
price_per_hour = 0.4
spot = true
[budget]
currency = "EUR"
per_hour = 2.0
"#;

#[test]
fn an_independent_validator_refuses_by_the_schema_what_the_check_refuses() {
    let home = Home::new();
    for (wrong, told) in [
        ("[gatewy]\nqueue = 1", "gatewy"),
        ("[gateway]\nqueues = 1", "queues"),
        ("[gateway]\nqueue = -1", "-1 is less than the minimum of 0"),
        ("[gateway]\nqueue = \"many\"", "'many' is not of type 'integer'"),
        ("[gateway]\nbalance = \"random\"", "'random' is not one of"),
        ("[service.a.local]\nruntime = \"onx\"", "'onx' is not one of"),
        ("[service.a.local]\nruntime = \"process\"\ncommand = \"python3\"", "is not of type 'array'"),
        ("[adapter.a]\nkind = \"docker\"\nprice_per_hour = 0", "0 is less than or equal to the minimum of 0"),
        ("[adapter.a]\nkind = \"docker\"\ncolour = \"red\"", "colour"),
    ] {
        let file = home.file("wrong.toml", wrong);
        let found = validate(&home, &[&file]);
        assert!(found.contains(told), "{wrong}: {found}");
        assert_eq!(home.command(&["config", "check", file.to_str().unwrap()]).code, Some(2), "{wrong}");
    }
}

/// A command whose standard output nobody reads.
fn unheard(home: &Home, arguments: &[&str], output: impl Into<Stdio>) -> Finished {
    let arguments: Vec<_> = arguments.iter().map(Into::into).collect();
    let mut command = home.tidegate(&arguments, &[]);
    let ended = command.stdout(output).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Finished { code: ended.status.code(), stdout: text(ended.stdout), stderr: text(ended.stderr) }
}

#[test]
fn whoever_has_heard_enough_gets_no_panic_and_a_full_disk_is_an_error() {
    let home = Home::new();
    let closed = || std::io::pipe().map(|(_, writer)| writer).unwrap();
    let enough = unheard(&home, &["config", "schema"], closed());
    assert_eq!((enough.code, enough.stderr.as_str()), (Some(0), ""));
    let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let lost = unheard(&home, &["config", "schema"], full);
    assert_eq!(lost.code, Some(1));
    assert!(lost.stderr.starts_with("error: standard output cannot be written: No space left"), "{}", lost.stderr);
    let wrong = home.file("wrong.toml", "[node]\ncolour = 'red'").display().to_string();
    let mut unheard = home.tidegate(&["config", "check", &wrong].map(Into::into), &[]);
    let status = unheard.stderr(closed()).status().unwrap();
    assert_eq!(status.code(), Some(2), "nobody reads what is wrong, and it is told by the code");
}

#[test]
fn a_node_that_nobody_listens_to_serves() {
    let home = Home::new();
    let console = free_port();
    let config = home.config(&Spec::new().with(&format!("[console]\nlisten = '127.0.0.1:{console}'")));
    let mut command = home.tidegate(&["run".into(), "-c".into(), config.into()], &[]);
    let (_, closed) = std::io::pipe().unwrap();
    let node = Killed(command.stdout(closed).stderr(Stdio::null()).spawn().unwrap());
    wait_until(PATIENCE, "it is ready", || {
        let asked = home.command(&["status", "--console", &format!("http://127.0.0.1:{console}")]);
        (asked.code == Some(0)).then_some(())
    });
    drop(node);
}

/// A process that does not outlive its test.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _gone = self.0.kill();
        let _reaped = self.0.wait();
    }
}
