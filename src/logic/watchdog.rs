//! Whether the node as a whole makes progress: what the service manager's watchdog is fed on, and what `/healthz` answers.
//!
//! A process that still runs may be of no use: a control plane that decides nothing, a gateway that accepts nothing, a journal
//! that waits for a disk for ever. Each part counts what it gets done; one whose count stands still for too long has stalled,
//! and a node with a stalled part is better started again. Level-triggered: a part that goes on is no longer stalled.

use std::fmt;
use std::time::Duration;

/// Without a service manager that says how long it waits: an SD card that is busy with itself takes some ten seconds.
const PATIENCE: Duration = Duration::from_secs(30);
/// A part that works once a tick may miss two.
const TICKS: u32 = 3;
/// Looks within the patience: a stall is found when it is a sixth older.
const LOOKS: u32 = 6;

/// What has to make progress.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    /// Decides at each tick.
    Scheduler,
    /// Accepts connections.
    Gateway,
    /// Takes writes.
    Journal,
}

impl Part {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Scheduler, Self::Gateway, Self::Journal];
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Scheduler => "scheduler",
            Self::Gateway => "gateway",
            Self::Journal => "journal",
        })
    }
}

/// A part that makes no progress.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stalled {
    /// Which.
    pub part: Part,
    /// For how long.
    pub silent: Duration,
}

impl fmt::Display for Stalled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.silent.as_secs();
        write!(f, "the {} has made no progress for {seconds} s", self.part)?;
        match self.part {
            Part::Journal => f.write_str(" (its disk does not answer)"),
            Part::Scheduler | Part::Gateway => Ok(()),
        }
    }
}

/// How long a part may be silent, by the period of the service manager's watchdog, if it has one. Half of that period is left
/// for the manager to see that it is fed no more.
pub fn patience(period: Option<Duration>, tick: Duration) -> Duration {
    period.map_or(PATIENCE, |period| period / 2).max(tick * TICKS)
}

/// How often to look.
pub fn look_every(period: Option<Duration>) -> Duration {
    period.map_or(PATIENCE, |period| period / 2) / LOOKS
}

/// What was seen of each part.
#[derive(Clone, Debug)]
pub struct Watchdog {
    patience: Duration,
    seen: [Seen; Part::ALL.len()],
}

#[derive(Clone, Copy, Debug)]
struct Seen {
    part: Part,
    count: u64,
    changed_at: Duration,
}

impl Watchdog {
    /// Nothing has been done yet, and nothing is late.
    pub fn new(patience: Duration, now: Duration) -> Self {
        Self { patience, seen: Part::ALL.map(|part| Seen { part, count: 0, changed_at: now }) }
    }

    /// Looks at how often each part has got something done; gives the part that has been silent for the longest, if that is
    /// too long.
    pub fn look(&mut self, done: impl Fn(Part) -> u64, now: Duration) -> Option<Stalled> {
        for seen in &mut self.seen {
            let count = done(seen.part);
            if count != seen.count {
                (seen.count, seen.changed_at) = (count, now);
            }
        }
        let silent =
            self.seen.iter().map(|seen| Stalled { part: seen.part, silent: now.saturating_sub(seen.changed_at) });
        silent.filter(|stalled| stalled.silent > self.patience).max_by_key(|stalled| stalled.silent)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secs(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn a_part_that_stands_still_is_stalled_until_it_goes_on() {
        let mut dog = Watchdog::new(secs(30), secs(100));
        let mut look = |now, journal| {
            dog.look(|part| if part == Part::Journal { journal } else { now }, secs(now)).map(|stalled| stalled.part)
        };
        assert_eq!(look(110, 1), None);
        assert_eq!(look(140, 1), None, "just within the patience");
        assert_eq!(look(141, 1), Some(Part::Journal));
        assert_eq!(look(200, 1), Some(Part::Journal));
        assert_eq!(look(201, 2), None, "it went on");
    }

    #[test]
    fn a_part_that_never_began_is_late_too_and_the_longest_silence_is_told() {
        let mut dog = Watchdog::new(secs(30), secs(0));
        assert_eq!(dog.look(|part| u64::from(part != Part::Gateway), secs(10)), None);
        let stalled = dog.look(|part| u64::from(part != Part::Gateway), secs(45)).unwrap();
        assert_eq!(stalled, Stalled { part: Part::Gateway, silent: secs(45) });
        assert_eq!(stalled.to_string(), "the gateway has made no progress for 45 s");
    }

    #[test]
    fn patience_ends_well_before_the_service_managers_and_bears_a_slow_tick() {
        assert_eq!(patience(Some(secs(60)), secs(1)), secs(30));
        assert_eq!(patience(None, secs(1)), secs(30));
        assert_eq!(patience(Some(secs(10)), secs(5)), secs(15), "a slow tick is no stall");
        assert_eq!(look_every(Some(secs(60))), secs(5));
        for period in [2, 10, 60, 600] {
            let last_fed = patience(Some(secs(period)), secs(0)) + look_every(Some(secs(period)));
            assert!(last_fed < secs(period), "what is stalled is fed no more within a period of {period} s");
        }
    }
}
