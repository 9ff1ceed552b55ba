//! Moments that survive the node's restart and no one can set: time since boot, and which boot that was.

use std::time::Duration;

use nix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};

/// The kernel's id of this boot, new at every start of the machine.
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// A moment on the boot-time clock, written into files.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Stamp {
    boot_id: String,
    since_boot_ms: u64,
}

impl Stamp {
    pub(super) fn now() -> Self {
        let boot_id = std::fs::read_to_string(BOOT_ID).unwrap_or_default().trim().to_owned();
        Self { boot_id, since_boot_ms: u64::try_from(since_boot().as_millis()).unwrap_or(u64::MAX) }
    }

    /// How long ago it was; `None` if the machine was restarted since.
    pub(super) fn age(&self) -> Option<Duration> {
        let now = Self::now();
        let age_ms = now.since_boot_ms.checked_sub(self.since_boot_ms)?;
        (now.boot_id == self.boot_id).then_some(Duration::from_millis(age_ms))
    }

    #[cfg(test)]
    pub(super) fn ago(age: Duration) -> Self {
        let mut stamp = Self::now();
        stamp.since_boot_ms -= u64::try_from(age.as_millis()).expect("a short age");
        stamp
    }

    #[cfg(test)]
    pub(super) fn of_another_boot() -> Self {
        Self { boot_id: "another".into(), ..Self::now() }
    }
}

fn since_boot() -> Duration {
    clock_gettime(ClockId::CLOCK_BOOTTIME).map_or(Duration::ZERO, Duration::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_age_is_known_within_one_boot_only() {
        let age = Stamp::ago(Duration::from_secs(5)).age().expect("same boot");
        assert!(age >= Duration::from_secs(5) && age < Duration::from_secs(60), "{age:?}");
        assert_eq!(Stamp::of_another_boot().age(), None);
    }
}
