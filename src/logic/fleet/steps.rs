//! What the outcome of each operation does to an instance.

use std::time::Duration;

use super::instance::POLL_STARTING;
use super::{Event, Failure, Instance, Outcome, Seen, Stage, Timing};

/// How often a transient failure to launch is tried again before the planner may choose anew.
const LAUNCH_ATTEMPTS: u32 = 4;
/// An end that failed so often in a row is told to the operator, once.
pub(super) const STUCK_AFTER: u32 = 5;

/// Applies the time limits of each stage.
pub(super) fn expire(instance: &mut Instance, now: Duration) {
    let in_stage = now.saturating_sub(instance.stage_since);
    let timing = instance.timing;
    match instance.stage {
        Stage::Launching | Stage::Starting if in_stage >= start_limit(instance) => {
            let why = format!("not ready within {:.0?}", start_limit(instance));
            instance.give_up(why, !instance.adopted, now);
        }
        Stage::Ready => {
            let renewed = instance.last_renewed.unwrap_or(instance.stage_since);
            if now.saturating_sub(renewed) >= timing.lease_ttl + timing.drain_timeout {
                instance.give_up("unreachable for longer than its lease".to_owned(), false, now);
            }
        }
        Stage::Draining if in_stage >= timing.drain_timeout => instance.enter(Stage::Ending, now),
        _ => {}
    }
}

/// How long it may take to become ready. One that was adopted was so before, and is not given up while its lease may run.
fn start_limit(instance: &Instance) -> Duration {
    let Timing { lease_ttl, start_timeout, drain_timeout } = instance.timing;
    if instance.adopted { start_timeout.max(lease_ttl + drain_timeout) } else { start_timeout }
}

pub(super) fn intended(instance: &mut Instance, outcome: Outcome, now: Duration) -> Vec<Event> {
    match outcome {
        // Drained while the intent was being written: the row exists now and is closed like any other.
        Outcome::Done if instance.stage != Stage::Intending => {
            // Its provider was never asked.
            instance.refused = true;
            Vec::new()
        }
        Outcome::Done => {
            instance.enter(Stage::Launching, now);
            vec![Event::Started(instance.launch.clone())]
        }
        // Nothing was promised, nothing was asked: the wish is simply forgotten.
        Outcome::Failed(why) => {
            instance.stage = Stage::Intending;
            vec![failed(instance, why, Failure::Journal)]
        }
        _ => Vec::new(),
    }
}

pub(super) fn launched(instance: &mut Instance, outcome: Outcome, now: Duration, random: f64) -> Vec<Event> {
    let (why, failure) = match outcome {
        // Given up meanwhile; `Ending` asks the provider to end whatever came of it.
        _ if instance.stage != Stage::Launching => return Vec::new(),
        // A transient failure that is tried again is no event: the last one tells.
        Outcome::Failed(_) if instance.attempts + 1 < LAUNCH_ATTEMPTS => {
            instance.retry(now, random);
            return Vec::new();
        }
        Outcome::Failed(why) => (why, Failure::Provider),
        Outcome::NoCapacity(why) => (why, Failure::NoCapacity),
        Outcome::Misconfigured(why) => (why, Failure::Misconfigured),
        _ => {
            instance.accepted_at = Some(now);
            instance.enter(Stage::Starting, now);
            return Vec::new();
        }
    };
    // An attempt before this one may have started something, whatever this one says.
    instance.refused = instance.attempts == 0 && failure != Failure::Provider;
    let event = failed(instance, why.clone(), failure);
    instance.end(why, now);
    vec![event]
}

pub(super) fn described(instance: &mut Instance, outcome: Outcome, now: Duration, random: f64) -> Vec<Event> {
    if instance.stage >= Stage::Ending {
        return Vec::new();
    }
    instance.doubted = false;
    match outcome {
        Outcome::Seen(Seen::Running { address, notice }) => {
            instance.address = Some(address);
            instance.attempts = 0;
            instance.next_at = now + if instance.failed_renewals > 0 { POLL_STARTING } else { Duration::ZERO };
            notice.map(|why| noticed(instance, &why, now)).unwrap_or_default()
        }
        Outcome::Seen(Seen::Pending) => {
            instance.next_at = now + POLL_STARTING;
            Vec::new()
        }
        Outcome::Seen(Seen::Ended(why)) => ended_by_itself(instance, &format!("ended by itself: {why}"), now),
        Outcome::Seen(Seen::Unknown) => ended_by_itself(instance, "the provider does not know it any more", now),
        _ => {
            instance.retry(now, random);
            if instance.stage == Stage::Ready {
                // Its lease runs meanwhile; the next renewal may find it as it was.
                instance.next_at = instance.next_at.min(now + instance.renew_every());
            }
            Vec::new()
        }
    }
}

