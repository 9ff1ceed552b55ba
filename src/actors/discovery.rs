//! The shared discovery topic: says what this node and its instances offer, again and again. What others say there,
//! [`super::hearing`] takes in.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use actix::{Actor, AsyncContext, Context, Handler, Message, Recipient};

use super::hearing::{Asked, Connected, Hearing, command_to_all};
use super::publisher::{Identity, Publish};
use super::{MAILBOX, tell};
use crate::host::clock::{Clock, rfc3339_now, unix_now};
use crate::trust::EARLIEST;
use crate::wire::registry::Registry;
use crate::wire::{
    ALL_NODES, Announcement, AnnouncementKind, CommandName, Endpoints, Message as WireMessage, PlacementRule,
    ServiceOffer, Topic, TopicError, WIRE_VERSION,
};

/// When, within a refresh, the node announces itself again: late enough to keep the traffic what the setting says, and early
/// enough that a slow broker or a busy box does not look like the node's end.
const EARLIEST_SHARE: f64 = 0.75;
const LATEST_SHARE: f64 = 0.90;
/// A broker that gives what it keeps has begun by then, and by twice this at the latest who asks has asked: many that come back
/// together do not ask at once.
const KEPT_WITHIN: Duration = Duration::from_secs(1);

/// What the node's services offer now, from the scheduler.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Offers(pub Vec<ServiceOffer>);

/// The instances that are ready now, from the scheduler: launch id, address, and what each offers.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Instances(pub BTreeMap<String, InstanceOffer>);

/// One ready instance.
#[derive(Clone, Debug, PartialEq)]
pub struct InstanceOffer {
    /// `host:port` as this node reaches it.
    pub authority: String,
    /// The one service that it serves.
    pub offer: ServiceOffer,
}

/// Clears what was announced and announces nothing any more; answered once that is with the publisher.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Withdraw;

/// Takes up what a changed configuration says.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Reconfigure {
    /// Of each service.
    pub facts: BTreeMap<String, ServiceFacts>,
    /// Digest of it.
    pub config_digest: String,
}

/// What the configuration says of a service, for its offers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceFacts {
    /// `oip-v2`, or `http` for a server whose API is its own.
    pub protocol: &'static str,
    /// How far its requests may travel.
    pub placement: PlacementRule,
}

/// The announcer; made by the node.
pub struct Discovery {
    /// Who is speaking.
    pub identity: Identity,
    /// The only clock.
    pub clock: Clock,
    /// Who else is there.
    pub registry: Arc<Registry>,
    /// Said once per this time even without a change.
    pub refresh: Duration,
    /// Where clients reach this node.
    pub endpoints: Endpoints,
    /// Where this node stands, as its operator calls it.
    pub site: Option<String>,
    /// The region that it is in.
    pub region: Option<String>,
    /// Digest of the resolved configuration.
    pub config_digest: String,
    /// What each service speaks and how far its requests may travel, by service.
    pub facts: BTreeMap<String, ServiceFacts>,
    /// What is said goes there.
    pub publisher: Recipient<Publish>,
    /// Hears who is there.
    pub hearing: Arc<Hearing>,
    /// What is said now.
    pub offers: Vec<ServiceOffer>,
    /// The instances that are announced now.
    pub instances: BTreeMap<String, InstanceOffer>,
    /// The node stops: nothing is announced any more.
    pub withdrawn: bool,
    /// Somebody asked who is there, and is not answered yet.
    pub is_asked: bool,
    /// It is about to be seen whether the broker tells who is there.
    pub is_looking: bool,
}

impl Actor for Discovery {
    type Context = Context<Self>;

    fn started(&mut self, context: &mut Self::Context) {
        context.set_mailbox_capacity(MAILBOX);
        // The links may have come up before.
        self.look_who_is_there(context);
        self.announce_again(context);
    }
}

impl Handler<Offers> for Discovery {
    type Result = ();

    fn handle(&mut self, Offers(offers): Offers, _: &mut Self::Context) {
        if offers != self.offers {
            self.offers = offers;
            self.announce_node();
        }
    }
}

impl Handler<Reconfigure> for Discovery {
    type Result = ();

    fn handle(&mut self, Reconfigure { facts, config_digest }: Reconfigure, _: &mut Self::Context) {
        (self.facts, self.config_digest) = (facts, config_digest);
        self.announce_node();
    }
}

impl Handler<Instances> for Discovery {
    type Result = ();

    fn handle(&mut self, Instances(now): Instances, _: &mut Self::Context) {
        let before: BTreeSet<_> = self.instances.keys().cloned().collect();
        let gone: Vec<_> = before.into_iter().filter(|launch| !now.contains_key(launch)).collect();
        let changed: Vec<_> = now.iter().filter(|(launch, o)| self.instances.get(*launch) != Some(o)).collect();
        let changed: Vec<_> = changed.into_iter().map(|(launch, _)| launch.clone()).collect();
        self.instances = now;
        gone.iter().for_each(|launch| self.clear_instance(launch));
        changed.iter().for_each(|launch| self.announce_instance(launch));
    }
}

impl Handler<Withdraw> for Discovery {
    type Result = ();

