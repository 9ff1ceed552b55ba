//! This node's credential and what its fleet believes: read from files, or made at the first start.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use edge_config::Config;

use super::NodeError;
use crate::actors::publisher::Identity;
use crate::host::clock::unix_now;
use crate::tls::Unwelcome;
use crate::trust::{
    Anchors, Authority, Credential, CredentialFiles, EARLIEST, Issuer, Rejected, Role, Signer, Subject, UnixSeconds,
    Verifier,
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
    let configured = config.node.credentials.as_deref();
    let own = state_dir.join(OWN_CREDENTIALS);
    let files = CredentialFiles::new(configured.unwrap_or(&own));
    let loaded = match files.load() {
        Ok(loaded) => loaded,
        Err(error) if configured.is_some() => return Err(wrong(&error)),
        Err(error) => {
            // A power cut while it was written: nobody else knows it, so another one does as well.
            tracing::warn!(%error, "the node's own credential cannot be read; it is made anew");
            None
        }
    };
    let own_fleet = configured.is_none().then(|| state_dir.join(OWN_FLEET));
    let (credential, anchors) = match loaded {
        Some(loaded) if configured.is_some() => of_this_node(loaded, identity, &files)?,
        Some(loaded) if is_of(&loaded.0, identity) => loaded,
        None if configured.is_some() => {
            let folder = files.folder().display();
            return Err(NodeError::Setting(format!(
                "node.credentials = \"{folder}\" holds no credential; make one with `tidegate fleet enroll {}` and copy \
                 its files there, or remove the key to let this node be a fleet of its own",
                identity.node
            )));
        }
        // None yet, or of another name than the configuration has now.
        _ => own_credential(&state_dir.join(OWN_FLEET), identity, &files)?,
    };
    let sealed = files.trust_message().map_err(|error| wrong(&error))?;
    let authority = config.node.authority.clone();
    if let Some(folder) = &authority {
        check_authority(folder, &anchors)?;
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

/// Said at the start, and not to the first node that asks.
fn check_authority(folder: &Path, anchors: &Anchors) -> Result<(), NodeError> {
    let wrong = |why: String| NodeError::Setting(format!("node.authority = \"{}\": {why}", folder.display()));
    let issuer = Issuer::open(folder).map_err(|error| wrong(error.to_string()))?;
    if issuer.fleet() != anchors.fleet() {
        return Err(wrong(format!("it is of the fleet {}, and this node is of {}", issuer.fleet(), anchors.fleet())));
    }
    match issuer.check(anchors, unix_now().max(EARLIEST)) {
        // It may be renewed while the node runs, and the clock may be wrong.
        Err(error) => {
            tracing::warn!(%error, "node.authority cannot renew anybody's credential now");
            Ok(())
        }
        Ok(()) => Ok(()),
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
