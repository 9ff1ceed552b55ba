//! When the fault of a cell strikes, in the process that plays the node. The adapter, the link to the instance and the
//! trial's steps all ask here; each says where it stands, and is told what to do wrong.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::{Signal, raise};
use tidegate::actors::burst::trial;

use super::cell::{After, Cell, Fault, Step};
use super::provider::Kind;
use super::{DEADLINE_PASSES, say};

/// How long a link stays down, and how long the disk takes no writes: longer than a renewal may wait.
const OUTAGE: Duration = Duration::from_millis(1_200);
/// A node that hangs for its lease and so much longer has lost it.
const HANG_BEYOND_LEASE: Duration = Duration::from_millis(1_200);
/// A node that is not killed by the fault itself is killed within this time after it.
const KILLED_WITHIN_MS: u64 = 1_500;

/// What a struck call is to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Strike {
    /// The process ends at this point of the call.
    Kill(Point),
    CutBefore,
    CutDuring(Duration),
    CutAfter,
    Delay,
    Error(u32),
    Lie(u32),
}

/// A point of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Point {
    Before,
    /// So long after its begin, unless it ends before.
    During(Duration),
    After,
}

/// What all of the node's parts know.
pub(crate) struct Mischief {
    pub(crate) cell: Cell,
    dice: Mutex<fastrand::Rng>,
    /// Strikes that are left.
    left: AtomicU32,
    struck: AtomicBool,
    pub(crate) ready: AtomicBool,
    pub(crate) registered: AtomicBool,
    pub(crate) ending: AtomicBool,
    pub(crate) terminated: AtomicBool,
    outage: Mutex<Option<(Instant, Instant)>>,
    kind: Kind,
}

impl Mischief {
    /// `sound`: nothing goes wrong any more, but for the lie that only a restart meets.
    pub(crate) fn new(cell: Cell, sound: bool, kind: Kind) -> Self {
        let mut dice = fastrand::Rng::with_seed(cell.seed);
        let strikes = if cell.kills_the_node() || cell.fault == Fault::Delay { 1 } else { dice.u32(1..=2) };
        Self {
            cell,
            left: AtomicU32::new(if sound { 0 } else { strikes }),
            dice: Mutex::new(dice),
            struck: AtomicBool::new(false),
            ready: AtomicBool::default(),
            registered: AtomicBool::default(),
            ending: AtomicBool::default(),
            terminated: AtomicBool::default(),
            outage: Mutex::default(),
            kind,
        }
    }

    /// Whether the link to everybody else is down.
    pub(crate) fn is_cut_off(&self) -> bool {
        let now = Instant::now();
        self.outage.lock().expect("outage").is_some_and(|(from, to)| (from..to).contains(&now))
    }

    /// What a late call takes: longer than its deadline.
    pub(crate) fn too_long(&self) -> Duration {
        self.kind.deadline() + DEADLINE_PASSES
    }

    /// Whether a strike is left; without taking it.
    pub(crate) fn is_armed(&self) -> bool {
        self.left.load(Ordering::SeqCst) > 0
    }

    /// What is to go wrong with a call that belongs to a step.
    pub(crate) fn at_call(&self, step: Step) -> Option<Strike> {
        let is_a_moment = matches!(self.cell.step, Step::Intent | Step::Drain);
        let is_register = self.cell.step == Step::Register && self.cell.fault != Fault::Lie;
        if step != self.cell.step || is_a_moment || is_register {
            return None;
        }
        self.take().then(|| self.strike())
    }

