//! What exists at the providers beside what the journal knows.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use cloud_adapters::{CloudAdapter, Owner};

use crate::host::clock::unix_ms_now;
use crate::journal::{Journal, LaunchRow, Stage};

/// The longest budget window: what ended before it matters to nobody.
const HISTORY_MS: i64 = 24 * 3_600_000;

/// One listed instance of this node.
pub(super) struct Listed {
    pub(super) launch: String,
    pub(super) service: String,
    pub(super) adapter: String,
    pub(super) session: u64,
    pub(super) reason: String,
    /// How long it has run, where the provider knows.
    pub(super) age: Option<Duration>,
    pub(super) ended: bool,
    /// The journal says that it was to end.
    pub(super) ending: bool,
}

/// What one look found.
#[derive(Default)]
pub(super) struct Found {
    /// The adapters that answered.
    pub(super) answered: BTreeSet<String>,
    pub(super) listed: Vec<Listed>,
    /// The journal's rows, on the first look only.
    pub(super) rows: Vec<LaunchRow>,
}

/// Reads the journal (on the first look) and every adapter's list.
pub(super) async fn find(
    journal: &Journal,
    adapters: Vec<(String, Arc<dyn CloudAdapter>)>,
    owner: &Owner,
    first: bool,
) -> Found {
    let mut found = Found::default();
    if first {
        found.rows = journal.rows_since(unix_ms_now() - HISTORY_MS).await.unwrap_or_else(|error| {
            tracing::error!(%error, "the journal cannot be read; going by the providers' lists alone");
            Vec::new()
        });
    }
    for (name, adapter) in adapters {
        match adapter.list(owner).await {
            Ok(instances) => {
                let listed = instances.into_iter().map(|instance| {
                    let row = found.rows.iter().find(|row| row.launch == instance.launch.as_str());
                    Listed {
                        launch: instance.launch.to_string(),
                        service: instance.service.clone(),
                        adapter: name.clone(),
                        session: instance.owner.session,
                        reason: row.map_or_else(|| "found at the provider".to_owned(), |row| row.reason.clone()),
                        age: instance.age,
                        ended: instance.is_ended(),
                        ending: row.is_some_and(|row| row.stage >= Stage::Ending),
                    }
                });
                let listed: Vec<_> = listed.collect();
                found.listed.extend(listed);
                found.answered.insert(name);
            }
            Err(error) => {
                tracing::warn!(adapter = name, %error, "the provider does not list our instances; asking again");
            }
        }
    }
    found
}
