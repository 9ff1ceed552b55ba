//! The shapes a single value may have: how it is read, what is allowed, how it is shown.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::time::Duration;

use config::{Value, ValueKind};
use serde_json::{Map, Value as Json, json};

use crate::origin::Origin;
use crate::problem::{nearest, one_of};
use crate::show::toml_text;
use crate::toml_layer;

/// A value as it was found.
pub(crate) struct Input<'a> {
    pub(crate) kind: &'a ValueKind,
    pub(crate) origin: &'a Origin,
}

/// How one kind of value is read.
pub(crate) trait Shape {
    type Out;

    /// What is allowed: the end of "must be …".
    fn allowed(&self) -> String;

    /// The value, or the advice to tell: what is wrong and what is allowed.
    fn read(&self, input: &Input<'_>) -> Result<Self::Out, String>;

    /// The value as TOML.
    fn show(&self, value: &Self::Out) -> String;

    /// Whether a wrong value must not be printed.
    fn is_secret(&self) -> bool {
        false
    }

    fn must(&self) -> String {
        format!("must be {}", self.allowed())
    }

    /// The value in JSON Schema, as far as it can say it.
    fn schema(&self) -> Map<String, Json> {
        of_type("string")
    }

    /// The same with what is allowed and the default in words.
    fn described(&self, default: Option<&Self::Out>) -> Json {
        let allowed = self.allowed();
        let mut letters = allowed.chars();
        let first = letters.next().map(|first| first.to_uppercase().to_string()).unwrap_or_default();
        let default = default.map(|value| format!(" Default: {}.", self.show(value))).unwrap_or_default();
        let mut schema = self.schema();
        schema.insert("description".to_owned(), format!("{first}{}.{default}", letters.as_str()).into());
        Json::Object(schema)
    }
}

fn of_type(name: &str) -> Map<String, Json> {
    object(json!({ "type": name }))
}

fn object(schema: Json) -> Map<String, Json> {
    match schema {
        Json::Object(schema) => schema,
        _ => Map::new(),
    }
}

/// Arrays of text, with no element missing where at least one is wanted.
pub(crate) fn array_of_text(least: usize) -> Map<String, Json> {
    object(json!({ "type": "array", "items": { "type": "string" }, "minItems": least }))
}

impl Input<'_> {
    /// The text as it stands. A variable's `7` is text where text is asked for.
    pub(crate) fn text(&self) -> Option<&str> {
        match self.kind {
            ValueKind::String(text) => Some(text),
            _ => None,
        }
    }

    /// Text that may stand for a number or a flag, because its source knows nothing but text.
    fn plain(&self) -> Option<&str> {
        self.text().filter(|_| self.origin.is_text()).map(str::trim)
    }

    fn integer(&self) -> Option<i64> {
        match self.kind {
            ValueKind::I64(number) => Some(*number),
            _ => self.plain()?.parse().ok(),
        }
    }

    #[expect(clippy::cast_precision_loss, reason = "a setting beyond 2^53 is out of every range")]
    fn number(&self) -> Option<f64> {
        match self.kind {
            ValueKind::I64(number) => Some(*number as f64),
            ValueKind::Float(number) => Some(*number),
            _ => self.plain()?.parse().ok(),
        }
    }

    fn flag(&self) -> Option<bool> {
        match self.kind {
            ValueKind::Boolean(flag) => Some(*flag),
            _ => self.plain()?.parse().ok(),
        }
    }

    pub(crate) fn array(&self) -> Option<Vec<Value>> {
        match self.kind {
            ValueKind::Array(values) => Some(values.clone()),
            _ => toml_layer::read_array(self.plain()?),
        }
    }
}

/// `true` or `false`.
pub(crate) struct Flag;

impl Shape for Flag {
    type Out = bool;

    fn allowed(&self) -> String {
        "true or false".to_owned()
    }

    fn schema(&self) -> Map<String, Json> {
        of_type("boolean")
    }

    fn read(&self, input: &Input<'_>) -> Result<bool, String> {
        input.flag().ok_or_else(|| self.must())
    }

    fn show(&self, value: &bool) -> String {
        value.to_string()
    }
}

/// A whole number.
pub(crate) struct Count<T>(pub(crate) RangeInclusive<T>);

