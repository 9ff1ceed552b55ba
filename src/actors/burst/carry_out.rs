//! One operation for one instance: at the journal, at the provider, or at the instance itself.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::ArcSwap;
use cloud_adapters::{
    AdapterError, CloudAdapter, InstanceState, LaunchId, LaunchRequest, Owner, Reach, ReadyCheck, Retry, Secret,
    TlsIdentity,
};

use crate::actors::publisher::Identity;
use crate::actors::reach::way;
use crate::host::call::{Call, call};
use crate::host::clock::unix_ms_now;
use crate::journal::{Closing, Journal, JournalError, LaunchRow, Stage as Recorded};
use crate::logic::budget::Money;
use crate::logic::burst::{Listed, RECORD_DEADLINE, RENEWAL_DEADLINE};
use crate::logic::fleet::{Address, Fleet, Instance, Operation, Outcome, Seen, Stage};
use crate::tls::{Dialer, LaunchIdentity, launch_pin, launch_token};
use crate::wire::{LEASE_PATH, LEASE_TOKEN_HEADER, LeaseRenewal, LeaseState, LeaseStatus, from_json, to_json};

/// What an instance of a service runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Workload {
    /// Command, environment, image and files.
    pub workload: cloud_adapters::Workload,
    /// When it counts as ready.
    pub ready: ReadyCheck,
    /// Requests that it takes at once.
    pub concurrency: u32,
}

/// One operation with all that it needs.
pub(super) struct Work {
    pub(super) operation: Operation,
    pub(super) instance: Instance,
    /// Set for an intent.
    pub(super) row: Option<LaunchRow>,
    /// Set for closing.
    pub(super) cost: Money,
    /// Until when that counts, in Unix milliseconds.
    pub(super) ended_at_ms: i64,
}

/// Carries operations out; shared by all that are under way.
pub(super) struct Operator {
    owner: Owner,
    journal: Arc<Journal>,
    secret: Vec<u8>,
    /// Those too that are gone from the configuration: instances may live there yet.
    adapters: ArcSwap<BTreeMap<String, Arc<dyn CloudAdapter>>>,
    workloads: ArcSwap<BTreeMap<String, Workload>>,
    dialer: Dialer,
    /// Counts renewals, so that an instance can tell an old one.
    sequence: AtomicU64,
}

impl Operator {
    pub(super) fn new(
        identity: &Identity,
        journal: Arc<Journal>,
        secret: Vec<u8>,
        adapters: BTreeMap<String, Arc<dyn CloudAdapter>>,
        workloads: BTreeMap<String, Workload>,
        dialer: Dialer,
    ) -> Self {
        let owner = Owner { fleet: identity.fleet.clone(), node: identity.node.clone(), session: identity.session };
        let (adapters, workloads) = (ArcSwap::from_pointee(adapters), ArcSwap::from_pointee(workloads));
        Self { owner, journal, secret, adapters, workloads, dialer, sequence: AtomicU64::new(0) }
    }

    /// The services that have something to run at a provider.
    pub(super) fn services(&self) -> Vec<String> {
        self.workloads.load().keys().cloned().collect()
    }

    /// Knows new providers; what is launched from now on runs this.
    pub(super) fn reconfigure(
        &self,
        providers: BTreeMap<String, Arc<dyn CloudAdapter>>,
        workloads: BTreeMap<String, Workload>,
    ) {
        let mut adapters = self.adapters.load().as_ref().clone();
        adapters.extend(providers);
        self.adapters.store(Arc::new(adapters));
        self.workloads.store(Arc::new(workloads));
    }

    pub(super) async fn carry_out(&self, work: Work) -> Outcome {
        let instance = &work.instance;
        match work.operation {
            Operation::Intend => self.intend(work.row).await,
            Operation::RecordEnding => {
                self.record(&instance.launch, Recorded::Ending).await;
                Outcome::Done
            }
            Operation::Close => self.close(instance, work.cost, work.ended_at_ms).await,
            Operation::Renew => self.renew(instance).await,
            Operation::Launch => self.launch(instance).await.unwrap_or_else(failed),
            Operation::Describe => self.look_at(instance).await,
            Operation::Terminate => self.terminate(instance).await.unwrap_or_else(failed),
        }
    }

