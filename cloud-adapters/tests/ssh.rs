//! The SSH adapter against real sshds on loopback ports: the contract suite, the same with the forced command that is
//! shipped, and what is special about a far machine. Instances are counted in the process table.

#[path = "ssh/host.rs"]
mod host;
#[path = "ssh/proxy.rs"]
mod proxy;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use cloud_adapters::contract::{ContractHarness, Fault, arguments, request, wrappers_in};
use cloud_adapters::process::processes_of;
use cloud_adapters::{CloudAdapter, LaunchId, LaunchRequest, Owner, SshAdapter, SshLimits, SshOptions};
use host::{Host, signal};
use nix::sys::signal::Signal;
use proxy::Proxy;

#[path = "ssh/far_side.rs"]
mod far_side;

cloud_adapters::contract_tests!(Far::new());

/// The forced command is all that a node needs.
mod with_the_forced_command {
    use super::Far;

    cloud_adapters::contract_tests!(Far::with_policy();
        a_full_account_says_no_capacity_until_one_ends,
        a_launch_cut_off_at_any_moment_leaves_one_instance,
        an_instance_is_described_from_launch_to_termination,
        an_unrenewed_instance_ends_itself,
        instances_of_others_are_neither_listed_nor_touched,
        launching_again_returns_the_same_instance,
        terminating_twice_is_ok,
        the_token_is_shown_nowhere,
        what_an_operator_has_to_know_is_found_by_a_check,
    );
}

/// A far machine with nothing but busybox, and the flock that Debian leaves out of it.
mod with_busybox {
    use super::Far;

    cloud_adapters::contract_tests!(Far::with_busybox();
        a_killed_instance_is_listed_as_ended_until_terminated,
        a_workload_that_never_starts_ends_with_a_reason,
        an_instance_is_described_from_launch_to_termination,
        launching_at_once_from_two_clients_leaves_one_instance,
        terminating_twice_is_ok,
        what_an_operator_has_to_know_is_found_by_a_check,
    );
}

/// Generous: the tests run beside others on two cores, and each call is several processes.
const PATIENCE: Duration = Duration::from_secs(60);

/// One far machine of its own.
struct Far {
    host: Host,
    /// The port that clients use.
    port: u16,
    proxies: std::sync::Mutex<Vec<Proxy>>,
}

impl Far {
    fn new() -> Self {
        Self::at(Host::new())
    }

    fn with_policy() -> Self {
        Self::at(Host::with_policy())
    }

    fn with_busybox() -> Self {
        let host = Host::new();
        let applets = host.path("applets");
        std::fs::create_dir(&applets).expect("mkdir");
        let mut install = std::process::Command::new("busybox");
        assert!(install.args(["--install", "-s"]).arg(&applets).status().expect("busybox is installed").success());
        // The applet is one that this busybox may lack.
        let _ = std::os::unix::fs::symlink("/usr/bin/flock", applets.join("flock"));
        let port = host.serve_with(&applets.display().to_string(), "");
        Self { port, ..Self::at(host) }
    }

    fn at(host: Host) -> Self {
        Self { port: host.port, host, proxies: std::sync::Mutex::default() }
    }

    fn options(&self) -> SshOptions {
        self.host.options_at(self.port)
    }

    fn client(&self, options: SshOptions) -> Arc<dyn CloudAdapter> {
        Arc::new(SshAdapter::new(options))
    }

    fn wrapper(&self, launch: &LaunchId) -> u32 {
        let wrappers = wrappers_in(&self.host.run_dir(launch));
        assert_eq!(wrappers.len(), 1, "{wrappers:?}");
        wrappers[0]
    }

    /// A client of an sshd that spoils every verb but those which bring our programs there.
    fn spoiled(&self, how: &str) -> Arc<dyn CloudAdapter> {
        let script = format!(
            "#!/bin/sh\nasked=$SSH_ORIGINAL_COMMAND\ncase $asked in\n\
             cat | 'sh -c'* | *' hello' | *' probe' | *' has '* | *' put '* | *' try '*) exec sh -c \"$asked\" ;;\nesac\n\
             answer=$(mktemp -p '{}')\n{how}\n",
            self.host.path("").display()
        );
        let script = self.host.program(&format!("spoil-{}", how.len()), script);
        let port = self.host.serve(&format!("ForceCommand {}", script.display()));
        let adapter = self.client(self.host.options_at(port));
        // Connected and equipped, so that it is the calls themselves that are spoiled.
        let warm = tokio::task::block_in_place(|| tokio::runtime::Handle::current().block_on(adapter.check()));
        assert!(warm.iter().all(|finding| finding.verdict != cloud_adapters::Verdict::Bad), "{warm:?}");
        adapter
    }