impl<T: TryFrom<i64> + PartialOrd + Display + Copy + Into<i128>> Shape for Count<T> {
    type Out = T;

    fn allowed(&self) -> String {
        format!("a whole number from {} to {}", self.0.start(), self.0.end())
    }

    fn schema(&self) -> Map<String, Json> {
        let bound = |bound: &T| i64::try_from((*bound).into()).unwrap_or(i64::MAX);
        let (least, most) = (bound(self.0.start()), bound(self.0.end()));
        object(json!({ "type": "integer", "minimum": least, "maximum": most }))
    }

    fn read(&self, input: &Input<'_>) -> Result<T, String> {
        let number = input.integer().and_then(|number| T::try_from(number).ok());
        number.filter(|number| self.0.contains(number)).ok_or_else(|| self.must())
    }

    fn show(&self, value: &T) -> String {
        value.to_string()
    }
}

/// A number with its unit, in a range whose upper end is allowed.
pub(crate) struct Number {
    pub(crate) least: Least,
    pub(crate) to: f64,
    /// What the number says, as in "replicas a minute".
    pub(crate) unit: &'static str,
}

/// The lower end of a range of numbers.
#[derive(Clone, Copy)]
pub(crate) enum Least {
    From(f64),
    Above(f64),
}

impl Shape for Number {
    type Out = f64;

    fn allowed(&self) -> String {
        match self.least {
            Least::From(least) => format!("{} from {least} to {}", self.unit, self.to),
            Least::Above(least) => format!("{} above {least}, at most {}", self.unit, self.to),
        }
    }

    fn schema(&self) -> Map<String, Json> {
        let (bound, least) = match self.least {
            Least::From(least) => ("minimum", least),
            Least::Above(least) => ("exclusiveMinimum", least),
        };
        object(json!({ "type": "number", bound: least, "maximum": self.to }))
    }

    fn read(&self, input: &Input<'_>) -> Result<f64, String> {
        let within = |number: &f64| {
            let enough = match self.least {
                Least::From(least) => *number >= least,
                Least::Above(least) => *number > least,
            };
            enough && *number <= self.to
        };
        input.number().filter(within).ok_or_else(|| self.must())
    }

    fn show(&self, value: &f64) -> String {
        // TOML tells 2.0 from 2 and so does Rust's Debug.
        format!("{value:?}")
    }
}

/// A duration such as `"250ms"` or `"1h30m"`.
pub(crate) struct Span(pub(crate) RangeInclusive<Duration>);

/// Longer durations in words than this mean no duration; it also bounds what the parser may add up.
const DURATION_CHARS_MAX: usize = 20;

impl Span {
    pub(crate) fn parse(text: &str) -> Option<Duration> {
        (text.len() <= DURATION_CHARS_MAX).then(|| humantime::parse_duration(text).ok()).flatten()
    }

    pub(crate) fn text(value: Duration) -> String {
        // The library has months, of 30.44 days.
        let days = value.as_secs() / 86_400;
        if days > 1 && value == Duration::from_hours(24 * days) {
            return format!("{days}days");
        }
        humantime::format_duration(value).to_string().replace(' ', "")
    }
}

impl Shape for Span {
    type Out = Duration;

    fn allowed(&self) -> String {
        format!("a duration from {:?} to {:?}", Self::text(*self.0.start()), Self::text(*self.0.end()))
    }

    fn read(&self, input: &Input<'_>) -> Result<Duration, String> {
        let span = input.text().and_then(Self::parse);
        span.filter(|span| self.0.contains(span)).ok_or_else(|| self.must())
    }

    fn show(&self, value: &Duration) -> String {
        toml_text(&Self::text(*value))
    }
}

/// One of a few words. Words that a later version takes are refused as such.
pub(crate) struct Choice<T: 'static> {
    pub(crate) words: &'static [(&'static str, T)],
    pub(crate) later: &'static [&'static str],
}

impl<T: Copy + PartialEq> Shape for Choice<T> {
    type Out = T;

    fn allowed(&self) -> String {
        one_of(self.words.iter().map(|(word, _)| *word))
    }

    fn schema(&self) -> Map<String, Json> {
        let words: Vec<&str> = self.words.iter().map(|(word, _)| *word).collect();
        object(json!({ "type": "string", "enum": words }))
    }

