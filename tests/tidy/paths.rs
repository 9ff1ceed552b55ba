//! Every path that a file names, resolved as far as names alone allow: `use` trees are unfolded, `self`, `super` and
//! `crate` made absolute, names that a `use` brought in expanded. So `use tokio::time; … time::sleep()` is seen as
//! `tokio::time::sleep`, and no alias hides an import.

use std::collections::BTreeMap;

use crate::source::{Source, Token, block_end};

/// A path with its place. Paths into the own crate begin with `crate`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Reference {
    pub(crate) segments: Vec<String>,
    pub(crate) line: usize,
    /// Index into the source's tokens.
    pub(crate) token: usize,
    /// Named by a `use` rather than in passing.
    pub(crate) is_use: bool,
}

impl Reference {
    /// Whether the path is `prefix` or lies below it.
    pub(crate) fn is_below(&self, prefix: &str) -> bool {
        let mut wanted = prefix.split("::");
        let mut have = self.segments.iter();
        wanted.all(|w| have.next().is_some_and(|h| h == w))
    }

    pub(crate) fn display(&self) -> String {
        self.segments.join("::")
    }
}

/// All paths of the file, in order.
pub(crate) fn references(source: &Source) -> Vec<Reference> {
    let mut reader = Reader {
        tokens: &source.tokens,
        home: home(&source.path),
        inner: Vec::new(),
        uses: Vec::new(),
        others: Vec::new(),
    };
    reader.read();
    let Reader { uses, others, .. } = reader;
    let aliases: BTreeMap<String, Vec<String>> =
        uses.iter().map(|(name, r)| (name.clone(), r.segments.clone())).collect();
    let mut found: Vec<Reference> = uses.into_iter().map(|(_, reference)| reference).collect();
    found.extend(others.into_iter().map(|reference| expand(reference, &aliases)));
    found.sort_by_key(|reference| reference.token);
    found
}

fn expand(mut reference: Reference, aliases: &BTreeMap<String, Vec<String>>) -> Reference {
    if let Some(full) = aliases.get(&reference.segments[0]) {
        reference.segments.splice(0..1, full.iter().cloned());
    }
    reference
}

/// The module that a file is: `src/gateway/forward.rs` is `crate::gateway::forward`.
fn home(path: &str) -> Vec<String> {
    let inside = path.split_once("src/").map_or(path, |(_, rest)| rest).trim_end_matches(".rs");
    let modules = inside.split('/').filter(|part| !matches!(*part, "lib" | "main" | "mod"));
    std::iter::once("crate").chain(modules).map(str::to_owned).collect()
}

struct Reader<'a> {
    tokens: &'a [Token],
    home: Vec<String>,
    /// Inline modules around the place, with the token at which each ends.
    inner: Vec<(String, usize)>,
    uses: Vec<(String, Reference)>,
    others: Vec<Reference>,
}

