//! The packages, where they are to live: installed, started, upgraded, removed and purged by the real package manager on a
//! machine with a real systemd.

#[path = "packages/machine.rs"]
mod machine;
mod support;

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use cloud_adapters::contract::is_left_out_without_root;
use machine::{Machine, said};
use tempfile::TempDir;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn make_package(target: &str, program: &str, out: &Path, more: &[&str]) -> Output {
    let mut command = Command::new(root().join("firmware-targets/package"));
    command.args([target, program]).arg(out).args(["--compression", "none"]).args(more);
    command.output().expect("firmware-targets/package starts")
}

/// The package of the program under test, as if it were of that version.
fn package(out: &TempDir, version: &str) -> PathBuf {
    package_as("deb", out, version)
}

fn package_as(format: &str, out: &TempDir, version: &str) -> PathBuf {
    let more = ["--version", version, "--format", format];
    let made = make_package("x86_64-gateway", env!("CARGO_BIN_EXE_tidegate"), out.path(), &more);
    assert!(made.status.success(), "{}", said(&made));
    PathBuf::from(String::from_utf8(made.stdout).unwrap().trim())
}

/// A machine, and a folder for its packages; `None` where tests that need root are left out.
fn fresh_machine() -> Option<(Machine, TempDir)> {
    let is_left_out = is_left_out_without_root("a machine of its own");
    (!is_left_out).then(|| (Machine::boot(), tempfile::tempdir().unwrap()))
}

fn install(machine: &Machine, package: &Path) -> String {
    let inside = machine.bring(package);
    let installed = machine.run(&format!("dpkg --install {inside}"));
    assert!(installed.status.success(), "{}", said(&installed));
    said(&installed)
}

fn main_pid(machine: &Machine) -> u32 {
    machine.out("systemctl show --property MainPID --value tidegate").parse().unwrap()
}

/// An image with one bright pixel, to the model that the installed configuration serves.
const INFER: &str = r#"curl --silent --fail --max-time 10 http://127.0.0.1:8080/v2/models/digits/infer --header 'content-type: application/json' --data '{"inputs":[{"name":"image","shape":[1,1,8,8],"datatype":"FP32","data":[16,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0]}]}'"#;

fn wait_serving(machine: &Machine) {
    let answer = machine.wait("the installed node answers", INFER);
    assert!(answer.contains("logits"), "{answer}");
}

/// Paths that were made or changed since the boot and have our name, but for the records of the package manager and the logs.
fn traces(machine: &Machine) -> Vec<String> {
    let found = machine.out("cd /changes && find . -iname '*tidegate*' -not -type c");
    let records = ["./var/lib/dpkg/", "./var/log/", "./packages/", "./tmp/"];
    found.lines().filter(|path| !records.iter().any(|record| path.starts_with(record))).map(str::to_owned).collect()
}