    fn read(&self, input: &Input<'_>) -> Result<T, String> {
        let written = input.text().ok_or_else(|| self.must())?;
        let found = self.words.iter().find(|(word, _)| *word == written).map(|(_, value)| *value);
        found.ok_or_else(|| match (self.later.contains(&written), self.words) {
            (true, [(word, _)]) => format!("is not yet available, use {word:?}"),
            (true, _) => format!("is not yet available, use {}", self.allowed()),
            (false, words) => match nearest(written, words.iter().map(|(word, _)| *word)) {
                Some(near) => format!("{}; did you mean {near:?}?", self.must()),
                None => self.must(),
            },
        })
    }

    fn show(&self, value: &T) -> String {
        let word = self.words.iter().find(|(_, one)| one == value).map_or("", |(word, _)| word);
        toml_text(word)
    }
}

/// One of a few words, or several of them in an array, each once.
pub(crate) struct OneOrMore<T: 'static>(pub(crate) Choice<T>);

impl<T: Copy + PartialEq> Shape for OneOrMore<T> {
    type Out = Vec<T>;

    fn allowed(&self) -> String {
        format!("{}, or an array of several of them, each once", self.0.allowed())
    }

    fn schema(&self) -> Map<String, Json> {
        let one = Json::Object(self.0.schema());
        let several = json!({ "type": "array", "items": one, "minItems": 1, "uniqueItems": true });
        object(json!({ "anyOf": [one, several] }))
    }

    fn read(&self, input: &Input<'_>) -> Result<Vec<T>, String> {
        let Some(values) = input.array() else { return self.0.read(input).map(|one| vec![one]) };
        let mut several = Vec::with_capacity(values.len());
        for value in &values {
            let one = self.0.read(&Input { kind: &value.kind, origin: input.origin })?;
            if several.contains(&one) {
                return Err(format!("names {} twice", self.0.show(&one)));
            }
            several.push(one);
        }
        if several.is_empty() { Err(self.must()) } else { Ok(several) }
    }

    fn show(&self, value: &Vec<T>) -> String {
        match value.as_slice() {
            [one] => self.0.show(one),
            several => format!("[{}]", several.iter().map(|one| self.0.show(one)).collect::<Vec<_>>().join(", ")),
        }
    }
}

/// An address to listen on.
pub(crate) struct Address;

impl Shape for Address {
    type Out = SocketAddr;

    fn allowed(&self) -> String {
        "an IP address and a port, as in \"127.0.0.1:8080\" (port 0 takes a free one)".to_owned()
    }

    fn read(&self, input: &Input<'_>) -> Result<SocketAddr, String> {
        input.text().and_then(|text| text.parse().ok()).ok_or_else(|| self.must())
    }

    fn show(&self, value: &SocketAddr) -> String {
        toml_text(&value.to_string())
    }
}

/// A path. A relative one in a file is relative to that file's folder; elsewhere, to the working directory.
pub(crate) struct FilePath;

impl Shape for FilePath {
    type Out = PathBuf;

    fn allowed(&self) -> String {
        "a path".to_owned()
    }

    fn read(&self, input: &Input<'_>) -> Result<PathBuf, String> {
        let text = input.text().filter(|text| !text.is_empty() && !text.contains('\0')).ok_or_else(|| self.must())?;
        let path = match input.origin {
            Origin::File { path: file, .. } => file.parent().unwrap_or(Path::new("")).join(text),
            _ => PathBuf::from(text),
        };
        // Replicas may run elsewhere; a path must mean the same file to them.
        std::path::absolute(&path).map_err(|error| format!("cannot be made absolute: {error}"))
    }

    fn show(&self, value: &PathBuf) -> String {
        toml_text(&value.display().to_string())
    }
}

/// Text that a function takes as a value: `Parsed { allowed, parse, show }`.
pub(crate) struct Parsed<T> {
    pub(crate) allowed: &'static str,
    /// The value, or the whole advice.
    pub(crate) parse: fn(&str) -> Result<T, String>,
    pub(crate) show: fn(&T) -> String,
    pub(crate) secret: bool,
}

impl<T> Shape for Parsed<T> {
    type Out = T;

    fn allowed(&self) -> String {
        self.allowed.to_owned()
    }

