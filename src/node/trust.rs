//! This node's credential and what its fleet believes: read from files, or made at the first start.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use edge_config::Config;

use super::{NodeError, parts};
use crate::actors::publisher::Identity;
use crate::host::clock::unix_now;
use crate::tls::Unwelcome;
use crate::trust::{
    Anchors, Authority, Credential, CredentialFiles, EARLIEST, Issuer, Rejected, Role, Signer, Subject, UnixSeconds,
    UsersFile, Verifier,
};
use crate::wire::registry::Registry;
use crate::wire::{Encoding, Root};

/// Within the state directory: the credential that a node makes for itself, and the fleet of its own that issued it.
const OWN_CREDENTIALS: &str = "credentials";
const OWN_FLEET: &str = "fleet";
/// A credential that nobody has to ask for is made anew long before it ends.
const OWN_LIFE: UnixSeconds = 365 * 86_400;

/// Who the node is and whom it believes.
pub(super) struct Trust {
    pub(super) signer: Arc<Signer>,
    pub(super) verifier: Arc<Verifier>,
    pub(super) registry: Arc<Registry>,
    pub(super) files: CredentialFiles,
    /// The fleet that this node founded for itself, where it did.
    pub(super) own_fleet: Option<PathBuf>,
    /// What lets this node renew the credentials of others.
    pub(super) authority: Option<PathBuf>,
}

/// What this node shows in a handshake: its certificates and its key.
pub(super) fn shown(signer: &Signer) -> (Vec<Vec<u8>>, String) {
    let credential = signer.credential();
    (credential.chain().to_vec(), credential.key_pem())
}

/// What a handshake tells those who are not believed.
pub(super) fn unwelcome(why: &Rejected) -> Unwelcome {
    match why {
        Rejected::Expired(_) => Unwelcome::Expired,
        Rejected::Revoked(_) => Unwelcome::Revoked,
        _ => Unwelcome::Foreign,
    }
}

/// Reads the credential, or makes a fleet of one.
pub(super) fn load(config: &Config, identity: &Identity, state_dir: &Path) -> Result<Trust, NodeError> {
    let root = Root::new(Encoding::Cbor, &identity.fleet).map_err(|error| NodeError::Setting(error.to_string()))?;
    let own = state_dir.join(OWN_CREDENTIALS);
    let (files, own_fleet) = match &config.node.credentials {
        Some(folder) => (CredentialFiles::new(folder), None),
        None => (CredentialFiles::new(&own), Some(state_dir.join(OWN_FLEET))),
    };
    let (credential, anchors) = match &own_fleet {
        None => enrolled(&files, identity)?,
        Some(fleet) => match of_own_fleet(&files, identity) {
            Some(loaded) => loaded,
            None => own_credential(fleet, identity, &files)?,
        },
    };
    let sealed = files.trust_message().map_err(|error| wrong(&error))?;
    let authority = config.node.authority.clone();
    check_authority(config)?;
    if let Some(folder) = &authority {
        warn_of_authority(folder, &anchors);
    }
    Ok(Trust {
        signer: Arc::new(Signer::new(root.clone(), identity.session, credential)),
        verifier: Arc::new(Verifier::new(root, anchors, sealed)),
        registry: Arc::new(Registry::default()),
        files,
        own_fleet,
        authority,
    })
}

/// Whether what stands in `node.credentials` is of this node.
pub(super) fn check_credentials(config: &Config) -> Result<(), NodeError> {
    let Some(folder) = &config.node.credentials else { return Ok(()) };
    enrolled(&CredentialFiles::new(folder), &parts::identity(config, 0)).map(drop)
}

/// Whether what stands in `node.authority` can issue for this fleet: known at the start, and not when the first node asks.
pub(super) fn check_authority(config: &Config) -> Result<(), NodeError> {
    let Some(folder) = &config.node.authority else { return Ok(()) };
    let wrong = |why: String| NodeError::Setting(format!("node.authority = \"{}\": {why}", folder.display()));
    let issuer = Issuer::open(folder).map_err(|error| wrong(error.to_string()))?;
    let fleet = config.node.fleet.as_str();
    if issuer.fleet() != fleet {
        return Err(wrong(format!("it is of the fleet {}, and this node is of {fleet}", issuer.fleet())));
    }
    Ok(())
}

