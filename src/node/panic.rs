//! What a panic costs: the request or connection it happened in, or, on the control thread, the process.

use std::sync::Once;

/// The control thread's name; a panic there leaves half a node.
pub(super) const CONTROL_THREAD: &str = "control";

static INSTALL: Once = Once::new();

/// Logs and counts every panic; one on the control thread ends the process, since the service manager starts it again and
/// it recovers from its journal. No backtrace unless asked for: symbols cost 40 MB.
pub(super) fn install_hook() {
    INSTALL.call_once(|| {
        let usual = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            metrics::counter!("tidegate_panics_total").increment(1);
            if std::env::var_os("RUST_BACKTRACE").is_some() {
                usual(info);
            } else {
                tracing::error!("{info}");
            }
            if std::thread::current().name() == Some(CONTROL_THREAD) {
                tracing::error!("the control plane panicked; ending, so that a restart recovers from the journal");
                std::process::abort();
            }
        }));
    });
}