#[test]
fn a_deb_is_installed_started_upgraded_removed_and_purged() {
    let Some((machine, out)) = fresh_machine() else { return };

    install(&machine, &package(&out, "0.1.0"));
    assert_eq!(machine.out("systemctl is-active tidegate; systemctl is-enabled tidegate"), "active\nenabled");
    let verified = machine.run("systemd-analyze verify tidegate.service tidegate-gateway.socket");
    assert_eq!((verified.status.code(), said(&verified).contains("tidegate")), (Some(0), false), "{}", said(&verified));
    wait_serving(&machine);
    let told = machine.out("systemctl show --property StatusText --value tidegate");
    assert_eq!(told, "1 services at http://127.0.0.1:8080");
    let pid = main_pid(&machine);
    assert_eq!(machine.out(&format!("ps -o user= -p {pid}")), "tidegate");
    assert_eq!(machine.out("stat --format '%U %a' /var/lib/tidegate"), "tidegate 700");

    // It comes back when it is killed.
    machine.out(&format!("kill -KILL {pid}"));
    machine.wait(
        "systemd starts it again",
        &format!("p=$(systemctl show -P MainPID tidegate); [ $p != 0 ] && [ $p != {pid} ]"),
    );
    wait_serving(&machine);

    // What an administrator wrote survives an upgrade, and the node is the new one after it.
    machine.out("printf '\\n[node]\\nid = \"gateway-7\"\\n' > /etc/tidegate/conf.d/10-id.toml");
    machine.out("printf '# mine\\n' >> /etc/tidegate/tidegate.toml");
    let before = main_pid(&machine);
    install(&machine, &package(&out, "0.1.1"));
    assert_ne!(main_pid(&machine), before);
    wait_serving(&machine);
    let node = machine.out("curl --silent --fail http://127.0.0.1:8081/api/v1/node");
    assert!(node.contains("\"node\":\"gateway-7\""), "{node}");
    assert!(machine.out("tail -1 /etc/tidegate/tidegate.toml").contains("# mine"));

    // A changed configuration is taken up without a restart, and a wrong one leaves the former in force.
    let before = main_pid(&machine);
    let drop_in = "/etc/tidegate/conf.d/15-limits.toml";
    machine.out(&format!("printf '[gateway]\\nqueue = 7\\n' > {drop_in} && systemctl reload tidegate"));
    let in_force = "curl --silent --fail http://127.0.0.1:8081/api/v1/node";
    machine.wait("it is taken up", &format!("{in_force} | grep -q '\"attempts\":1,\"applied_at\":\"2'"));
    machine.out(&format!("printf '[gateway]\\nqueue = -7\\n' > {drop_in}"));
    let told = said(&machine.run("systemctl reload tidegate; journalctl -u tidegate --no-pager -n 20"));
    assert!(told.contains("the former configuration stays in force") && told.contains("gateway.queue"), "{told}");
    assert!(!machine.succeeds("systemctl reload tidegate") && machine.succeeds("systemctl is-active tidegate"));
    machine.out(&format!("rm {drop_in} && tidegate config apply"));
    assert_eq!(main_pid(&machine), before);

    // A version that does not take the configuration leaves the running node alone, and says what to do.
    machine.out("printf '[gatewy]\\nqueue = 1\\n' > /etc/tidegate/conf.d/20-wrong.toml");
    let before = main_pid(&machine);
    let told = install(&machine, &package(&out, "0.1.2"));
    assert!(told.contains("gatewy") && told.contains("mend the file, then: systemctl restart tidegate"), "{told}");
    assert_eq!(main_pid(&machine), before);
    wait_serving(&machine);

    // Started with it, the node says what is wrong, and systemd does not try again.
    assert!(!machine.succeeds("systemctl restart tidegate"));
    machine.wait("it has failed for good", "systemctl is-failed tidegate");
    assert_eq!(machine.out("systemctl show --property NRestarts --value tidegate"), "0");
    assert!(machine.log().contains("gatewy"), "{}", machine.log());
    let told = said(&machine.run("tidegate doctor"));
    assert!(told.contains("ended with exit code 2: the configuration, or a model, is wrong"), "{told}");
    machine.out("rm /etc/tidegate/conf.d/20-wrong.toml && systemctl reset-failed tidegate && systemctl start tidegate");
    wait_serving(&machine);

    // An override with a typo in it, which systemd ignores, is found by the doctor, and nothing else is.
    assert!(machine.succeeds("tidegate doctor"), "{}", said(&machine.run("tidegate doctor")));
    let folder = "/etc/systemd/system/tidegate.service.d";
    machine.out(&format!(
        "mkdir {folder} && printf '[Service]\\nWatchdgSec=9\\n' > {folder}/typo.conf && systemctl daemon-reload"
    ));
    let told = said(&machine.run("tidegate doctor"));
    assert!(told.contains("WatchdgSec") && told.contains("systemctl revert tidegate"), "{told}");
    machine.out(&format!("rm -r {folder} && systemctl daemon-reload"));

    // What an administrator disabled stays disabled over an upgrade.
    machine.out("systemctl disable --quiet --now tidegate");
    install(&machine, &package(&out, "0.1.3"));
    assert_eq!(
        said(&machine.run("systemctl is-active tidegate; systemctl is-enabled tidegate")).trim(),
        "inactive\ndisabled"
    );
    machine.out("systemctl enable --quiet --now tidegate");
    wait_serving(&machine);

    // Removed, what the administrator and the node wrote stays; purged, nothing does.
    machine.out("dpkg --remove tidegate");
    assert!(!machine.succeeds("pgrep --exact tidegate"), "{}", machine.out("ps ax"));
    assert!(!machine.succeeds("command -v tidegate"));
    assert!(machine.succeeds("test -e /etc/tidegate/conf.d/10-id.toml && test -e /var/lib/tidegate/journal.sqlite"));
    install(&machine, &package(&out, "0.1.4"));
    wait_serving(&machine);
    machine.out("dpkg --purge tidegate");
    assert!(!machine.succeeds("pgrep --exact tidegate"), "{}", machine.out("ps ax"));
    assert!(!machine.succeeds("getent passwd tidegate"));
    assert_eq!(traces(&machine), [""; 0], "left after a purge");
}