/// Who may watch by a password, where a file says so.
pub(super) fn users(config: &Config) -> Result<Option<UsersFile>, NodeError> {
    let file = config.mqtt.hub().and_then(|hub| hub.users_file.as_deref());
    let users = file.map(UsersFile::open).transpose();
    users.map_err(|error| NodeError::Setting(format!("mqtt.users_file: {error}")))
}

/// It may be renewed while the node runs, and the clock may be wrong.
fn warn_of_authority(folder: &Path, anchors: &Anchors) {
    if let Err(error) = Issuer::open(folder).and_then(|issuer| issuer.check(anchors, unix_now().max(EARLIEST))) {
        tracing::warn!(%error, "node.authority cannot renew anybody's credential now");
    }
}

/// The credential that this node was enrolled with.
fn enrolled(files: &CredentialFiles, identity: &Identity) -> Result<(Credential, Anchors), NodeError> {
    match files.load().map_err(|error| wrong(&error))? {
        Some(loaded) => of_this_node(loaded, identity, files),
        None => Err(NodeError::Setting(format!(
            "node.credentials = \"{}\" holds no credential; make one with `tidegate fleet enroll {}` and copy its files \
             there, or remove the key to let this node be a fleet of its own",
            files.folder().display(),
            identity.node
        ))),
    }
}

/// The credential that this node made for itself; none where it has yet to, or has another name in the configuration now.
fn of_own_fleet(files: &CredentialFiles, identity: &Identity) -> Option<(Credential, Anchors)> {
    match files.load() {
        Ok(loaded) => loaded.filter(|(credential, _)| is_of(credential, identity)),
        Err(error) => {
            // A power cut while it was written: nobody else knows it, so another one does as well.
            tracing::warn!(%error, "the node's own credential cannot be read; it is made anew");
            None
        }
    }
}

fn is_of(credential: &Credential, identity: &Identity) -> bool {
    let facts = credential.facts();
    facts.fleet == identity.fleet && facts.name == identity.node && facts.role == Role::Node
}

fn of_this_node(
    (credential, anchors): (Credential, Anchors),
    identity: &Identity,
    files: &CredentialFiles,
) -> Result<(Credential, Anchors), NodeError> {
    if is_of(&credential, identity) {
        return Ok((credential, anchors));
    }
    let (facts, folder) = (credential.facts(), files.folder().display());
    Err(NodeError::Setting(format!(
        "node.credentials = \"{folder}\" is of {} {} of the fleet {}, and this is node {} of the fleet {}; set node.id and \
         node.fleet to those, or enroll this node",
        facts.role, facts.name, facts.fleet, identity.node, identity.fleet
    )))
}

/// The quick start: a fleet of one, founded by the node itself.
fn own_credential(
    folder: &Path,
    identity: &Identity,
    files: &CredentialFiles,
) -> Result<(Credential, Anchors), NodeError> {
    let now = unix_now().max(EARLIEST);
    let opened = Authority::open(folder).ok().filter(|fleet| fleet.fleet() == identity.fleet);
    let fleet = match opened {
        Some(fleet) => fleet,
        None => {
            set_aside(folder).map_err(|error| wrong(&error))?;
            Authority::found(folder, &identity.fleet, now).map_err(|error| wrong(&error))?
        }
    };
    let subject =
        Subject { fleet: identity.fleet.clone(), name: identity.node.clone(), role: Role::Node, hosts: own_hosts() };
    let credential = fleet.enroll(&subject, OWN_LIFE, now).map_err(|error| wrong(&error))?;
    let word = fleet.trust_message().map_err(|error| wrong(&error))?;
    files.store(&credential, fleet.anchors(), &word).map_err(|error| wrong(&error))?;
    tracing::info!(fleet = identity.fleet, node = identity.node, "made a credential; this node is a fleet of its own");
    Ok((credential, fleet.anchors().clone()))
}

/// How a node that nobody enrolled is reached by TLS: from its own box.
pub(super) fn own_hosts() -> Vec<String> {
    ["localhost", "127.0.0.1", "::1"].map(str::to_owned).to_vec()
}

/// A fleet of another name, or one whose files are broken, is kept beside.
fn set_aside(folder: &Path) -> std::io::Result<()> {
    if !folder.exists() {
        return Ok(());
    }
    let beside = folder.with_extension(unix_now().to_string());
    tracing::warn!(folder = %folder.display(), kept = %beside.display(), "set the node's own former fleet aside");
    std::fs::rename(folder, beside)
}

fn wrong(error: &dyn std::error::Error) -> NodeError {
    NodeError::Setting(format!("the node's credential cannot be used: {error}"))
}
