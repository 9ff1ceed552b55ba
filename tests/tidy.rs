//! Holds the house to its plan: who may import whom, where each library lives, what a file looks like, and that links
//! lead somewhere. A rule without an example that breaks it fails too, so no rule can be empty.

#[path = "tidy/documents.rs"]
mod documents;
#[path = "tidy/paths.rs"]
mod paths;
#[path = "tidy/rules.rs"]
mod rules;
#[path = "tidy/samples.rs"]
mod samples;
#[path = "tidy/source.rs"]
mod source;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use crate::source::Source;

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Every Rust file of ours, as `(path from the root, text)`.
fn rust_files() -> Vec<(String, String)> {
    let folders = ["src", "edge-config", "cloud-adapters", "tests", "benches", "examples", "fuzz"];
    let paths = folders.iter().flat_map(|folder| documents::files(&root().join(folder), "rs"));
    let shown = |path: &Path| path.strip_prefix(root()).expect("below the root").display().to_string();
    paths.map(|path| (shown(&path), read(&path))).collect()
}

fn assert_none(problems: &[String]) {
    assert!(problems.is_empty(), "{} found:\n{}", problems.len(), problems.join("\n"));
}

#[test]
fn every_file_keeps_the_rules() {
    let files = rust_files();
    assert!(files.len() > 20, "only {} Rust files found: the walk is broken", files.len());
    let broken = files.iter().flat_map(|(path, text)| rules::check(&Source::parse(path, text)));
    assert_none(&broken.map(|violation| violation.to_string()).collect::<Vec<_>>());
}

#[test]
fn the_required_top_level_stands() {
    let required = ["Cargo.toml", "src", "edge-config", "cloud-adapters", "firmware-targets", "tests", "README.md"];
    let missing: Vec<String> =
        required.iter().filter(|name| !root().join(name).exists()).map(|name| format!("{name} is missing")).collect();
    assert_none(&missing);
}

#[test]
fn relative_links_lead_somewhere() {
    let pages = documents::files(&root(), "md");
    assert!(pages.len() > 5, "only {} pages found: the walk is broken", pages.len());
    let dead: Vec<String> = pages.iter().flat_map(|page| documents::dead_links(&root(), page, &read(page))).collect();
    assert_none(&dead);
}

#[test]
fn the_architecture_page_is_short() {
    let page = root().join("ARCHITECTURE.md");
    if page.exists() {
        let words = documents::words(&read(&page));
        assert!(
            words < documents::MAX_ARCHITECTURE_WORDS,
            "ARCHITECTURE.md has {words} words, the limit is {}",
            documents::MAX_ARCHITECTURE_WORDS
        );
    }
}

#[test]
fn decision_records_are_numbered_and_shaped() {
    let records = documents::files(&root().join("docs/decisions"), "md");
    assert!(!records.is_empty(), "docs/decisions has no record");
    let name = |path: &Path| path.file_name().and_then(|name| name.to_str()).unwrap_or_default().to_owned();
    let mut problems: Vec<String> =
        records.iter().flat_map(|path| documents::decision_problems(&name(path), &read(path))).collect();
    for (number, path) in (1..).zip(&records) {
        if !name(path).starts_with(&format!("{number:04}-")) {
            problems
                .push(format!("{} should have the number {number:04}: none may be missing or taken twice", name(path)));
        }
    }
    assert_none(&problems);
}

#[test]
fn every_row_of_the_article_names_a_test_that_exists() {
    let tests: BTreeSet<String> =
        rust_files().iter().flat_map(|(path, text)| Source::parse(path, text).tests()).collect();
    let table = read(&root().join("docs/lepton-article.md"));
    let problems = documents::article_problems(&table, |name| tests.contains(name));
    assert_none(&problems.iter().map(|problem| format!("docs/lepton-article.md:{problem}")).collect::<Vec<_>>());
}

