//! What is wrong for a while: with a provider, with the disk, with the network.

use std::collections::BTreeMap;
use std::time::Duration;

/// One kind of trouble.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// Provider calls are answered with an error and do nothing.
    Refuses,
    /// Provider calls are not answered in time; half of them happen all the same.
    TimesOut,
    /// Launches that were not answered in time happen minutes later.
    Late,
    /// No room for any launch.
    Full,
    /// Launches cannot work before somebody changes something.
    Misconfigured,
    /// Calls take seconds.
    Slow,
    /// Lists and descriptions are up to a minute old.
    Stale,
    /// Lists lack some that live.
    Forgets,
    /// Lists show some that are gone as if they lived.
    ShowsGone,
    /// Lists are answered with an error.
    ListFails,
    /// Terminations are accepted and do nothing.
    Lies,
    /// Terminations are answered with an error and do nothing.
    Keeps,
    /// Most renewals get lost.
    Deaf,
    /// The disk takes no write.
    DiskFull,
    /// Writes take up to a quarter of a minute.
    DiskSlow,
}

/// What can be wrong with a provider or the way to its instances.
pub const PROVIDER_FAULTS: &[Fault] = &[
    Fault::Refuses,
    Fault::TimesOut,
    Fault::Late,
    Fault::Full,
    Fault::Misconfigured,
    Fault::Slow,
    Fault::Stale,
    Fault::Forgets,
    Fault::ShowsGone,
    Fault::ListFails,
    Fault::Lies,
    Fault::Keeps,
    Fault::Deaf,
];

/// The troubles of one part of the world.
#[derive(Clone, Debug, Default)]
pub struct Weather {
    until: BTreeMap<Fault, Duration>,
}

impl Weather {
    /// Something goes wrong until then.
    pub fn begin(&mut self, fault: Fault, until: Duration) {
        let known = self.until.entry(fault).or_default();
        *known = until.max(*known);
    }

    /// Whether it is wrong now.
    pub fn is(&self, fault: Fault, now: Duration) -> bool {
        self.until.get(&fault).is_some_and(|until| now < *until)
    }

    /// Whether anything has been wrong at or after `since`.
    pub fn was_troubled(&self, since: Duration) -> bool {
        self.until.values().any(|until| *until >= since)
    }

    /// Nothing is wrong any more.
    pub fn calm(&mut self, now: Duration) {
        self.until.values_mut().for_each(|until| *until = now.min(*until));
    }
}
