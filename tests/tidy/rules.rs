//! The rules for one Rust file. Who may import whom stands in two tables, so that a reviewer reads the house's plan
//! instead of code; everything else is one short function a rule. Each rule says why it is there.

use std::collections::BTreeSet;
use std::sync::LazyLock;

use crate::paths::{Reference, references};
use crate::source::{Function, Source, block_end, body_start};

/// What is wrong, where.
#[derive(Debug)]
pub(crate) struct Violation {
    pub(crate) rule: &'static str,
    pub(crate) path: String,
    /// From 1.
    pub(crate) line: usize,
    pub(crate) what: String,
    pub(crate) why: &'static str,
}

impl std::fmt::Display for Violation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { rule, path, line, what, why } = self;
        write!(f, "{path}:{line}: {what}\n    rule {rule}: {why}")
    }
}

/// One rule: `check` names the lines that break it.
pub(crate) struct Rule {
    pub(crate) name: &'static str,
    pub(crate) why: &'static str,
    pub(crate) check: fn(&Source) -> Vec<Finding>,
}

/// A line (from 1) and what stands there.
pub(crate) type Finding = (usize, String);

pub(crate) const RULES: &[Rule] = &[
    Rule {
        name: "rooms",
        why: "DESIGN section 3 says who may import whom; a shortcut between rooms ends as a knot",
        check: own_imports,
    },
    Rule {
        name: "guests",
        why: "each library is let into the rooms that own its job, so that replacing it is one room's work",
        check: guest_imports,
    },
    Rule {
        name: "pure-logic",
        why: "logic decides from its arguments alone: time, randomness and load come in as values, so a year runs in a second",
        check: pure_logic,
    },
    Rule {
        name: "one-async-trait",
        why: "CloudAdapter is the only async trait; a second one is a second plug-in system",
        check: async_traits,
    },
    Rule {
        name: "unsafe",
        why: "unsafe code is confined to listed modules and every block argues why it is sound",
        check: unsafe_blocks,
    },
    Rule {
        name: "no-test-sleep",
        why: "a test that sleeps is slow when it passes and wrong when the box is busy: wait for a condition",
        check: test_sleeps,
    },
    Rule {
        name: "no-blocked-thread",
        why: "a sleeping thread in an async room stops every request or lease on it",
        check: blocking_sleeps,
    },
    Rule {
        name: "finished",
        why: "nothing lands half done; what is left to do is an issue, not a mark in the code",
        check: unfinished,
    },
    Rule { name: "opening", why: "a file opens with `//!`: what it owns and why it exists", check: opening },
    Rule {
        name: "length",
        why: "a file has one noun; aim at 400 lines, and at 700 it has two (tests move to foo/tests.rs)",
        check: length,
    },
    Rule {
        name: "file-names",
        why: "a file is named for its noun and stands as foo.rs beside foo/; a drawer for anything fills with everything",
        check: file_names,
    },
];

/// Checks one file against every rule.
pub(crate) fn check(source: &Source) -> Vec<Violation> {
    let violation = |rule: &Rule, (line, what): Finding| Violation {
        rule: rule.name,
        path: source.path.clone(),
        line,
        what,
        why: rule.why,
    };
    RULES
        .iter()
        .flat_map(|rule| (rule.check)(source).into_iter().map(move |finding| violation(rule, finding)))
        .collect()
}

/// A room of `src/` and the rooms it may import. `*` is every room but `node`, which only `main` and `cli` know.
const ROOMS: &[(&str, &[&str])] = &[
    ("tls", &["logic"]),
    ("host", &["logic", "tls"]),
    ("gateway", &["logic", "tls"]),
    // Requests that come on MQTT enter the gateway, and their answers go back by the link.
    ("infer", &["wire", "mqtt", "gateway"]),
    ("simulate", &["logic", "wire"]),
    ("model", &[]),
    ("wrap", &["wire", "tls"]),
    ("trust", &["logic", "wire", "tls", "host"]),
    // A broker is spoken with over TLS, and TLS is one room; the link gets it made and passes it on.
    ("mqtt", &["tls"]),
    ("journal", &["logic", "host"]),
    ("console", &["logic", "wire"]),
    ("actors", &["logic", "wire", "host", "mqtt", "journal", "tls", "trust"]),
    ("node", &["*"]),
    ("cli", &["*", "node"]),
    ("main", &["cli", "node"]),
];

