//! Keeps who this node is and what it believes: renews the credential long before it ends, takes in one that was put in its
//! place on disk, and writes newer roots down, so that the next start believes them too.
//!
//! Who renews is the node's own fleet, the authority that it holds, or one that it asks over MQTT (`asking`).

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use actix::fut::WrapFuture;
use actix::{Actor, ActorFutureExt, AsyncContext, Context, Handler, Recipient};

pub use self::asking::Asking;
use super::hearing::{Hearing, Outlived, RIVAL_ADVICE, TrustChanged, TrustOutdated};
use super::publisher::{Identity, Publish, Relay, Report, SayAllAgain};
use super::{MAILBOX, tell};
use crate::host::clock::{Clock, rfc3339_s};
use crate::journal::raise_session;
use crate::logic::renewal::Life;
use crate::trust::{Authority, Credential, CredentialFiles, EARLIEST, Signer, Subject, UnixSeconds, Update, Verifier};
use crate::wire::registry::Ear;
use crate::wire::{EventData, EventKind, Message as WireMessage, Sealed, Topic};

mod asking;

/// How often dates and files are looked at: a credential that was put on disk counts within a minute.
pub const LOOK: Duration = Duration::from_secs(60);

/// What the fleet believes is said to the brokers that lack it, after a time below this: one of a thousand nodes that hear of
/// it is enough.
const RELAY_WITHIN: Duration = Duration::from_secs(5);

/// Nodes that an event names at most.
const MAX_TOLD: usize = 20;

/// The keeper; made by the node.
pub struct Keeper {
    /// Who is speaking.
    pub identity: Identity,
    /// Counts the time between two requests.
    pub clock: Clock,
    /// The date, in seconds since 1970: credentials bear dates.
    pub calendar: fn() -> UnixSeconds,
    /// Signs what the node says.
    pub signer: Arc<Signer>,
    /// What is believed now.
    pub verifier: Arc<Verifier>,
    /// Where both stand on disk.
    pub files: CredentialFiles,
    /// The fleet that this node founded for itself, and which therefore renews its credential.
    pub own_fleet: Option<PathBuf>,
    /// The authority that this node holds, and which therefore renews its credential.
    pub authority: Option<PathBuf>,
    /// Requests go there.
    pub publish: Recipient<Publish>,
    /// What is asked of other authorities.
    pub asking: Asking,
    /// Where the session counter stands.
    pub state_dir: PathBuf,
    /// The counter is being raised.
    pub is_raising: bool,
    /// Says again what was said.
    pub say_again: Recipient<SayAllAgain>,
    /// It was told that the credential has ended.
    pub has_told_end: bool,
    /// Host names and addresses of this box, for a credential of its own making.
    pub hosts: Vec<String>,
    /// Hears what the brokers keep.
    pub hearing: Arc<Hearing>,
    /// Says to the brokers what they lack.
    pub relay: Recipient<Relay>,
    /// A relay is on its way.
    pub is_relaying: bool,
    /// Where it is to be said whatever the broker keeps.
    pub must_relay: BTreeSet<Ear>,
    /// Where this node has said it.
    pub has_relayed: BTreeSet<Ear>,
    /// A look at the disk is on its way.
    pub is_looking: bool,
    /// Why what is believed could last not be written down: told once.
    pub not_written: Option<String>,
    /// What stood on disk in the place of the fleet's trust at the last look, where that was nothing that could be read: it may
    /// be on its way there.
    pub unsettled: Option<Vec<u8>>,
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
        self.relay_trust([], context);
    }
}

impl Handler<Outlived> for Keeper {
    type Result = ();

    fn handle(&mut self, Outlived { session }: Outlived, context: &mut Self::Context) {
        let next = session.saturating_add(1);
        if self.signer.session() >= next || std::mem::replace(&mut self.is_raising, true) {
            return;
        }
        // On disk first, so that the next start is later still.
        let state_dir = self.state_dir.clone();
        let raised = tokio::task::spawn_blocking(move || raise_session(&state_dir, next)).into_actor(self);
        context.spawn(raised.map(move |raised, keeper, _| {
            keeper.is_raising = false;
            let raised = raised.map_err(|panic| panic.to_string());
            let error = raised.and_then(|raised| raised.map_err(|error| error.to_string())).err();
            keeper.go_on_as(next, error.map(|why| format!("the next start will not know of it: {why}")));
        }));
    }
}

