//! What is wrong with a configuration: every problem at once, each in one line that says what to do.

use std::fmt;

use crate::origin::Origin;

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Problem {
    /// The dotted key, as in `service.digits.local.runtime`; empty when a whole file is to blame.
    pub key: String,
    /// The value as it would stand in TOML; `None` when the key is missing, or when its value may be a secret.
    pub value: Option<String>,
    /// What is wrong, what is allowed, what to do: the rest of a sentence that begins with the key.
    pub advice: String,
    /// The file and line, the environment variable, or the argument that set it.
    pub origin: Origin,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.origin)?;
        if !self.key.is_empty() {
            write!(f, "{} ", self.key)?;
        }
        if let Some(value) = &self.value {
            write!(f, "= {value} ")?;
        }
        f.write_str(&self.advice)
    }
}

/// Everything that is wrong with a configuration, in the order of the layers and of the lines in their files.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}", Listing(.problems))]
pub struct ConfigErrors {
    problems: Vec<Problem>,
}

impl ConfigErrors {
    pub(crate) fn new(mut problems: Vec<Problem>) -> Self {
        debug_assert!(!problems.is_empty(), "an error without a problem");
        problems.sort_by(|a, b| (&a.origin, &a.key).cmp(&(&b.origin, &b.key)));
        problems.dedup();
        Self { problems }
    }

    /// The problems, at least one.
    pub fn problems(&self) -> &[Problem] {
        &self.problems
    }
}

/// A heading and a line for each problem.
struct Listing<'a>(&'a [Problem]);

impl fmt::Display for Listing<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.len() {
            1 => f.write_str("1 problem in the configuration:")?,
            count => write!(f, "{count} problems in the configuration:")?,
        }
        self.0.iter().try_for_each(|problem| write!(f, "\n  {problem}"))
    }
}

/// The name in `known` that `written` was probably meant to be.
///
/// Two slips of the finger are forgiven, in a long name one for each three letters; more would suggest nonsense.
pub(crate) fn nearest<'a>(written: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let within = (written.chars().count() / 3).max(2);
    known
        .into_iter()
        .map(|name| (strsim::damerau_levenshtein(written, name), name))
        .filter(|(distance, name)| *distance <= within && *distance < name.len())
        .min()
        .map(|(_, name)| name)
}

/// `a, b or c`.
pub(crate) fn one_of<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    let names: Vec<&str> = names.into_iter().collect();
    match names.split_last() {
        None => String::new(),
        Some((last, [])) => (*last).to_owned(),
        Some((last, rest)) => format!("{} or {last}", rest.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_finds_its_key_and_nonsense_finds_none() {
        let known = ["state_dir", "drain_timeout", "tick", "id"];
        assert_eq!(nearest("statedir", known), Some("state_dir"));
        assert_eq!(nearest("drian_timeuot", known), Some("drain_timeout"));
        assert_eq!(nearest("tik", known), Some("tick"));
        assert_eq!(nearest("zz", known), None, "two slips in two letters are no slip");
        assert_eq!(nearest("password", known), None);
    }

    #[test]
    fn names_are_listed_as_one_says_them() {
        assert_eq!(one_of([]), "");
        assert_eq!(one_of(["a"]), "a");
        assert_eq!(one_of(["a", "b", "c"]), "a, b or c");
    }
}
