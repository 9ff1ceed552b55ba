//! Reads one table of the merged configuration key by key, and goes on after a problem so that all are found.
//!
//! What was asked for is what is known: a key that nobody asked for is unknown, and what was read is what
//! `config show` prints. So neither needs a list that could go stale.

use std::cell::RefCell;

use config::{Value, ValueKind};

use crate::layers::Merged;
use crate::origin::{Origin, Origins};
use crate::problem::{Problem, nearest, one_of};
use crate::schema::Asked;
use crate::shape::{Input, Shape};
use crate::show::{Setting, toml_value};
use crate::toml_layer::{Table, join};

/// What one load collects.
#[derive(Debug)]
pub(crate) struct Context {
    origins: Origins,
    problems: RefCell<Vec<Problem>>,
    settings: RefCell<Vec<Setting>>,
    /// What was asked for, where that is what the reading is for.
    asked: Option<RefCell<Vec<Asked>>>,
}

impl Context {
    /// Splits the merged layers into their values and what is collected while these are read.
    pub(crate) fn new(merged: Merged) -> (Self, Table) {
        let Merged { root, origins, problems, .. } = merged;
        (Self { origins, problems: problems.into(), settings: RefCell::default(), asked: None }, root)
    }

    /// The same, and notes what is asked for.
    pub(crate) fn noting(merged: Merged) -> (Self, Table) {
        let (context, root) = Self::new(merged);
        (Self { asked: Some(RefCell::default()), ..context }, root)
    }

    pub(crate) fn into_asked(self) -> Vec<Asked> {
        self.asked.map(RefCell::into_inner).unwrap_or_default()
    }

    pub(crate) fn into_outcome(self) -> (Vec<Problem>, Vec<Setting>) {
        (self.problems.into_inner(), self.settings.into_inner())
    }
}

/// One table, which may be absent: then every key has its default.
#[derive(Debug)]
pub(crate) struct Section<'a> {
    context: &'a Context,
    path: Vec<String>,
    table: Option<&'a Table>,
    known: Vec<&'static str>,
    broken: Vec<&'static str>,
    /// Something else stands where the table should be; that is told, and what the table lacks is not.
    misplaced: bool,
}

/// A value that is set, with where it was.
struct Found<'a> {
    value: &'a Value,
    origin: Origin,
}

impl<'a> Section<'a> {
    pub(crate) fn root(context: &'a Context, table: &'a Table) -> Self {
        Self { context, path: Vec::new(), table: Some(table), known: Vec::new(), broken: Vec::new(), misplaced: false }
    }

    pub(crate) fn is_present(&self) -> bool {
        self.table.is_some()
    }

    /// The table under `key`; absent when it is not there, and a problem when it is something else.
    pub(crate) fn section(&mut self, key: &'static str) -> Section<'a> {
        self.known.push(key);
        self.note(key, || None);
        self.child(key)
    }

    /// Whether a table stands under `key`.
    pub(crate) fn is_table(&self, key: &str) -> bool {
        self.table.and_then(|table| table.get(key)).is_some_and(|value| matches!(value.kind, ValueKind::Table(_)))
    }

    /// The tables under this one, which are named by the operator, in the order of their names.
    pub(crate) fn named(&self) -> Vec<(&'a str, Section<'a>)> {
        self.names().into_iter().map(|name| (name, self.child(name))).collect()
    }

    /// The keys that the operator chose in this table, in their order.
    pub(crate) fn names(&self) -> Vec<&'a str> {
        let mut names: Vec<&str> = self.table.into_iter().flat_map(|table| table.keys()).map(String::as_str).collect();
        names.sort_unstable();
        names
    }

    /// The value of a key that the operator chose; `None` means that a problem was told.
    pub(crate) fn named_value<S: Shape>(&self, name: &str, shape: &S) -> Option<S::Out> {
        self.note(name, || Some(shape.described(None)));
        let Found { value, origin } = self.found(name)?;
        match shape.read(&Input { kind: &value.kind, origin: &origin }) {
            Ok(read) => {
                let setting = Setting {
                    table: self.path.clone(),
                    key: name.to_owned().into(),
                    value: Some(shape.show(&read)),
                    origin,
                };
                self.context.settings.borrow_mut().push(setting);
                Some(read)
            }
            Err(advice) => {
                self.report(name, Some(toml_value(value)), advice, origin);
                None
            }
        }
    }

    /// Tells a problem of a key that the operator chose.
    pub(crate) fn refuse_named(&self, name: &str, advice: &str) {
        if let Some(Found { value, origin }) = self.found(name) {
            self.report(name, Some(toml_value(value)), advice, origin);
        }
    }

