//! A cell of the matrix: at which step of an instance's life which fault strikes, and what comes after it.

use std::fmt;
use std::str::FromStr;

/// The steps of an instance's life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Step {
    /// The intent is written, and nobody has been asked.
    Intent,
    /// The provider is asked to launch.
    Request,
    /// The provider is asked how the instance is and where.
    Answer,
    /// The instance is asked whether it is ready.
    Ready,
    /// It said so, and that is written down.
    Register,
    /// Its lease is renewed.
    Renew,
    /// Its end is decided, and nobody was told yet.
    Drain,
    /// The provider is asked to end it.
    Terminate,
    /// The provider's list is read until it is gone.
    Confirm,
}

/// What happens there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Fault {
    /// The node is killed: before a call, in its middle or after it.
    Kill,
    /// The connection is cut before the call gets through.
    CutBefore,
    /// The connection is cut in the middle of the call.
    CutDuring,
    /// The call gets through, its answer does not.
    CutAfter,
    /// It takes longer than its deadline.
    Delay,
    /// It is refused.
    Error,
    /// What is answered is not true.
    Lie,
}

/// What comes after the fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum After {
    /// The node lives on and ends its instance itself.
    GoesOn,
    /// The node is killed, and a sound one starts on the same state directory.
    Restart,
    /// The node is killed, and nobody comes back.
    Lease,
}

pub(crate) const STEPS: [Step; 9] = [
    Step::Intent,
    Step::Request,
    Step::Answer,
    Step::Ready,
    Step::Register,
    Step::Renew,
    Step::Drain,
    Step::Terminate,
    Step::Confirm,
];

pub(crate) const FAULTS: [Fault; 7] =
    [Fault::Kill, Fault::CutBefore, Fault::CutDuring, Fault::CutAfter, Fault::Delay, Fault::Error, Fault::Lie];

const AFTERS: [After; 3] = [After::GoesOn, After::Restart, After::Lease];

/// One cell in one round.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Cell {
    pub(crate) step: Step,
    pub(crate) fault: Fault,
    pub(crate) after: After,
    /// Of every choice that the cell leaves open.
    pub(crate) seed: u64,
}

impl Step {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Intent => "intent",
            Self::Request => "request",
            Self::Answer => "answer",
            Self::Ready => "ready",
            Self::Register => "register",
            Self::Renew => "renew",
            Self::Drain => "drain",
            Self::Terminate => "terminate",
            Self::Confirm => "confirm",
        }
    }
}

impl Fault {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Kill => "sigkill",
            Self::CutBefore => "cut-before",
            Self::CutDuring => "cut-during",
            Self::CutAfter => "cut-after",
            Self::Delay => "delay",
            Self::Error => "error",
            Self::Lie => "lie",
        }
    }
}

impl After {
    fn name(self) -> &'static str {
        match self {
            Self::GoesOn => "goes-on",
            Self::Restart => "restart",
            Self::Lease => "lease",
        }
    }
}

/// Every cell once; what comes after it turns with the round, so that three rounds have all of it.
pub(crate) fn every_cell(round: usize, dice: &mut fastrand::Rng) -> Vec<Cell> {
    let places = STEPS.into_iter().flat_map(|step| FAULTS.into_iter().map(move |fault| (step, fault)));
    let cell = |(index, (step, fault)): (usize, (Step, Fault))| {
        let turn = round + index;
        let after = match fault {
            // Told to the next start only, so there has to be one.
            Fault::Lie if kills_the_node(step, fault) => After::Restart,
            _ if kills_the_node(step, fault) && turn.is_multiple_of(2) => After::Restart,
            _ if kills_the_node(step, fault) => After::Lease,
            _ => AFTERS[turn % AFTERS.len()],
        };
        Cell { step, fault, after, seed: dice.u64(..1_000_000) }
    };
    places.enumerate().map(cell).collect()
}

/// Two lies are only found out by the next start: a disk that lost the journal, and a list that lacks what lives.
fn kills_the_node(step: Step, fault: Fault) -> bool {
    fault == Fault::Kill || (fault == Fault::Lie && matches!(step, Step::Intent | Step::Drain))
}

impl Cell {
    pub(crate) fn is(&self, step: Step, fault: Fault) -> bool {
        (self.step, self.fault) == (step, fault)
    }

    /// Whether the fault itself is the node's end.
    pub(crate) fn kills_the_node(&self) -> bool {
        kills_the_node(self.step, self.fault)
    }
}

impl fmt::Display for Cell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { step, fault, after, seed } = self;
        write!(f, "{}:{}:{}:{seed}", step.name(), fault.name(), after.name())
    }
}

impl FromStr for Cell {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let unknown = || format!("`{text}` is no cell: step:fault:after:seed, such as drain:sigkill:restart:7");
        let [step, fault, after, seed] = text.split(':').collect::<Vec<_>>()[..] else { return Err(unknown()) };
        Ok(Self {
            step: STEPS.into_iter().find(|known| known.name() == step).ok_or_else(unknown)?,
            fault: FAULTS.into_iter().find(|known| known.name() == fault).ok_or_else(unknown)?,
            after: AFTERS.into_iter().find(|known| known.name() == after).ok_or_else(unknown)?,
            seed: seed.parse().map_err(|_| unknown())?,
        })
    }
}
