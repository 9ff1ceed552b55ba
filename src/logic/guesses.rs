//! How often somebody may get a password wrong before they are not listened to for a while: so that guessing is hopeless, and
//! costs a gateway no time.

use std::collections::BTreeMap;
use std::time::Duration;

/// A person mistypes a few times; a program that has the wrong password needs no more.
const WRONG_ONES: u32 = 5;
/// Within this, and then for as long: some 7,000 guesses a day from one place, where a generated password has 10^30.
const WINDOW: Duration = Duration::from_secs(60);
/// Places at once; the one that was heard of the longest ago is forgotten for a new one. Some 100 bytes each.
const MAX_PLACES: usize = 4_096;

/// Wrong passwords by the place that they came from.
#[derive(Debug)]
pub struct Guesses<P> {
    places: BTreeMap<P, Wrong>,
}

#[derive(Debug)]
struct Wrong {
    count: u32,
    last: Duration,
}

impl<P> Default for Guesses<P> {
    fn default() -> Self {
        Self { places: BTreeMap::new() }
    }
}

impl<P: Ord + Clone> Guesses<P> {
    /// Whether a password from there is looked at now.
    pub fn may_try(&self, place: &P, now: Duration) -> bool {
        self.places.get(place).is_none_or(|wrong| wrong.count < WRONG_ONES || wrong.is_over(now))
    }

    /// A password from there was wrong.
    pub fn was_wrong(&mut self, place: P, now: Duration) {
        if !self.places.contains_key(&place) {
            self.make_room(now);
        }
        let wrong = self.places.entry(place).or_insert(Wrong { count: 0, last: now });
        if wrong.is_over(now) {
            wrong.count = 0;
        }
        (wrong.count, wrong.last) = (wrong.count.saturating_add(1), now);
    }

    fn make_room(&mut self, now: Duration) {
        if self.places.len() < MAX_PLACES {
            return;
        }
        self.places.retain(|_, wrong| !wrong.is_over(now));
        let oldest = self.places.iter().min_by_key(|(_, wrong)| wrong.last).map(|(place, _)| place.clone());
        if let Some(oldest) = oldest.filter(|_| self.places.len() >= MAX_PLACES) {
            self.places.remove(&oldest);
        }
    }
}

impl Wrong {
    fn is_over(&self, now: Duration) -> bool {
        now >= self.last + WINDOW
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: Duration = Duration::from_secs(1_000);

    fn wrong(times: u32, place: &str, guesses: &mut Guesses<String>) {
        (0..times).for_each(|_| guesses.was_wrong(place.to_owned(), START));
    }

    #[test]
    fn after_five_wrong_ones_a_place_is_not_listened_to_for_a_minute_and_others_are() {
        let mut guesses = Guesses::default();
        wrong(4, "a", &mut guesses);
        assert!(guesses.may_try(&"a".to_owned(), START));
        wrong(1, "a", &mut guesses);
        assert!(!guesses.may_try(&"a".to_owned(), START));
        assert!(!guesses.may_try(&"a".to_owned(), START + WINDOW - Duration::from_millis(1)));
        assert!(guesses.may_try(&"b".to_owned(), START));
        assert!(guesses.may_try(&"a".to_owned(), START + WINDOW));
    }

    #[test]
    fn wrong_ones_that_lie_far_apart_do_not_add_up() {
        let mut guesses = Guesses::default();
        for minute in 0..20 {
            guesses.was_wrong("a", START + WINDOW * minute);
            assert!(guesses.may_try(&"a", START + WINDOW * minute));
        }
    }

    #[test]
    fn the_places_are_bounded_and_the_newest_are_known() {
        let mut guesses = Guesses::default();
        for place in 0..MAX_PLACES + 100 {
            let now = START + Duration::from_micros(u64::try_from(place).unwrap());
            (0..WRONG_ONES).for_each(|_| guesses.was_wrong(place, now));
        }
        assert_eq!(guesses.places.len(), MAX_PLACES);
        assert!(!guesses.may_try(&(MAX_PLACES + 99), START + Duration::from_secs(1)));
    }
}
