//! The committed corpus: read for playing, and made anew from the golden vectors.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::{adapters, hostile, models, texts};
use crate::targets::TARGETS;
use tidegate::wire::{Encoding, Root, Stamp, Topic, seal};

/// All of the corpus together: small enough for every clone.
const MAX_CORPUS_BYTES: usize = 300_000;

/// An input by the name of its file.
pub(super) type Inputs = BTreeMap<String, Vec<u8>>;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn folder(target: &str) -> PathBuf {
    root().join("fuzz/corpus").join(target)
}

/// What stands in a target's folder, finds of cargo-fuzz included.
pub(super) fn committed(target: &str) -> Inputs {
    let folder = folder(target);
    let entries = std::fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    entries.map(|entry| entry.unwrap().path()).map(|path| (name(&path), std::fs::read(&path).unwrap())).collect()
}

fn name(path: &Path) -> String {
    path.file_name().unwrap().to_str().unwrap().to_owned()
}

/// Whether a file is made here: not one that cargo-fuzz found (named by its SHA-1) or that somebody kept.
fn is_made(name: &str) -> bool {
    let is_find = name.len() == 40 && name.bytes().all(|byte| byte.is_ascii_hexdigit());
    !is_find && !name.starts_with("kept-")
}

/// What belongs in a target's folder.
fn made(target: &str) -> Inputs {
    match target {
        "message_announcement" => of_message("announcement", "kind"),
        "message_state" => of_message("node-state", "state"),
        "message_load" => of_message("load-report", "node"),
        "message_service" => of_message("service-status", "node"),
        "message_burst" => of_message("burst-status", "node"),
        "message_event" => of_message("event", "specversion"),
        "message_command" => of_message("command", "fleet"),
        "message_response" => of_message("response", "fleet"),
        "message_trust" => of_message("fleet-trust", "fleet"),
        "sealed" => sealed(&golden("node-state", ".cbor.hex", unhex)["golden-node-state"]),
        "describe" => texts::shown(&golden("", ".cbor.hex", unhex), &golden("", ".json", bytes)),
        "topic" => texts::topics(),
        "lease" => texts::leases(&golden("lease-", ".json", bytes)),
        "well_formed" => hostile::items(&golden("node-state", ".cbor.hex", unhex)["golden-node-state"]),
        "exec_answer" => adapters::exec_answers(&std::fs::read_to_string(root().join("docs/exec-adapter.md")).unwrap()),
        "ssh_answer" => adapters::ssh_answers(),
        "model_file" => models::files(),
        "infer_request" => models::requests(),
        _ => panic!("nothing is made for the target {target}"),
    }
}

fn bytes(text: &str) -> Vec<u8> {
    text.as_bytes().to_vec()
}

/// A signed message, with one certificate and with two, and all damage done to it.
fn sealed(payload: &[u8]) -> Inputs {
    let (root, topic) = (Root::new(Encoding::Cbor, "plant-a").unwrap(), Topic::state("gateway-7").unwrap());
    let of = |chain: &[Vec<u8>]| {
        seal(&root, &topic, Stamp { session: 12, sequence: 34 }, chain, payload.to_vec(), |_| vec![0x5a; 64]).unwrap()
    };
    let certificate = || vec![0x30; 40];
    let (one, two) = (of(&[certificate()]), of(&[certificate(), certificate()]));
    let mut inputs = hostile::arrays(&one);
    inputs.insert("made-one-certificate".to_owned(), one);
    inputs.insert("made-two-certificates".to_owned(), two);
    inputs
}

/// The golden vectors of a rule, and all damage done to the first of them. `first_name` is the name of key 0.
fn of_message(rule: &str, first_name: &str) -> Inputs {
    let mut inputs = golden(rule, ".cbor.hex", unhex);
    let whole = inputs.values().next().expect("a golden vector").clone();
    inputs.extend(hostile::messages(&whole, first_name));
    inputs
}

/// Golden vectors whose name begins with `prefix`.
fn golden(prefix: &str, suffix: &str, read: fn(&str) -> Vec<u8>) -> Inputs {
    let folder = root().join("tests/golden/wire-v1");
    let files = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let ours = files.filter_map(|path| Some((name(&path).strip_suffix(suffix)?.to_owned(), path)));
    let ours = ours.filter(|(name, _)| name.starts_with(prefix));
    ours.map(|(name, path)| (format!("golden-{name}"), read(&std::fs::read_to_string(path).unwrap()))).collect()
}

fn unhex(text: &str) -> Vec<u8> {
    let digits: String = text.split_whitespace().collect();
    (0..digits.len()).step_by(2).map(|at| u8::from_str_radix(&digits[at..at + 2], 16).unwrap()).collect()
}

fn bless(target: &str, made: &Inputs) {
    let folder = folder(target);
    std::fs::create_dir_all(&folder).unwrap();
    for stale in committed(target).keys().filter(|name| is_made(name) && !made.contains_key(*name)) {
        std::fs::remove_file(folder.join(stale)).unwrap();
    }
    made.iter().for_each(|(name, data)| std::fs::write(folder.join(name), data).unwrap());
}

#[test]
fn the_corpus_is_what_is_made_here() {
    for target in TARGETS {
        let made = made(target.name);
        if std::env::var_os("BLESS").is_some() {
            bless(target.name, &made);
        }
        let mut stands = committed(target.name);
        stands.retain(|name, _| is_made(name));
        let differs = |name: &&String| stands.get(*name) != made.get(*name);
        let differing: Vec<_> = stands.keys().chain(made.keys()).filter(differs).collect();
        let mend = "BLESS=1 cargo test --test fuzzing writes it anew";
        assert!(differing.is_empty(), "fuzz/corpus/{}: {differing:?} is not what is made; {mend}", target.name);
    }
}

#[test]
fn the_corpus_is_small() {
    let inputs = TARGETS.iter().flat_map(|target| committed(target.name)).filter(|(name, _)| is_made(name));
    let bytes: usize = inputs.map(|(_, data)| data.len()).sum();
    assert!(bytes < MAX_CORPUS_BYTES, "{bytes} bytes");
}
