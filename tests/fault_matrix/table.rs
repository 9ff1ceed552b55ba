//! The matrix as a table: a row for each step, a column for each fault, and the totals under it.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::time::Duration;

use super::cell::{Cell, FAULTS, Fault, STEPS, Step};
use super::provider::Kind;
use super::trial_of_cell::Outcome;

/// The runs of one adapter.
#[derive(Default)]
pub(crate) struct Table {
    runs: Vec<(Cell, Outcome)>,
}

impl Table {
    pub(crate) fn add(&mut self, cell: Cell, outcome: Outcome) {
        self.runs.push((cell, outcome));
    }

    fn counts(&self) -> BTreeMap<(Step, Fault), (usize, usize)> {
        let mut counts = BTreeMap::new();
        for (cell, outcome) in &self.runs {
            let (good, bad): &mut (usize, usize) = counts.entry((cell.step, cell.fault)).or_default();
            *(if outcome.wrong.is_empty() { good } else { bad }) += 1;
        }
        counts
    }

    pub(crate) fn show(&self, kind: Kind) -> String {
        let counts = self.counts();
        let mut text = format!("{:<10}", kind.name());
        let put = |text: &mut String, word: &str| write!(text, "{word:>12}").expect("a string");
        FAULTS.iter().for_each(|fault| put(&mut text, fault.name()));
        for step in STEPS {
            write!(text, "\n{:<10}", step.name()).expect("a string");
            for fault in FAULTS {
                let cell = match counts.get(&(step, fault)) {
                    None => "-".to_owned(),
                    Some((good, 0)) => format!("ok {good}"),
                    Some((good, bad)) => format!("BAD {bad}/{}", good + bad),
                };
                put(&mut text, &cell);
            }
        }
        format!("{text}\n{}", self.totals())
    }

    fn totals(&self) -> String {
        let sum = |figure: fn(&Outcome) -> usize| self.runs.iter().map(|(_, outcome)| figure(outcome)).sum::<usize>();
        let outlived: Vec<Duration> = self.runs.iter().filter_map(|(_, outcome)| outcome.outlived).collect();
        format!(
            "runs {} (and {} that did not come to their fault), launches {}, orphans past the bound {}, overruns of the budget {}, double instances {}, requests \
             answered {}, lost {}, doubled {}; nobody came back in {} runs, and the last instance went at most {:.1?} after \
             its node",
            self.runs.len(),
            sum(|outcome| outcome.missed),
            sum(|outcome| outcome.launches),
            sum(|outcome| outcome.orphans),
            sum(|outcome| outcome.overruns),
            sum(|outcome| outcome.doubles),
            sum(|outcome| outcome.requests.answered),
            sum(|outcome| outcome.requests.lost),
            sum(|outcome| outcome.requests.doubled),
            outlived.len(),
            outlived.iter().max().copied().unwrap_or_default(),
        )
    }
}
