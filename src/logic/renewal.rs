//! When a credential is to be renewed, and when people have to hear that it was not.

/// Seconds in a day.
const DAY: u64 = 86_400;
/// Days before the end at which people are warned: time to plan, time to act, the last moment.
const WARN_DAYS: [u32; 3] = [1, 7, 30];

/// From when until when a credential holds, in seconds since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Life {
    /// It holds from then on.
    pub not_before: u64,
    /// It holds until then.
    pub not_after: u64,
}

impl Life {
    /// Whether two thirds of it are over: early enough that a third of it is left for whatever fails.
    pub fn is_to_be_renewed(&self, now: u64) -> bool {
        let life = self.not_after.saturating_sub(self.not_before);
        now >= self.not_before.saturating_add(life / 3 * 2)
    }

    /// The days at which a warning is due: the smallest number that is reached. None while it is to be renewed anyway, since
    /// a credential that lives a week is not always about to end.
    pub fn warning(&self, now: u64) -> Option<u32> {
        let left = self.not_after.saturating_sub(now);
        let reached = WARN_DAYS.into_iter().find(|days| left <= u64::from(*days) * DAY);
        reached.filter(|_| self.is_to_be_renewed(now))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: u64 = 1_800_000_000;

    fn life(days: u64) -> Life {
        Life { not_before: START, not_after: START + days * DAY }
    }

    #[test]
    fn it_is_renewed_at_two_thirds() {
        assert!(!life(90).is_to_be_renewed(START + 60 * DAY - 1));
        assert!(life(90).is_to_be_renewed(START + 60 * DAY));
        assert!(life(90).is_to_be_renewed(START + 400 * DAY));
        assert!(!life(90).is_to_be_renewed(0), "a clock that was never set renews nothing");
    }

    #[test]
    fn people_are_warned_at_thirty_seven_and_one_days() {
        let at = |left: u64| life(365).warning(START + (365 - left) * DAY);
        assert_eq!(
            [at(31), at(30), at(8), at(7), at(2), at(1), at(0)],
            [None, Some(30), Some(30), Some(7), Some(7), Some(1), Some(1)]
        );
        assert_eq!(life(365).warning(START + 900 * DAY), Some(1));
    }

    #[test]
    fn a_short_life_is_not_warned_of_before_its_renewal_is_due() {
        assert_eq!(life(6).warning(START), None);
        assert_eq!(life(6).warning(START + 4 * DAY), Some(7));
    }
}
