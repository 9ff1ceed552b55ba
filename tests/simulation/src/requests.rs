//! What clients ask meanwhile: each request gets at most one answer, and a drain loses none.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::node::NodeEvent;
use crate::provider::InstanceEvent;
use crate::world::{Happening, World};

/// Chance that a routable instance gets a request at a look.
const ASKED: f64 = 0.08;
/// A request that was refused is tried at so many instances in all, as the gateway does.
const TRIES: u32 = 3;

/// One request that has no answer yet.
#[derive(Clone, Debug)]
struct Request {
    launch: String,
    tries: u32,
    takes: Duration,
    /// The instance works on it.
    has_arrived: bool,
    /// The instance has answered; it is on its way back.
    is_answered: bool,
}

/// All requests.
#[derive(Clone, Debug, Default)]
pub(crate) struct Requests {
    open: BTreeMap<u64, Request>,
    count: u64,
}

impl Requests {
    /// Its clients' connections are gone with the node.
    pub(crate) fn node_is_gone(&mut self) {
        self.open.clear();
    }
}

impl World {
    /// Some clients ask something.
    pub(crate) fn send_requests(&mut self) {
        let Some(run) = &self.node.run else { return };
        let routable = run.engine.fleet().instances().filter(|instance| instance.is_routable());
        let routable: Vec<(String, String)> = routable.map(|i| (i.adapter.clone(), i.launch.clone())).collect();
        for (adapter, launch) in routable {
            if self.chance.hits(ASKED) {
                self.requests.count += 1;
                let takes = self.chance.spread(0.02, 12.0);
                self.route(self.requests.count, 1, takes, &adapter, launch);
            }
        }
    }

    fn route(&mut self, id: u64, tries: u32, takes: Duration, adapter: &str, launch: String) {
        if self.instance(adapter, &launch).is_none_or(|instance| instance.ready_at.is_none() || instance.label.foreign)
        {
            return self.fail(format!("a request was routed to {launch}, which never was ready"));
        }
        let Some(run) = &mut self.node.run else { return };
        *run.in_flight.entry(launch.clone()).or_insert(0) += 1;
        self.requests
            .open
            .insert(id, Request { launch: launch.clone(), tries, takes, has_arrived: false, is_answered: false });
        let at = self.now + self.chance.spread(0.001, 0.1);
        self.at(at, Happening::Instance(adapter.to_owned(), launch, InstanceEvent::Request(id, takes)));
    }

    /// A request arrives at a living instance.
    pub(crate) fn take_request(&mut self, adapter: &str, launch: &str, id: u64, takes: Duration) {
        if !self.requests.open.contains_key(&id) {
            return;
        }
        let now = self.now;
        let Some(instance) = self.instance_mut(adapter, launch) else { return };
        if !instance.takes_requests() {
            return self.refuse_request(id);
        }
        instance.in_flight += 1;
        if let Some(request) = self.requests.open.get_mut(&id) {
            request.has_arrived = true;
        }
        self.at(now + takes, Happening::Instance(adapter.to_owned(), launch.to_owned(), InstanceEvent::Answered(id)));
    }

    /// Nothing of it was done: the gateway may ask another one.
    pub(crate) fn refuse_request(&mut self, id: u64) {
        self.at_node(self.now, NodeEvent::Back(id, false));
    }

    pub(crate) fn answer_request(&mut self, adapter: &str, launch: &str, id: u64) {
        if let Some(instance) = self.instance_mut(adapter, launch) {
            instance.in_flight = instance.in_flight.saturating_sub(1);
        }
        let Some(request) = self.requests.open.get_mut(&id) else { return };
        if request.is_answered {
            return self.fail(format!("request {id} was answered twice"));
        }
        request.is_answered = true;
        let at = self.now + self.chance.spread(0.001, 0.1);
        self.at_node(at, NodeEvent::Back(id, true));
    }

    /// An instance ended with what it was working on: each client gets an error, once.
    pub(crate) fn lose_requests_of(&mut self, launch: &str) {
        let lost = self
            .requests
            .open
            .iter()
            .filter(|(_, request)| request.launch == launch && request.has_arrived && !request.is_answered);
        let lost: Vec<u64> = lost.map(|(id, _)| *id).collect();
        for id in lost {
            self.coverage.count("answer lost with its instance");
            if let Some(request) = self.requests.open.get_mut(&id) {
                request.is_answered = true;
            }
            self.at_node(self.now, NodeEvent::Back(id, true));
        }
    }

    /// A request is back at the gateway.
    pub(crate) fn request_is_back(&mut self, id: u64, answered: bool) {
        let Some(request) = self.requests.open.remove(&id) else { return };
        let Some(run) = &mut self.node.run else { return };
        if let Some(count) = run.in_flight.get_mut(&request.launch) {
            *count = count.saturating_sub(1);
        }
        if answered {
            return self.coverage.count("request answered");
        }
        let other = run.engine.fleet().instances().find(|i| i.is_routable() && i.launch != request.launch);
        let Some((adapter, launch)) = other.map(|i| (i.adapter.clone(), i.launch.clone())) else { return };
        if request.tries < TRIES {
            self.coverage.count("request refused and retried");
            self.route(id, request.tries + 1, request.takes, &adapter, launch);
        }
    }
}
