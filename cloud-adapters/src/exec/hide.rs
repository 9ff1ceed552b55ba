//! Keeps secrets out of whatever a program said, and what it said within bounds.

use std::error::Error;

use crate::{AdapterError, ExecOptions, LaunchRequest, Secret};

/// What stands where a secret stood.
const HIDDEN: &str = "[secret]";

/// A shorter text is no secret: to replace it wherever it stands would garble the answer that it stands in.
const SECRET_MIN_CHARS: usize = 6;

/// The most of a program's words in one message: some lines of a log.
const SAID_MAX_CHARS: usize = 1000;

/// The secrets that a program was given for one call.
pub(super) struct Hidden {
    /// The longest first: one may hold another.
    secrets: Vec<String>,
}

impl Hidden {
    /// Those of the adapter's configuration.
    pub(super) fn of(options: &ExecOptions) -> Self {
        Self::new(options.secrets.values().map(Secret::expose))
    }

    /// Those of a launch too. A key is hidden line by line, since a log breaks it up.
    pub(super) fn of_launch(options: &ExecOptions, request: &LaunchRequest) -> Self {
        let key = request.identity.key.expose().lines().filter(|line| !line.starts_with("-----"));
        let configured = options.secrets.values().map(Secret::expose);
        Self::new(configured.chain([request.token.expose()]).chain(key))
    }

    pub(super) fn new<'a>(secrets: impl Iterator<Item = &'a str>) -> Self {
        let long = secrets.filter(|secret| secret.chars().count() >= SECRET_MIN_CHARS);
        let mut secrets: Vec<String> = long.flat_map(|secret| [secret.to_owned(), in_json(secret)]).collect();
        secrets.sort_by_key(|secret| std::cmp::Reverse(secret.len()));
        secrets.dedup();
        Self { secrets }
    }

    /// The text without secrets.
    pub(super) fn text(&self, bytes: &[u8]) -> String {
        let text = String::from_utf8_lossy(bytes).into_owned();
        self.secrets.iter().fold(text, |text, secret| text.replace(secret.as_str(), HIDDEN))
    }

    /// The end of a text whose beginning is lost, and with it perhaps the beginning of a secret.
    pub(super) fn end_of_text(&self, bytes: &[u8]) -> String {
        let rest_of = |secret: &String| {
            let rests = (1..secret.len()).map(|from| &secret.as_bytes()[from..]);
            rests.into_iter().find(|rest| bytes.starts_with(rest)).map_or(0, <[u8]>::len)
        };
        let lost = self.secrets.iter().map(rest_of).max().unwrap_or(0);
        self.text(&bytes[lost..])
    }

    /// The same error, with `who` before it, and without secrets.
    pub(super) fn error(&self, who: &str, error: AdapterError) -> AdapterError {
        let cause = error.source().map(|cause| self.text(cause.to_string().as_bytes()));
        let message = format!("{who}{}", beginning(&self.text(error.to_string().as_bytes())));
        let told = match error {
            AdapterError::NoCapacity { .. } => AdapterError::no_capacity(message),
            AdapterError::BadConfiguration { .. } => AdapterError::bad_configuration(message),
            AdapterError::Transient { .. } => AdapterError::transient(message),
        };
        match cause {
            Some(cause) => told.because(cause),
            None => told,
        }
    }
}

/// As a secret stands in a JSON string.
fn in_json(secret: &str) -> String {
    let quoted = serde_json::Value::from(secret).to_string();
    quoted[1..quoted.len() - 1].to_owned()
}

/// The first words, on one line.
pub(super) fn beginning(text: &str) -> String {
    let line = one_line(text);
    match line.char_indices().nth(SAID_MAX_CHARS) {
        None => line,
        Some((end, _)) => format!("{}…", &line[..end]),
    }
}

/// The last words, on one line.
pub(super) fn end(text: &str) -> String {
    let line = one_line(text);
    match line.char_indices().rev().nth(SAID_MAX_CHARS - 1) {
        None | Some((0, _)) => line,
        Some((start, _)) => format!("…{}", &line[start..]),
    }
}

/// A log and a terminal take a message as it is: no control character of a program gets there.
fn one_line(text: &str) -> String {
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    let joined = lines.collect::<Vec<_>>().join(" | ");
    joined.chars().map(|char| if char.is_control() { ' ' } else { char }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hidden(secrets: &[&str]) -> Hidden {
        Hidden::new(secrets.iter().copied())
    }

    #[test]
    fn secrets_are_hidden_plain_and_as_json() {
        let hidden = hidden(&["sesame-4711", "with\"quote\\and"]);
        assert_eq!(hidden.text(b"a sesame-4711, b"), "a [secret], b");
        assert_eq!(hidden.text(br#"{"a":"with\"quote\\and"}"#), r#"{"a":"[secret]"}"#);
    }

    #[test]
    fn a_secret_that_holds_another_is_hidden_whole() {
        assert_eq!(hidden(&["sesame", "sesame-4711"]).text(b"sesame-4711 sesame"), "[secret] [secret]");
    }

    #[test]
    fn a_short_text_is_left_alone() {
        assert_eq!(hidden(&["1", ""]).text(b"exit 1"), "exit 1");
    }

    #[test]
    fn the_rest_of_a_cut_secret_is_not_shown() {
        assert_eq!(hidden(&["sesame-4711"]).end_of_text(b"same-4711 sesame-4711\nlast"), " [secret]\nlast");
    }

    #[test]
    fn words_are_bounded_and_on_one_line() {
        let long = "ä".repeat(SAID_MAX_CHARS + 1);
        assert_eq!(beginning(&long).chars().count(), SAID_MAX_CHARS + 1);
        assert!(end(&long).starts_with('…') && end(&long).chars().count() == SAID_MAX_CHARS + 1);
        assert_eq!(end("one\n\n  two\x1b[31m\n"), "one | two [31m");
        let exact = "a".repeat(SAID_MAX_CHARS);
        assert_eq!((beginning(&exact), end(&exact)), (exact.clone(), exact));
    }
}