    fn read(&self, input: &Input<'_>) -> Result<T, String> {
        (self.parse)(input.text().ok_or_else(|| self.must())?)
    }

    fn show(&self, value: &T) -> String {
        toml_text(&(self.show)(value))
    }

    fn is_secret(&self) -> bool {
        self.secret
    }
}

/// An array of text, such as a command, with at least one element.
pub(crate) struct Words(pub(crate) &'static str);

impl Shape for Words {
    type Out = Vec<String>;

    fn allowed(&self) -> String {
        self.0.to_owned()
    }

    fn schema(&self) -> Map<String, Json> {
        array_of_text(1)
    }

    fn read(&self, input: &Input<'_>) -> Result<Vec<String>, String> {
        let values = input.array().filter(|values| !values.is_empty()).ok_or_else(|| self.must())?;
        let words = values.into_iter().map(|value| match value.kind {
            ValueKind::String(word) if !word.contains('\0') => Some(word),
            _ => None,
        });
        words.collect::<Option<Vec<_>>>().filter(|words| !words[0].is_empty()).ok_or_else(|| self.must())
    }

    fn show(&self, value: &Vec<String>) -> String {
        format!("[{}]", value.iter().map(|word| toml_text(word)).collect::<Vec<_>>().join(", "))
    }
}

/// CPU numbers, each once.
pub(crate) struct Cpus;

/// The highest CPU number: the size of the kernel's affinity mask that every libc has.
const CPU_MAX: usize = 1023;

impl Shape for Cpus {
    type Out = Vec<usize>;

    fn allowed(&self) -> String {
        format!("an array of CPU numbers from 0 to {CPU_MAX}, each once, as in [2, 3]")
    }

    fn schema(&self) -> Map<String, Json> {
        let cpu = json!({ "type": "integer", "minimum": 0, "maximum": CPU_MAX });
        object(json!({ "type": "array", "items": cpu, "minItems": 1, "uniqueItems": true }))
    }

    fn read(&self, input: &Input<'_>) -> Result<Vec<usize>, String> {
        let values = input.array().filter(|values| !values.is_empty()).ok_or_else(|| self.must())?;
        let cpu = |value: Value| match value.kind {
            ValueKind::I64(number) => usize::try_from(number).ok().filter(|cpu| *cpu <= CPU_MAX),
            _ => None,
        };
        let cpus = values.into_iter().map(cpu).collect::<Option<Vec<_>>>().ok_or_else(|| self.must())?;
        let mut once = cpus.clone();
        once.sort_unstable();
        once.dedup();
        if once.len() == cpus.len() { Ok(once) } else { Err(self.must()) }
    }

    fn show(&self, value: &Vec<usize>) -> String {
        format!("{value:?}")
    }
}

/// Environment variables of a replica. Their values may be secrets and are never shown.
pub(crate) struct Variables;

/// What stands where a value may be a secret.
const HIDDEN: &str = "(hidden)";

impl Shape for Variables {
    type Out = BTreeMap<String, String>;

    fn allowed(&self) -> String {
        "a table of text, as in { LANG = \"C\" }".to_owned()
    }

    fn schema(&self) -> Map<String, Json> {
        object(json!({ "type": "object", "additionalProperties": { "type": "string" } }))
    }

    fn read(&self, input: &Input<'_>) -> Result<Self::Out, String> {
        let ValueKind::Table(table) = input.kind else { return Err(self.must()) };
        let mut variables = BTreeMap::new();
        for (name, value) in table {
            let usable = !name.is_empty() && !name.contains(['=', '\0']);
            match &value.kind {
                ValueKind::String(text) if usable && !text.contains('\0') => {
                    variables.insert(name.clone(), text.clone());
                }
                _ => return Err(format!("{}; {name:?} is not", self.must())),
            }
        }
        Ok(variables)
    }

    fn show(&self, value: &Self::Out) -> String {
        let shown: Vec<String> =
            value.keys().map(|name| format!("{} = {}", crate::show::toml_key(name), toml_text(HIDDEN))).collect();
        if shown.is_empty() { "{}".to_owned() } else { format!("{{ {} }}", shown.join(", ")) }
    }

    fn is_secret(&self) -> bool {
        true
    }
}