impl Handler<TrustChanged> for Keeper {
    type Result = ();

    fn handle(&mut self, TrustChanged { put_out }: TrustChanged, context: &mut Self::Context) {
        self.tell_trust(&put_out, None);
        // What was said by this node is said again on each connection, so it has to be the newest.
        self.relay_trust(self.has_relayed.clone(), context);
        // Writes it down.
        self.look(context);
    }
}

impl Keeper {
    /// Signs in a later session, and says all of it again, since others passed over what was said until now.
    fn go_on_as(&mut self, session: u64, error: Option<String>) {
        self.signer.raise_session(session);
        tell(&self.say_again, SayAllAgain);
        let reason = Some(format!(
            "this node said more in session {} than its state directory knows, which was lost or is an old copy; what it \
             signs is of session {session} from now on",
            session.saturating_sub(1)
        ));
        self.tell(EventKind::SessionRaised, EventData { reason, error, ..EventData::default() });
    }

    /// Says what the fleet believes to brokers that do not keep it, unless another node does so first.
    fn relay_trust(&mut self, in_any_case: impl IntoIterator<Item = Ear>, context: &mut Context<Self>) {
        self.must_relay.extend(in_any_case);
        if std::mem::replace(&mut self.is_relaying, true) {
            return;
        }
        context.run_later(RELAY_WITHIN.mul_f64(fastrand::f64()), |keeper, _| {
            keeper.is_relaying = false;
            let mut to = std::mem::take(&mut keeper.must_relay);
            to.extend(keeper.hearing.lacking_trust());
            if to.is_empty() {
                return;
            }
            match signed_trust(&keeper.verifier) {
                Ok((sealed, message)) => {
                    keeper.has_relayed.extend(&to);
                    to.iter().for_each(|ear| keeper.hearing.trust_is_said(*ear));
                    tell(&keeper.relay, Relay { to, topic: Topic::Trust, sealed, message });
                }
                Err(why) => tracing::error!(why, "the fleet's trust cannot be told to the brokers"),
            }
        });
    }

    /// Takes in what stands on disk, makes a new credential where one is due and this node may, and warns.
    fn look(&mut self, context: &mut Context<Self>) {
        if !self.hearing.lacking_trust().is_empty() {
            self.relay_trust([], context);
        }
        if std::mem::replace(&mut self.is_looking, true) {
            return;
        }
        let now = self.now();
        let current = self.signer.credential();
        let facts = current.facts();
        let life = Life { not_before: facts.issued_at(), not_after: facts.not_after };
        let has_ended = now > facts.not_after;
        tell_metric(facts.not_after);
        self.tell_end(has_ended.then_some(facts.not_after));
        // One of its own making that begins later is of a clock that was ahead: nobody takes it.
        let begins_later = self.own_fleet.is_some() && now < facts.not_before;
        let is_due = self.knows_the_time() && (begins_later || life.is_to_be_renewed(now));
        let renewing = self.renewing(is_due, has_ended);
        if renewing == Renewing::Asked {
            self.ask(context);
        }
        let warning = life.warning(now).filter(|_| !has_ended && !self.asking.may_still_be_answered(&renewing));
        self.warn(warning);
        let subject = Subject { hosts: self.hosts.clone(), ..facts.subject() };
        // A credential that the node makes lives as long as the one before.
        let life = life.not_after.saturating_sub(life.not_before);
        let files = self.files.clone();
        let verifier = self.verifier.clone();
        let unsettled = self.unsettled.take();
        let candidate = move || match renewing {
            Renewing::OwnFleet(fleet) => renew(&fleet, &files, &subject, life, now).map(Found::renewed),
            Renewing::Authority(authority) => {
                let found = on_disk(&files, &current, &verifier, unsettled.as_deref());
                if found.credential.is_some() {
                    return Ok(found);
                }
                // What was found on disk is believed already, and has to be told whatever becomes of the renewal.
                match asking::renew_here(&authority, &files, &current, &verifier.anchors(), now) {
                    Ok(renewed) => Ok(Found { credential: Some(renewed), ..found }),
                    Err(why) => Ok(Found { not_renewed: Some(why), ..found }),
                }
            }
            Renewing::Asked | Renewing::Not => Ok(on_disk(&files, &current, &verifier, unsettled.as_deref())),
        };
        let found = tokio::task::spawn_blocking(candidate).into_actor(self);
        context.spawn(found.map(|found, keeper, context| {
            keeper.is_looking = false;
            match found.map_err(|panic| panic.to_string()).and_then(|found| found) {
                Ok(found) => keeper.take_in(found, context),
                Err(why) => keeper.not_renewed(why),
            }
        }));
    }

