//! Instances that are processes of this machine, by the process adapter.

use std::path::Path;
use std::sync::Arc;

use cloud_adapters::{CloudAdapter, ProcessAdapter, ProcessOptions};

pub(super) fn client(home: &Path) -> Arc<dyn CloudAdapter> {
    Arc::new(ProcessAdapter::new(ProcessOptions {
        root: home.join("root"),
        program: env!("CARGO_BIN_EXE_tidegate").into(),
        max_instances: None,
        cpus: None,
    }))
}
