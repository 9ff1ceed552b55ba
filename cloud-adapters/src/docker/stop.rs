//! Ends an instance: asks it once, waits while it drains, kills it when it had its time, and removes its container. A
//! later call, or a later process, goes on from what it finds: that it was asked is noted in the container itself.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::time::Instant;

use super::labels::Labels;
use super::observe::{self, Stage};
use super::start::read_labels;
use super::{Provider, container_name, parcel};
use crate::{AdapterError, LaunchId};

/// How often it is looked whether the instance has ended.
const POLL: Duration = Duration::from_millis(100);

/// What a wrapper gets beyond its drain timeout to say why it ended, before it is killed.
const GRACE: Duration = Duration::from_secs(2);

/// How long a killed container may take to vanish; a stuck disk can hold one.
const REMOVAL_TIMEOUT: Duration = Duration::from_secs(30);

/// The file in the container whose time is when the instance was asked to end.
const ASKED: &str = "stopping";

impl Provider {
    /// The caller holds the launch's turn.
    pub(super) async fn terminate(&self, launch: &LaunchId) -> Result<(), AdapterError> {
        let name = container_name(launch);
        let began = Instant::now();
        let mut asked_at = None;
        loop {
            let Some(container) = self.daemon.inspect(&name).await? else { return Ok(()) };
            let labels = read_labels(&container, launch)?;
            if began.elapsed() > labels.drain_timeout + GRACE + REMOVAL_TIMEOUT {
                return Err(AdapterError::transient(format!("the container {name} does not go away, though killed")));
            }
            match observe::stage(&container) {
                Stage::Alive if !self.had_its_time(&name, &labels, &mut asked_at).await? => {
                    tokio::time::sleep(POLL).await;
                }
                _ => self.daemon.remove(&name).await?,
            }
        }
    }

    /// Asks a running instance to end unless that was done before; whether its time to drain is over.
    async fn had_its_time(
        &self,
        name: &str,
        labels: &Labels,
        asked_at: &mut Option<Instant>,
    ) -> Result<bool, AdapterError> {
        let allowed = labels.drain_timeout + GRACE;
        if let Some(asked_at) = asked_at {
            return Ok(asked_at.elapsed() > allowed);
        }
        let asked_before = self.asked_before(name).await?;
        if asked_before.is_none() {
            self.daemon.signal(name, "SIGTERM").await?;
            self.note_asked(name).await?;
        }
        // What an earlier call waited already counts; a time beyond what the process's clock can show is over, too.
        let now = Instant::now();
        let began = now.checked_sub(asked_before.unwrap_or(Duration::ZERO));
        *asked_at = began;
        Ok(began.is_none_or(|began| began.elapsed() > allowed))
    }

    /// How long ago an earlier call asked it to end, by the daemon's clock; zero where that cannot be told.
    async fn asked_before(&self, name: &str) -> Result<Option<Duration>, AdapterError> {
        let path = format!("{}/{ASKED}", parcel::DIRECTORY);
        let Some(written_at) = self.daemon.written_at(name, &path).await? else { return Ok(None) };
        let ago = self.daemon.now().await?.zip(written_at).and_then(|(now, then)| now.duration_since(then).ok());
        Ok(Some(ago.unwrap_or(Duration::ZERO)))
    }

    async fn note_asked(&self, name: &str) -> Result<(), AdapterError> {
        let now = self.daemon.now().await?.unwrap_or_else(SystemTime::now);
        let seconds = now.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        match self.daemon.upload(name, parcel::note(ASKED, seconds)).await {
            // It may have ended and been removed by another hand in the meantime.
            Err(_) if self.daemon.inspect(name).await?.is_none() => Ok(()),
            noted => noted,
        }
    }
}
