//! Holding this process, and all that it starts, to some of the machine's cores.

use std::str::FromStr;

use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;

/// The cores to run on, as given on a command line: `0`, `0,2`, `0-3`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CpuList(Vec<usize>);

/// Why a core list cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum CpuError {
    /// Not a list of cores.
    #[error("'{0}' is not a list of cores; write it like 0,1 or 0-3")]
    Syntax(String),
    /// A core that this process may not run on.
    #[error("core {asked} does not exist here; this process may run on {available}")]
    Unknown {
        /// The core asked for.
        asked: usize,
        /// The cores that exist, as a list.
        available: String,
    },
    /// The system refused.
    #[error("cannot choose the cores to run on: {0}")]
    System(#[from] nix::Error),
}

impl FromStr for CpuList {
    type Err = CpuError;

    fn from_str(text: &str) -> Result<Self, CpuError> {
        let mut cores = Vec::new();
        for part in text.split(',') {
            let (first, last) = range(part.trim()).ok_or_else(|| CpuError::Syntax(text.to_owned()))?;
            cores.extend(first..=last);
        }
        cores.sort_unstable();
        cores.dedup();
        Ok(Self(cores))
    }
}

fn range(part: &str) -> Option<(usize, usize)> {
    let (first, last) = part.split_once('-').unwrap_or((part, part));
    let (first, last) = (first.parse().ok()?, last.parse().ok()?);
    // The size of the kernel's set: a typing error must not become a list of billions.
    (first <= last && last < CpuSet::count()).then_some((first, last))
}

impl CpuList {
    /// Holds the calling thread, and every thread and process it starts from now on, to these cores.
    ///
    /// # Errors
    /// A core that does not exist or is not ours.
    pub fn apply(&self) -> Result<(), CpuError> {
        let allowed = sched_getaffinity(Pid::from_raw(0))?;
        let mut chosen = CpuSet::new();
        for core in &self.0 {
            if !allowed.is_set(*core)? {
                return Err(CpuError::Unknown { asked: *core, available: describe(&allowed) });
            }
            chosen.set(*core)?;
        }
        Ok(sched_setaffinity(Pid::from_raw(0), &chosen)?)
    }
}

fn describe(cores: &CpuSet) -> String {
    let set = |core: &usize| cores.is_set(*core).unwrap_or(false);
    let numbers: Vec<String> = (0..CpuSet::count()).filter(set).map(|core| core.to_string()).collect();
    numbers.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_and_ranges_are_read() {
        assert_eq!("0".parse::<CpuList>().unwrap(), CpuList(vec![0]));
        assert_eq!("3, 0-1,1".parse::<CpuList>().unwrap(), CpuList(vec![0, 1, 3]));
        for bad in ["", "a", "1-", "2-1", "-1", "0,,1", "0-99999999999"] {
            assert!(bad.parse::<CpuList>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_core_that_does_not_exist_is_named_beside_those_that_do() {
        let message = CpuList(vec![CpuSet::count() - 1]).apply().unwrap_err().to_string();
        assert!(message.starts_with("core 1023 does not exist here; this process may run on 0"), "{message}");
    }
}