    fn cut_before_request(&self) -> Arc<dyn CloudAdapter> {
        let proxy = Proxy::start(self.port, 0);
        let adapter = self.client(self.host.options_at(proxy.port));
        self.proxies.lock().expect("proxies").push(proxy);
        adapter
    }
}

impl ContractHarness for Far {
    fn adapter(&self) -> Arc<dyn CloudAdapter> {
        self.client(self.options())
    }

    fn adapter_with_capacity(&self, max_instances: u32) -> Option<Arc<dyn CloudAdapter>> {
        Some(self.client(SshOptions { max_instances: Some(max_instances), ..self.options() }))
    }

    fn misconfigured(&self) -> Vec<(&'static str, Arc<dyn CloudAdapter>)> {
        let missing = self.host.path("missing");
        let empty = self.host.write("empty", "");
        let script = self.host.program("script", "#!/nonexistent/interpreter\n");
        // An ELF header that says AArch64 or, there, RISC-V.
        let machine: u8 = if cfg!(target_arch = "aarch64") { 243 } else { 183 };
        let mut elf = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0\x02\0".to_vec();
        elf.extend([machine, 0, 1, 0, 0, 0]);
        elf.resize(64, 0);
        let foreign = self.host.program("foreign", elf);
        let with = |change: &dyn Fn(&mut SshOptions)| {
            let mut options = self.options();
            change(&mut options);
            self.client(options)
        };
        let mut clients = vec![
            ("cannot be read: name a file", with(&|options| options.key = Some(missing.clone()))),
            ("known_hosts = `", with(&|options| options.known_hosts = Some(missing.clone()))),
            ("its host key is unknown", with(&|options| options.known_hosts = Some(empty.clone()))),
            ("cannot find the program", with(&|options| options.program = missing.clone())),
            ("does not run on", with(&|options| options.program = script.clone())),
            ("does not run on", with(&|options| options.program = foreign.clone())),
            ("give the name or address alone", with(&|options| options.host = "-oProxyCommand=id".into())),
            ("empty list", with(&|options| options.limits.cpus = Some(Vec::new()))),
            ("niceness", with(&|options| options.limits.niceness = 20)),
        ];
        if !self.is_forced() {
            let directory = format!("{}/below", empty.display());
            clients.push(("let that user write there", with(&|options| options.directory.clone_from(&directory))));
            clients.push(("as directory", with(&|options| options.directory = "$(id)".into())));
        }
        clients
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
        wrappers_in(&self.host.run_dir(launch)).len()
    }

    fn public_texts(&self, launch: &LaunchId) -> Vec<String> {
        let run_dir = self.host.run_dir(launch);
        let mut texts: Vec<String> = processes_of(&run_dir).into_iter().flat_map(arguments).collect();
        texts.extend(self.host.command_lines());
        texts.push(std::fs::read_to_string(run_dir.join("labels")).expect("labels"));
        texts
    }

    fn adapter_with_fault(&self, fault: Fault) -> Option<Arc<dyn CloudAdapter>> {
        Some(match fault {
            Fault::Slow => self.spoiled("sh -c \"$asked\" >\"$answer\"; sleep 2; cat \"$answer\""),
            Fault::Failing => self.spoiled("exit 1"),
            Fault::Truncated => {
                self.spoiled("sh -c \"$asked\" >\"$answer\"; head -c $(($(wc -c <\"$answer\") - 3)) \"$answer\"")
            }
            Fault::CutBeforeAnswer => self.spoiled(
                "sh -c \"$asked\" >\"$answer\"; up=$PPID; \
                 while [ \"$(cat /proc/$up/comm)\" != sshd ]; do up=$(cut -d' ' -f4 /proc/$up/stat); done; kill -9 $up",
            ),
            Fault::CutBeforeRequest => self.cut_before_request(),
        })
    }

    fn with_wrong_credentials(&self) -> Vec<(&'static str, Arc<dyn CloudAdapter>)> {
        let stranger = SshOptions { key: Some(self.host.path("other-key")), ..self.options() };
        let changed = SshOptions { known_hosts: Some(self.host.know(self.port, "other-key")), ..self.options() };
        vec![
            ("it does not take our key", self.client(stranger)),
            ("its host key is not the one in known_hosts", self.client(changed)),
        ]
    }

    fn patience(&self) -> Duration {
        PATIENCE
    }
}

impl Far {
    /// Whether the far side's directory is the forced command's to choose.
    fn is_forced(&self) -> bool {
        self.host.root().join("bin/remote.sh").exists()
    }
}

fn limits(limits: SshLimits, options: SshOptions) -> SshOptions {
    SshOptions { limits, ..options }
}

fn file_in(far: &Far, launch: &LaunchId, name: &str) -> PathBuf {
    far.host.run_dir(launch).join(name)
}
