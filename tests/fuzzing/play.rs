//! Plays inputs through a target: the committed ones, seeded mutations of them, and one that is named.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use fastrand::Rng;

use super::corpus::committed;
use super::mutate::mutated;
use crate::targets::{TARGETS, Target};

/// The run in CI is the same every time; cargo-fuzz and other seeds look further.
const SEED: u64 = 20_250_301;

/// Of each input: all targets together then take some seconds.
const MUTATIONS: usize = 200;

/// What decoding may hold at once beside what the input's length accounts for: an error's words, a map's first table.
const MEMORY_BASE_BYTES: u64 = 16 * 1024;

/// Bytes that decoding may hold at once for each byte of input. A byte becomes most in a list: an empty service is 3 bytes
/// here and some 180 in memory, an empty JSON array 3 and 32, and a list that grows is there twice, the second time at
/// double its length. Everything else is about as long as it came.
fn memory_factor(target: &str) -> u64 {
    match target {
        "message_announcement" | "message_load" | "describe" => 200,
        "message_command" | "message_response" | "message_trust" => 200,
        // As JSON values, as lines of two texts, as a request's inputs and numbers.
        "exec_answer" | "ssh_answer" | "infer_request" => 200,
        _ => 4,
    }
}

fn number(variable: &str, default: u64) -> u64 {
    match std::env::var(variable) {
        Ok(text) => text.parse().unwrap_or_else(|_| panic!("{variable}={text} is no number")),
        Err(_) => default,
    }
}

fn target(name: &str) -> Target {
    *TARGETS.iter().find(|target| target.name == name).unwrap_or_else(|| panic!("there is no target {name}"))
}

/// Plays everything that there is for a target.
fn play(name: &str) {
    let target = target(name);
    if let Some(path) = std::env::var_os("TIDEGATE_FUZZ_INPUT").map(PathBuf::from) {
        return replay(target, &path);
    }
    let seed = number("TIDEGATE_FUZZ_SEED", SEED);
    let mutations = usize::try_from(number("TIDEGATE_FUZZ_MUTATIONS", MUTATIONS as u64)).unwrap();
    let inputs: Vec<Vec<u8>> = committed(name).into_values().collect();
    println!("{name}: {} inputs, {mutations} mutations of each, seed {seed}", inputs.len());
    inputs.iter().for_each(|input| assert_survives(target, input, &places()));
    let mut random = Rng::with_seed(seed);
    for input in &inputs {
        for _ in 0..mutations {
            let other = &inputs[random.usize(..inputs.len())];
            assert_survives(target, &mutated(&mut random, input, other), &places());
        }
    }
}

/// Without a net, so that a debugger stops where it fails.
fn replay(target: Target, path: &Path) {
    if path.parent().is_some_and(|folder| folder.ends_with(target.name)) {
        let data = std::fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        println!("{}: {} bytes of {}", target.name, data.len(), path.display());
        check(target, &data);
    }
}

/// The target takes the data, and decoding it takes no more memory than its length allows.
fn check(target: Target, data: &[u8]) {
    (target.target)(data);
    let held = allocation_counter::measure(|| (target.decode)(data)).bytes_max;
    let most = MEMORY_BASE_BYTES + memory_factor(target.name) * data.len() as u64;
    assert!(held <= most, "decoding {} bytes held {held} bytes at once, at most {most} are allowed", data.len());
}

fn places() -> PathBuf {
    PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("fuzz-failures")
}

/// Keeps data that fails in a file below `places`, and names the command that plays it again.
fn assert_survives(target: Target, data: &[u8], places: &Path) {
    let Err(cause) = catch_unwind(AssertUnwindSafe(|| check(target, data))) else { return };
    let folder = places.join(target.name);
    std::fs::create_dir_all(&folder).unwrap();
    let path = folder.join(format!("{:016x}", fingerprint(data)));
    std::fs::write(&path, data).unwrap();
    let literal = cause.downcast_ref::<&str>().map(|text| (*text).to_owned());
    let cause = cause.downcast_ref::<String>().cloned().or(literal).unwrap_or_default();
    let command = format!("TIDEGATE_FUZZ_INPUT={} cargo test --test fuzzing {}", path.display(), target.name);
    panic!("{} fails on {} bytes: {cause}\nplay it again: {command}", target.name, data.len());
}

/// FNV-1a: the same data has the same file, and no two of a run share one.
fn fingerprint(data: &[u8]) -> u64 {
    data.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

macro_rules! played {
    ($($name:ident)+) => {
        $(
            #[test]
            fn $name() {
                play(stringify!($name));
            }
        )+

        #[test]
        fn every_target_is_played() {
            let played = [$(stringify!($name)),+];
            assert_eq!(played.to_vec(), TARGETS.iter().map(|target| target.name).collect::<Vec<_>>());
        }
    };
}

played! {
    message_announcement message_state message_load message_service message_burst message_event
    message_command message_response message_trust sealed
    describe topic lease well_formed
    exec_answer ssh_answer model_file infer_request
}

#[test]
fn data_that_fails_is_kept_and_named_with_the_command_to_play_it_again() {
    fn refuses_seven(data: &[u8]) {
        assert!(!data.contains(&7), "a seven");
    }
    let planted = Target { name: "planted", decode: |_| {}, target: refuses_seven };
    let places = tempfile::tempdir().unwrap();
    assert_survives(planted, &[1, 2, 3], places.path());
    let failure = catch_unwind(|| assert_survives(planted, &[6, 7, 8], places.path())).unwrap_err();
    let said = failure.downcast_ref::<String>().unwrap();
    let path = said.split_once("TIDEGATE_FUZZ_INPUT=").unwrap().1.split_once(' ').unwrap().0;
    assert_eq!(std::fs::read(path).unwrap(), [6, 7, 8], "{said}");
    assert!(said.contains("a seven") && said.ends_with("cargo test --test fuzzing planted"), "{said}");
    catch_unwind(|| replay(planted, Path::new(path))).expect_err("what failed fails again");
}

#[test]
fn decoding_that_takes_too_much_memory_fails() {
    let greedy = Target { name: "greedy", decode: |data| drop(vec![0_u8; data.len() * 2_000]), target: |_| {} };
    let places = tempfile::tempdir().unwrap();
    let failure = catch_unwind(|| assert_survives(greedy, &[0; 1_000], places.path())).unwrap_err();
    let said = failure.downcast_ref::<String>().unwrap();
    assert!(said.contains("decoding 1000 bytes held 2000000 bytes at once"), "{said}");
}