    /// The date. A clock that was never set shows less than any credential was issued at.
    fn now(&self) -> UnixSeconds {
        (self.calendar)().max(EARLIEST)
    }

    fn knows_the_time(&self) -> bool {
        (self.calendar)() >= EARLIEST
    }

    /// Who renews the credential now, where it is due.
    fn renewing(&self, is_due: bool, has_ended: bool) -> Renewing {
        match (&self.own_fleet, &self.authority) {
            _ if !is_due => Renewing::Not,
            (Some(fleet), _) => Renewing::OwnFleet(fleet.clone()),
            // Nobody believes a request that is signed with what has ended.
            _ if has_ended => Renewing::Not,
            (None, Some(authority)) => Renewing::Authority(authority.clone()),
            (None, None) => Renewing::Asked,
        }
    }

    fn take_in(&mut self, found: Found, context: &mut Context<Self>) {
        self.unsettled = found.unsettled;
        if found.has_rival_trust {
            self.tell_trust(&[], Some(RIVAL_ADVICE.to_owned()));
        }
        if found.has_newer_trust {
            let put_out = self.hearing.judge_others();
            self.tell_trust(&put_out, None);
            self.relay_trust(self.hearing.ears().to_vec(), context);
        }
        if let Some(why) = found.not_written.filter(|why| self.not_written.as_ref() != Some(why)) {
            self.tell_trust(&[], Some(format!("believed until the next start only: {why}")));
            self.not_written = Some(why);
        }
        found.credential.into_iter().for_each(|credential| self.promote(credential));
        found.not_renewed.into_iter().for_each(|why| self.not_renewed(why));
    }

    /// Signs with a credential from now on, once it is proven that the fleet believes it.
    fn promote(&mut self, credential: Credential) {
        let current = self.signer.credential();
        if credential.chain() == current.chain() {
            return;
        }
        let is_ours =
            credential.facts().name == current.facts().name && credential.facts().role == current.facts().role;
        let proven = self.verifier.prove(credential.chain(), (self.calendar)());
        if let Err(why) = proven {
            return self.not_renewed(why.to_string());
        }
        if !is_ours {
            return self.not_renewed(format!("it is the credential of {}", credential.facts().name));
        }
        // To the nearest: one of 90 days is some milliseconds old here.
        let days = (credential.facts().not_after.saturating_sub(self.now()) + 43_200) / 86_400;
        self.signer.set_credential(credential);
        // What stands at the brokers was signed with the old one, which ends; and neighbours look for the new key.
        tell(&self.say_again, SayAllAgain);
        self.has_renewed();
        (self.warned, self.refused) = (None, None);
        let reason = Some(format!("the new credential holds for {days} days"));
        self.tell(EventKind::CredentialRenewed, EventData { reason, ..EventData::default() });
    }

    fn tell_trust(&self, put_out: &[String], error: Option<String>) {
        let anchors = self.verifier.anchors();
        let (version, roots, revoked) = (anchors.version(), anchors.roots().len(), anchors.revoked());
        let mut reason = format!("version {version}: {roots} roots, {revoked} revoked certificates");
        if !put_out.is_empty() {
            reason.push_str(&format!("; not believed any more: {}", listed(put_out)));
        }
        let reason = Some(reason);
        self.tell(EventKind::TrustChanged, EventData { reason, error, ..EventData::default() });
    }

    fn warn(&mut self, days: Option<u32>) {
        if days.is_none() || days == self.warned {
            return;
        }
        self.warned = days;
        let days = days.unwrap_or_default();
        let advice = match (&self.own_fleet, &self.authority) {
            (None, None) => {
                "no authority of the fleet (node.authority of a hub) has renewed it yet; let one do so, or make a new one \
                 with `tidegate fleet enroll` and put its files in the place of the old ones"
            }
            _ => "the next try is in a minute",
        };
        let error = Some(format!("this node's credential ends within {days} days and is not renewed; {advice}"));
        self.tell(EventKind::CredentialExpiring, EventData { error, ..EventData::default() });
    }

