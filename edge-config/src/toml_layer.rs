//! One TOML text as a layer of `config` values that know their line.
//!
//! `config` has a TOML reader of its own, but it drops the lines and stops at the first syntax error.

use config::{Map, Value, ValueKind};
use toml::de::{DeArray, DeInteger, DeTable, DeValue};

use crate::origin::{Origin, Origins};
use crate::problem::Problem;

/// A table of values as `config` merges them.
pub(crate) type Table = Map<String, Value>;

/// Reads `text`; `at` gives the origin of a line. What is wrong goes to `problems`; `None` when it is no TOML at all.
pub(crate) fn read(
    text: &str,
    at: &dyn Fn(usize) -> Origin,
    origins: &mut Origins,
    problems: &mut Vec<Problem>,
) -> Option<Table> {
    let (root, errors) = DeTable::parse_recoverable(text);
    let mut reader = Reader { lines: Lines::of(text), at, origins, problems };
    for error in &errors {
        let offset = error.span().map_or(0, |span| span.start);
        let advice = format!("is no TOML here: {}", error.message());
        reader.problem("this line", None, advice, offset);
    }
    // What a parser guesses after a syntax error would only bring follow-up errors that are not the operator's.
    errors.is_empty().then(|| reader.table("", root.get_ref()))
}

/// The array that stands in `text`, as in an environment variable's `["a", "b"]`.
pub(crate) fn read_array(text: &str) -> Option<Vec<Value>> {
    let parsed = DeValue::parse(text).ok()?;
    let (mut origins, mut problems) = (Origins::default(), Vec::new());
    let mut reader =
        Reader { lines: Lines::of(text), at: &|_| Origin::Default, origins: &mut origins, problems: &mut problems };
    let values = reader.array("", parsed.get_ref().as_array()?, &String::new());
    problems.is_empty().then_some(values)
}

struct Reader<'a> {
    lines: Lines,
    at: &'a dyn Fn(usize) -> Origin,
    origins: &'a mut Origins,
    problems: &'a mut Vec<Problem>,
}

impl Reader<'_> {
    fn table(&mut self, path: &str, table: &DeTable<'_>) -> Table {
        let mut read = Table::new();
        for (key, value) in table {
            let path = join(path, key.get_ref());
            let offset = key.span().start;
            read.insert(key.get_ref().to_string(), self.value(&path, value.get_ref(), offset));
        }
        read
    }

    fn value(&mut self, path: &str, value: &DeValue<'_>, offset: usize) -> Value {
        let origin = (self.at)(self.lines.line(offset));
        if let DeValue::Table(table) = value {
            self.origins.table(path, origin);
            return Value::new(None, ValueKind::Table(self.table(path, table)));
        }
        let ticket = self.origins.ticket(origin);
        let kind = match value {
            DeValue::Array(array) => ValueKind::Array(self.array(path, array, &ticket)),
            leaf => self.leaf(path, leaf, offset),
        };
        Value::new(Some(&ticket), kind)
    }

    /// Elements share the array's ticket: an array is set, and replaced, as a whole.
    fn array(&mut self, path: &str, array: &DeArray<'_>, ticket: &String) -> Vec<Value> {
        let element = |reader: &mut Self, value: &DeValue<'_>, offset| match value {
            DeValue::Array(array) => ValueKind::Array(reader.array(path, array, ticket)),
            DeValue::Table(table) => ValueKind::Table(reader.table(path, table)),
            leaf => reader.leaf(path, leaf, offset),
        };
        array.iter().map(|item| Value::new(Some(ticket), element(self, item.get_ref(), item.span().start))).collect()
    }

    fn leaf(&mut self, path: &str, value: &DeValue<'_>, offset: usize) -> ValueKind {
        match value {
            DeValue::String(text) => ValueKind::String(text.to_string()),
            DeValue::Boolean(flag) => ValueKind::Boolean(*flag),
            DeValue::Integer(number) => match integer(number) {
                Some(number) => ValueKind::I64(number),
                None => self.refused(path, number.to_string(), "must be a number within 64 bits", offset),
            },
            DeValue::Float(number) => match number.as_str().parse() {
                Ok(number) => ValueKind::Float(number),
                Err(_) => self.refused(path, number.to_string(), "must be a number", offset),
            },
            DeValue::Datetime(date) => {
                self.refused(path, date.to_string(), "must not be a date; put quotes around a text", offset)
            }
            DeValue::Array(_) | DeValue::Table(_) => ValueKind::Nil,
        }
    }

    /// A value that is refused stands as "not set": its problem is told already.
    fn refused(&mut self, path: &str, value: String, advice: &str, offset: usize) -> ValueKind {
        self.problem(path, Some(value), advice.to_owned(), offset);
        ValueKind::Nil
    }

    fn problem(&mut self, key: &str, value: Option<String>, advice: String, offset: usize) {
        let origin = (self.at)(self.lines.line(offset));
        self.problems.push(Problem { key: key.to_owned(), value, advice, origin });
    }
}

fn integer(number: &DeInteger<'_>) -> Option<i64> {
    i64::from_str_radix(number.as_str(), number.radix()).ok()
}

/// `path.key`, or `key` at the top.
pub(crate) fn join(path: &str, key: &str) -> String {
    if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") }
}

/// Where the lines of a text begin.
struct Lines(Vec<usize>);

impl Lines {
    fn of(text: &str) -> Self {
        let after_breaks = text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n').map(|(at, _)| at + 1);
        Self(std::iter::once(0).chain(after_breaks).collect())
    }

    /// The line, from 1, of the byte at `offset`.
    fn line(&self, offset: usize) -> usize {
        self.0.partition_point(|start| *start <= offset)
    }
}