    fn child(&self, key: &str) -> Section<'a> {
        let value = self.table.and_then(|table| table.get(key));
        let (table, misplaced) = match value.map(|value| &value.kind) {
            Some(ValueKind::Table(table)) => (Some(table), false),
            Some(ValueKind::Nil) | None => (None, self.misplaced),
            Some(_) => (None, true),
        };
        if let Some(value) = value.filter(|_| misplaced) {
            self.report(key, Some(toml_value(value)), "must be a table", self.origin_of(key, value));
        }
        let path = self.path.iter().cloned().chain([key.to_owned()]).collect();
        Section { context: self.context, path, table, known: Vec::new(), broken: Vec::new(), misplaced }
    }

    /// The value of `key`, or `default` when it is not set or not right.
    pub(crate) fn get<S: Shape>(&mut self, key: &'static str, shape: &S, default: S::Out) -> S::Out {
        self.note(key, || Some(shape.described(Some(&default))));
        match self.read(key, shape) {
            Some((value, origin)) => {
                self.settle(key, Some(shape.show(&value)), origin);
                value
            }
            None => {
                self.settle(key, Some(shape.show(&default)), Origin::Default);
                default
            }
        }
    }

    /// The value of `key`, `None` when it is not set or not right.
    pub(crate) fn optional<S: Shape>(&mut self, key: &'static str, shape: &S) -> Option<S::Out> {
        self.note(key, || Some(shape.described(None)));
        let read = self.read(key, shape);
        let origin = read.as_ref().map_or(Origin::Default, |(_, origin)| origin.clone());
        self.settle(key, read.as_ref().map(|(value, _)| shape.show(value)), origin);
        read.map(|(value, _)| value)
    }

    /// The value of `key`, which must be set: `None` means that a problem was told.
    pub(crate) fn required<S: Shape>(&mut self, key: &'static str, shape: &S) -> Option<S::Out> {
        let value = self.optional(key, shape);
        if value.is_none() && !self.misplaced && !self.broken.contains(&key) {
            self.refuse(key, format!("is missing; it must be {}", shape.allowed()));
        }
        value
    }

    /// Whether `key` is set, rightly or not.
    pub(crate) fn has(&self, key: &str) -> bool {
        self.found(key).is_some()
    }

    /// Whether each of `keys` was read without a problem. A rule over several keys is only worth telling then.
    pub(crate) fn sound(&self, keys: &[&str]) -> bool {
        !keys.iter().any(|key| self.broken.contains(key))
    }

    /// A key that means nothing here, for the reason in `advice`: known, and refused when it is set.
    pub(crate) fn foreign(&mut self, key: &'static str, advice: &str) {
        self.known.push(key);
        self.note(key, || None);
        if self.has(key) {
            self.refuse(key, advice);
        }
    }

    /// Keys that exist, but whose meaning hangs on a key that is broken.
    pub(crate) fn leave(&mut self, keys: &[&'static str]) {
        keys.iter().for_each(|key| self.note(key, || None));
        self.known.extend(keys);
        self.broken.extend(keys);
    }

    /// Tells a problem of `key`, with the value that it has.
    pub(crate) fn refuse(&mut self, key: &'static str, advice: impl Into<String>) {
        let found = self.found(key);
        let value = found.as_ref().map(|found| toml_value(found.value));
        let origin = found.map_or_else(|| self.origin(), |found| found.origin);
        self.broken.push(key);
        self.report(key, value, advice, origin);
    }

    /// Tells a problem of this table as a whole.
    pub(crate) fn refuse_table(&self, advice: impl Into<String>) {
        let key = self.path.join(".");
        let problem = Problem { key, value: None, advice: advice.into(), origin: self.origin() };
        self.context.problems.borrow_mut().push(problem);
    }

    /// Ends the reading: keys that nobody asked for are unknown.
    pub(crate) fn finish(self) {
        let mut unknown: Vec<(&String, &Value)> =
            self.table.into_iter().flatten().filter(|(key, _)| !self.known.contains(&key.as_str())).collect();
        unknown.sort_by_key(|(key, _)| *key);
        for (key, value) in unknown {
            let advice = match nearest(key, self.known.iter().copied()) {
                Some(near) => format!("is not a known key; did you mean `{near}`?"),
                // It may be one of a newer version, after a downgrade or on a node that was not upgraded.
                None => {
                    let (version, known) = (env!("CARGO_PKG_VERSION"), one_of(self.known.iter().copied()));
                    format!("is not a known key of version {version}; here it may be {known}")
                }
            };
            self.report(key, None, advice, self.origin_of(key, value));
        }
    }

    fn read<S: Shape>(&mut self, key: &'static str, shape: &S) -> Option<(S::Out, Origin)> {
        self.known.push(key);
        let Found { value, origin } = self.found(key)?;
        let input = Input { kind: &value.kind, origin: &origin };
        match shape.read(&input) {
            Ok(read) => Some((read, origin)),
            Err(advice) => {
                self.broken.push(key);
                let value = (!shape.is_secret()).then(|| toml_value(value));
                self.report(key, value, advice, origin);
                None
            }
        }
    }

    /// An empty variable or argument counts as not set, so that a layer can go back to the default.
    fn found(&self, key: &str) -> Option<Found<'a>> {
        let value = self.table?.get(key)?;
        let origin = self.origin_of(key, value);
        let unset = match &value.kind {
            ValueKind::Nil => true,
            ValueKind::String(text) => text.is_empty() && origin.is_text(),
            _ => false,
        };
        (!unset).then_some(Found { value, origin })
    }

    fn settle(&self, key: &'static str, value: Option<String>, origin: Origin) {
        let setting = Setting { table: self.path.clone(), key: key.into(), value, origin };
        self.context.settings.borrow_mut().push(setting);
    }

    /// Notes a key that is known, with its shape if it has one here.
    fn note(&self, key: &str, schema: impl FnOnce() -> Option<serde_json::Value>) {
        if let Some(asked) = &self.context.asked {
            let (table, key) = (self.path.clone(), key.to_owned());
            asked.borrow_mut().push(Asked { table, key, schema: schema() });
        }
    }

    fn report(&self, key: &str, value: Option<String>, advice: impl Into<String>, origin: Origin) {
        let problem = Problem { key: self.dotted(key), value, advice: advice.into(), origin };
        self.context.problems.borrow_mut().push(problem);
    }

    fn dotted(&self, key: &str) -> String {
        join(&self.path.join("."), key)
    }

    fn origin(&self) -> Origin {
        self.context.origins.of_table(&self.path.join("."))
    }

    fn origin_of(&self, key: &str, value: &Value) -> Origin {
        self.context.origins.of(&self.dotted(key), value)
    }
}