impl Reader<'_> {
    fn text(&self, at: usize) -> &str {
        self.tokens.get(at).map_or("", |t| t.text.as_str())
    }

    fn read(&mut self) {
        let mut at = 0;
        while at < self.tokens.len() {
            self.inner.retain(|(_, end)| *end > at);
            at = match self.text(at) {
                "use" if self.text(at + 1) != "<" => self.read_use(at),
                "extern" if self.text(at + 1) == "crate" => self.read_extern(at),
                "mod" if self.text(at + 2) == "{" => self.enter(at),
                _ if self.begins_path(at) => self.read_path(at),
                _ => at + 1,
            };
        }
    }

    fn enter(&mut self, at: usize) -> usize {
        self.inner.push((self.text(at + 1).to_owned(), block_end(self.tokens, at + 2)));
        at + 3
    }

    fn read_extern(&mut self, at: usize) -> usize {
        let name = self.text(at + 2).to_owned();
        self.others.push(Reference { segments: vec![name], line: self.tokens[at].line, token: at, is_use: true });
        at + 3
    }

    /// A word followed by `::` that is not itself the tail of a path, a method or a generic's associated item.
    fn begins_path(&self, at: usize) -> bool {
        let tail = match at.checked_sub(1).map(|i| self.text(i)) {
            Some(".") => true,
            Some("::") => at >= 2 && (is_name(self.text(at - 2)) || self.closes_generics(at - 2)),
            _ => false,
        };
        is_name(self.text(at)) && self.text(at + 1) == "::" && !tail
    }

    /// A `>` that is no half of an arrow.
    fn closes_generics(&self, at: usize) -> bool {
        self.text(at) == ">" && (at == 0 || self.text(at - 1) != "-")
    }

    fn read_path(&mut self, start: usize) -> usize {
        let mut segments = vec![self.text(start).to_owned()];
        let mut at = start + 1;
        while self.text(at) == "::" && is_name(self.text(at + 1)) {
            segments.push(self.text(at + 1).to_owned());
            at += 2;
        }
        let segments = self.absolute(segments);
        self.others.push(Reference { segments, line: self.tokens[start].line, token: start, is_use: false });
        at
    }

    fn read_use(&mut self, at: usize) -> usize {
        let end = self.tokens[at..].iter().position(|t| t.text == ";").map_or(self.tokens.len(), |n| at + n);
        let from = if self.text(at + 1) == "::" { at + 2 } else { at + 1 };
        self.read_tree(from, &[]);
        end + 1
    }

    /// Reads one branch of a `use` tree and returns the token after it.
    fn read_tree(&mut self, mut at: usize, before: &[String]) -> usize {
        let mut segments = before.to_vec();
        loop {
            match self.text(at) {
                "{" => return self.read_branches(at + 1, &segments),
                "::" => at += 1,
                word if is_name(word) || word == "*" => {
                    segments.push(word.to_owned());
                    at += 1;
                    if self.text(at) != "::" {
                        return self.record_use(at, segments);
                    }
                }
                _ => return at + 1,
            }
        }
    }

    fn read_branches(&mut self, mut at: usize, before: &[String]) -> usize {
        while at < self.tokens.len() && self.text(at) != "}" {
            at = if self.text(at) == "," { at + 1 } else { self.read_tree(at, before) };
        }
        at + 1
    }

    fn record_use(&mut self, at: usize, mut segments: Vec<String>) -> usize {
        if segments.len() > 1 && segments.last().is_some_and(|last| last == "self") {
            segments.pop();
        }
        let (name, after) = match self.text(at) {
            "as" => (self.text(at + 1).to_owned(), at + 2),
            _ => (segments.last().cloned().unwrap_or_default(), at),
        };
        let place = &self.tokens[at - 1];
        let (line, segments) = (place.line, self.absolute(segments));
        self.uses.push((name, Reference { segments, line, token: at - 1, is_use: true }));
        after
    }

    /// Makes `self`, `super` and, in the program, `tidegate` start at `crate`.
    fn absolute(&self, segments: Vec<String>) -> Vec<String> {
        let mut base: Vec<String> =
            self.home.iter().cloned().chain(self.inner.iter().map(|(name, _)| name.clone())).collect();
        let mut rest = segments.iter().peekable();
        match segments[0].as_str() {
            "tidegate" => base.truncate(1),
            "self" | "super" => {}
            _ => return segments,
        }
        while let Some(word) = rest.next_if(|word| matches!(word.as_str(), "self" | "super" | "tidegate")) {
            if word == "super" && base.len() > 1 {
                base.pop();
            }
        }
        base.extend(rest.cloned());
        base
    }
}

fn is_name(text: &str) -> bool {
    text.starts_with(|c: char| c.is_alphabetic() || c == '_') && text != "as"
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paths(path: &str, text: &str) -> Vec<String> {
        references(&Source::parse(path, text)).iter().map(Reference::display).collect()
    }

    #[test]
    fn use_trees_unfold() {
        let text = "use a::{b, c::{d as e, self}, f::*};\nuse ::g;\npub(crate) use crate::h::I;\n";
        assert_eq!(paths("src/x.rs", text), ["a::b", "a::c::d", "a::c", "a::f::*", "g", "crate::h::I"]);
    }

    #[test]
    fn relative_paths_become_absolute() {
        let text = "use super::sibling::A;\nmod tests { use super::B; use super::super::super::wire::C; fn f() { self::g::h() } }\n";
        let expected = ["crate::x::sibling::A", "crate::x::y::B", "crate::wire::C", "crate::x::y::tests::g::h"];
        assert_eq!(paths("src/x/y.rs", text), expected);
        assert_eq!(paths("src/main.rs", "fn main() { tidegate::cli::run() }"), ["crate::cli::run"]);
    }

    #[test]
    fn aliases_are_expanded() {
        let text = "use tokio::time;\nuse std::time::Instant as Clock;\nfn f() { time::sleep(x); Clock::now(); a.b::<u8>(); }\n";
        assert_eq!(
            paths("src/x.rs", text),
            ["tokio::time", "std::time::Instant", "tokio::time::sleep", "std::time::Instant::now"]
        );
    }

    #[test]
    fn attributes_and_absolute_paths_count() {
        assert_eq!(paths("src/x.rs", "#[tokio::test]\nfn f() -> ::serde::X { }\n"), ["tokio::test", "serde::X"]);
    }
}
