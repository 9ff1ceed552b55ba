//! What the suite launches, and what an adapter's own tests change a little: an id, an owner, a request.

use std::time::Duration;

use crate::{LaunchId, LaunchRequest, Owner, ReadyCheck, Secret, TlsIdentity, Workload};

/// A launch's id; panics with a text that is none.
pub fn id(text: &str) -> LaunchId {
    text.parse().expect("a launch id")
}

/// The third session of one node.
pub fn owner() -> Owner {
    Owner { fleet: "plant-a".into(), node: "gateway-7".into(), session: 3 }
}

/// A request with everything that a launch has to have and nothing else: no image, no files, no identity. Its lease
/// outlives any test, and its drain timeout is a few seconds.
pub fn request(launch: &LaunchId, owner: &Owner, argv: &[&str]) -> LaunchRequest {
    LaunchRequest {
        launch: launch.clone(),
        owner: owner.clone(),
        service: "digits".into(),
        workload: Workload { argv: argv.iter().map(ToString::to_string).collect(), ..Workload::default() },
        ready: ReadyCheck::Http { path: "/v2/health/ready".into() },
        lease_ttl: Duration::from_secs(300),
        drain_timeout: Duration::from_secs(5),
        token: Secret::new("sesame-4711"),
        identity: TlsIdentity::default(),
        concurrency: 4,
    }
}

/// The same request whose server is also given these variables.
pub fn with_env(mut request: LaunchRequest, variables: &[(&str, &str)]) -> LaunchRequest {
    request.workload.env.extend(variables.iter().map(|(name, value)| ((*name).into(), (*value).into())));
    request
}
