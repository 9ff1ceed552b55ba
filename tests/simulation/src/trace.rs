//! What happened, as a hash that tells two runs of one seed apart, and in words for the seed that is looked at.

use std::collections::VecDeque;
use std::time::Duration;

/// Lines that are kept: what led to a failure is in the last minutes.
const KEPT: usize = 60;
/// FNV-1a, 64 bits: its offset basis and prime.
const BASIS: u64 = 0xcbf2_9ce4_8422_2325;
const PRIME: u64 = 0x0100_0000_01b3;

/// How much of the trace is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Detail {
    /// Its hash.
    Hash,
    /// Its last lines too.
    Last,
    /// Each line, printed as it happens.
    Print,
}

/// The trace of one world.
#[derive(Clone, Debug)]
pub struct Trace {
    hash: u64,
    detail: Detail,
    lines: VecDeque<String>,
}

impl Trace {
    /// Nothing happened yet.
    pub fn new(detail: Detail) -> Self {
        Self { hash: BASIS, detail, lines: VecDeque::new() }
    }

    /// Something happened to somebody; `number` is what there is to know of it, such as an outcome.
    pub fn note(&mut self, now: Duration, what: &str, who: &str, number: u64) {
        let micros = u64::try_from(now.as_micros()).unwrap_or(u64::MAX);
        self.mix(&micros.to_le_bytes());
        self.mix(what.as_bytes());
        self.mix(who.as_bytes());
        self.mix(&number.to_le_bytes());
        if self.detail != Detail::Hash {
            self.keep(format!("{:>12.6}  {what:<32} {who} {number}", now.as_secs_f64()));
        }
    }

    /// Adds a line that is no event.
    pub fn say(&mut self, now: Duration, line: impl FnOnce() -> String) {
        if self.detail != Detail::Hash {
            let line = line();
            self.keep(format!("{:>12.6}  {line}", now.as_secs_f64()));
        }
    }

    /// The hash of everything so far.
    pub fn hash(&self) -> u64 {
        self.hash
    }

    /// The last lines.
    pub fn lines(&self) -> String {
        self.lines.iter().map(|line| format!("{line}\n")).collect()
    }

    fn keep(&mut self, line: String) {
        if self.detail == Detail::Print {
            println!("{line}");
        }
        if self.lines.len() == KEPT {
            self.lines.pop_front();
        }
        self.lines.push_back(line);
    }

    fn mix(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.hash = (self.hash ^ u64::from(*byte)).wrapping_mul(PRIME);
        }
    }
}