    fn take(&self) -> bool {
        let took = self.left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)).is_ok();
        if took {
            self.has_struck();
        }
        took
    }

    fn strike(&self) -> Strike {
        let mut dice = self.dice.lock().expect("dice");
        let within = Duration::from_millis(dice.u64(..self.kind.cut_within_ms()));
        match self.cell.fault {
            Fault::Kill => {
                let points = [Point::Before, Point::During(within), Point::During(within), Point::After];
                Strike::Kill(points[dice.usize(..points.len())])
            }
            Fault::CutBefore => Strike::CutBefore,
            Fault::CutDuring => Strike::CutDuring(within),
            Fault::CutAfter => Strike::CutAfter,
            Fault::Delay => Strike::Delay,
            Fault::Error => Strike::Error(dice.u32(..)),
            Fault::Lie => Strike::Lie(dice.u32(..)),
        }
    }

    /// Tells the parent, and has a node killed soon that its fault does not kill.
    fn has_struck(&self) {
        if self.struck.swap(true, Ordering::SeqCst) {
            return;
        }
        say("struck");
        if self.cell.after == After::GoesOn || self.cell.kills_the_node() {
            return;
        }
        let after = Duration::from_millis(self.dice.lock().expect("dice").u64(..KILLED_WITHIN_MS));
        std::thread::spawn(move || {
            // delay: the kill has to come at any moment after the fault
            std::thread::sleep(after);
            kill_self();
        });
    }

    /// A step of the trial begins.
    pub(crate) fn at(&self, step: &trial::Step) {
        match step {
            trial::Step::Launching { .. } => self.at_moment(Step::Intent),
            trial::Step::Ready { .. } => {
                self.ready.store(true, Ordering::SeqCst);
                if self.cell.fault != Fault::Lie {
                    self.at_moment(Step::Register);
                }
            }
            trial::Step::Registered { .. } => self.registered.store(true, Ordering::SeqCst),
            trial::Step::Draining { .. } => {
                self.ending.store(true, Ordering::SeqCst);
                self.at_moment(Step::Drain);
            }
            trial::Step::GivenUp { .. } => self.ending.store(true, Ordering::SeqCst),
        }
    }

    /// Steps that are no call: between two of them, or a write to the journal.
    fn at_moment(&self, step: Step) {
        // The disk's lie is told once there is something to lose, and a kill may come after the write as well.
        let comes_later = self.cell.is(Step::Intent, Fault::Lie) || self.cell.is(Step::Intent, Fault::Kill);
        if step != self.cell.step || comes_later || !self.take() {
            return;
        }
        let some = |most_ms: u64| Duration::from_millis(self.dice.lock().expect("dice").u64(..most_ms));
        match self.cell.fault {
            Fault::Kill => kill_within(some(20)),
            Fault::Lie => kill_self(),
            Fault::CutBefore => self.cut_off(Duration::ZERO),
            Fault::CutDuring => self.cut_off(some(20)),
            Fault::CutAfter => self.cut_off(some(300)),
            // delay: a node that hangs is the fault
            Fault::Delay => std::thread::sleep(self.kind.lease() + HANG_BEYOND_LEASE),
            Fault::Error => refuse_writes(),
        }
    }

    /// The intent is written: the next thing would be the call.
    pub(crate) fn between_intent_and_request(&self) {
        if self.cell.is(Step::Intent, Fault::Kill) && self.take() {
            kill_self();
        }
    }

    /// The provider has accepted; a disk that lies loses the journal now.
    pub(crate) fn accepted(&self) {
        if self.cell.is(Step::Intent, Fault::Lie) && self.take() {
            kill_self();
        }
    }

    fn cut_off(&self, after: Duration) {
        let from = Instant::now() + after;
        *self.outage.lock().expect("outage") = Some((from, from + OUTAGE));
    }
}

/// As the operating system ends a process that has no say in it.
pub(crate) fn kill_self() {
    raise(Signal::SIGKILL).expect("SIGKILL");
}

fn kill_within(time: Duration) {
    std::thread::spawn(move || {
        // delay: the kill has to come at any moment of what follows
        std::thread::sleep(time);
        kill_self();
    });
}

/// Writing fails as on a full disk, for a while: each write to a file is too large. The signal that comes with it is
/// ignored, see where this process is started.
fn refuse_writes() {
    let (_, hard) = getrlimit(Resource::RLIMIT_FSIZE).expect("a limit");
    setrlimit(Resource::RLIMIT_FSIZE, 0, hard).expect("a smaller limit");
    std::thread::spawn(move || {
        // delay: so long the disk is full
        std::thread::sleep(OUTAGE);
        setrlimit(Resource::RLIMIT_FSIZE, hard, hard).expect("the limit that was");
    });
}
