//! The shape of a `target.toml`: which keys there are, of what kind, and what may stand in each.

use toml::{Table, Value};

/// What a key may hold.
enum Kind {
    Text,
    OneOf(&'static [&'static str]),
    Positive,
    Texts,
}

/// `(section, key, kind, required)`: the one list that the checks, the tests and the README are held against.
const KEYS: &[(&str, &str, Kind, bool)] = &[
    ("device", "description", Kind::Text, true),
    ("device", "memory_mib", Kind::Positive, true),
    ("device", "memory_budget_mib", Kind::Positive, true),
    ("device", "cores", Kind::Positive, true),
    ("device", "accelerator", Kind::OneOf(&["none", "cuda", "hailo", "coral"]), true),
    ("build", "triple", Kind::Text, true),
    ("build", "linker", Kind::Text, true),
    ("build", "libc", Kind::Text, true),
    ("build", "cargo_profile", Kind::Text, true),
    ("build", "features", Kind::Texts, true),
    ("install", "package", Kind::OneOf(&["deb", "ipk", "tar"]), true),
    ("install", "init", Kind::OneOf(&["systemd", "procd"]), true),
    ("install", "unit", Kind::Text, false),
    ("install", "profile", Kind::Text, true),
    ("verified", "built", Kind::Text, true),
    ("verified", "started", Kind::Text, true),
    ("verified", "measured", Kind::Text, true),
];

pub(crate) fn keys() -> impl Iterator<Item = &'static str> {
    KEYS.iter().map(|(_, key, _, _)| *key)
}

pub(crate) fn required() -> impl Iterator<Item = (&'static str, &'static str)> {
    KEYS.iter().filter(|(_, _, _, required)| *required).map(|(section, key, _, _)| (*section, *key))
}

/// All that is wrong with a manifest.
pub(crate) fn problems(manifest: &Table) -> Vec<String> {
    let mut found = unknown(manifest);
    for (section, key, kind, required) in KEYS {
        match manifest.get(*section).and_then(|table| table.get(key)) {
            None if *required => found.push(format!("{section}.{key} is missing")),
            None => {}
            Some(value) => {
                found.extend(wrong_value(kind, value).map(|why| format!("{section}.{key} = {value}: {why}")))
            }
        }
    }
    if found.is_empty() {
        found = contradictions(manifest);
    }
    found
}

fn unknown(manifest: &Table) -> Vec<String> {
    let known = |section: &str, key: &str| KEYS.iter().any(|(s, k, _, _)| *s == section && *k == key);
    let mut found = Vec::new();
    for (section, value) in manifest {
        match value.as_table() {
            None => found.push(format!("{section}: every key stands in a section")),
            Some(table) => found.extend(
                table.keys().filter(|key| !known(section, key)).map(|key| format!("{section}.{key} is unknown")),
            ),
        }
    }
    found
}

fn wrong_value(kind: &Kind, value: &Value) -> Option<String> {
    match kind {
        Kind::Text => (value.as_str().is_none_or(str::is_empty)).then(|| "a text is wanted".to_owned()),
        Kind::OneOf(allowed) => {
            (!value.as_str().is_some_and(|v| allowed.contains(&v))).then(|| format!("one of {allowed:?}"))
        }
        Kind::Positive => {
            value.as_integer().is_none_or(|v| v <= 0).then(|| "a whole number above 0 is wanted".to_owned())
        }
        Kind::Texts => {
            let texts = value.as_array().is_some_and(|values| values.iter().all(Value::is_str));
            (!texts).then(|| "a list of texts is wanted".to_owned())
        }
    }
}

/// What no single key shows. The keys are there and of their kind.
fn contradictions(manifest: &Table) -> Vec<String> {
    let text = |section: &str, key: &str| manifest[section].get(key).and_then(Value::as_str).unwrap_or_default();
    let number = |key: &str| manifest["device"][key].as_integer().unwrap_or_default();
    let mut found = Vec::new();
    let mut must = |holds: bool, problem: &str| {
        if !holds {
            found.push(problem.to_owned());
        }
    };
    let (triple, libc) = (text("build", "triple"), text("build", "libc"));
    must(is_triple(triple), "build.triple has three or four lower-case parts: architecture-vendor-system-abi");
    must(triple.contains("musl") == (libc == "musl"), "build.libc and build.triple name different C libraries");
    must(libc == "musl" || is_glibc(libc), "build.libc is `musl` or `glibc-X.Y`");
    must(!text("build", "linker").contains(' '), "build.linker is one program");
    must(
        number("memory_budget_mib") * 4 <= number("memory_mib"),
        "device.memory_budget_mib takes over a quarter of the device",
    );
    must(
        text("install", "init") != "systemd" || text("install", "unit").ends_with(".service"),
        "install.unit: systemd needs a service file",
    );
    for key in ["built", "started", "measured"] {
        let said = text("verified", key);
        must(
            said == format!("not {key} yet") || has_date(said),
            "verified: `not … yet`, or what was done and its date (YYYY-MM-DD)",
        );
    }
    found
}

fn is_triple(triple: &str) -> bool {
    let parts: Vec<&str> = triple.split('-').collect();
    let word = |part: &&str| {
        !part.is_empty() && part.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_' || c == '.')
    };
    (3..=4).contains(&parts.len()) && parts.iter().all(word)
}

fn is_glibc(libc: &str) -> bool {
    let version = libc.strip_prefix("glibc-").and_then(|version| version.split_once('.'));
    version.is_some_and(|(major, minor)| major.parse::<u8>().is_ok() && minor.parse::<u8>().is_ok())
}

fn has_date(text: &str) -> bool {
    let is_date = |word: &str| {
        let parts: Vec<&str> = word.split('-').collect();
        let digits = |part: &str, length: usize| part.len() == length && part.bytes().all(|b| b.is_ascii_digit());
        matches!(parts[..], [year, month, day] if digits(year, 4) && digits(month, 2) && digits(day, 2))
    };
    text.split([' ', ',', ';', ':', '(', ')']).any(is_date)
}