/// The provider will take it away: its requests finish, and the planner sees one less.
pub(super) fn noticed(instance: &mut Instance, why: &str, now: Duration) -> Vec<Event> {
    let reason = format!("the provider takes it away: {why}");
    match instance.stage {
        Stage::Ready => {
            instance.end_reason = Some(reason.clone());
            instance.enter(Stage::Draining, now);
        }
        Stage::Launching | Stage::Starting => instance.end(reason.clone(), now),
        _ => return Vec::new(),
    }
    vec![Event::Preempted(instance.launch.clone(), reason)]
}

fn ended_by_itself(instance: &mut Instance, why: &str, now: Duration) -> Vec<Event> {
    let is_a_start = instance.stage == Stage::Starting && !instance.adopted;
    let failure = if is_a_start { Failure::Provider } else { Failure::Instance };
    instance.end(why, now);
    vec![failed(instance, why.to_owned(), failure)]
}

pub(super) fn renewed(instance: &mut Instance, outcome: Outcome, now: Duration) -> Vec<Event> {
    if instance.stage >= Stage::Ending {
        return Vec::new();
    }
    match outcome {
        Outcome::Renewed { draining: true, .. } if instance.stage != Stage::Draining => {
            ended_by_itself(instance, "the instance drains by its own decision", now)
        }
        Outcome::Renewed { ready, .. } => {
            instance.last_renewed = Some(now);
            instance.failed_renewals = 0;
            instance.next_at = now + instance.renew_every();
            match instance.stage {
                Stage::Starting if ready => became_ready(instance, now),
                Stage::Starting => {
                    instance.next_at = now + POLL_STARTING;
                    Vec::new()
                }
                _ => Vec::new(),
            }
        }
        _ => {
            instance.failed_renewals += 1;
            instance.doubted = true;
            instance.next_at = now + POLL_STARTING;
            Vec::new()
        }
    }
}

fn became_ready(instance: &mut Instance, now: Duration) -> Vec<Event> {
    instance.ready_at.get_or_insert(now);
    let next = instance.next_at;
    instance.enter(Stage::Ready, now);
    instance.next_at = next;
    vec![Event::Ready(instance.launch.clone(), now.saturating_sub(instance.intended_at))]
}

/// Whether or not the journal could be written: an end must not wait for a disk.
pub(super) fn ending_recorded(instance: &mut Instance, now: Duration) -> Vec<Event> {
    instance.enter(Stage::Terminating, now);
    Vec::new()
}

pub(super) fn terminated(instance: &mut Instance, outcome: Outcome, now: Duration, random: f64) -> Vec<Event> {
    match outcome {
        Outcome::Done => {
            // A list that says otherwise brings it back here, and the attempts go on from where they were.
            let attempts = instance.attempts;
            instance.enter(Stage::Confirming, now);
            instance.attempts = attempts;
            Vec::new()
        }
        Outcome::Failed(why) | Outcome::NoCapacity(why) | Outcome::Misconfigured(why) => {
            instance.retry(now, random);
            stuck(instance, &why)
        }
        _ => {
            instance.retry(now, random);
            Vec::new()
        }
    }
}

/// What a list that began after the termination says.
pub(super) fn confirmed(instance: &mut Instance, is_listed: bool, now: Duration, random: f64) -> Vec<Event> {
    if !is_listed {
        instance.enter(Stage::Closing, now);
        return Vec::new();
    }
    // The provider said yes and did not: ask again, ever more slowly, until it is true.
    instance.stage = Stage::Terminating;
    instance.retry(now, random);
    stuck(instance, "the provider says that it ended, and still lists it")
}

/// Tells, once, that an end does not come off.
fn stuck(instance: &Instance, why: &str) -> Vec<Event> {
    let told = instance.attempts == STUCK_AFTER;
    told.then(|| Event::Stuck(instance.launch.clone(), why.to_owned())).into_iter().collect()
}

pub(super) fn closed(instance: &mut Instance, outcome: Outcome, now: Duration, random: f64) -> Vec<Event> {
    if outcome != Outcome::Done {
        instance.retry(now, random);
        return Vec::new();
    }
    let why = instance.end_reason.clone().unwrap_or_default();
    vec![Event::Ended(instance.launch.clone(), why)]
}

fn failed(instance: &Instance, why: String, failure: Failure) -> Event {
    Event::Failed { launch: instance.launch.clone(), why, failure }
}