/// A room that is a crate: `crate::` is itself there, and it names no room that depends on it. Elsewhere its name is as good as `crate::` and its
/// name. `logic` may name nothing at all, which `pure-logic` sees to.
const CRATES: &[&str] = &["logic", "wire"];

/// A library and the rooms that may name it. Libraries that are not here may be used in every room but `logic`.
/// `edge-config` and `cloud-adapters` stand for the two crates beside `src/`.
const GUESTS: &[(&[&str], &[&str])] = &[
    (&["sysinfo"], &["host"]),
    (&["rumqttc", "mqtt5"], &["mqtt"]),
    (&["rusqlite"], &["journal"]),
    (&["rustls", "tokio_rustls", "webpki_roots"], &["tls", "trust", "cloud-adapters"]),
    (&["ring"], &["trust", "tls"]),
    (&["rcgen", "webpki", "time"], &["trust"]),
    (&["coset"], &["wire"]),
    (&["rten", "rten_tensor", "ort"], &["model"]),
    (&["actix"], &["actors", "node"]),
    (&["anyhow"], &["main", "cli"]),
    (&["async_trait"], &["cloud-adapters", "actors", "node"]),
    (&["bollard", "kube", "k8s_openapi", "aws_sdk_ecs"], &["cloud-adapters"]),
    (&["cloud_adapters"], &["cloud-adapters", "actors", "journal", "node", "cli"]),
    (
        &["edge_config"],
        &["edge-config", "gateway", "host", "console", "model", "journal", "actors", "wrap", "node", "simulate", "cli"],
    ),
    (
        &["serde", "serde_json", "serde_cbor", "ciborium", "toml"],
        &[
            "wire",
            "model",
            "wrap",
            "console",
            "gateway",
            "infer",
            "journal",
            "simulate",
            "node",
            "cli",
            "edge-config",
            "cloud-adapters",
        ],
    ),
    (&["config"], &["edge-config"]),
];

/// All that `logic` may name from outside: an error derive and a histogram, both arithmetic.
const LOGIC_GUESTS: &[&str] = &["std", "core", "alloc", "crate", "thiserror", "hdrhistogram"];

/// What `logic` may not take from the standard library: whatever asks the world, or iterates in an unstable order.
const IMPURE: &[&str] = &[
    "std::fs",
    "std::net",
    "std::io",
    "std::process",
    "std::env",
    "std::thread",
    "std::os",
    "std::time::SystemTime",
    "std::time::Instant",
    "std::time::*",
    "std::collections::HashMap",
    "std::collections::HashSet",
    "std::collections::hash_map",
    "std::collections::hash_set",
    "std::collections::*",
];

/// Modules that may hold unsafe code: code between fork and exec is unsafe by nature.
const UNSAFE_MODULES: &[&str] = &["src/host/memory.rs", "src/wrap/parent_death.rs"];

/// Rooms whose code runs on an async runtime.
const ASYNC_ROOMS: &[&str] = &["gateway", "infer", "actors", "mqtt", "console", "node"];

/// Longest file, and longest `main.rs`.
const MAX_LINES: usize = 700;
const MAX_MAIN_LINES: usize = 59;

/// The room a file belongs to: a top-level module of `src/`, or the name of a crate beside it.
fn room(path: &str) -> Option<&str> {
    if let Some(inside) = path.strip_prefix("src/") {
        let name = inside.split('/').next().unwrap_or(inside).trim_end_matches(".rs");
        return (name != "lib").then_some(name);
    }
    ["edge-config", "cloud-adapters"].into_iter().find(|name| path.starts_with(&format!("{name}/src/")))
}