#[test]
fn a_node_that_hangs_is_started_again_by_the_watchdog() {
    let Some((machine, out)) = fresh_machine() else { return };
    machine.out("mkdir -p /etc/systemd/system/tidegate.service.d");
    machine.out("printf '[Service]\\nWatchdogSec=6s\\n' > /etc/systemd/system/tidegate.service.d/watchdog.conf");
    install(&machine, &package(&out, "0.1.0"));
    wait_serving(&machine);
    let pid = main_pid(&machine);
    machine.out(&format!("kill -STOP {pid}"));
    machine.wait(
        "the watchdog ends it",
        &format!("p=$(systemctl show -P MainPID tidegate); [ $p != 0 ] && [ $p != {pid} ]"),
    );
    wait_serving(&machine);
    let log = machine.out("journalctl --unit tidegate.service --no-pager");
    assert!(log.contains("Watchdog timeout"), "{log}");
}

#[test]
fn connections_wait_while_the_node_restarts_where_systemd_holds_its_port() {
    let Some((machine, out)) = fresh_machine() else { return };
    install(&machine, &package(&out, "0.1.0"));
    wait_serving(&machine);
    machine.out("systemctl stop tidegate && systemctl enable --now tidegate-gateway.socket");
    machine.out("systemctl start tidegate");
    wait_serving(&machine);
    let live = "curl --silent --output /dev/null --write-out '%{http_code}\\n' --max-time 60 http://127.0.0.1:8080/v2/health/live";
    // One request after the other, each on a connection of its own, across two restarts and an upgrade.
    let asking = format!("rm -f /tmp/stop; while [ ! -e /tmp/stop ]; do {live} || echo failed; done > /tmp/answers");
    machine.out(&format!("systemd-run --unit asking sh -c {}", quoted(&asking)));
    machine.out("systemctl restart tidegate");
    install(&machine, &package(&out, "0.1.1"));
    machine.out("systemctl restart tidegate");
    wait_serving(&machine);
    machine.out("touch /tmp/stop");
    machine.wait("the asking has ended", "! systemctl is-active --quiet asking");
    let answers = machine.out("sort /tmp/answers | uniq -c");
    assert!(answers.trim().ends_with(" 200") && answers.lines().count() == 1, "{answers}");
}

/// Unpacks an archive on the machine; the folder with the script.
fn unpack(machine: &Machine, archive: &Path) -> String {
    let inside = machine.bring(archive);
    machine.out(&format!("cd /tmp && tar --extract --file {inside} && rm {inside}"));
    format!("/tmp/{}", archive.file_stem().unwrap().to_str().unwrap())
}

