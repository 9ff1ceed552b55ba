//! `tidegate fleet init|enroll|revoke|rotate|list|user|prune`: found a fleet, let nodes, operators and watchers in, and put them
//! out again.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use clap::Subcommand;
use edge_config::{FleetId, NodeId};

use super::terminal::{complain, say};
use crate::host::clock::{rfc3339_s, unix_now};
use crate::trust::{Authority, CredentialFiles, EARLIEST, Issuer, Role, Subject, UnixSeconds, is_fleet, issued};

mod prune;
mod user;
mod welcome;

use welcome::HubAddress;

const DAY: UnixSeconds = 86_400;
/// A year: nodes that are let in again by hand are visited about that often.
const DAYS: u64 = 365;
/// Ten years; a credential of more is one that nobody means to renew.
const MAX_DAYS: u64 = 3_653;
/// The user that a new fleet has, to watch at its hub.
const WATCHER: &str = "watcher";
/// Below the fleet's folder: what was made for each node, to be copied there.
const NODES: &str = "nodes";

/// The fleet's root and credentials.
#[derive(Debug, Subcommand)]
pub enum FleetCommand {
    /// Found a fleet: make the root that lets nodes in.
    ///
    /// Example: tidegate fleet init plant-a
    Init(Init),
    /// Make a credential for a node or an operator.
    ///
    /// Example: tidegate fleet enroll gateway-7 --dir plant-a-fleet --host gateway-7.local
    Enroll(Enroll),
    /// Believe nothing any more that a node or an operator says.
    ///
    /// Example: tidegate fleet revoke gateway-7 --dir plant-a-fleet
    Revoke(Revoke),
    /// Replace the root: begin, let every node hear of it and enroll all of them anew, then finish.
    ///
    /// Example: tidegate fleet rotate --dir plant-a-fleet
    Rotate(Rotate),
    /// List what was issued, by the fleet or by an authority.
    ///
    /// Example: tidegate fleet list --dir plant-a-fleet
    List(Folder),
    /// Let somebody watch at a hub by a password, or no longer.
    ///
    /// Example: tidegate fleet user anna --dir plant-a-fleet
    User(user::User),
    /// Clear what nodes left at a broker that are not there any more.
    ///
    /// Example: tidegate fleet prune plant-a --broker mqtts://hub --credentials plant-a-fleet/nodes/laptop --dry-run
    Prune(prune::Prune),
}

/// `fleet init`.
#[derive(Debug, clap::Args)]
pub struct Init {
    /// The fleet's id: 1 to 40 of a-z, 0-9 and -
    fleet: String,
    /// Where its root is kept; FLEET-fleet here without it.
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// Where its hub will be reached, for what is printed.
    #[arg(long, value_name = "HOST[:PORT]", default_value = "hub.local")]
    hub: HubAddress,
}

/// The fleet's folder.
#[derive(Debug, clap::Args)]
pub struct Folder {
    /// The folder that `fleet init` made.
    #[arg(long, value_name = "DIR", env = "TIDEGATE_FLEET_DIR")]
    dir: PathBuf,
}

/// `fleet enroll`.
#[derive(Debug, clap::Args)]
pub struct Enroll {
    /// The node's id, or the operator's name.
    name: String,
    #[command(flatten)]
    folder: Folder,
    /// What it may do: node, operator, or authority (issue credentials to nodes).
    #[arg(long, default_value = "node")]
    role: Role,
    /// A host name or address at which it is reached by TLS; may be given several times.
    #[arg(long = "host", value_name = "HOST")]
    hosts: Vec<String>,
    /// How long the credential holds.
    #[arg(long, default_value_t = DAYS, value_parser = clap::value_parser!(u64).range(1..=MAX_DAYS))]
    days: u64,
    /// Where the files go; nodes/NAME in the fleet's folder without it.
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

/// `fleet revoke`.
#[derive(Debug, clap::Args)]
pub struct Revoke {
    /// Whose credentials, all that were issued until now.
    name: String,
    #[command(flatten)]
    folder: Folder,
}

/// `fleet rotate`.
#[derive(Debug, clap::Args)]
pub struct Rotate {
    #[command(flatten)]
    folder: Folder,
    /// Believe the old root no longer.
    #[arg(long)]
    finish: bool,
}

impl FleetCommand {
    pub(super) fn run(self) -> ExitCode {
        let done = match self {
            Self::Init(args) => args.run(),
            Self::Enroll(args) => args.run(),
            Self::Revoke(args) => args.run(),
            Self::Rotate(args) => args.run(),
            Self::List(folder) => folder.list(),
            Self::User(args) => args.run(),
            Self::Prune(args) => return args.run(),
        };
        match done {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                complain!("error: {error:#}");
                ExitCode::FAILURE
            }
        }
    }
}

