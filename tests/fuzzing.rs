//! Every fuzz target on stable, bounded: the committed corpus and seeded mutations of it go through the functions that
//! cargo-fuzz runs without end (`fuzz/src`).
//!
//! | Variable | Meaning |
//! |---|---|
//! | `TIDEGATE_FUZZ_SEED` | seed of the mutations; each run prints its own |
//! | `TIDEGATE_FUZZ_MUTATIONS` | mutations of each input, 200 unless set |
//! | `TIDEGATE_FUZZ_INPUT` | plays this file alone, in the target that its folder is named for |
//! | `BLESS=1` | writes `fuzz/corpus` anew, from the golden vectors and the damage that `fuzzing/hostile.rs` does to them |

#[allow(unreachable_pub, reason = "in the fuzz crate, where it belongs, all of it is reachable")]
#[path = "../fuzz/src/lib.rs"]
mod targets;

mod fuzzing {
    mod adapters;
    mod corpus;
    mod hostile;
    mod house;
    mod models;
    mod mutate;
    mod play;
    mod texts;
}
