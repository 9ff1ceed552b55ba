//! Keeps who this node is and what it believes: renews the credential long before it ends, takes in one that was put in its
//! place on disk, and writes newer roots down, so that the next start believes them too.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use actix::fut::WrapFuture;
use actix::{Actor, ActorFutureExt, AsyncContext, Context, Handler, Recipient};

use super::hearing::TrustChanged;
use super::publisher::Report;
use super::{MAILBOX, tell};
use crate::host::clock::unix_now;
use crate::logic::renewal::Life;
use crate::trust::{Authority, Credential, CredentialFiles, EARLIEST, Signer, Subject, UnixSeconds, Verifier};
use crate::wire::{EventData, EventKind};

/// How often dates and files are looked at: a credential that was put on disk counts within a minute.
const LOOK: Duration = Duration::from_secs(60);

/// The keeper; made by the node.
pub struct Keeper {
    /// Signs what the node says.
    pub signer: Arc<Signer>,
    /// What is believed now.
    pub verifier: Arc<Verifier>,
    /// Where both stand on disk.
    pub files: CredentialFiles,
    /// The fleet that this node founded for itself, and which therefore renews its credential.
    pub own_fleet: Option<PathBuf>,
    /// Host names and addresses of this box, for a credential of its own making.
    pub hosts: Vec<String>,
    /// Who tells people.
    pub report: Recipient<Report>,
    /// The days at which people were last warned.
    pub warned: Option<u32>,
}

impl Actor for Keeper {
    type Context = Context<Self>;

    fn started(&mut self, context: &mut Self::Context) {
        context.set_mailbox_capacity(MAILBOX);
        self.look(context);
        context.run_interval(LOOK, Self::look);
    }
}

impl Handler<TrustChanged> for Keeper {
    type Result = ();

    fn handle(&mut self, TrustChanged { message }: TrustChanged, context: &mut Self::Context) {
        let (anchors, files) = (self.verifier.anchors(), self.files.clone());
        let (version, roots, revoked) = (anchors.version(), anchors.roots().len(), anchors.revoked());
        let stored = move || files.store_trust(&anchors, &message).map_err(|error| error.to_string());
        let written = tokio::task::spawn_blocking(stored).into_actor(self);
        context.spawn(written.map(move |written, keeper, _| {
            let failed = written.map_err(|panic| panic.to_string()).and_then(|stored| stored).err();
            let reason = Some(format!("version {version}: {roots} roots, {revoked} revoked certificates"));
            let error = failed.map(|error| format!("believed until the next start only: {error}"));
            keeper.tell(EventKind::TrustChanged, EventData { reason, error, ..EventData::default() });
        }));
    }
}

impl Keeper {
    /// Takes in what stands on disk, makes a new credential where one is due and this node may, and warns.
    fn look(&mut self, context: &mut Context<Self>) {
        let now = unix_now().max(EARLIEST);
        let current = self.signer.credential();
        let facts = current.facts();
        let life = Life { not_before: facts.not_before, not_after: facts.not_after };
        self.warn(life.warning(now));
        let renewing = self.own_fleet.clone().filter(|_| life.is_to_be_renewed(now));
        let subject = Subject {
            fleet: facts.fleet.clone(),
            name: facts.name.clone(),
            role: facts.role,
            hosts: self.hosts.clone(),
        };
        // A credential that the node makes lives as long as the one before.
        let life = life.not_after.saturating_sub(life.not_before);
        let files = self.files.clone();
        let candidate = move || match renewing {
            Some(fleet) => renew(&fleet, &files, &subject, life, now).map(Some),
            None => on_disk(&files, &current),
        };
        let found = tokio::task::spawn_blocking(candidate).into_actor(self);
        context.spawn(found.map(|found, keeper, _| {
            match found.map_err(|panic| panic.to_string()).and_then(|found| found) {
                Ok(None) => {}
                Ok(Some(credential)) => keeper.promote(credential),
                Err(why) => keeper.not_renewed(why),
            }
        }));
    }

    /// Signs with a credential from now on, once it is proven that the fleet believes it.
    fn promote(&mut self, credential: Credential) {
        let current = self.signer.credential();
        if credential.chain() == current.chain() {
            return;
        }
        let is_ours =
            credential.facts().name == current.facts().name && credential.facts().role == current.facts().role;
        let proven = self.verifier.anchors().check(credential.chain(), unix_now().max(EARLIEST));
        if let Err(why) = proven {
            return self.not_renewed(why.to_string());
        }
        if !is_ours {
            return self.not_renewed(format!("it is the credential of {}", credential.facts().name));
        }
        let days = credential.facts().not_after.saturating_sub(unix_now()) / 86_400;
        self.signer.set_credential(credential);
        self.warned = None;
        let reason = Some(format!("the new credential holds for {days} days"));
        self.tell(EventKind::CredentialRenewed, EventData { reason, ..EventData::default() });
    }

    fn warn(&mut self, days: Option<u32>) {
        if days.is_none() || days == self.warned {
            return;
        }
        self.warned = days;
        let days = days.unwrap_or_default();
        let advice = match self.own_fleet {
            Some(_) => "the next try is in a minute",
            None => "make a new one with `tidegate fleet enroll` and put its files in the place of the old ones",
        };
        let error = Some(format!("this node's credential ends within {days} days and is not renewed; {advice}"));
        self.tell(EventKind::CredentialExpiring, EventData { error, ..EventData::default() });
    }

    fn not_renewed(&self, why: String) {
        let error = Some(format!("a new credential is not taken, the old one stays in use: {why}"));
        self.tell(EventKind::CredentialExpiring, EventData { error, ..EventData::default() });
    }

    fn tell(&self, kind: EventKind, data: EventData) {
        tell(&self.report, Report { kind, data });
    }
}

/// A new credential from the node's own fleet, on disk before it is used.
fn renew(
    fleet: &std::path::Path,
    files: &CredentialFiles,
    subject: &Subject,
    life: UnixSeconds,
    now: UnixSeconds,
) -> Result<Credential, String> {
    let wrong = |error: &dyn std::error::Error| error.to_string();
    let fleet = Authority::open(fleet).map_err(|error| wrong(&error))?;
    let credential = fleet.enroll(subject, life, now).map_err(|error| wrong(&error))?;
    // Nothing that the fleet does not believe replaces what works.
    fleet.anchors().check(credential.chain(), now).map_err(|error| wrong(&error))?;
    let word = fleet.trust_message().map_err(|error| wrong(&error))?;
    files.store(&credential, fleet.anchors(), &word).map_err(|error| wrong(&error))?;
    Ok(credential)
}

/// Another credential that stands on disk now. One that is being written makes no noise before the next look.
fn on_disk(files: &CredentialFiles, current: &Credential) -> Result<Option<Credential>, String> {
    match files.load() {
        Ok(Some((credential, _))) if credential.chain() != current.chain() => Ok(Some(credential)),
        Ok(_) => Ok(None),
        Err(error) => {
            tracing::debug!(%error, "the credential on disk cannot be read");
            Ok(None)
        }
    }
}
