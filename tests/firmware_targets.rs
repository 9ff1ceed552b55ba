//! Every folder of `firmware-targets/` is read and checked: a manifest that names a triple, a profile, a feature or a
//! unit that does not exist is found here and not on a device in a cabinet.

#[path = "firmware_targets/manifest.rs"]
mod manifest;
#[path = "firmware_targets/unit.rs"]
mod unit;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use toml::Table;

use crate::unit::Unit;

/// Beside the targets: what the packages of all of them are made from.
const PACKAGING: &str = "packaging";

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn targets() -> PathBuf {
    root().join("firmware-targets")
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn table(path: &Path) -> Table {
    read(path).parse().unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The folders by name, in order.
fn folders() -> Vec<String> {
    let entries = fs::read_dir(targets()).expect("firmware-targets is a folder");
    let folders = entries.map(|entry| entry.expect("a readable entry")).filter(|entry| entry.path().is_dir());
    let folders = folders.filter(|entry| entry.file_name() != PACKAGING);
    let mut names: Vec<String> = folders.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

fn manifest_of(folder: &str) -> Table {
    table(&targets().join(folder).join("target.toml"))
}

fn text<'a>(manifest: &'a Table, section: &str, key: &str) -> Option<&'a str> {
    manifest.get(section)?.get(key)?.as_str()
}

/// The systemd units that the manifests name, with the folder that names each.
fn units() -> Vec<(String, Unit)> {
    let named = folders().into_iter().filter_map(|folder| {
        let manifest = manifest_of(&folder);
        let path = targets().join(&folder).join(text(&manifest, "install", "unit")?);
        (text(&manifest, "install", "init") == Some("systemd")).then(|| (folder, Unit::parse(&read(&path))))
    });
    named.collect()
}

fn assert_none(problems: &[String]) {
    assert!(problems.is_empty(), "{} found:\n{}", problems.len(), problems.join("\n"));
}

#[test]
fn the_first_device_classes_are_there() {
    let have = folders();
    for wanted in ["openwrt-musl", "raspberry-pi-arm64", "x86_64-gateway"] {
        assert!(have.iter().any(|name| name == wanted), "firmware-targets/{wanted} is missing, there are {have:?}");
    }
}

#[test]
fn every_manifest_is_sound() {
    let problems = folders().into_iter().flat_map(|folder| {
        let found = manifest::problems(&manifest_of(&folder));
        found.into_iter().map(move |problem| format!("firmware-targets/{folder}/target.toml: {problem}"))
    });
    assert_none(&problems.collect::<Vec<_>>());
}

#[test]
fn every_triple_is_one_that_rustc_knows() {
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let listed = Command::new(rustc).args(["--print", "target-list"]).output().expect("rustc runs");
    let known = String::from_utf8_lossy(&listed.stdout).into_owned();
    for folder in folders() {
        let manifest = manifest_of(&folder);
        let triple = text(&manifest, "build", "triple").expect("build.triple");
        assert!(known.lines().any(|line| line == triple), "{folder}: rustc does not know `{triple}`");
    }
}

#[test]
fn profiles_features_and_files_that_are_named_exist() {
    let cargo = table(&root().join("Cargo.toml"));
    let names = |key: &str| cargo.get(key).and_then(|value| value.as_table()).cloned().unwrap_or_default();
    let mut problems = Vec::new();
    for folder in folders() {
        let manifest = manifest_of(&folder);
        let profile = text(&manifest, "install", "profile").expect("install.profile");
        let mut files = vec![root().join("edge-config/profiles").join(format!("{profile}.toml"))];
        files.extend(text(&manifest, "install", "unit").map(|unit| targets().join(&folder).join(unit)));
        problems.extend(files.iter().filter(|f| !f.is_file()).map(|f| format!("{folder}: {} is missing", f.display())));
        let shipped = text(&manifest, "build", "cargo_profile").expect("build.cargo_profile");
        if !names("profile").contains_key(shipped) {
            problems.push(format!("{folder}: Cargo.toml has no [profile.{shipped}]"));
        }
        let features = manifest["build"]["features"].as_array().expect("build.features").clone();
        let unknown = features.into_iter().filter(|f| !f.as_str().is_some_and(|f| names("features").contains_key(f)));
        problems.extend(unknown.map(|feature| format!("{folder}: Cargo.toml has no feature {feature}")));
    }
    assert_none(&problems);
}

#[test]
fn the_readme_explains_every_key_and_claims_no_more_than_the_manifests() {
    let readme = read(&targets().join("README.md"));
    for key in manifest::keys() {
        assert!(readme.contains(&format!("| `{key}` |")), "firmware-targets/README.md does not explain `{key}`");
    }
    for folder in folders() {
        let row = readme.lines().find(|line| line.starts_with(&format!("| [{folder}]")));
        let row = row.unwrap_or_else(|| panic!("firmware-targets/README.md has no row for {folder}"));
        let manifest = manifest_of(&folder);
        for key in ["triple", "built"] {
            let section = if key == "triple" { "build" } else { "verified" };
            let value = text(&manifest, section, key).expect("a text");
            assert!(row.contains(value), "the row of {folder} does not say `{value}`");
        }
    }
}

#[test]
fn a_bad_manifest_is_named_key_by_key() {
    let good = manifest_of("x86_64-gateway");
    assert_none(&manifest::problems(&good));
    let broken = [
        ("device", "memory_mib", "0".into()),
        ("device", "memory_budget_mib", 4096.into()),
        ("device", "cores", "four".into()),
        ("device", "accelerator", "warp".into()),
        ("device", "colour", "red".into()),
        ("build", "triple", "X86-linux".into()),
        ("build", "triple", "x86_64-unknown-linux-musl".into()),
        ("build", "linker", "".into()),
        ("build", "libc", "glibc".into()),
        ("build", "libc", "musl".into()),
        ("install", "package", "exe".into()),
        ("install", "init", "upstart".into()),
        ("verified", "built", "yes".into()),
    ];
    for (section, key, value) in broken {
        let mut manifest = good.clone();
        let shown = format!("{section}.{key} = {value}");
        manifest[section].as_table_mut().expect("a table").insert(key.to_owned(), value);
        let problems = manifest::problems(&manifest);
        assert!(problems.iter().any(|p| p.contains(section)), "{shown} is accepted: {problems:?}");
    }
    for (section, key) in manifest::required() {
        let mut manifest = good.clone();
        manifest[section].as_table_mut().expect("a table").remove(key);
        let problems = manifest::problems(&manifest);
        assert!(problems.iter().any(|p| p.starts_with(&format!("{section}.{key}"))), "{section}.{key} is not missed");
    }
}

#[test]
fn every_unit_is_sound() {
    let units = units();
    assert!(!units.is_empty(), "no target has a systemd unit");
    let problems =
        units.iter().flat_map(|(folder, unit)| unit.problems().into_iter().map(move |p| format!("{folder}: {p}")));
    assert_none(&problems.collect::<Vec<_>>());
}

/// Each `Exec…` line names a command that the built program has, with options that its help lists.
#[test]
fn units_start_commands_that_exist() {
    for (folder, unit) in units() {
        for line in unit.commands() {
            let call = unit::Call::parse(&line).unwrap_or_else(|| panic!("{folder}: `{line}` does not start tidegate"));
            let mut program = Command::new(env!("CARGO_BIN_EXE_tidegate"));
            let output = program.args(&call.subcommands).arg("--help").output().expect("the program starts");
            let help = String::from_utf8_lossy(&output.stdout).into_owned();
            assert!(output.status.success(), "{folder}: `{line}`: {}", String::from_utf8_lossy(&output.stderr));
            for option in &call.options {
                assert!(help.contains(option.as_str()), "{folder}: `{line}`: no option `{option}` in\n{help}");
            }
        }
    }
}

#[test]
fn a_bad_unit_is_named_line_by_line() {
    let (_, good) = units().swap_remove(0);
    assert_none(&good.problems());
    let broken = [
        ("Service", "RestartPreventExitStatus", "1"),
        ("Service", "KillMode", "process"),
        ("Service", "TimeoutStopSec", "30s"),
        ("Service", "User", "root"),
        ("Service", "StateDirectory", "tidegate/x"),
        ("Service", "NoNewPrivileges", "no"),
        ("Service", "ExecReload", "/bin/kill -HUP $MAINPID"),
        ("Service", "ExecStart", "/usr/bin/tidegate run"),
        ("Service", "ExecStartPre", "/usr/bin/tidegate config check /etc/other.toml"),
        ("Service", "Restarts", "always"),
        ("Sorvice", "Type", "simple"),
    ];
    for (section, key, value) in broken {
        let problems = good.with(section, key, value).problems();
        assert!(!problems.is_empty(), "[{section}] {key}={value} is accepted");
    }
}

fn verify(arguments: &[&str]) -> (Option<i32>, String) {
    let output =
        Command::new(targets().join("verify")).args(arguments).output().expect("firmware-targets/verify starts");
    let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    (output.status.code(), said)
}

#[test]
fn a_program_that_is_not_one_for_the_target_is_not_played() {
    let program = env!("CARGO_BIN_EXE_tidegate");
    for (arguments, wanted) in [
        (&["armv7-gateway", program][..], "is for 'Advanced Micro Devices X86-64', armv7-gateway is 'ARM'"),
        (
            &["armv6-toaster", program],
            "there is no firmware-targets/armv6-toaster/target.toml; there are: armv7-gateway",
        ),
        (&["x86_64-gateway", "/nowhere/tidegate"], "there is no program /nowhere/tidegate"),
        (&["x86_64-gateway-static", program], "and x86_64-gateway-static has musl"),
        (&["x86_64-gateway", program, "--idle", "long"], "--idle needs a number of seconds"),
        (&["x86_64-gateway"], "TARGET and PROGRAM are needed"),
    ] {
        let (code, said) = verify(arguments);
        assert!(code == Some(2) && said.contains(wanted), "{arguments:?}: {code:?} {said}");
    }
}

#[test]
fn a_node_of_this_machine_passes_and_a_program_that_is_no_node_does_not() {
    let (code, said) = verify(&["x86_64-gateway", env!("CARGO_BIN_EXE_tidegate")]);
    if code == Some(3) {
        println!("left out: {said}");
        return;
    }
    assert_eq!(code, Some(0), "{said}");
    for step in ["serves", "bursts", "comes back", "publishes", "stops", "holds"] {
        assert!(said.lines().any(|line| line.starts_with(step)), "{step}: {said}");
    }
    let (code, said) = verify(&["x86_64-gateway", "/bin/true"]);
    assert!(
        code == Some(1) && said.contains("the node ended with 0 while this was waited for: ready"),
        "{code:?} {said}"
    );
}