fn now() -> Result<UnixSeconds> {
    let now = unix_now();
    if now < EARLIEST {
        bail!("the clock of this machine shows {}; set it first, since credentials bear dates", date(now));
    }
    Ok(now)
}

fn date(seconds: UnixSeconds) -> String {
    rfc3339_s(seconds).chars().take(10).collect()
}

impl Init {
    fn run(self) -> Result<()> {
        let fleet = FleetId::new(&self.fleet).map_err(|error| anyhow::anyhow!("{:?}: {error}", self.fleet))?;
        let folder = self.dir.unwrap_or_else(|| PathBuf::from(format!("{fleet}-fleet")));
        let fleet = Authority::found(&folder, fleet.as_str(), now()?)?;
        let password = user::first(&folder, WATCHER)?;
        welcome::print(fleet.fleet(), &folder, &self.hub, (WATCHER, &password));
        Ok(())
    }
}

impl Enroll {
    fn run(self) -> Result<()> {
        NodeId::new(&self.name).map_err(|error| anyhow::anyhow!("{:?}: {error}", self.name))?;
        let fleet = self.folder.open()?;
        // Brokers go by the name alone.
        if let Some(other) = fleet.issued()?.iter().find(|one| one.name == self.name && one.role != self.role) {
            bail!("{} was let in with the role {} already; take another name", self.name, other.role);
        }
        let subject = Subject {
            fleet: fleet.fleet().to_owned(),
            name: self.name.clone(),
            role: self.role,
            hosts: self.hosts.clone(),
        };
        let credential = fleet.enroll(&subject, self.days * DAY, now()?)?;
        let out = self.out.unwrap_or_else(|| self.folder.dir.join(NODES).join(&self.name));
        CredentialFiles::new(&out).store(&credential, fleet.anchors(), &fleet.trust_message()?)?;
        let until = date(credential.facts().not_after);
        say!("{} may speak for {} as {} until {until}", out.display(), self.name, self.role);
        if self.role == Role::Node {
            say!(
                "copy that folder to the node as /etc/tidegate/credentials, readable for tidegate alone, and set there"
            );
            say!("    [node]");
            say!("    id = \"{}\"", self.name);
            say!("    fleet = \"{}\"", fleet.fleet());
            say!("    credentials = \"/etc/tidegate/credentials\"");
            say!("a node that runs takes other files in that folder within a minute");
        }
        if self.role == Role::Authority {
            say!("copy that folder to a node of the fleet, readable and writable for tidegate alone, and set there");
            say!("    [node]");
            say!("    authority = \"/etc/tidegate/authority\"");
            say!("that node then renews the credentials of the others before they end");
        }
        Ok(())
    }
}

impl Revoke {
    fn run(self) -> Result<()> {
        let mut fleet = self.folder.open()?;
        let count = fleet.revoke(&self.name, now()?)?;
        say!("revoked {count} {} of {}", if count == 1 { "credential" } else { "credentials" }, self.name);
        self.folder.tell_how_nodes_hear(&fleet);
        Ok(())
    }
}

impl Rotate {
    fn run(self) -> Result<()> {
        let mut fleet = self.folder.open()?;
        if self.finish {
            fleet.finish_rotation(now()?)?;
            say!("the old root is believed no longer");
        } else {
            fleet.begin_rotation(now()?)?;
            say!("both roots are believed now, and the new one lets nodes in");
            say!("next: let all nodes hear of it, enroll every one anew, and then `tidegate fleet rotate --finish`");
        }
        self.folder.tell_how_nodes_hear(&fleet);
        Ok(())
    }
}

impl Folder {
    fn open(&self) -> Result<Authority> {
        Authority::open(&self.dir).with_context(|| {
            format!("{} is not the folder of a fleet; `tidegate fleet init` makes one", self.dir.display())
        })
    }

    fn tell_how_nodes_hear(&self, fleet: &Authority) {
        let trust = self.dir.join("trust.cbor");
        say!(
            "nodes believe it (version {}) once {} stands in the credentials folder of one of them: it takes it in within a \
             minute and tells the others",
            fleet.anchors().version(),
            Path::new(&trust).display()
        );
    }

    fn list(&self) -> Result<()> {
        let issued = issued(&self.dir)?;
        // An authority's folder lists what it has renewed; who is revoked only the fleet's knows.
        let is_an_authority_s = !is_fleet(&self.dir) && (!issued.is_empty() || Issuer::open(&self.dir).is_ok());
        let fleet = if is_an_authority_s { None } else { Some(self.open()?) };
        say!("{:<40} {:<10} {:<12} SERIAL", "NAME", "ROLE", "UNTIL");
        for one in issued {
            let is_revoked = fleet.as_ref().is_some_and(|fleet| fleet.is_revoked(&one));
            let revoked = if is_revoked { "  revoked" } else { "" };
            say!("{:<40} {:<10} {:<12} {}{revoked}", one.name, one.role, date(one.not_after), one.serial);
        }
        Ok(())
    }
}