/// Members of the workspace take every version from the one table in the root's Cargo.toml.
#[test]
fn versions_stand_in_one_place() {
    let mut problems = Vec::new();
    for manifest in ["Cargo.toml", "edge-config/Cargo.toml", "cloud-adapters/Cargo.toml"] {
        problems.extend(
            own_versions(&read(&root().join(manifest)))
                .into_iter()
                .map(|line| format!("{manifest}:{line}: a version outside [workspace.dependencies]")),
        );
    }
    assert_none(&problems);
}

/// Lines of dependency tables, the workspace's apart, that do not say `workspace = true`.
fn own_versions(manifest: &str) -> Vec<usize> {
    let mut inside = false;
    let mut found = Vec::new();
    for (number, line) in (1..).zip(manifest.lines().map(str::trim)) {
        if line.starts_with('[') {
            inside = line.trim_matches(['[', ']']).ends_with("dependencies") && !line.starts_with("[workspace");
        } else if inside
            && line.contains('=')
            && !line.starts_with('#')
            && !line.replace(' ', "").contains("workspace=true")
        {
            found.push(number);
        }
    }
    found
}

#[test]
fn a_version_of_ones_own_is_seen() {
    let manifest = "[workspace.dependencies]\na = \"1\"\n[dependencies]\na.workspace = true\nb = { workspace = true, features = [\"x\"] }\nc = \"2\"\n[dev-dependencies]\nd = { version = \"3\" }\n[features]\ne = []\n";
    assert_eq!(own_versions(manifest), [6, 8]);
}

#[test]
fn every_rule_sees_its_bad_example_and_spares_its_good_one() {
    // Two rules judge a file's shape, not a line; they have tests of their own below.
    for rule in rules::RULES.iter().filter(|rule| !["length", "file-names"].contains(&rule.name)) {
        let own: Vec<_> = samples::SAMPLES.iter().filter(|sample| sample.rule == rule.name).collect();
        assert!(!own.is_empty(), "rule {} has no example in tests/tidy/samples.rs", rule.name);
    }
    for sample in samples::SAMPLES {
        let found: Vec<(&str, usize)> = check(sample.path, &sample.bad()).iter().map(|v| (v.rule, v.line)).collect();
        assert_eq!(found, [(sample.rule, sample.line())], "bad example of {} in {}", sample.rule, sample.path);
        let spared: Vec<String> = check(sample.path, &sample.good()).iter().map(ToString::to_string).collect();
        assert!(spared.is_empty(), "good example of {} in {}: {spared:?}", sample.rule, sample.path);
    }
}

fn check(path: &str, text: &str) -> Vec<rules::Violation> {
    rules::check(&Source::parse(path, text))
}

#[test]
fn a_violation_names_place_rule_and_reason() {
    let text = "//! A room of the house.\nuse sysinfo::System;\n";
    let shown = check("src/gateway.rs", text).iter().map(ToString::to_string).collect::<Vec<_>>().join("\n");
    assert!(
        shown.starts_with("src/gateway.rs:2: `sysinfo::System` is not for `gateway`\n    rule guests: each library"),
        "{shown}"
    );
}

#[test]
fn long_files_and_a_long_main_are_seen() {
    let text = |lines: usize| format!("//! A file of some length.\n{}", "// line\n".repeat(lines - 1));
    assert!(check("src/main.rs", &text(59)).is_empty());
    assert_eq!(check("src/main.rs", &text(60)).len(), 1);
    assert!(check("src/wire.rs", &text(700)).is_empty());
    assert_eq!(check("src/wire.rs", &text(701)).len(), 1);
}

#[test]
fn drawers_for_anything_are_seen() {
    for path in ["src/wire/utils.rs", "src/gateway/mod.rs", "src/common/clock.rs", "edge-config/src/types.rs"] {
        let rules: Vec<&str> = check(path, "//! Things of all kinds.\n").iter().map(|v| v.rule).collect();
        assert!(rules.contains(&"file-names"), "{path}: {rules:?}");
    }
    assert!(check("tests/support/mod.rs", "//! What several tests need.\n").is_empty());
}

#[test]
fn a_room_without_a_row_in_the_plan_is_seen() {
    assert_eq!(check("src/attic.rs", "//! Things put away.\n").len(), 1);
}
