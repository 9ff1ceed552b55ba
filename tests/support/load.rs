//! Closed-loop load: clients that each send the next of fifty held-out images once they have the answer to the last.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;

use super::http::Client;
use super::{digits, images};

/// Running load.
pub(crate) struct Load {
    stop: Arc<AtomicBool>,
    answered: Arc<AtomicU64>,
    clients: Vec<JoinHandle<Tally>>,
}

/// What came of the load.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    /// Answers with 200, by placement: how many, and how many of these were right.
    pub(crate) answers: BTreeMap<String, (u64, u64)>,
    /// What was taken for which digit, by placement and image.
    pub(crate) taken_for: BTreeMap<usize, BTreeMap<String, u8>>,
    /// Every request without a 200, in words.
    pub(crate) lost: Vec<String>,
}

impl Tally {
    /// Answers from there.
    pub(crate) fn from(&self, placement: &str) -> u64 {
        self.answers.get(placement).map_or(0, |(count, _)| *count)
    }

    /// All answers.
    pub(crate) fn answered(&self) -> u64 {
        self.answers.values().map(|(count, _)| count).sum()
    }

    /// Share of right answers.
    pub(crate) fn accuracy(&self) -> f64 {
        let right: u64 = self.answers.values().map(|(_, right)| right).sum();
        right as f64 / self.answered() as f64
    }

    /// Fails if a request was lost, or placements do not agree about an image.
    pub(crate) fn assert_sound(&self) {
        assert!(self.lost.is_empty(), "{} of {} lost: {:?}", self.lost.len(), self.answered(), &self.lost);
        for (image, taken_for) in &self.taken_for {
            let first = taken_for.values().next();
            assert!(taken_for.values().all(|digit| Some(digit) == first), "image {image}: {taken_for:?}");
        }
    }

    fn add(&mut self, other: Self) {
        for (placement, (count, right)) in other.answers {
            let sum = self.answers.entry(placement).or_default();
            *sum = (sum.0 + count, sum.1 + right);
        }
        for (image, taken_for) in other.taken_for {
            self.taken_for.entry(image).or_default().extend(taken_for);
        }
        self.lost.extend(other.lost);
    }
}

impl Load {
    pub(super) fn start(gateway: &str, clients: usize) -> Self {
        let (stop, answered) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let start = |number: usize| {
            let (stop, answered, client) = (stop.clone(), answered.clone(), Client::new(gateway));
            std::thread::spawn(move || run(client, number * 7, &stop, &answered))
        };
        let clients = (0..clients).map(start).collect();
        Self { stop, answered, clients }
    }

    /// Answers with 200 so far.
    pub(crate) fn answered(&self) -> u64 {
        self.answered.load(Ordering::Relaxed)
    }

    /// Waits for the answers that are under way.
    pub(crate) fn stop(mut self) -> Tally {
        self.stop.store(true, Ordering::Relaxed);
        let mut all = Tally::default();
        for client in self.clients.drain(..) {
            all.add(client.join().expect("a client does not panic"));
        }
        all
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

fn run(mut client: Client, first: usize, stop: &AtomicBool, answered: &AtomicU64) -> Tally {
    // Few enough that local replicas and instances get the same ones.
    let heldout: Vec<_> = edge_config::models::heldout().step_by(10).collect();
    let mut tally = Tally::default();
    let mut image = first;
    while !stop.load(Ordering::Relaxed) {
        image = (image + 1) % heldout.len();
        let (pixels, label) = heldout[image];
        match client.try_post("/v2/models/digits/infer", &images(&[pixels])) {
            Ok(answer) if answer.status == 200 => {
                let digit = digits(&answer)[0];
                let placement = answer.placement().unwrap_or("none").to_owned();
                let count = tally.answers.entry(placement.clone()).or_default();
                *count = (count.0 + 1, count.1 + u64::from(digit == label));
                tally.taken_for.entry(image).or_default().insert(placement, digit);
                answered.fetch_add(1, Ordering::Relaxed);
            }
            Ok(answer) => tally.lost.push(format!("{answer:?}")),
            Err(error) => {
                tally.lost.push(error.to_string());
                // Nobody listens: without a pause this would be a busy loop of refusals.
                std::thread::yield_now();
            }
        }
    }
    tally
}