    /// Writes down that a stage was reached; one that cannot be written is found out again by the next start.
    pub(super) async fn record(&self, launch: &str, stage: Recorded) {
        match tokio::time::timeout(RECORD_DEADLINE, self.journal.reached(launch, stage, now())).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!(launch, %error, "a stage was not recorded"),
            Err(_) => tracing::warn!(launch, "a stage was not recorded: the disk hangs"),
        }
    }

    async fn intend(&self, row: Option<LaunchRow>) -> Outcome {
        match row {
            Some(row) => recorded(self.journal.intend(row).await),
            None => Outcome::Failed("an intent without a row".into()),
        }
    }

    async fn close(&self, instance: &Instance, cost: Money, ended_at_ms: i64) -> Outcome {
        let reason = instance.end_reason.clone().unwrap_or_default();
        let closing = Closing { ended_at_ms, reason, cost_micro: cost.micros() };
        recorded(self.journal.close_row(&instance.launch, closing).await)
    }

    async fn launch(&self, instance: &Instance) -> Result<Outcome, AdapterError> {
        let adapter = self.adapter(&instance.adapter)?;
        let request = self.request(instance)?;
        adapter.launch(&request).await?;
        self.record(&instance.launch, Recorded::Launched).await;
        Ok(Outcome::Accepted)
    }

    fn request(&self, instance: &Instance) -> Result<LaunchRequest, AdapterError> {
        let timing = instance.timing();
        let service = &instance.service;
        let workloads = self.workloads.load();
        let workload = workloads.get(service).ok_or_else(|| {
            AdapterError::bad_configuration(format!("service {service} has nothing to run at a provider"))
        })?;
        let identity = LaunchIdentity::derive(&self.secret, &instance.launch)
            .map_err(|error| AdapterError::bad_configuration(error.to_string()))?;
        Ok(LaunchRequest {
            launch: launch_id(instance)?,
            owner: self.owner.clone(),
            service: service.clone(),
            workload: workload.workload.clone(),
            ready: workload.ready.clone(),
            lease_ttl: timing.lease_ttl,
            drain_timeout: timing.drain_timeout,
            token: Secret::new(launch_token(&self.secret, &instance.launch)),
            identity: TlsIdentity { certificate: identity.certificate_pem(), key: Secret::new(identity.key_pem()) },
            concurrency: workload.concurrency,
        })
    }

    /// A look at a ready instance must not take what is left of its lease.
    async fn look_at(&self, instance: &Instance) -> Outcome {
        let looked = self.describe(instance);
        if instance.stage != Stage::Ready {
            return looked.await.unwrap_or_else(failed);
        }
        let patience = RENEWAL_DEADLINE.max(instance.timing().lease_ttl / 6);
        match tokio::time::timeout(patience, looked).await {
            Ok(seen) => seen.unwrap_or_else(failed),
            Err(_) => Outcome::Failed(format!("the provider did not tell of it within {patience:?}")),
        }
    }

    async fn describe(&self, instance: &Instance) -> Result<Outcome, AdapterError> {
        let adapter = self.adapter(&instance.adapter)?;
        let Some(described) = adapter.describe(&launch_id(instance)?).await? else {
            return Ok(Outcome::Seen(Seen::Unknown));
        };
        Ok(Outcome::Seen(match (described.state, described.reach) {
            (InstanceState::Ended { reason }, _) => Seen::Ended(reason),
            (InstanceState::Running, Some(reach)) => {
                Seen::Running { address: self.address(&reach, &instance.launch)?, notice: described.notice }
            }
            _ => Seen::Pending,
        }))
    }

    fn address(&self, reach: &Reach, launch: &str) -> Result<Address, AdapterError> {
        let pin =
            launch_pin(&self.secret, launch).map_err(|error| AdapterError::bad_configuration(error.to_string()))?;
        let (authority, transport) = way(reach, pin);
        Ok(Address { authority, transport })
    }

    async fn terminate(&self, instance: &Instance) -> Result<Outcome, AdapterError> {
        let adapter = self.adapter(&instance.adapter)?;
        adapter.terminate(&launch_id(instance)?).await?;
        Ok(Outcome::Done)
    }

    /// Every instance of this node at an adapter, or why there is no list.
    pub(super) async fn list(&self, adapter: &str) -> Result<Vec<cloud_adapters::Instance>, String> {
        let listed = match self.adapter(adapter) {
            Ok(found) => found.list(&self.owner).await,
            Err(error) => Err(error),
        };
        listed.map_err(|error| error.with_causes()).inspect_err(|why| {
            tracing::warn!(adapter, why, "the provider does not list our instances; asking again");
        })
    }

    /// A list as the engine takes it.
    pub(super) fn as_listed(&self, listed: Vec<cloud_adapters::Instance>, fleet: &Fleet) -> Vec<Listed> {
        listed.into_iter().map(|instance| self.row_of(instance, fleet)).collect()
    }

    /// Where an instance is that is known already is not worked out: that costs a derived key each.
    fn row_of(&self, instance: cloud_adapters::Instance, fleet: &Fleet) -> Listed {
        let is_news = fleet.get(instance.launch.as_str()).is_none();
        let reach = instance.reach.as_ref().filter(|_| is_news && instance.state == InstanceState::Running);
        Listed {
            launch: instance.launch.to_string(),
            ended: instance.is_ended(),
            address: reach.and_then(|reach| self.address(reach, instance.launch.as_str()).ok()),
            service: instance.service,
            session: instance.owner.session,
            age: instance.age,
            notice: instance.notice,
        }
    }

    async fn renew(&self, instance: &Instance) -> Outcome {
        let Some(address) = &instance.address else { return Outcome::Failed("no address yet".into()) };
        let renewal = LeaseRenewal {
            launch: instance.launch.clone(),
            session: self.owner.session,
            sequence: self.sequence.fetch_add(1, Ordering::Relaxed) + 1,
            ttl_ms: u64::try_from(instance.timing().lease_ttl.as_millis()).unwrap_or(u64::MAX),
        };
        match self.ask_instance(address, &renewal).await {
            Ok(LeaseState::Ready) => Outcome::Renewed { ready: true, draining: false },
            Ok(LeaseState::Draining) => Outcome::Renewed { ready: false, draining: true },
            Ok(_) => Outcome::Renewed { ready: false, draining: false },
            Err(why) => Outcome::Failed(why),
        }
    }

    async fn ask_instance(&self, address: &Address, renewal: &LeaseRenewal) -> Result<LeaseState, String> {
        let body = to_json(renewal).map_err(|error| error.to_string())?;
        let bearer = format!("Bearer {}", launch_token(&self.secret, &renewal.launch));
        let request = Call {
            authority: &address.authority,
            transport: address.transport,
            dialer: &self.dialer,
            path: LEASE_PATH,
            header: Some((LEASE_TOKEN_HEADER, &bearer)),
            json: Some(&body),
            deadline: RENEWAL_DEADLINE,
        };
        let (status, answer) = call(request).await.map_err(|error| error.to_string())?;
        if !status.is_success() {
            return Err(format!("{} refused the renewal: {status}", address.authority));
        }
        let lease: LeaseStatus = from_json(&answer).map_err(|error| error.to_string())?;
        Ok(lease.state)
    }

    fn adapter(&self, name: &str) -> Result<Arc<dyn CloudAdapter>, AdapterError> {
        let gone = || AdapterError::transient(format!("no adapter {name} is configured any more"));
        self.adapters.load().get(name).cloned().ok_or_else(gone)
    }
}

fn launch_id(instance: &Instance) -> Result<LaunchId, AdapterError> {
    instance
        .launch
        .parse()
        .map_err(|error: cloud_adapters::InvalidLaunchId| AdapterError::bad_configuration(error.to_string()))
}

fn failed(error: AdapterError) -> Outcome {
    let why = error.with_causes();
    match error.retry() {
        Retry::Backoff => Outcome::Failed(why),
        Retry::NextAdapter => Outcome::NoCapacity(why),
        Retry::Never => Outcome::Misconfigured(why),
    }
}

fn recorded(written: Result<(), JournalError>) -> Outcome {
    written.map_or_else(|error| Outcome::Failed(error.to_string()), |()| Outcome::Done)
}

fn now() -> i64 {
    unix_ms_now()
}
