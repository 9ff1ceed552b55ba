//! The resolved configuration as TOML, each value with its origin, and the digest that nodes announce.

use std::borrow::Cow;

use config::{Value, ValueKind};
use sha2::{Digest, Sha256};

use crate::origin::Origin;

/// One resolved value.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Setting {
    /// The table it stands in, as in `service`, `digits`, `local`.
    pub(crate) table: Vec<String>,
    pub(crate) key: Cow<'static, str>,
    /// As TOML; `None` when it is not set and has no default.
    pub(crate) value: Option<String>,
    pub(crate) origin: Origin,
}

/// Every value as TOML, with its origin as a comment. What is not set stands as a comment too.
pub(crate) fn show(settings: &[Setting]) -> String {
    render(settings, |setting| match &setting.value {
        Some(value) => Some(format!("{} = {value}  # {}", toml_key(&setting.key), setting.origin)),
        None => Some(format!("# {} is not set", toml_key(&setting.key))),
    })
}

/// Hex digits of a digest: 48 bits tell apart more configurations than a fleet will ever have.
const DIGEST_BYTES: usize = 6;

/// A short hash of every value that is set, wherever it was set, except `node.id`: two nodes that are configured alike
/// have the same. Values of replicas' environments are left out, since a hash of a short secret gives it away.
pub(crate) fn digest(settings: &[Setting]) -> String {
    let node_id = |setting: &Setting| setting.key == "id" && setting.table == ["node"];
    let text = render(settings, |setting| match &setting.value {
        Some(value) if !node_id(setting) => Some(format!("{} = {value}", toml_key(&setting.key))),
        _ => None,
    });
    Sha256::digest(text)[..DIGEST_BYTES].iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Tables in the order in which they were first read, each with all of its lines: TOML opens a table only once.
fn render(settings: &[Setting], line: impl Fn(&Setting) -> Option<String>) -> String {
    let mut tables: Vec<(&[String], Vec<String>)> = Vec::new();
    for setting in settings {
        let at = tables.iter().position(|(table, _)| *table == setting.table).unwrap_or_else(|| {
            tables.push((&setting.table, Vec::new()));
            tables.len() - 1
        });
        tables[at].1.extend(line(setting));
    }
    let texts = tables.iter().map(|(table, lines)| {
        let header: Vec<String> = table.iter().map(|name| toml_key(name)).collect();
        format!("[{}]\n{}\n", header.join("."), lines.join("\n"))
    });
    texts.collect::<Vec<_>>().join("\n")
}

/// `text` as a TOML basic string on one line.
pub(crate) fn toml_text(text: &str) -> String {
    let mut quoted = String::from('"');
    for letter in text.chars() {
        match letter {
            '"' | '\\' => quoted.extend(['\\', letter]),
            letter if letter.is_control() => quoted.push_str(&format!("\\u{:04X}", u32::from(letter))),
            letter => quoted.push(letter),
        }
    }
    quoted.push('"');
    quoted
}

/// `name` as a TOML key, in quotes where it needs them.
pub(crate) fn toml_key(name: &str) -> String {
    let bare = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    if !name.is_empty() && name.bytes().all(bare) { name.to_owned() } else { toml_text(name) }
}

/// Longest value that an error quotes, in characters; the rest is no help in finding it.
const QUOTED_CHARS_MAX: usize = 80;

/// A value as it was written, cut where it is long.
pub(crate) fn toml_value(value: &Value) -> String {
    let text = whole_toml_value(value);
    match text.char_indices().nth(QUOTED_CHARS_MAX) {
        Some((cut, _)) => format!("{}…", &text[..cut]),
        None => text,
    }
}

fn whole_toml_value(value: &Value) -> String {
    match &value.kind {
        ValueKind::String(text) => toml_text(text),
        ValueKind::Float(number) => format!("{number:?}"),
        ValueKind::Array(values) => {
            format!("[{}]", values.iter().map(whole_toml_value).collect::<Vec<_>>().join(", "))
        }
        ValueKind::Table(_) => "{ … }".to_owned(),
        other => other.to_string(),
    }
}
