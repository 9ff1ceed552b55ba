//! Asks each replica of a service for the number that the service is scaled by.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use actix::{Actor, AsyncContext, Context, WrapFuture};

use super::MAILBOX;
use crate::host::call::{Call, call};
use crate::host::clock::Clock;
use crate::logic::load::Gauge;
use crate::logic::route::{Endpoint, Placement};
use crate::tls::Dialer;
use crate::wire::{LEASE_TOKEN_HEADER, number_at};

/// What one service's replicas are asked for.
#[derive(Clone)]
pub struct Survey {
    /// The service.
    pub service: String,
    /// Where each of its replicas tells the number.
    pub path: String,
    /// Where it stands in the answer.
    pub pointer: String,
    /// Who keeps it.
    pub gauge: Arc<Gauge>,
    /// How often each is asked.
    pub every: Duration,
}

/// A survey and what was last wrong with each replica's answer, so that this is said once.
pub struct Surveillance {
    survey: Survey,
    complaints: BTreeMap<String, String>,
}

impl Surveillance {
    /// With nothing wrong yet.
    #[must_use]
    pub fn new(survey: Survey) -> Self {
        Self { survey, complaints: BTreeMap::new() }
    }
}

/// Gives the replicas of a service that take requests now.
pub type Replicas = Box<dyn Fn(&str) -> Vec<Arc<Endpoint>> + Send>;

/// The surveyor's parts, made by the node.
pub struct Surveyor {
    /// The only clock.
    pub clock: Clock,
    /// Connects to replicas.
    pub dialer: Dialer,
    /// Where they are.
    pub replicas: Replicas,
    /// What they are asked for.
    pub surveys: Vec<Surveillance>,
}

impl Actor for Surveyor {
    type Context = Context<Self>;

    fn started(&mut self, context: &mut Self::Context) {
        context.set_mailbox_capacity(MAILBOX);
        for (index, surveillance) in self.surveys.iter().enumerate() {
            context.run_interval(surveillance.survey.every, move |surveyor, context| surveyor.ask(index, context));
        }
    }
}

impl Surveyor {
    fn ask(&mut self, index: usize, context: &mut Context<Self>) {
        let survey = &self.surveys[index].survey;
        // Another node's replicas are scaled there.
        let own = (self.replicas)(&survey.service).into_iter().filter(|replica| replica.placement != Placement::Peer);
        let own: Vec<_> = own.collect();
        let names: BTreeSet<_> = own.iter().map(|replica| replica.replica.clone()).collect();
        let survey = survey.clone();
        self.surveys[index].complaints.retain(|replica, _| names.contains(replica));
        survey.gauge.expect(names);
        for replica in own {
            let (survey, dialer) = (survey.clone(), self.dialer.clone());
            let asked = async move {
                let answer = number_of(&survey, &replica, &dialer).await;
                (replica.replica.clone(), answer)
            };
            context.spawn(actix::fut::ActorFutureExt::map(
                asked.into_actor(self),
                move |(replica, answer), surveyor: &mut Self, _| surveyor.take_in(index, &replica, answer),
            ));
        }
    }

    fn take_in(&mut self, index: usize, replica: &str, answer: Result<f64, String>) {
        let Surveillance { survey, complaints } = &mut self.surveys[index];
        match answer {
            Ok(number) => {
                survey.gauge.hear(replica, number, self.clock.now());
                complaints.remove(replica);
            }
            Err(error) if complaints.get(replica) == Some(&error) => {}
            Err(error) => {
                tracing::warn!(
                    service = %survey.service,
                    replica,
                    path = %survey.path,
                    "a replica does not tell what scaling.metric asks it for: {error}; while one is missing, the last decision holds"
                );
                complaints.insert(replica.to_owned(), error);
            }
        }
    }
}

async fn number_of(survey: &Survey, replica: &Endpoint, dialer: &Dialer) -> Result<f64, String> {
    let bearer = replica.bearer.as_ref().map(|bearer| format!("Bearer {}", bearer.expose()));
    let request = Call {
        authority: &replica.authority,
        transport: replica.transport,
        dialer,
        path: &survey.path,
        header: bearer.as_deref().map(|bearer| (LEASE_TOKEN_HEADER, bearer)),
        json: None,
        // Before it is asked again.
        deadline: survey.every,
    };
    match call(request).await {
        Ok((status, body)) if status.is_success() => {
            number_at(&body, &survey.pointer).map_err(|error| error.to_string())
        }
        Ok((status, _)) => Err(format!("it answers {status}")),
        Err(error) => Err(error.to_string()),
    }
}
