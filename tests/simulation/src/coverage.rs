//! How often each kind of fault happened, so that the simulation cannot silently stop exercising one.

use std::collections::BTreeMap;

/// Every kind that must have happened over many seeds. A kind that is counted and does not stand here fails the run too.
pub const KINDS: &[&str] = &[
    "answer lost with its instance",
    "budget drain",
    "budget refusal",
    "clone seen",
    "crash after close",
    "crash after describe",
    "crash after intend",
    "crash after launch",
    "crash after list",
    "crash after record ending",
    "crash after record launched",
    "crash after record ready",
    "crash after renew",
    "crash after terminate",
    "crash at random",
    "crash before close",
    "crash before describe",
    "crash before intend",
    "crash before launch",
    "crash before list",
    "crash before record ending",
    "crash before record launched",
    "crash before record ready",
    "crash before renew",
    "crash before terminate",
    "crash during close",
    "crash during describe",
    "crash during intend",
    "crash during launch",
    "crash during list",
    "crash during record ending",
    "crash during record launched",
    "crash during record ready",
    "crash during renew",
    "crash during terminate",
    "disk full",
    "disk slow",
    "drain finished its requests",
    "drain timed out",
    "idle instance death",
    "instance adopted",
    "instance death",
    "instance never ready",
    "instance pause",
    "journal corrupt",
    "journal write lost in a crash",
    "launch full",
    "launch late",
    "launch misconfigured",
    "launch refused",
    "launch timed out and happened",
    "launch timed out and nothing happened",
    "lease expired",
    "list failed",
    "list forgot what lives",
    "list shows what is gone",
    "list stale",
    "max life reached",
    "node never returned",
    "node pause",
    "preemption",
    "renewal duplicated",
    "renewal lost",
    "renewal refused as stale",
    "renewal replayed late",
    "request answered",
    "request refused and retried",
    "restart",
    "restart in mid-burst",
    "scale in",
    "seed with skewed clocks",
    "terminate failed",
    "terminate lie",
    "unreachable",
];

/// Counts by kind.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Coverage {
    counts: BTreeMap<&'static str, u64>,
}

impl Coverage {
    /// One more of a kind.
    pub fn count(&mut self, kind: &'static str) {
        *self.counts.entry(kind).or_insert(0) += 1;
    }

    /// Takes in another seed's.
    pub fn add(&mut self, other: &Self) {
        for (kind, count) in &other.counts {
            *self.counts.entry(kind).or_insert(0) += count;
        }
    }

    /// How often a kind happened.
    pub fn of(&self, kind: &str) -> u64 {
        self.counts.get(kind).copied().unwrap_or(0)
    }

    /// What never happened, and what is counted but not on the list.
    pub fn faults(&self) -> Vec<&'static str> {
        let missing = KINDS.iter().copied().filter(|kind| self.of(kind) == 0);
        let unlisted = self.counts.keys().copied().filter(|kind| !KINDS.contains(kind));
        missing.chain(unlisted).collect()
    }
}

impl std::fmt::Display for Coverage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.counts.iter().try_for_each(|(kind, count)| writeln!(f, "{count:>12}  {kind}"))
    }
}