    /// Nobody believes a credential that has ended, and no authority renews it: that takes a person, or a right clock.
    fn tell_end(&mut self, ended_at: Option<UnixSeconds>) {
        let Some(ended_at) = ended_at.filter(|_| self.own_fleet.is_none()) else {
            self.has_told_end = false;
            return;
        };
        if std::mem::replace(&mut self.has_told_end, true) {
            return;
        }
        let (name, ended_at, now) = (&self.identity.node, rfc3339_s(ended_at), rfc3339_s(self.now()));
        let error = Some(format!(
            "this node's credential ended at {ended_at}, and its clock shows {now}: set the clock if that is wrong, else make \
             a new credential with `tidegate fleet enroll {name}` and put its files in the place of the old ones; what has \
             ended is not renewed over MQTT"
        ));
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

/// Who renews a credential.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Renewing {
    /// Nobody, now.
    Not,
    /// The fleet that this node founded for itself.
    OwnFleet(PathBuf),
    /// The authority that this node holds.
    Authority(PathBuf),
    /// An authority of the fleet that is asked over MQTT.
    Asked,
}

/// For boards that warn of certificates of all kinds.
#[expect(clippy::cast_precision_loss, reason = "a date is far below 2^53")]
fn tell_metric(ends_at: UnixSeconds) {
    metrics::gauge!("tidegate_credential_expiry_timestamp_seconds").set(ends_at as f64);
}

/// Names for people; an event has a limit.
fn listed(names: &[String]) -> String {
    let told = &names[..names.len().min(MAX_TOLD)];
    match names.len() - told.len() {
        0 => told.join(", "),
        more => format!("{} and {more} more", told.join(", ")),
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

/// What a look at the disk came to.
#[derive(Default)]
struct Found {
    /// Another credential.
    credential: Option<Credential>,
    /// A newer word on the fleet's trust, which is believed from now on.
    has_newer_trust: bool,
    /// A word on it of the version that is believed, which says something else.
    has_rival_trust: bool,
    /// Why what is believed does not stand there.
    not_written: Option<String>,
    /// Why the credential was not renewed, where it is due.
    not_renewed: Option<String>,
    /// What stands in its place and cannot be read, for the first time.
    unsettled: Option<Vec<u8>>,
}

impl Found {
    fn renewed(credential: Credential) -> Self {
        Self { credential: Some(credential), ..Self::default() }
    }
}

/// Takes in a credential and newer trust that stand on disk now, and writes down there what is believed. What is being
/// written makes no noise before the next look, and is not written over: somebody copies a newer word there. `before` is what
/// could not be read at the last look.
fn on_disk(files: &CredentialFiles, current: &Credential, verifier: &Verifier, before: Option<&[u8]>) -> Found {
    let there = files.trust_message().unwrap_or_default();
    let update = verifier.update(&there).ok();
    let is_settled = update.is_some() || before == Some(there.as_slice());
    let has_newer_trust = matches!(update, Some(Update::Newer | Update::RivalTaken));
    let has_rival_trust = matches!(update, Some(Update::RivalTaken | Update::RivalRefused));
    let believed = verifier.trust_message();
    let is_to_be_stored = is_settled && there != *believed;
    let stored = if is_to_be_stored { files.store_trust(&verifier.anchors(), &believed) } else { Ok(()) };
    let credential = match files.load() {
        Ok(Some((credential, _))) if credential.chain() != current.chain() => Some(credential),
        Ok(_) => None,
        Err(error) => {
            tracing::debug!(%error, "the credential on disk cannot be read");
            None
        }
    };
    let not_written = stored.err().map(|error| error.to_string());
    let unsettled = (!is_settled).then_some(there);
    Found { credential, has_newer_trust, has_rival_trust, not_written, unsettled, not_renewed: None }
}

/// The signed word on what is believed, with what it says.
fn signed_trust(verifier: &Verifier) -> Result<(Vec<u8>, WireMessage), String> {
    let sealed = verifier.trust_message();
    let opened = Sealed::read(verifier.root(), &Topic::Trust, &sealed).map_err(|error| error.to_string())?;
    let message = WireMessage::decode(verifier.root(), &Topic::Trust, &opened.payload);
    Ok((sealed.to_vec(), message.map_err(|error| error.to_string())?))
}

#[cfg(test)]
mod tests;
