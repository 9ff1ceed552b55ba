//! Asks the fleet's authorities for a new certificate over MQTT, again and again until one answers with what is proven to be
//! ours, and puts that in the place of the old one.

use std::time::Duration;

use actix::fut::WrapFuture;
use actix::{ActorFutureExt, AsyncContext, Context, Handler};

use super::super::hearing::{Answered, command_to_all};
use super::super::publisher::Publish;
use super::{Keeper, Renewing, tell};
use crate::logic::breaker::Backoff;
use crate::trust::{Anchors, Credential, CredentialFiles, Issuer, KEY_BYTES, UnixSeconds};
use crate::wire::{
    ALL_NODES, Argument, Bytes, CERTIFICATE, CommandName, ISSUER, Message as WireMessage, PUBLIC_KEY, Response, Topic,
};

/// Between two requests there is at least this: an authority on a slow disk has answered by then.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);
/// And a share of this by chance. A third of a life is left, so an hour is nothing; and nodes that were let in on the same day
/// do not ask all at once.
const ASK_AGAIN: Backoff = Backoff { base: Duration::from_secs(30), cap: Duration::from_secs(3_600) };

/// What is asked, and when it is asked again.
#[derive(Debug, Default)]
pub struct Asking {
    /// Requests since the last renewal.
    attempts: u32,
    /// The next one is not before this.
    next_at: Duration,
    /// The one that an answer is awaited to.
    id: Option<String>,
    /// An answer is being looked at, or a request made.
    is_busy: bool,
}

impl Asking {
    /// Whether nobody has had the time to answer yet.
    pub(super) fn may_still_be_answered(&self, renewing: &Renewing) -> bool {
        *renewing == Renewing::Asked && self.attempts <= 1
    }
}

impl Keeper {
    /// Asks for a new certificate, if it is time for that.
    pub(super) fn ask(&mut self, context: &mut Context<Self>) {
        let now = self.clock.now();
        if now < self.asking.next_at || std::mem::replace(&mut self.asking.is_busy, true) {
            return;
        }
        self.asking.next_at = now + ANSWER_WITHIN + ASK_AGAIN.delay(self.asking.attempts, fastrand::f64());
        self.asking.attempts = self.asking.attempts.saturating_add(1);
        let files = self.files.clone();
        let key = tokio::task::spawn_blocking(move || files.next_key().map(|key| key.public())).into_actor(self);
        context.spawn(key.map(|key, keeper, _| {
            keeper.asking.is_busy = false;
            match key.map_err(|panic| panic.to_string()).and_then(|key| key.map_err(|error| error.to_string())) {
                Ok(key) => keeper.request(&key),
                Err(why) => keeper.not_renewed(format!("its key has to stand on disk before it is asked for: {why}")),
            }
        }));
    }

    fn request(&mut self, key: &[u8; KEY_BYTES]) {
        let key = Argument { name: PUBLIC_KEY.to_owned(), value: Bytes(key.to_vec()).to_string() };
        let command = command_to_all(&self.identity, CommandName::Renew, (self.calendar)(), vec![key]);
        self.asking.id = Some(command.id.clone());
        tracing::info!(attempt = self.asking.attempts, "asks the fleet's authorities for a new certificate");
        match Topic::command(ALL_NODES, CommandName::Renew) {
            Ok(topic) => tell(&self.publish, Publish { topic, message: WireMessage::Command(Box::new(command)) }),
            Err(error) => tracing::error!(%error, "a command has no topic"),
        }
    }

    /// Nothing is awaited any more: there is a new credential.
    pub(super) fn has_renewed(&mut self) {
        self.asking = Asking { is_busy: self.asking.is_busy, ..Asking::default() };
    }
}

impl Handler<Answered> for Keeper {
    type Result = ();

    fn handle(&mut self, Answered { response }: Answered, context: &mut Self::Context) {
        if self.asking.is_busy || self.asking.id.as_ref() != Some(&response.id) {
            // Another authority was quicker, or what was asked is asked again.
            return;
        }
        if !response.done {
            let Response { node, detail, .. } = response;
            return self.not_renewed(format!("{node} answers that {detail}"));
        }
        self.asking.is_busy = true;
        let (files, current) = (self.files.clone(), self.signer.credential());
        let (believed, now) = (self.verifier.anchors(), self.now());
        let taken = tokio::task::spawn_blocking(move || take(&response, &files, &current, &believed, now));
        context.spawn(taken.into_actor(self).map(|taken, keeper, _| {
            keeper.asking.is_busy = false;
            match taken.map_err(|panic| panic.to_string()).and_then(|taken| taken) {
                Ok(credential) => keeper.promote(credential),
                Err(why) => keeper.not_renewed(why),
            }
        }));
    }
}

/// An answer, proven and on disk.
fn take(
    response: &Response,
    files: &CredentialFiles,
    current: &Credential,
    believed: &Anchors,
    now: UnixSeconds,
) -> Result<Credential, String> {
    let said = [CERTIFICATE, ISSUER].into_iter().filter_map(|name| response.result(name));
    let chain: Option<Vec<Vec<u8>>> = said.map(|hex| Some(Bytes::from_hex(hex)?.0)).collect();
    let chain = chain.ok_or_else(|| format!("the answer of {} has no certificate that can be read", response.node))?;
    let renewed = proven(chain, files, current, believed, now);
    let renewed = renewed.map_err(|why| format!("the answer of {}: {why}", response.node))?;
    files.promote(&renewed).map_err(|error| error.to_string())?;
    Ok(renewed)
}

/// What new certificates make with the key that they were asked for, if it may stand in the place of the one before.
fn proven(
    chain: Vec<Vec<u8>>,
    files: &CredentialFiles,
    current: &Credential,
    believed: &Anchors,
    now: UnixSeconds,
) -> Result<Credential, String> {
    let renewed = files.renewed(chain).map_err(|error| error.to_string())?;
    believed.check(renewed.chain(), now).map_err(|why| why.to_string())?;
    let (after, before) = (renewed.facts(), current.facts());
    if after.subject() != before.subject() {
        return Err(format!("it is for {} {} at {:?}", after.role, after.name, after.hosts));
    }
    if after.not_after <= before.not_after {
        return Err("it ends no later than the old one".to_owned());
    }
    Ok(renewed)
}

/// A node that holds an authority renews its own credential by it.
pub(super) fn renew_here(
    authority: &std::path::Path,
    files: &CredentialFiles,
    current: &Credential,
    believed: &Anchors,
    now: UnixSeconds,
) -> Result<Credential, String> {
    let key = files.next_key().map_err(|error| error.to_string())?;
    let issuer = Issuer::open(authority).map_err(|error| error.to_string())?;
    let chain = issuer.renew(current.chain(), &key.public(), believed, now).map_err(|error| error.to_string())?;
    let renewed = proven(chain, files, current, believed, now)?;
    files.promote(&renewed).map_err(|error| error.to_string())?;
    Ok(renewed)
}
