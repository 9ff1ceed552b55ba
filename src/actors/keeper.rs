//! Keeps who this node is and what it believes: renews the credential long before it ends, takes in one that was put in its
//! place on disk, and writes newer roots down, so that the next start believes them too.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use actix::fut::WrapFuture;
use actix::{Actor, ActorFutureExt, AsyncContext, Context, Handler, Recipient};

use super::hearing::{Hearing, TrustChanged, TrustOutdated};
use super::publisher::{Relay, Report};
use super::{MAILBOX, tell};
use crate::host::clock::unix_now;
use crate::logic::renewal::Life;
use crate::trust::{Anchors, Authority, Credential, CredentialFiles, EARLIEST, Signer, Subject, UnixSeconds, Verifier};
use crate::wire::{EventData, EventKind, Message as WireMessage, Sealed, Topic};

/// How often dates and files are looked at: a credential that was put on disk counts within a minute.
pub const LOOK: Duration = Duration::from_secs(60);

/// What the fleet believes is said to the brokers that lack it, after a time below this: one of a thousand nodes that hear of
/// it is enough.
const RELAY_WITHIN: Duration = Duration::from_secs(5);

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
    /// Hears what the brokers keep.
    pub hearing: Arc<Hearing>,
    /// Says to the brokers what they lack.
    pub relay: Recipient<Relay>,
    /// A relay is on its way.
    pub is_relaying: bool,
    /// How often dates and files are looked at.
    pub look: Duration,
    /// Who tells people.
    pub report: Recipient<Report>,
    /// The days at which people were last warned.
    pub warned: Option<u32>,
    /// Why a new credential was last not taken: told once, not with every look.
    pub refused: Option<String>,
}

impl Actor for Keeper {
    type Context = Context<Self>;

    fn started(&mut self, context: &mut Self::Context) {
        context.set_mailbox_capacity(MAILBOX);
        self.look(context);
        context.run_interval(self.look, Self::look);
    }
}

impl Handler<TrustOutdated> for Keeper {
    type Result = ();

    fn handle(&mut self, _: TrustOutdated, context: &mut Self::Context) {
        self.relay_trust(context);
    }
}

impl Handler<TrustChanged> for Keeper {
    type Result = ();

    fn handle(&mut self, TrustChanged { message }: TrustChanged, context: &mut Self::Context) {
        let (anchors, files) = (self.verifier.anchors(), self.files.clone());
        let stored = move || files.store_trust(&anchors, &message).map_err(|error| error.to_string());
        let written = tokio::task::spawn_blocking(stored).into_actor(self);
        context.spawn(written.map(move |written, keeper, _| {
            let failed = written.map_err(|panic| panic.to_string()).and_then(|stored| stored).err();
            keeper.tell_trust(failed.map(|error| format!("believed until the next start only: {error}")));
        }));
    }
}

impl Keeper {
    /// Says what the fleet believes to brokers that do not keep it, unless another node does so first.
    fn relay_trust(&mut self, context: &mut Context<Self>) {
        if std::mem::replace(&mut self.is_relaying, true) {
            return;
        }
        context.run_later(RELAY_WITHIN.mul_f64(fastrand::f64()), |keeper, context| {
            keeper.is_relaying = false;
            if keeper.hearing.has_heard_trust() {
                return;
            }
            let (files, verifier) = (keeper.files.clone(), keeper.verifier.clone());
            let read = move || signed_trust(&files, &verifier);
            let read = tokio::task::spawn_blocking(read).into_actor(keeper);
            context.spawn(read.map(|read, keeper, _| match read.map_err(|panic| panic.to_string()).and_then(|r| r) {
                Ok((sealed, message)) => tell(&keeper.relay, Relay { topic: Topic::Trust, sealed, message }),
                Err(why) => tracing::warn!(why, "the fleet's trust cannot be told to the brokers"),
            }));
        });
    }

    /// Takes in what stands on disk, makes a new credential where one is due and this node may, and warns.
    fn look(&mut self, context: &mut Context<Self>) {
        if !self.hearing.has_heard_trust() {
            self.relay_trust(context);
        }
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
        let verifier = self.verifier.clone();
        let candidate = move || match renewing {
            Some(fleet) => renew(&fleet, &files, &subject, life, now).map(|credential| (Some(credential), false)),
            None => Ok(on_disk(&files, &current, &verifier)),
        };
        let found = tokio::task::spawn_blocking(candidate).into_actor(self);
        context.spawn(found.map(|found, keeper, context| {
            match found.map_err(|panic| panic.to_string()).and_then(|found| found) {
                Ok((credential, has_newer_trust)) => {
                    if has_newer_trust {
                        keeper.hearing.trust_is_newer();
                        keeper.tell_trust(None);
                        keeper.relay_trust(context);
                    }
                    credential.into_iter().for_each(|credential| keeper.promote(credential));
                }
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
        (self.warned, self.refused) = (None, None);
        let reason = Some(format!("the new credential holds for {days} days"));
        self.tell(EventKind::CredentialRenewed, EventData { reason, ..EventData::default() });
    }

    fn tell_trust(&self, error: Option<String>) {
        let anchors = self.verifier.anchors();
        let (version, roots, revoked) = (anchors.version(), anchors.roots().len(), anchors.revoked());
        let reason = Some(format!("version {version}: {roots} roots, {revoked} revoked certificates"));
        self.tell(EventKind::TrustChanged, EventData { reason, error, ..EventData::default() });
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

    fn not_renewed(&mut self, why: String) {
        if self.refused.as_ref() == Some(&why) {
            return;
        }
        self.refused = Some(why.clone());
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

/// Another credential that stands on disk now, and whether newer trust does, which is believed from now on. What is being
/// written makes no noise before the next look.
fn on_disk(files: &CredentialFiles, current: &Credential, verifier: &Verifier) -> (Option<Credential>, bool) {
    let newer = newer_trust(files, verifier);
    let has_newer_trust = newer.is_some();
    newer.into_iter().for_each(|anchors| verifier.set_anchors(anchors));
    let credential = match files.load() {
        Ok(Some((credential, _))) if credential.chain() != current.chain() => Some(credential),
        Ok(_) => None,
        Err(error) => {
            tracing::debug!(%error, "the credential on disk cannot be read");
            None
        }
    };
    (credential, has_newer_trust)
}

/// What a believed root has signed, and is newer than what is believed.
fn newer_trust(files: &CredentialFiles, verifier: &Verifier) -> Option<Anchors> {
    let message = files.trust_message().ok()?;
    verifier.anchors().updated(verifier.root(), &message).ok().flatten()
}

/// The signed word on what is believed, with what it says.
fn signed_trust(files: &CredentialFiles, verifier: &Verifier) -> Result<(Vec<u8>, WireMessage), String> {
    let sealed = files.trust_message().map_err(|error| error.to_string())?;
    let opened = Sealed::read(verifier.root(), &Topic::Trust, &sealed).map_err(|error| error.to_string())?;
    let message = WireMessage::decode(verifier.root(), &Topic::Trust, &opened.payload);
    Ok((sealed, message.map_err(|error| error.to_string())?))
}
