//! A network bridge of one daemon's own, so that daemons do not give one address twice. Addresses are from the network for
//! benchmarks (RFC 2544), which nobody routes.

use std::fs::File;
use std::net::Ipv4Addr;
use std::process::Command;

/// Addresses of each bridge: for more containers than any test has at once.
const SUBNET_BITS: u32 = 26;
const SUBNET_ADDRESSES: u32 = 1 << (32 - SUBNET_BITS);

/// The network 198.18.0.0/15.
const FIRST: u32 = 0xC612_0000;
const SUBNETS: u32 = (1 << 17) / SUBNET_ADDRESSES;

/// Dropped, it is gone.
pub(crate) struct Bridge {
    pub(crate) name: String,
    /// This machine's own in it, to which containers may connect.
    pub(crate) address: Ipv4Addr,
}

impl Bridge {
    /// Adds one with a subnet that no bridge of this machine has.
    pub(crate) fn add() -> Self {
        // Held until it has its address: tests of several processes add bridges at once.
        let lock = File::create(std::env::temp_dir().join("tidegate-test-bridges.lock")).expect("a lock file");
        lock.lock().expect("the lock");
        let taken = run(&["-o", "-4", "addr", "show"]);
        let subnets = (0..SUBNETS).map(|number| (number, Ipv4Addr::from(FIRST + number * SUBNET_ADDRESSES + 1)));
        let mut free = subnets.filter(|(_, address)| !taken.contains(&format!(" {address}/")));
        let (number, address) = free.next().expect("a subnet is free");
        let name = format!("tgd{number:x}");
        // A link address of its own (locally administered). A bridge without one takes over that of some container, and
        // another's when that goes; who knew the old one reaches nobody for seconds.
        let [_, a, b, c] = address.octets();
        run(&["link", "add", &name, "address", &format!("02:00:00:{a:02x}:{b:02x}:{c:02x}"), "type", "bridge"]);
        let bridge = Self { name, address };
        run(&["addr", "add", &format!("{address}/{SUBNET_BITS}"), "dev", &bridge.name]);
        run(&["link", "set", &bridge.name, "up"]);
        bridge
    }
}

impl Drop for Bridge {
    fn drop(&mut self) {
        let _ = Command::new("ip").args(["link", "del", &self.name]).status();
    }
}

fn run(arguments: &[&str]) -> String {
    let output = Command::new("ip").args(arguments).output().expect("ip");
    assert!(output.status.success(), "ip {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}
