//! The layers of a configuration and their merge by the `config` crate: profile, file, `conf.d`, environment, arguments.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::io::Read;
use std::path::{Path, PathBuf};

use config::{ConfigError, Map, Source, Value, ValueKind};

use crate::model_layer;
use crate::origin::{Origin, Origins};
use crate::problem::{Problem, one_of};
use crate::profile::Profile;
use crate::sources::Sources;
use crate::toml_layer::{self, Table};

/// Longest configuration file, in bytes. A hand-written one has a few thousand; a wrong path may name a disk.
pub(crate) const FILE_BYTES_MAX: u64 = 1 << 20;

/// What variables of ours begin with. `TIDEGATE_NO_CLOUD` and its like have one underscore and are no settings.
const ENVIRONMENT_PREFIX: &str = "TIDEGATE__";

/// All layers merged, not validated yet.
#[derive(Debug)]
pub(crate) struct Merged {
    pub(crate) root: Table,
    pub(crate) origins: Origins,
    pub(crate) problems: Vec<Problem>,
    /// False after a syntax error or an unreadable file: then what the rest means cannot be known.
    pub(crate) complete: bool,
}

/// Reads and merges every layer.
pub(crate) fn merge(sources: &Sources) -> Merged {
    let mut stack = Stack { root: Table::new(), origins: Origins::default(), problems: Vec::new(), complete: true };
    stack.profile(sources);
    if let Some(path) = &sources.file {
        stack.file(path);
    }
    for path in stack.conf_d(sources.conf_d.as_deref()) {
        stack.file(&path);
    }
    stack.environment(&sources.env);
    for change in &sources.overrides {
        stack.text(&change.key, &change.value, Origin::CommandLine);
    }
    if let Some(model) = &sources.model {
        model_layer::point_at(&mut stack, model);
    }
    Merged { root: stack.root, origins: stack.origins, problems: stack.problems, complete: stack.complete }
}

/// One layer as `config` takes it.
#[derive(Debug, Clone)]
struct Layer(Table);

impl Source for Layer {
    fn clone_into_box(&self) -> Box<dyn Source + Send + Sync> {
        Box::new(self.clone())
    }

    fn collect(&self) -> Result<Map<String, Value>, ConfigError> {
        Ok(self.0.clone())
    }
}

/// The layers so far, merged.
pub(crate) struct Stack {
    root: Table,
    pub(crate) origins: Origins,
    problems: Vec<Problem>,
    complete: bool,
}

impl Stack {
    fn profile(&mut self, sources: &Sources) {
        if let Some(profile) = sources.profile {
            let layer = self.profile_table(profile);
            self.add(layer);
        }
        if let Some(model) = &sources.model {
            let layer = model_layer::beneath(self, model, sources.file.is_none());
            self.add(layer);
        }
    }

    /// The values of a profile, not added yet.
    pub(crate) fn profile_table(&mut self, profile: Profile) -> Table {
        let at = |line| Origin::Profile { name: profile.name(), line };
        let read = toml_layer::read(profile.text(), &at, &mut self.origins, &mut self.problems);
        read.expect("a shipped profile is TOML")
    }

    fn file(&mut self, path: &Path) {
        let whole = Origin::File { path: path.to_owned(), line: None };
        match read_text(path) {
            Ok(text) => {
                let at = |line| Origin::File { path: path.to_owned(), line: Some(line) };
                match toml_layer::read(&text, &at, &mut self.origins, &mut self.problems) {
                    Some(layer) => self.add(layer),
                    None => self.complete = false,
                }
            }
            Err(advice) => {
                self.complete = false;
                self.problem("", None, advice, whole);
            }
        }
    }

    /// The `*.toml` files of the folder in the order of their names; a folder that is not there has none.
    fn conf_d(&mut self, folder: Option<&Path>) -> Vec<PathBuf> {
        let Some(folder) = folder else { return Vec::new() };
        match toml_files(folder) {
            Ok(files) => files.into_iter().collect(),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Vec::new(),
            Err(error) => {
                let origin = Origin::File { path: folder.to_owned(), line: None };
                self.complete = false;
                self.problem("", None, format!("this folder cannot be listed: {error}"), origin);
                Vec::new()
            }
        }
    }

    fn environment(&mut self, env: &[(OsString, OsString)]) {
        let mut ours: Vec<(String, &OsString)> = env
            .iter()
            .map(|(name, value)| (name.to_string_lossy().into_owned(), value))
            .filter(|(name, _)| name.starts_with(ENVIRONMENT_PREFIX))
            .collect();
        // The order of an environment is chance; by name, the same variables always give the same configuration.
        ours.sort();
        for (name, value) in ours {
            let path = environment_path(&name);
            let origin = Origin::Environment { variable: name };
            match value.to_str() {
                Some(value) => self.text(&path, value, origin),
                None => self.problem(&path.join("."), None, "must be UTF-8 text".to_owned(), origin),
            }
        }
    }

