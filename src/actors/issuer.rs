//! Renews the credentials of nodes that ask for it, on a node that holds an authority: one certificate at a time, since each
//! is on disk before it is given away.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use actix::fut::WrapFuture;
use actix::{Actor, ActorFutureExt, AsyncContext, Context, Handler, Recipient};

use super::hearing::RenewalAsked;
use super::publisher::{Identity, Publish, Report};
use super::{MAILBOX, tell};
use crate::host::clock::{Clock, rfc3339_s, unix_now};
use crate::logic::issuing::{Desk, Verdict};
use crate::trust::{EARLIEST, Issuer as Hand, KEY_BYTES, UnixSeconds, Verifier};
use crate::wire::{
    Argument, Bytes, CERTIFICATE, EventData, EventKind, ISSUER, Message as WireMessage, PUBLIC_KEY, Response, Topic,
};

/// A request that lives longer than this could be played again after it was forgotten.
const LONGEST_REQUEST: UnixSeconds = 600;
/// Requests that wait for the disk. Who finds no room asks again.
const MAX_WAITING: usize = 256;

/// Certificates, the subject's own first.
type Chain = Vec<Vec<u8>>;
/// A public key.
type PublicKey = [u8; KEY_BYTES];

/// The issuer; made by the node.
pub struct Issuer {
    /// Who is speaking.
    pub identity: Identity,
    /// The only clock.
    pub clock: Clock,
    /// The folder of the authority.
    pub folder: PathBuf,
    /// What the fleet believes now.
    pub verifier: Arc<Verifier>,
    /// Answers go there.
    pub publish: Recipient<Publish>,
    /// Who tells people.
    pub report: Recipient<Report>,
    /// What was asked and given.
    pub desk: Desk<PublicKey, Chain>,
    /// What is to be issued.
    pub waiting: VecDeque<Wanted>,
    /// A certificate is being made.
    pub is_issuing: bool,
}

/// A certificate that may be issued.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// The command's id.
    id: String,
    /// The asker.
    name: String,
    /// For this key.
    key: PublicKey,
    /// The asker's certificates.
    chain: Chain,
}

impl Actor for Issuer {
    type Context = Context<Self>;

    fn started(&mut self, context: &mut Self::Context) {
        context.set_mailbox_capacity(MAILBOX);
    }
}

impl Handler<RenewalAsked> for Issuer {
    type Result = ();

    fn handle(&mut self, RenewalAsked { command, stamp, chain }: RenewalAsked, context: &mut Self::Context) {
        let now = unix_now();
        if command.expires_at > now.saturating_add(LONGEST_REQUEST) {
            return tracing::debug!(
                from = command.from,
                "a request for a certificate lives too long, or a clock is wrong"
            );
        }
        let key = command.argument(PUBLIC_KEY).and_then(Bytes::from_hex);
        let Some(key) = key.and_then(|key| PublicKey::try_from(key.0).ok()) else {
            return tracing::debug!(from = command.from, "a request for a certificate has no key");
        };
        let wanted = Wanted { id: command.id, name: command.from, key, chain };
        match self.desk.asked(&wanted.name, &key, (stamp.session, stamp.sequence), self.clock.now()) {
            Verdict::Ignore => {}
            Verdict::Again(chain) => self.answer(&wanted, Ok(&chain)),
            Verdict::Refuse(why) => self.answer(&wanted, Err(why)),
            Verdict::Issue if now < EARLIEST => self.answer(&wanted, Err("this authority does not know the time yet")),
            Verdict::Issue if self.waiting.len() < MAX_WAITING => {
                self.waiting.push_back(wanted);
                self.issue_next(context);
            }
            Verdict::Issue => tracing::warn!(name = wanted.name, "more nodes ask for certificates than can wait"),
        }
    }
}

impl Issuer {
    fn issue_next(&mut self, context: &mut Context<Self>) {
        if self.is_issuing {
            return;
        }
        let Some(wanted) = self.waiting.pop_front() else { return };
        self.is_issuing = true;
        let (folder, verifier, of) = (self.folder.clone(), self.verifier.clone(), wanted.clone());
        let made = tokio::task::spawn_blocking(move || issue(&folder, &of, &verifier)).into_actor(self);
        context.spawn(made.map(move |made, issuer, context| {
            issuer.is_issuing = false;
            match made.map_err(|panic| panic.to_string()).and_then(|made| made) {
                Ok(chain) => issuer.issued(&wanted, chain),
                Err(why) => {
                    tracing::warn!(name = wanted.name, why, "no certificate was issued");
                    issuer.answer(&wanted, Err(&why));
                }
            }
            issuer.issue_next(context);
        }));
    }

    fn issued(&mut self, wanted: &Wanted, chain: Chain) {
        self.answer(wanted, Ok(&chain));
        let reason = Some(told(&wanted.name, &chain));
        tell(
            &self.report,
            Report { kind: EventKind::CredentialIssued, data: EventData { reason, ..EventData::default() } },
        );
        self.desk.given(&wanted.name, wanted.key, chain, self.clock.now());
    }

    fn answer(&self, wanted: &Wanted, given: Result<&Chain, &str>) {
        let result = |(name, certificate): (&str, &Vec<u8>)| Argument {
            name: name.to_owned(),
            value: Bytes(certificate.clone()).to_string(),
        };
        let response = Response {
            fleet: self.identity.fleet.clone(),
            node: self.identity.node.clone(),
            id: wanted.id.clone(),
            done: given.is_ok(),
            detail: given.map_or_else(str::to_owned, |_| "a new certificate".to_owned()),
            results: given.map_or_else(
                |_| Vec::new(),
                |chain| [CERTIFICATE, ISSUER].into_iter().zip(chain).map(result).collect(),
            ),
        };
        match Topic::response(&self.identity.node, &wanted.id) {
            Ok(topic) => tell(&self.publish, Publish { topic, message: WireMessage::Response(Box::new(response)) }),
            Err(error) => tracing::debug!(%error, "a request has an id that is no part of a topic"),
        }
    }
}

fn issue(folder: &Path, wanted: &Wanted, verifier: &Verifier) -> Result<Chain, String> {
    let hand = Hand::open(folder).map_err(|error| error.to_string())?;
    let renewed = hand.renew(&wanted.chain, &wanted.key, &verifier.anchors(), unix_now());
    renewed.map_err(|error| error.to_string())
}

/// For people: to whom, by which number, until when.
pub(super) fn told(name: &str, chain: &[Vec<u8>]) -> String {
    let facts = chain.first().and_then(|leaf| crate::trust::Facts::read(leaf).ok());
    let (serial, until) =
        facts.map_or_else(Default::default, |facts| (Bytes(facts.serial).to_string(), facts.not_after));
    let until = rfc3339_s(until);
    format!("a certificate for {name}, number {serial}, until {until}")
}