fn own_imports(source: &Source) -> Vec<Finding> {
    let is_checked = |room: &&str| source.path.starts_with("src/") && !CRATES.contains(room);
    let Some(here) = room(&source.path).filter(is_checked) else { return Vec::new() };
    let Some((_, allowed)) = ROOMS.iter().find(|(name, _)| *name == here) else {
        return vec![(1, format!("`{here}` is a room that the plan does not know: give it a row in ROOMS"))];
    };
    let may = |room: &str| {
        room == here || allowed.contains(&room) || (allowed.contains(&"*") && room != "node" && room != "cli")
    };
    let room_of = |r: &Reference| match r.segments[0].as_str() {
        "crate" => r.segments.get(1).cloned(),
        name => CRATES.contains(&name).then(|| name.to_owned()).filter(|name| !declares_module(source, name)),
    };
    let barred = |r: &Reference| room_of(r).is_some_and(|room| !may(&room));
    references(source)
        .iter()
        .filter(|r| barred(r))
        .map(|r| (r.line, format!("`{}` is not for `{here}`", r.display())))
        .collect()
}

fn guest_imports(source: &Source) -> Vec<Finding> {
    let Some(here) = room(&source.path) else { return Vec::new() };
    let listed = |first: &str| GUESTS.iter().any(|(names, rooms)| names.contains(&first) && !rooms.contains(&here));
    let barred = |r: &Reference| listed(&r.segments[0]) && !declares_module(source, &r.segments[0]);
    references(source)
        .iter()
        .filter(|r| barred(r))
        .map(|r| (r.line, format!("`{}` is not for `{here}`", r.display())))
        .collect()
}

fn pure_logic(source: &Source) -> Vec<Finding> {
    if room(&source.path) != Some("logic") {
        return Vec::new();
    }
    let tests_only =
        |r: &Reference| source.is_test(r.line) && ["fastrand", "std::thread"].iter().any(|name| r.is_below(name));
    let asks = |r: &Reference| IMPURE.iter().any(|name| r.is_below(name)) || is_foreign(source, r);
    let paths = references(source);
    let named = paths
        .iter()
        .filter(|r| asks(r) && !tests_only(r))
        .map(|r| (r.line, format!("`{}` has no place in logic", r.display())));
    let awaits = ["async", "await"]
        .into_iter()
        .flat_map(|word| source.find(word).map(move |(_, t)| (t.line, format!("`{word}` in logic"))));
    named.chain(awaits).collect()
}

/// A path whose first word is a crate that is not on logic's list. A crate that Cargo.toml does not know cannot be named.
fn is_foreign(source: &Source, reference: &Reference) -> bool {
    let first = reference.segments[0].as_str();
    !LOGIC_GUESTS.contains(&first) && libraries().contains(first) && !declares_module(source, first)
}

/// The crates of the workspace's one version table, by the names that code gives them.
fn libraries() -> &'static BTreeSet<String> {
    static LIBRARIES: LazyLock<BTreeSet<String>> = LazyLock::new(|| {
        let manifest = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml")).expect("Cargo.toml");
        let table = manifest.split("[workspace.dependencies]").nth(1).expect("a table of versions");
        let lines = table.lines().take_while(|line| !line.starts_with('[')).filter_map(|line| line.split_once('='));
        lines.map(|(name, _)| name.trim().replace('-', "_")).collect()
    });
    &LIBRARIES
}

fn declares_module(source: &Source, name: &str) -> bool {
    source.find("mod").any(|(i, _)| source.tokens.get(i + 1).is_some_and(|t| t.text == name))
}

fn async_traits(source: &Source) -> Vec<Finding> {
    if room(&source.path).is_none_or(|room| room == "cloud-adapters") {
        return Vec::new();
    }
    let declared = source.find("trait").filter_map(|(i, token)| Some((body_start(&source.tokens, i)?, token.line)));
    let is_async = |open: &usize| source.contains(&(*open..block_end(&source.tokens, *open)), "async");
    declared
        .filter(|(open, _)| is_async(open))
        .map(|(_, line)| (line, "an async trait outside cloud-adapters".to_owned()))
        .collect()
}

