//! Ending an instance: the far side does what is due each time it is asked, and goes on from what stands there; here it
//! is only asked until nothing is left.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::connection::Input;
use super::far::{FarSide, Verb};
use crate::{AdapterError, LaunchId};

/// How long to wait before asking again. The far side itself looks for a moment each time.
const POLL: Duration = Duration::from_millis(50);

/// What an instance may take beyond its drain timeout: the far side's grace, the time of a wrapper that is only
/// starting, and what a killed process may take to vanish.
const BEYOND_DRAIN: Duration = Duration::from_secs(20);

pub(super) async fn terminate(far: &Arc<FarSide>, launch: &LaunchId) -> Result<(), AdapterError> {
    let began = Instant::now();
    loop {
        let told = far.ask(&Verb::Stop(launch.as_str()), Input::Nothing).await?;
        match (told.value("left"), told.value("drain_ms").parse()) {
            ("no", _) => return Ok(()),
            ("yes", Ok(drain_ms)) if began.elapsed() <= Duration::from_millis(drain_ms) + BEYOND_DRAIN => {}
            ("yes", Ok(_)) => return Err(stuck(far, launch, told.value("pids"))),
            _ => return Err(AdapterError::transient(format!("the end of {launch} was told in no known form"))),
        }
        tokio::time::sleep(POLL).await;
    }
}

fn stuck(far: &FarSide, launch: &LaunchId, pids: &str) -> AdapterError {
    let far = far.name();
    AdapterError::transient(format!("instance {launch} does not end, though killed: see process {pids} on {far}"))
}