    /// Adds one value that is text: a variable's or an argument's.
    pub(crate) fn text(&mut self, path: &[String], text: &str, origin: Origin) {
        let path = self.spelled_as_below(path);
        let [section, key, ..] = path.as_slice() else {
            let advice = "is a section; name a key in it, as in TIDEGATE__NODE__ID".to_owned();
            return self.problem(&path.join("."), None, advice, origin);
        };
        if section.is_empty() || key.is_empty() {
            return self.problem(&path.join("."), None, "has an empty part".to_owned(), origin);
        }
        for depth in 1..path.len() {
            self.origins.table_unless_known(&path[..depth].join("."), &origin);
        }
        let ticket = self.origins.ticket(origin);
        let leaf = Value::new(Some(&ticket), text);
        let nested = path[1..]
            .iter()
            .rev()
            .fold(leaf, |value, key| Value::new(None, ValueKind::Table(Table::from([(key.clone(), value)]))));
        self.add(Table::from([(section.clone(), nested)]));
    }

    /// A shell allows no `-` in a variable's name, so `DEMO_CLOUD` also finds the adapter `demo-cloud` of the layers
    /// below, unless there is a `demo_cloud`.
    fn spelled_as_below(&self, path: &[String]) -> Vec<String> {
        let mut path = path.to_vec();
        if let [section, name, ..] = path.as_mut_slice()
            && let Some(Value { kind: ValueKind::Table(named), .. }) = self.root.get(section)
            && !named.contains_key(name)
        {
            let same = |other: &&String| other.replace('-', "_") == name.replace('-', "_");
            if let Some(spelled) = named.keys().filter(same).min() {
                *name = spelled.clone();
            }
        }
        path
    }

    /// Merges `layer` over what is there. A section that is no table is told here: later layers would hide it.
    fn add(&mut self, mut layer: Table) {
        for (key, value) in &layer {
            if !matches!(value.kind, ValueKind::Table(_)) {
                let origin = self.origins.of(key, value);
                let advice = match key.as_str() {
                    "service" | "adapter" => format!("must be tables by name, as in [{key}.NAME]"),
                    _ => format!("is not allowed outside of a table; tables are {}", one_of(crate::SECTIONS)),
                };
                self.problems.push(Problem { key: key.clone(), value: None, advice, origin });
            }
        }
        layer.retain(|_, value| matches!(value.kind, ValueKind::Table(_)));
        let below = Layer(std::mem::take(&mut self.root));
        let merged = config::Config::builder().add_source(below).add_source(Layer(layer)).build();
        self.root = merged.and_then(|merged| merged.collect()).expect("layers that are read already cannot fail");
    }

    pub(crate) fn problem(&mut self, key: &str, value: Option<String>, advice: String, origin: Origin) {
        self.problems.push(Problem { key: key.to_owned(), value, advice, origin });
    }
}

/// `TIDEGATE__NODE__STATE_DIR` as `node.state_dir`. Below a replica's `env` letters keep their case.
fn environment_path(variable: &str) -> Vec<String> {
    let rest = &variable[ENVIRONMENT_PREFIX.len()..];
    let lower: Vec<String> = rest.split("__").map(str::to_lowercase).collect();
    match lower.as_slice() {
        [service, name, local, env, _, ..] if service == "service" && local == "local" && env == "env" => {
            let kept = rest.splitn(5, "__").nth(4).unwrap_or_default().to_owned();
            vec![service.clone(), name.clone(), local.clone(), env.clone(), kept]
        }
        _ => lower,
    }
}

fn toml_files(folder: &Path) -> std::io::Result<BTreeSet<PathBuf>> {
    let mut files = BTreeSet::new();
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        let hidden = path.file_name().is_some_and(|name| name.to_string_lossy().starts_with('.'));
        if !hidden && path.extension().is_some_and(|extension| extension == "toml") {
            files.insert(path);
        }
    }
    Ok(files)
}

/// The text of a file, or why there is none, in words for the operator.
fn read_text(path: &Path) -> Result<String, String> {
    let unreadable = |error: std::io::Error| format!("this file cannot be read: {error}");
    let file = std::fs::File::open(path).map_err(unreadable)?;
    let mut bytes = Vec::new();
    file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        return Err(format!("this file has more than {FILE_BYTES_MAX} bytes; is it a configuration?"));
    }
    String::from_utf8(bytes).map_err(|_| "this file is not UTF-8 text; is it a configuration?".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_variable_names_its_key_and_a_replicas_environment_keeps_its_letters() {
        assert_eq!(environment_path("TIDEGATE__NODE__STATE_DIR"), ["node", "state_dir"]);
        let path = environment_path("TIDEGATE__SERVICE__DIGITS__LOCAL__ENV__Api__KEY");
        assert_eq!(path.join("."), "service.digits.local.env.Api__KEY");
    }
}