    fn handle(&mut self, _: Withdraw, _: &mut Self::Context) {
        std::mem::take(&mut self.instances).keys().for_each(|launch| self.clear_instance(launch));
        let gone = Announcement { kind: AnnouncementKind::Node, ttl_s: 0, ..self.announcement() };
        self.publish(Topic::discovery(&self.identity.node), WireMessage::Announcement(Box::new(gone)));
        self.publish(Topic::discovery(&self.identity.node), WireMessage::Cleared);
        self.withdrawn = true;
    }
}

impl Handler<Connected> for Discovery {
    type Result = ();

    fn handle(&mut self, _: Connected, context: &mut Self::Context) {
        self.look_who_is_there(context);
    }
}

/// Somebody who came late asks who is there. All who ask within a refresh are answered by one announcement, and a fleet's
/// answers are spread over it.
impl Handler<Asked> for Discovery {
    type Result = ();

    fn handle(&mut self, Asked { command }: Asked, context: &mut Self::Context) {
        if command.name == CommandName::Who && !std::mem::replace(&mut self.is_asked, true) {
            context.run_later(self.refresh.mul_f64(fastrand::f64()), |discovery, _| {
                discovery.is_asked = false;
                discovery.announce_all();
            });
        }
    }
}

impl Discovery {
    /// Within each refresh, after which the others route nothing here any more; never at the same moment as a whole fleet.
    fn announce_again(&self, context: &mut Context<Self>) {
        let share = EARLIEST_SHARE + (LATEST_SHARE - EARLIEST_SHARE) * fastrand::f64();
        context.run_later(self.refresh.mul_f64(share), |discovery, context| {
            discovery.registry.forget_stale(discovery.clock.now());
            discovery.announce_all();
            discovery.announce_again(context);
        });
    }

    /// Asks who is there, unless the broker tells.
    fn look_who_is_there(&mut self, context: &mut Context<Self>) {
        if std::mem::replace(&mut self.is_looking, true) {
            return;
        }
        context.run_later(KEPT_WITHIN.mul_f64(1.0 + fastrand::f64()), |discovery, _| {
            discovery.is_looking = false;
            if discovery.hearing.hears_nothing_kept() && !discovery.withdrawn {
                discovery.ask_who_is_there();
            }
        });
    }

    fn ask_who_is_there(&self) {
        let now = unix_now();
        if now < EARLIEST {
            // Nothing is asked before the time is known, since a request ends at a time.
            return;
        }
        let command = command_to_all(&self.identity, CommandName::Who, now, Vec::new());
        self.publish(Topic::command(ALL_NODES, CommandName::Who), WireMessage::Command(Box::new(command)));
    }

    fn announce_all(&self) {
        self.announce_node();
        self.instances.keys().for_each(|launch| self.announce_instance(launch));
    }

    fn announce_node(&self) {
        let announcement = Announcement {
            kind: AnnouncementKind::Node,
            endpoints: self.endpoints.clone(),
            services: self.offers.iter().map(|offer| self.whole(offer)).collect(),
            ..self.announcement()
        };
        self.publish(Topic::discovery(&self.identity.node), WireMessage::Announcement(Box::new(announcement)));
    }

    fn announce_instance(&self, launch: &str) {
        let Some(instance) = self.instances.get(launch) else { return };
        let announcement = Announcement {
            kind: AnnouncementKind::Instance,
            instance: Some(launch.to_owned()),
            endpoints: Endpoints { gateway: Some(instance.authority.clone()), ..Endpoints::default() },
            services: vec![self.whole(&instance.offer)],
            ..self.announcement()
        };
        let topic = Topic::instance(&self.identity.node, launch);
        self.publish(topic, WireMessage::Announcement(Box::new(announcement)));
    }

    /// An offer from the scheduler with what it does not know.
    fn whole(&self, offer: &ServiceOffer) -> ServiceOffer {
        let facts = self.facts.get(&offer.name);
        ServiceOffer {
            protocol: facts.map(|facts| facts.protocol.to_owned()).unwrap_or_default(),
            placement: facts.map(|facts| facts.placement),
            ..offer.clone()
        }
    }

    fn clear_instance(&self, launch: &str) {
        // An empty message proves nothing, as anybody can send it: the last word is signed.
        let instance = Some(launch.to_owned());
        let gone = Announcement { kind: AnnouncementKind::Instance, instance, ttl_s: 0, ..self.announcement() };
        let topic = || Topic::instance(&self.identity.node, launch);
        self.publish(topic(), WireMessage::Announcement(Box::new(gone)));
        self.publish(topic(), WireMessage::Cleared);
    }

    fn announcement(&self) -> Announcement {
        Announcement {
            fleet: self.identity.fleet.clone(),
            node: self.identity.node.clone(),
            session: self.identity.session,
            ttl_s: self.refresh.as_secs().saturating_mul(3),
            sent_at: rfc3339_now(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            wire: WIRE_VERSION,
            config_digest: self.config_digest.clone(),
            site: self.site.clone(),
            region: self.region.clone(),
            ..Announcement::default()
        }
    }

    fn publish(&self, topic: Result<Topic, TopicError>, message: WireMessage) {
        match topic {
            Ok(_) if self.withdrawn => {}
            Ok(topic) => tell(&self.publisher, Publish { topic, message }),
            Err(error) => tracing::error!(%error, "an announcement has no topic"),
        }
    }
}