#[test]
fn an_archive_installs_itself_upgrades_and_goes_without_a_trace() {
    let Some((machine, out)) = fresh_machine() else { return };
    let first = unpack(&machine, &package_as("tar", &out, "0.1.0"));
    let told = machine.out(&format!("{first}/install"));
    assert!(told.contains("installed and started"), "{told}");
    assert_eq!(machine.out("systemctl is-active tidegate; systemctl is-enabled tidegate"), "active\nenabled");
    wait_serving(&machine);
    let examined = machine.run("/usr/local/bin/tidegate doctor");
    assert!(examined.status.success(), "{}", said(&examined));
    assert!(machine.out("ps -o user= -p $(systemctl show -P MainPID tidegate)").contains("tidegate"));

    // The same once more, of the next version: what an administrator wrote stays, and the new program runs.
    machine.out("printf '# mine\\n' >> /etc/tidegate/tidegate.toml");
    let before = main_pid(&machine);
    let second = unpack(&machine, &package_as("tar", &out, "0.1.1"));
    machine.out(&format!("{second}/install"));
    assert_ne!(main_pid(&machine), before);
    assert!(machine.out("tail -1 /etc/tidegate/tidegate.toml").contains("# mine"));
    wait_serving(&machine);

    // A program that does not take the configuration leaves the running node alone.
    machine.out("printf '[gatewy]\\nqueue = 1\\n' > /etc/tidegate/conf.d/20-wrong.toml");
    let before = main_pid(&machine);
    let told = machine.out(&format!("{second}/install 2>&1"));
    assert!(told.contains("gatewy") && told.contains("systemctl restart tidegate"), "{told}");
    assert_eq!(main_pid(&machine), before);

    // Another machine's archive, and two installations, are refused with what to do.
    let foreign =
        format!("cp -r {second} /tmp/foreign && printf 'no program' > /tmp/foreign/tidegate && /tmp/foreign/install");
    let refused = machine.run(&foreign);
    assert!(
        refused.status.code() == Some(2) && said(&refused).contains("take the archive for this machine"),
        "{}",
        said(&refused)
    );

    machine.out(&format!("{second}/install --remove"));
    assert!(!machine.succeeds("systemctl is-active tidegate") && !machine.succeeds("test -e /usr/local/bin/tidegate"));
    assert!(machine.succeeds("test -s /var/lib/tidegate/session && test -e /etc/tidegate/tidegate.toml"));
    machine.out(&format!("{second}/install --remove --purge"));
    machine.out("rm -r /tmp/tidegate-* /tmp/foreign");
    assert_eq!(traces(&machine), [""; 0]);
    assert!(!machine.succeeds("getent passwd tidegate"));

    install(&machine, &package(&out, "0.1.2"));
    let third = unpack(&machine, &package_as("tar", &out, "0.1.3"));
    let refused = machine.run(&format!("{third}/install"));
    assert!(
        refused.status.code() == Some(2) && said(&refused).contains("apt-get remove tidegate"),
        "{}",
        said(&refused)
    );
}

