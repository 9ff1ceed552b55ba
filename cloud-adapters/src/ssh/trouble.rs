//! Why a call to the far side failed: what `ssh` and the remote program say, sorted by who can mend it.

use crate::{AdapterError, Retry};

/// A failed call that can be told more than once: to each of those who waited for the same connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Trouble {
    retry: Retry,
    message: String,
    /// What was said by the program that failed.
    detail: String,
}

impl Trouble {
    pub(super) fn transient(message: impl Into<String>) -> Self {
        Self { retry: Retry::Backoff, message: message.into(), detail: String::new() }
    }

    pub(super) fn bad_configuration(message: impl Into<String>) -> Self {
        Self { retry: Retry::Never, message: message.into(), detail: String::new() }
    }

    pub(super) fn no_capacity(message: impl Into<String>) -> Self {
        Self { retry: Retry::NextAdapter, message: message.into(), detail: String::new() }
    }

    #[must_use]
    pub(super) fn saying(mut self, detail: &str) -> Self {
        detail.trim().clone_into(&mut self.detail);
        self
    }

    /// Sorts what `ssh` printed when it gave up, as it does with exit status 255.
    pub(super) fn of_ssh(far: &str, printed: &str) -> Self {
        let sorted = SAYINGS.iter().find(|(saying, _, _)| printed.contains(saying));
        let (retry, advice) =
            sorted.map_or((Retry::Backoff, "the connection failed"), |(_, retry, told)| (*retry, told));
        Self { retry, message: format!("{far}: {advice}"), detail: last_line(printed).to_owned() }
    }
}

impl From<Trouble> for AdapterError {
    fn from(trouble: Trouble) -> Self {
        let Trouble { retry, message, detail } = trouble;
        let error = match retry {
            Retry::NextAdapter => Self::no_capacity(message),
            Retry::Never => Self::bad_configuration(message),
            Retry::Backoff => Self::transient(message),
        };
        if detail.is_empty() { error } else { error.because(detail) }
    }
}

/// What `ssh` says, whether waiting can help, and what to do. The first that is found counts.
const SAYINGS: [(&str, Retry, &str); 15] = [
    (
        "REMOTE HOST IDENTIFICATION HAS CHANGED",
        Retry::Never,
        "its host key is not the one in known_hosts. Find out why; if the machine was set up anew, remove the old line \
         (ssh-keygen -R HOST -f FILE) and add the new key",
    ),
    (
        "REVOKED HOST KEY",
        Retry::Never,
        "its host key is marked as revoked in known_hosts: do not use this machine until it has a new one",
    ),
    (
        "host key is known for",
        Retry::Never,
        "its host key is unknown. Get it with ssh-keyscan, compare its fingerprint with the one that the machine itself \
         shows (ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub), and add the line to known_hosts",
    ),
    ("Host key verification failed", Retry::Never, "its host key could not be verified: look at known_hosts"),
    (
        "UNPROTECTED PRIVATE KEY FILE",
        Retry::Never,
        "the private key may be read by others, so ssh does not use it: chmod 600 it",
    ),
    (
        "Permission denied (",
        Retry::Never,
        "it does not take our key: add its public half to ~/.ssh/authorized_keys of that user. A key with a passphrase \
         needs an agent, since nobody is there to type it",
    ),
    (
        "Too many authentication failures",
        Retry::Never,
        "it took none of the many keys that were offered: name the right one as `key`",
    ),
    ("Unable to negotiate", Retry::Never, "its ssh server and our ssh share no algorithm: update the older one"),
    ("Bad configuration option", Retry::Never, "the ssh configuration file has an option that ssh does not know"),
    ("Could not resolve hostname", Retry::Backoff, "its name cannot be resolved: is it right, and is there a network?"),
    ("Connection refused", Retry::Backoff, "nothing takes connections on its ssh port: is sshd running there?"),
    ("No route to host", Retry::Backoff, "there is no way to it: is it on, and on the network?"),
    ("timed out", Retry::Backoff, "it did not answer in time: is it on, and on the network?"),
    (
        "Session open refused by peer",
        Retry::Backoff,
        "it allows no more sessions on one connection: set MaxSessions in its sshd_config to 10 or more",
    ),
    ("Connection reset", Retry::Backoff, "the connection was reset"),
];

/// The line that says why: the last one that does not only say that it is over.
fn last_line(printed: &str) -> &str {
    let mut lines = printed.lines().map(str::trim).rev().filter(|line| !line.is_empty());
    lines.next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_ssh_says_is_sorted_by_who_can_mend_it() {
        for (printed, retry, word) in [
            ("u@h: Permission denied (publickey).", Retry::Never, "authorized_keys"),
            ("No ED25519 host key is known for h and you\nHost key verification failed.", Retry::Never, "unknown"),
            ("ssh: Could not resolve hostname h: Name or service not known", Retry::Backoff, "resolved"),
            ("ssh: connect to host h port 22: Connection refused", Retry::Backoff, "sshd running"),
            ("ssh: connect to host h port 22: No route to host", Retry::Backoff, "network"),
            ("ssh: connect to host h port 22: Connection timed out", Retry::Backoff, "in time"),
            ("kex_exchange_identification: read: Connection reset by peer", Retry::Backoff, "reset"),
            ("something new", Retry::Backoff, "failed"),
        ] {
            let error = AdapterError::from(Trouble::of_ssh("u@h", printed));
            assert_eq!(error.retry(), retry, "{printed}");
            assert!(error.to_string().contains(word), "{error}");
            assert!(error.with_causes().contains(last_line(printed)), "{}", error.with_causes());
        }
    }
}