fn unsafe_blocks(source: &Source) -> Vec<Finding> {
    let listed = UNSAFE_MODULES.contains(&source.path.as_str());
    let opened = source.find("unsafe_code").filter(|(i, _)| !listed && is_allowed(source, *i)).map(|(_, t)| t.line);
    let blocks = source.find("unsafe").map(|(_, t)| t.line).filter(|line| !listed || !argues(source, *line));
    let what = if listed { "unsafe without a `// SAFETY:` above it" } else { "unsafe outside the listed modules" };
    opened
        .map(|line| (line, "allows unsafe code without being listed".to_owned()))
        .chain(blocks.map(|line| (line, what.to_owned())))
        .collect()
}

/// Whether the lint name at `token` stands in an `allow(…)` or `expect(…)`.
fn is_allowed(source: &Source, token: usize) -> bool {
    let before = source.tokens[..token].iter().rev().take_while(|t| t.text != "[");
    before.into_iter().any(|t| t.text == "allow" || t.text == "expect")
}

/// Whether one of the comment lines right above says why the block is sound.
fn argues(source: &Source, line: usize) -> bool {
    let above = source.lines[..line - 1].iter().rev().map(|text| text.trim());
    above.take_while(|text| text.starts_with("//")).any(|text| text.starts_with("// SAFETY:"))
}

const SLEEPS: [&str; 4] =
    ["std::thread::sleep", "tokio::time::sleep", "actix::clock::sleep", "std::thread::park_timeout"];

fn sleeps(source: &Source) -> Vec<Reference> {
    let is_sleep = |r: &Reference| !r.is_use && SLEEPS.iter().any(|sleep| r.is_below(sleep));
    let mut found: Vec<Reference> = references(source).into_iter().filter(is_sleep).collect();
    found.extend(bare_sleeps(source));
    found
}

/// `sleep(…)` after `use tokio::time::sleep`: a single word is no path, so it is looked for by the name it has.
fn bare_sleeps(source: &Source) -> Vec<Reference> {
    let uses = references(source).into_iter().filter(|r| r.is_use && SLEEPS.contains(&r.display().as_str()));
    let stands_alone = |i: usize| {
        let text = |i: usize| source.tokens.get(i).map_or("", |t| t.text.as_str());
        text(i + 1) == "(" && !matches!(text(i.wrapping_sub(1)), "::" | "." | "fn")
    };
    let calls = |used: Reference| {
        let here = source.find("sleep").filter(|(i, _)| stands_alone(*i));
        here.map(|(token, at)| Reference { token, line: at.line, ..used.clone() }).collect::<Vec<_>>()
    };
    uses.flat_map(calls).collect()
}

fn test_sleeps(source: &Source) -> Vec<Finding> {
    let bad = |r: &Reference| {
        source.is_test(r.line)
            && !is_excused(source, r.line)
            && !source.function_at(r.token).is_some_and(|f| may_sleep(source, f, r))
    };
    sleeps(source).iter().filter(|r| bad(r)).map(|r| (r.line, sleep_advice(r))).collect()
}

fn sleep_advice(sleep: &Reference) -> String {
    format!(
        "`{}` in a test: poll a condition in a loop with a deadline, use paused time, or, where the delay itself is under \
         test, say so in a `// delay: why` above",
        sleep.display()
    )
}

/// A loop that polls until a deadline may sleep between two looks, and paused time passes at once.
fn may_sleep(source: &Source, function: &Function, sleep: &Reference) -> bool {
    let whole = function.head.start..function.body.end;
    let polls = ["loop", "while", "for"].iter().any(|word| source.contains(&function.body, word));
    let ends = ["deadline", "elapsed", "timeout"]
        .iter()
        .any(|word| source.tokens[whole.clone()].iter().any(|t| t.text.contains(word)));
    let paused = source.contains(&function.head, "start_paused") || source.contains(&function.body, "pause");
    (polls && ends) || (sleep.segments[0] != "std" && (paused || has_paused_time_alone(source)))
}

