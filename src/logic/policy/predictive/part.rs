//! Parts of the policy, each of which can be left out, to see what it is worth. A node leaves none out.

use std::fmt;

use crate::archive::Archive;
use crate::forecast::Forecaster;

/// Something that the policy does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// The forecaster that learns online.
    LeastSquares,
    /// The forecaster that goes on as it went.
    Trend,
    /// The forecaster that knows a period.
    Season,
    /// Looking ahead at all: without, what comes at any time is what comes with the next slot.
    Horizon,
    /// How a forecast may err: without, it comes as forecast.
    Spread,
    /// Keeping what would have to be launched again: without, who is not needed now is ended.
    Keeping,
    /// What waits already and delays what comes.
    Backlog,
    /// How long the load has been at its level: without, it may leave it at any time.
    Age,
}

impl Part {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::LeastSquares,
        Self::Trend,
        Self::Season,
        Self::Horizon,
        Self::Spread,
        Self::Keeping,
        Self::Backlog,
        Self::Age,
    ];

    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::LeastSquares => "least-squares",
            Self::Trend => "trend",
            Self::Season => "season",
            Self::Horizon => "horizon",
            Self::Spread => "spread",
            Self::Keeping => "keeping",
            Self::Backlog => "backlog",
            Self::Age => "age",
        }
    }

    /// The forecaster that does not take part then.
    pub(super) fn forecaster(self) -> Option<Forecaster> {
        match self {
            Self::LeastSquares => Some(Forecaster::LeastSquares),
            Self::Trend => Some(Forecaster::Trend),
            Self::Season => Some(Forecaster::Season),
            Self::Horizon | Self::Spread | Self::Keeping | Self::Backlog | Self::Age => None,
        }
    }
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Archive for Part {
    fn write(&self, to: &mut Vec<u8>) {
        Self::ALL.iter().position(|one| one == self).unwrap_or(0).write(to);
    }

    fn read(from: &mut &[u8]) -> Option<Self> {
        Self::ALL.get(usize::read(from)?).copied()
    }
}
