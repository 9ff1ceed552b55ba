//! The service manager that started this process, where it is one that wants to be told how things are: systemd's protocol
//! (sd_notify(3), sd_watchdog_enabled(3), sd_listen_fds(3)), which others speak too. Under none of them nothing happens.

use std::collections::BTreeMap;
use std::io;
use std::net::TcpListener;
use std::time::Duration;

use listenfd::ListenFd;
use sd_notify::NotifyState;

/// What a service manager leaves in the environment for the process that it started, and not for that one's children.
pub const OWN_VARIABLES: [&str; 6] =
    ["NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID", "LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"];

/// The node serves; `status` says it in words.
pub fn ready(status: &str) {
    tell(&[NotifyState::Ready, NotifyState::Status(status)]);
}

/// The node takes up a changed configuration; [`ready`] follows.
pub fn reloading() {
    let now = sd_notify::NotifyState::monotonic_usec_now();
    let reloading = [NotifyState::Reloading, NotifyState::Status("taking up a changed configuration")];
    tell(&reloading.into_iter().chain(now.ok()).collect::<Vec<_>>());
}

/// The node ends.
pub fn stopping() {
    tell(&[NotifyState::Stopping, NotifyState::Status("draining: requests finish, instances end")]);
}

/// The node is well.
pub fn feed_watchdog() {
    tell(&[NotifyState::Watchdog]);
}

/// Something that an operator wants to see beside the service's name.
pub fn status(status: &str) {
    tell(&[NotifyState::Status(status)]);
}

/// Within how long the watchdog wants to be fed, if there is one.
pub fn watchdog_period() -> Option<Duration> {
    sd_notify::watchdog_enabled().filter(|period| !period.is_zero())
}

fn tell(state: &[NotifyState]) {
    if let Err(error) = sd_notify::notify(state) {
        tracing::warn!(%error, "the service manager (NOTIFY_SOCKET) was not told: {state:?}");
    }
}

/// Listening sockets that the service manager opened and keeps while the node restarts, by the name that its unit gives them
/// (`FileDescriptorName=`).
#[derive(Debug, Default)]
pub struct PassedSockets {
    by_name: BTreeMap<String, TcpListener>,
}

/// Why what was passed cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum PassedError {
    /// Not as many names as sockets.
    #[error(
        "the service manager passes {sockets} sockets and names {names} (LISTEN_FDS, LISTEN_FDNAMES); give each socket unit a FileDescriptorName="
    )]
    Names {
        /// Sockets.
        sockets: usize,
        /// Names.
        names: usize,
    },
    /// Two of one name.
    #[error("the service manager passes two sockets named \"{0}\"; a socket unit of the node has one ListenStream=")]
    Twice(String),
    /// A socket that is not one for streams over IP that listens.
    #[error("the socket \"{name}\" that the service manager passes is none that listens for TCP: {reason}")]
    Unusable {
        /// Its name.
        name: String,
        /// What the system says.
        reason: io::Error,
    },
}

impl PassedSockets {
    /// What this process was started with. Nothing where the environment speaks of another process or of none.
    pub fn take() -> Result<Self, PassedError> {
        let mut passed = ListenFd::from_env();
        let names = std::env::var("LISTEN_FDNAMES").unwrap_or_default();
        let names: Vec<&str> = names.split(':').filter(|_| passed.len() > 0).collect();
        if names.len() != passed.len() {
            return Err(PassedError::Names { sockets: passed.len(), names: names.len() });
        }
        let mut by_name = BTreeMap::new();
        for (index, name) in names.into_iter().enumerate() {
            let unusable = |reason| PassedError::Unusable { name: name.to_owned(), reason };
            let Some(listener) = passed.take_tcp_listener(index).map_err(unusable)? else { continue };
            listener.set_nonblocking(true).map_err(unusable)?;
            if by_name.insert(name.to_owned(), listener).is_some() {
                return Err(PassedError::Twice(name.to_owned()));
            }
        }
        Ok(Self { by_name })
    }

    /// The socket of that name, once.
    pub fn claim(&mut self, name: &str) -> Option<TcpListener> {
        self.by_name.remove(name)
    }

    /// The names of those that nobody claimed.
    pub fn unclaimed(&self) -> impl Iterator<Item = &str> {
        self.by_name.keys().map(String::as_str)
    }
}