/// No system here reads OpenWrt's packages, so what its format asks for is looked at by hand.
#[test]
fn an_ipk_has_what_opkg_reads_and_its_files_in_their_places() {
    let out = tempfile::tempdir().unwrap();
    let package = package_as("ipk", &out, "0.1.0");
    let list = |archive: &str| {
        let command = format!(
            "tar --extract --gzip --to-stdout --file {} ./{archive} | tar --list --verbose --gzip",
            package.display()
        );
        let listed = Command::new("sh").args(["-ec", &command]).output().unwrap();
        assert!(listed.status.success(), "{}", said(&listed));
        String::from_utf8(listed.stdout).unwrap()
    };
    let outer = Command::new("tar").args(["--list", "--gzip", "--file"]).arg(&package).output().unwrap();
    assert_eq!(String::from_utf8(outer.stdout).unwrap(), "./debian-binary\n./control.tar.gz\n./data.tar.gz\n");
    let (control, data) = (list("control.tar.gz"), list("data.tar.gz"));
    for file in ["control", "conffiles", "preinst", "postinst", "prerm"] {
        assert!(control.lines().any(|line| line.ends_with(&format!(" ./{file}"))), "{file}: {control}");
    }
    for file in ["usr/bin/tidegate", "etc/init.d/tidegate"] {
        let is_there = |line: &str| line.starts_with("-rwxr-xr-x root/root ") && line.ends_with(&format!(" ./{file}"));
        assert!(data.lines().any(is_there), "{file}: {data}");
    }
    for script in ["preinst", "postinst", "prerm", "tidegate.init"] {
        let path = root().join("firmware-targets/packaging/openwrt").join(script);
        assert!(Command::new("sh").arg("-n").arg(&path).status().unwrap().success(), "{script}");
    }
    let preinst = Command::new("sh").arg(root().join("firmware-targets/packaging/openwrt/preinst")).output().unwrap();
    assert!(preinst.status.code() == Some(1) && said(&preinst).contains("take the one for this machine"));
}

#[test]
fn the_same_files_make_the_same_archive() {
    let (one, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let made = [&one, &other].map(|out| std::fs::read(package_as("tar", out, "0.1.0")).unwrap());
    assert!(made[0] == made[1], "two archives of the same files differ");
}

#[test]
fn a_release_is_all_packages_with_their_checksums() {
    let out = tempfile::tempdir().unwrap();
    let release = out.path().join("release");
    let built = format!("x86_64-gateway={}", env!("CARGO_BIN_EXE_tidegate"));
    let mut command = Command::new(root().join("firmware-targets/make-dist"));
    command.arg(&release).arg(&built).args(["--version", "0.1.0", "--compression", "none", "--no-sbom"]);
    let made = command.output().unwrap();
    assert!(made.status.success(), "{}", said(&made));
    let checked = Command::new("sha256sum").args(["--check", "SHA256SUMS"]).current_dir(&release).output().unwrap();
    let expected = "tidegate-0.1.0-x86_64-unknown-linux-gnu.tar: OK\ntidegate_0.1.0_amd64.deb: OK\n";
    assert_eq!(String::from_utf8(checked.stdout).unwrap(), expected);
    let unknown =
        Command::new(root().join("firmware-targets/make-dist")).arg(&release).arg("toaster").output().unwrap();
    assert_eq!(unknown.status.code(), Some(2), "{}", said(&unknown));
}

/// A word for the shell.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

#[test]
fn a_program_that_does_not_fit_the_target_is_not_packaged() {
    let out = tempfile::tempdir().unwrap();
    let refused = |target: &str, program: &str| {
        let made = make_package(target, program, out.path(), &[]);
        assert_eq!(made.status.code(), Some(2), "{}", said(&made));
        said(&made)
    };
    let own = env!("CARGO_BIN_EXE_tidegate");
    let told = refused("raspberry-pi-arm64", own);
    assert!(told.contains("is for 'Advanced Micro Devices X86-64', raspberry-pi-arm64 is 'AArch64'"), "{told}");
    assert!(refused("toaster", own).contains("there is no firmware-targets/toaster/target.toml"));
    assert!(refused("x86_64-gateway", "/no/such/program").contains("there is no program"));
    assert!(refused("x86_64-gateway", "README.md").contains("no machine that readelf knows"));
}

#[test]
fn a_target_that_is_not_there_is_not_built() {
    let mut build = Command::new(root().join("firmware-targets/build"));
    let refused = build.arg("toaster").output().expect("firmware-targets/build starts");
    assert_eq!(refused.status.code(), Some(2), "{}", said(&refused));
    assert!(said(&refused).contains("there is no firmware-targets/toaster/target.toml"), "{}", said(&refused));
}
