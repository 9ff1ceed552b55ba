//! A deadline around every call to a provider: a client that blocks for minutes costs its caller no more than this.

use std::future::Future;
use std::time::Duration;

use async_trait::async_trait;

use crate::finding::{Finding, Subject};
use crate::{AdapterError, Capabilities, CloudAdapter, Instance, LaunchId, LaunchRequest, Owner};

/// An adapter whose every call ends within a deadline, with [`AdapterError::Transient`] when it has passed.
///
/// A call that is cut off is repeated like any other: see the trait on what a repetition finds.
#[derive(Debug, Clone)]
pub struct Deadlined<A> {
    inner: A,
    deadline: Duration,
}

/// Gives every call to `adapter` a deadline.
pub fn with_deadline<A: CloudAdapter>(adapter: A, deadline: Duration) -> Deadlined<A> {
    Deadlined { inner: adapter, deadline }
}

impl<A> Deadlined<A> {
    async fn within<T>(
        &self,
        call: impl FnOnce() -> String,
        answer: impl Future<Output = Result<T, AdapterError>>,
    ) -> Result<T, AdapterError> {
        match tokio::time::timeout(self.deadline, answer).await {
            Ok(answer) => answer,
            Err(_) => {
                Err(AdapterError::transient(format!("{} got no answer within {:?}; ask again", call(), self.deadline)))
            }
        }
    }
}

#[async_trait]
impl<A: CloudAdapter> CloudAdapter for Deadlined<A> {
    fn capabilities(&self) -> Capabilities {
        self.inner.capabilities()
    }

    async fn launch(&self, request: &LaunchRequest) -> Result<Instance, AdapterError> {
        self.within(|| format!("launch of {}", request.launch), self.inner.launch(request)).await
    }

    async fn describe(&self, launch: &LaunchId) -> Result<Option<Instance>, AdapterError> {
        self.within(|| format!("describe of {launch}"), self.inner.describe(launch)).await
    }

    async fn list(&self, owner: &Owner) -> Result<Vec<Instance>, AdapterError> {
        self.within(|| format!("list for node {}", owner.node), self.inner.list(owner)).await
    }

    async fn terminate(&self, launch: &LaunchId) -> Result<(), AdapterError> {
        self.within(|| format!("terminate of {launch}"), self.inner.terminate(launch)).await
    }

    async fn check(&self) -> Vec<Finding> {
        let late = || {
            let words = format!("the provider did not answer within {:?}: is its address right?", self.deadline);
            vec![Finding::bad(Subject::Network, words)]
        };
        tokio::time::timeout(self.deadline, self.inner.check()).await.unwrap_or_else(|_| late())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{LifeBound, Retry};

    /// A provider that answers everything, after a while.
    struct Slow(Duration);

    #[async_trait]
    impl CloudAdapter for Slow {
        fn capabilities(&self) -> Capabilities {
            Capabilities { life_bound: LifeBound::Unbounded, capacity: Some(3) }
        }

        async fn launch(&self, _: &LaunchRequest) -> Result<Instance, AdapterError> {
            tokio::time::sleep(self.0).await;
            Err(AdapterError::no_capacity("full"))
        }

        async fn describe(&self, _: &LaunchId) -> Result<Option<Instance>, AdapterError> {
            tokio::time::sleep(self.0).await;
            Ok(None)
        }

        async fn list(&self, _: &Owner) -> Result<Vec<Instance>, AdapterError> {
            tokio::time::sleep(self.0).await;
            Ok(Vec::new())
        }

        async fn terminate(&self, _: &LaunchId) -> Result<(), AdapterError> {
            tokio::time::sleep(self.0).await;
            Ok(())
        }

        async fn check(&self) -> Vec<Finding> {
            tokio::time::sleep(self.0).await;
            Vec::new()
        }
    }

    fn owner() -> Owner {
        Owner { fleet: "f".into(), node: "n".into(), session: 1 }
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_past_its_deadline_is_transient_and_says_which_call_it_was() {
        let launch: LaunchId = "gw-1".parse().expect("a launch id");
        let adapter = with_deadline(Slow(Duration::from_secs(11)), Duration::from_secs(10));
        for error in [
            adapter.describe(&launch).await.expect_err("describe is too slow"),
            adapter.terminate(&launch).await.expect_err("terminate is too slow"),
            adapter.list(&owner()).await.expect_err("list is too slow"),
        ] {
            assert_eq!(error.retry(), Retry::Backoff);
            assert!(error.to_string().contains("within 10s"), "{error}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_within_its_deadline_keeps_its_answer() {
        let adapter = with_deadline(Slow(Duration::from_secs(9)), Duration::from_secs(10));
        assert!(adapter.list(&owner()).await.expect("in time").is_empty());
        assert_eq!(adapter.capabilities().capacity, Some(3));
    }
}
