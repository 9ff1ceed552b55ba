//! An adapter that passes every call on to a real one, but for the call at which the cell's fault strikes.

use std::future::Future;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use cloud_adapters::{
    AdapterError, Capabilities, CloudAdapter, Finding, Instance, InstanceState, LaunchId, LaunchRequest, Owner, Reach,
};

use super::cell::{Fault, Step};
use super::link::Link;
use super::mischief::{Mischief, Point, Strike, kill_self};

pub(crate) struct Faulty {
    real: Arc<dyn CloudAdapter>,
    mischief: Arc<Mischief>,
    link: Arc<Link>,
    /// What was seen last, to be shown when it is gone.
    seen: Mutex<Option<Instance>>,
    /// Lists that the restart is still to be lied to with.
    short_lists: Mutex<u32>,
}

type Answer<T> = Result<T, AdapterError>;

impl Faulty {
    pub(crate) fn new(real: Arc<dyn CloudAdapter>, link: Arc<Link>, mischief: Arc<Mischief>, is_restart: bool) -> Self {
        let lies_to_restart = is_restart && mischief.cell.is(Step::Drain, Fault::Lie);
        Self {
            real,
            link,
            mischief,
            seen: Mutex::default(),
            short_lists: Mutex::new(if lies_to_restart { 2 } else { 0 }),
        }
    }

    /// One call at a step; `lie` makes something else of the real answer. A lie may also come without the call.
    async fn call<T: Send>(
        &self,
        step: Step,
        real: impl Future<Output = Answer<T>> + Send,
        lie: impl FnOnce(u32, Answer<T>) -> Answer<T> + Send,
    ) -> Answer<T> {
        if self.mischief.is_cut_off() {
            return Err(AdapterError::transient("the link is down"));
        }
        let Some(strike) = self.mischief.at_call(step) else { return real.await };
        match strike {
            Strike::Kill(point) => die(point, real).await,
            Strike::CutBefore => Err(AdapterError::transient("the connection was cut before the call")),
            Strike::CutDuring(after) => {
                let _cut = tokio::time::timeout(after, real).await;
                Err(AdapterError::transient("the connection was cut in the middle"))
            }
            Strike::CutAfter => {
                let _lost = real.await;
                Err(AdapterError::transient("the connection was cut before the answer"))
            }
            Strike::Delay => {
                let late = real.await;
                // delay: the answer comes after the deadline
                tokio::time::sleep(self.mischief.too_long()).await;
                late
            }
            Strike::Error(which) => Err(refusal(which)),
            Strike::Lie(which) => lie(which, real.await),
        }
    }

    fn see(&self, mut instance: Instance) -> Instance {
        instance.reach = instance.reach.map(|reach| self.through_link(&instance.launch, reach));
        *self.seen.lock().expect("seen") = Some(instance.clone());
        instance
    }

    fn through_link(&self, launch: &LaunchId, reach: Reach) -> Reach {
        let authority = self.link.to(launch, &reach);
        match reach {
            Reach::Loopback { .. } => Reach::Loopback { authority },
            Reach::Direct { .. } => Reach::Direct { authority },
            Reach::Ingress { .. } => Reach::Ingress { authority },
            Reach::Tunnel { .. } => Reach::Tunnel { authority },
        }
    }

    fn with_what_is_gone(&self, mut listed: Vec<Instance>) -> Vec<Instance> {
        if listed.is_empty() {
            listed.extend(self.seen.lock().expect("seen").clone());
        }
        listed
    }

    /// Whether this list is one that lacks what lives.
    fn is_short(&self) -> bool {
        let mut left = self.short_lists.lock().expect("lists");
        let is_short = *left > 0;
        *left = left.saturating_sub(1);
        is_short
    }
}

async fn die<T>(point: Point, real: impl Future<Output = Answer<T>>) -> Answer<T> {
    match point {
        Point::Before => {}
        Point::During(after) => drop(tokio::time::timeout(after, real).await),
        Point::After => drop(real.await),
    }
    kill_self();
    Err(AdapterError::transient("not reached"))
}

fn refusal(which: u32) -> AdapterError {
    match which % 3 {
        0 => AdapterError::transient("the provider answers 503"),
        1 => AdapterError::no_capacity("the provider is full"),
        _ => AdapterError::bad_configuration("the provider does not know this account"),
    }
}

#[async_trait]
impl CloudAdapter for Faulty {
    fn capabilities(&self) -> Capabilities {
        self.real.capabilities()
    }

    async fn launch(&self, request: &LaunchRequest) -> Answer<Instance> {
        self.mischief.between_intent_and_request();
        let lie = |which: u32, _launched| {
            Err(match which % 2 {
                0 => AdapterError::transient("no answer, though it was launched"),
                _ => AdapterError::no_capacity("full, though it was launched"),
            })
        };
        let launched = self.call(Step::Request, self.real.launch(request), lie).await?;
        self.mischief.accepted();
        Ok(self.see(launched))
    }

    async fn describe(&self, launch: &LaunchId) -> Answer<Option<Instance>> {
        let registered = self.mischief.registered.load(Ordering::SeqCst);
        let step = if registered { Step::Register } else { Step::Answer };
        let lie = |which: u32, described: Answer<Option<Instance>>| {
            let ended = InstanceState::Ended { reason: "gone, though it runs".to_owned() };
            Ok(if which.is_multiple_of(2) {
                None
            } else {
                described?.map(|i| Instance { state: ended, reach: None, ..i })
            })
        };
        let described = self.call(step, self.real.describe(launch), lie).await?;
        Ok(described.map(|instance| self.see(instance)))
    }

    async fn list(&self, owner: &Owner) -> Answer<Vec<Instance>> {
        if self.is_short() {
            return self.real.list(owner).await.map(|_| Vec::new());
        }
        let lie = |_, listed: Answer<Vec<Instance>>| listed.map(|listed| self.with_what_is_gone(listed));
        if self.mischief.terminated.load(Ordering::SeqCst) {
            return self.call(Step::Confirm, self.real.list(owner), lie).await;
        }
        if self.mischief.is_cut_off() {
            return Err(AdapterError::transient("the link is down"));
        }
        self.real.list(owner).await
    }

    async fn terminate(&self, launch: &LaunchId) -> Answer<()> {
        let lies = self.mischief.cell.is(Step::Terminate, Fault::Lie) && self.mischief.is_armed();
        let real = async { if lies { Ok(()) } else { self.real.terminate(launch).await } };
        let ended = self.call(Step::Terminate, real, |_, _| Ok(())).await;
        self.mischief.terminated.fetch_or(ended.is_ok(), Ordering::SeqCst);
        ended
    }

    async fn check(&self) -> Vec<Finding> {
        self.real.check().await
    }
}
