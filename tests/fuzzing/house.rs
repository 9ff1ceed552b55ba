//! A target is written down in four places; this holds them to each other, and the corpus to what it is for.

use std::collections::BTreeSet;
use std::path::Path;

use cloud_adapters::{Owner, exec, ssh};
use tidegate::model::decoders::{look_at_model, read_request};
use tidegate::model::{Engine, ModelSource};

use crate::targets::TARGETS;

fn fuzz() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/fuzz"))
}

fn stems(folder: &str) -> BTreeSet<String> {
    let entries = std::fs::read_dir(fuzz().join(folder)).unwrap().map(|entry| entry.unwrap().path());
    entries.map(|path| path.file_stem().unwrap().to_str().unwrap().to_owned()).collect()
}

#[test]
fn every_target_has_a_binary_a_corpus_and_a_place_in_the_manifest() {
    let targets: BTreeSet<String> = TARGETS.iter().map(|target| target.name.to_owned()).collect();
    assert_eq!(targets.len(), TARGETS.len(), "two targets have one name");
    assert_eq!(stems("fuzz_targets"), targets);
    assert_eq!(stems("corpus"), targets);
    let manifest: toml::Table = std::fs::read_to_string(fuzz().join("Cargo.toml")).unwrap().parse().unwrap();
    let binaries = manifest["bin"].as_array().unwrap().iter();
    assert_eq!(binaries.map(|bin| bin["name"].as_str().unwrap().to_owned()).collect::<BTreeSet<_>>(), targets);
    for name in &targets {
        let text = std::fs::read_to_string(fuzz().join(format!("fuzz_targets/{name}.rs"))).unwrap();
        assert!(text.contains(&format!("tidegate_fuzz::{name}::target(data)")), "{name}.rs runs another target");
    }
}

/// What must be true of an input that is taken is only tried where one is: these are whole, and mutations stay close.
#[test]
fn the_whole_inputs_of_the_corpus_are_taken() {
    let read = |path: &str| std::fs::read(fuzz().join("corpus").join(path)).unwrap();
    let source = ModelSource::parse("builtin:digits").unwrap();
    let engine = Engine::load(&source).unwrap();
    assert!(matches!(read_request(&engine, &read("infer_request/made-json"), None), Ok(64)));
    let binary = read("infer_request/made-binary");
    let line = binary.iter().position(|byte| *byte == b'\n').unwrap();
    let length = str::from_utf8(&binary[..line]).unwrap().parse().unwrap();
    assert!(matches!(read_request(&engine, &binary[line + 1..], Some(length)), Ok(64)));
    assert_eq!(look_at_model(&read("model_file/made-whole"), "image"), (true, true));
    assert_eq!(ssh::decoder::read(&read("ssh_answer/made-told-twice")).map(|told| told.len()), Some(2));
    let owner = Owner { fleet: "plant-a".to_owned(), node: "gateway-7".to_owned(), session: 4 };
    let loopback = read("exec_answer/made-running-at-loopback-v6");
    let told = exec::decoder::read(&loopback, &"gw-7-12".parse().unwrap(), &owner);
    assert!(told[0].as_ref().is_ok_and(|told| told.len() == 1), "{told:?}");
}
