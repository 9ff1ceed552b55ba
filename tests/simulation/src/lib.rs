//! A seeded simulation of bursting: the production decisions in a world that fails in every way that we know of.
//!
//! The map:
//!
//! - [`logic`] is the production crate; the wrapper's lease and life are the production files themselves, by path.
//! - [`scenario`]: what a seed's world is like; [`chance`]: where all of its randomness comes from.
//! - [`world`]: time, the queue of what happens, and who gets it. [`weather`]: what goes wrong for a while.
//! - `node`: the envelope around the engine, as the burst actor is in production; `carry_out`: its calls; `journal`: its
//!   disk; `recovery`: how it crashes and comes back; `requests`: what clients ask meanwhile.
//! - `provider` and [`instance`]: what really exists.
//! - `invariants`: what must hold at each step. `bill`: the true cost, computed apart from the ledger.
//! - [`trace`] and [`coverage`]: what happened.
//!
//! `TIDEGATE_SEED=7 cargo test -p burst-simulation --test seeds -- --nocapture` plays one seed in words.

/// The decisions, as production compiles them.
pub use ::logic;

mod bill;
mod carry_out;
pub mod chance;
pub mod coverage;
pub mod instance;
mod invariants;
mod journal;
mod node;
mod provider;
mod recovery;
mod requests;
pub mod scenario;
pub mod trace;
pub mod weather;
pub mod world;