/// Whether every async test of the file runs in paused time, so that what it calls does too.
fn has_paused_time_alone(source: &Source) -> bool {
    let tests = source.find("test").filter(|(i, _)| *i >= 2 && source.tokens[i - 2].text == "tokio");
    let mut paused = tests.map(|(i, _)| source.tokens[i..].iter().take(6).any(|t| t.text == "start_paused")).peekable();
    paused.peek().is_some() && paused.all(|paused| paused)
}

fn is_excused(source: &Source, line: usize) -> bool {
    let above = source.lines[..line - 1].iter().rev().map(|text| text.trim());
    let comment = above.take_while(|text| text.starts_with("//")).any(|text| text.starts_with("// delay: "));
    comment || source.lines[line - 1].contains("// delay: ")
}

fn blocking_sleeps(source: &Source) -> Vec<Finding> {
    let in_async_room = room(&source.path).is_some_and(|room| ASYNC_ROOMS.contains(&room));
    let bad = |r: &&Reference| in_async_room && r.segments[0] == "std" && !source.is_test(r.line);
    sleeps(source).iter().filter(bad).map(|r| (r.line, format!("`{}` on a runtime's thread", r.display()))).collect()
}

/// Marks of unfinished work. Put together here so that this file does not carry them itself.
fn marks() -> [&'static str; 4] {
    [concat!("TO", "DO"), concat!("FIX", "ME"), concat!("XX", "X"), concat!("To be ", "filled")]
}

fn unfinished(source: &Source) -> Vec<Finding> {
    let macros = [concat!("to", "do"), concat!("unimple", "mented")];
    let is_macro = |i: usize| source.tokens.get(i + 1).is_some_and(|t| t.text == "!");
    let called = macros
        .into_iter()
        .flat_map(|name| source.find(name))
        .filter(|(i, _)| is_macro(*i))
        .map(|(_, t)| (t.line, format!("`{}!`", t.text)));
    let marked = (1..).zip(&source.lines).filter_map(|(line, text)| {
        marks().into_iter().find(|mark| has_word(text, mark)).map(|mark| (line, format!("`{mark}`")))
    });
    called.chain(marked).collect()
}

fn has_word(text: &str, word: &str) -> bool {
    let bounded = |at: usize| {
        let (before, after) = (&text[..at], &text[at + word.len()..]);
        !before.ends_with(|c: char| c.is_alphanumeric() || c == '_')
            && !after.starts_with(|c: char| c.is_alphanumeric() || c == '_')
    };
    text.match_indices(word).any(|(at, _)| bounded(at))
}

/// A `tests.rs` is what its name says, and belongs to the file that declares it.
fn opening(source: &Source) -> Vec<Finding> {
    if source.path.ends_with("/tests.rs") {
        return Vec::new();
    }
    let says =
        source.lines.first().and_then(|line| line.strip_prefix("//!")).is_some_and(|text| !text.trim().is_empty());
    if says { Vec::new() } else { vec![(1, "does not begin with a `//!` sentence".to_owned())] }
}

fn length(source: &Source) -> Vec<Finding> {
    let limit = if source.path == "src/main.rs" { MAX_MAIN_LINES } else { MAX_LINES };
    let count = source.lines.len();
    if count <= limit { Vec::new() } else { vec![(limit + 1, format!("{count} lines, at most {limit}"))] }
}

fn file_names(source: &Source) -> Vec<Finding> {
    const DRAWERS: [&str; 7] = ["mod", "util", "utils", "common", "helpers", "types", "manager"];
    let Some(_) = room(&source.path) else { return Vec::new() };
    let parts = source.path.trim_end_matches(".rs").split('/');
    parts.filter(|part| DRAWERS.contains(part)).map(|part| (1, format!("`{part}` is no noun of this house"))).collect()
}
