//! One Rust file as the rules see it: code without comments and literals, its tokens, which lines are tests, and where
//! each function begins and ends. A small lexer of our own, because a rule about names must not trip over a string.

use std::ops::Range;

/// A word, a number or a piece of punctuation (`::` is one token), with its line.
#[derive(Debug, Clone)]
pub(crate) struct Token {
    pub(crate) text: String,
    /// Counted from 1.
    pub(crate) line: usize,
}

/// A function with a body. Ranges count tokens.
#[derive(Debug)]
pub(crate) struct Function {
    pub(crate) name: String,
    /// Attributes and modifiers before `fn`.
    pub(crate) head: Range<usize>,
    pub(crate) body: Range<usize>,
}

/// A Rust file, taken apart.
#[derive(Debug)]
pub(crate) struct Source {
    /// From the project's root, with `/`.
    pub(crate) path: String,
    /// As written.
    pub(crate) lines: Vec<String>,
    pub(crate) tokens: Vec<Token>,
    pub(crate) functions: Vec<Function>,
    test_lines: Vec<bool>,
}

impl Source {
    pub(crate) fn parse(path: &str, text: &str) -> Self {
        let lines: Vec<String> = text.lines().map(str::to_owned).collect();
        let tokens = tokens(&blank(text));
        let functions = functions(&tokens);
        let all_tests = path.starts_with("tests/") || path.contains("/tests/") || path.ends_with("/tests.rs");
        let mut test_lines = vec![all_tests; lines.len() + 2];
        for range in test_items(&tokens) {
            let (first, last) = (tokens[range.start].line, tokens[range.end - 1].line);
            test_lines[first..=last].fill(true);
        }
        Self { path: path.to_owned(), lines, tokens, functions, test_lines }
    }

    /// Whether the line (from 1) is compiled for tests alone.
    pub(crate) fn is_test(&self, line: usize) -> bool {
        self.test_lines.get(line).copied().unwrap_or(false)
    }

    /// The innermost function around a token.
    pub(crate) fn function_at(&self, token: usize) -> Option<&Function> {
        self.functions.iter().filter(|f| f.body.contains(&token)).min_by_key(|f| f.body.len())
    }

    /// The names of the functions that are tests, of whatever runtime.
    pub(crate) fn tests(&self) -> Vec<String> {
        let tests = self.functions.iter().filter(|function| self.contains(&function.head, "test"));
        tests.map(|function| function.name.clone()).collect()
    }

    /// Where `text` stands as a token.
    pub(crate) fn find<'a>(&'a self, text: &'a str) -> impl Iterator<Item = (usize, &'a Token)> + 'a {
        self.tokens.iter().enumerate().filter(move |(_, t)| t.text == text)
    }

    pub(crate) fn contains(&self, range: &Range<usize>, text: &str) -> bool {
        self.tokens[range.clone()].iter().any(|t| t.text == text)
    }
}

/// The text with comments, strings and character literals turned into spaces; newlines stay.
fn blank(text: &str) -> String {
    let chars: Vec<char> = text.chars().collect();
    let mut out = String::with_capacity(text.len());
    let mut at = 0;
    while at < chars.len() {
        let end = literal_end(&chars, at);
        if end == at {
            out.push(chars[at]);
            at += 1;
        } else {
            out.extend(chars[at..end].iter().map(|c| if *c == '\n' { '\n' } else { ' ' }));
            at = end;
        }
    }
    out
}

/// The end of the comment or literal that begins at `at`; `at` itself where none does.
fn literal_end(chars: &[char], at: usize) -> usize {
    let next = chars.get(at + 1).copied();
    match chars[at] {
        '/' if next == Some('/') => line_end(chars, at),
        '/' if next == Some('*') => block_comment_end(chars, at),
        '"' => string_end(chars, at),
        '\'' => quote_end(chars, at),
        'r' | 'b' | 'c' if !after_word(chars, at) => prefixed_end(chars, at),
        _ => at,
    }
}

fn after_word(chars: &[char], at: usize) -> bool {
    at > 0 && is_word(chars[at - 1])
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

fn line_end(chars: &[char], at: usize) -> usize {
    chars[at..].iter().position(|c| *c == '\n').map_or(chars.len(), |n| at + n)
}

fn block_comment_end(chars: &[char], at: usize) -> usize {
    let (mut depth, mut i) = (0_usize, at);
    while i + 1 < chars.len() {
        match (chars[i], chars[i + 1]) {
            ('/', '*') => depth += 1,
            ('*', '/') => depth -= 1,
            _ => {
                i += 1;
                continue;
            }
        }
        i += 2;
        if depth == 0 {
            return i;
        }
    }
    chars.len()
}

fn string_end(chars: &[char], at: usize) -> usize {
    let mut i = at + 1;
    while i < chars.len() {
        match chars[i] {
            '\\' => i += 2,
            '"' => return i + 1,
            _ => i += 1,
        }
    }
    chars.len()
}

/// A character literal, or the tick and name of a lifetime.
fn quote_end(chars: &[char], at: usize) -> usize {
    match (chars.get(at + 1), chars.get(at + 2)) {
        (Some('\\'), _) => {
            let from = at + 3;
            chars.iter().skip(from).position(|c| *c == '\'').map_or(chars.len(), |n| from + n + 1)
        }
        (Some(_), Some('\'')) => at + 3,
        _ => at + 1 + chars[at + 1..].iter().take_while(|c| is_word(**c)).count(),
    }
}

/// `r"…"`, `r#"…"#`, `b"…"`, `br#"…"#`, `c"…"`, `b'…'`; a raw name such as `r#type` is no literal.
fn prefixed_end(chars: &[char], at: usize) -> usize {
    let prefix = chars[at..].iter().take_while(|c| matches!(c, 'r' | 'b' | 'c')).count();
    let hashes = chars[at + prefix..].iter().take_while(|c| **c == '#').count();
    let open = at + prefix + hashes;
    let raw = chars[at..at + prefix].contains(&'r');
    match chars.get(open) {
        Some('"') if raw => raw_end(chars, open + 1, hashes),
        Some('"') if hashes == 0 => string_end(chars, open),
        Some('\'') if hashes == 0 && chars[at..open] == ['b'] => quote_end(chars, open),
        _ => at,
    }
}

fn raw_end(chars: &[char], from: usize, hashes: usize) -> usize {
    let closes =
        |i: usize| chars[i] == '"' && chars[i + 1..].iter().take(hashes).filter(|c| **c == '#').count() == hashes;
    (from..chars.len()).find(|i| closes(*i)).map_or(chars.len(), |i| i + 1 + hashes)
}

fn tokens(code: &str) -> Vec<Token> {
    let mut found = Vec::new();
    for (line, text) in (1..).zip(code.lines()) {
        let mut rest = text.trim_start();
        while let Some(first) = rest.chars().next() {
            let length = match first {
                c if is_word(c) => rest.find(|c| !is_word(c)).unwrap_or(rest.len()),
                ':' if rest.starts_with("::") => 2,
                c => c.len_utf8(),
            };
            found.push(Token { text: rest[..length].to_owned(), line });
            rest = rest[length..].trim_start();
        }
    }
    found
}

/// The token after the block that opens at `open`.
pub(crate) fn block_end(tokens: &[Token], open: usize) -> usize {
    let mut depth = 0_usize;
    for (i, token) in tokens.iter().enumerate().skip(open) {
        match token.text.as_str() {
            "{" => depth += 1,
            "}" => depth = depth.saturating_sub(1),
            _ => continue,
        }
        if depth == 0 {
            return i + 1;
        }
    }
    tokens.len()
}

/// The `{` that opens the item's body at or after `from`; none where a `;` comes first.
pub(crate) fn body_start(tokens: &[Token], from: usize) -> Option<usize> {
    let mut depth = 0_i32;
    for (i, token) in tokens.iter().enumerate().skip(from) {
        match token.text.as_str() {
            "(" | "[" => depth += 1,
            ")" | "]" => depth -= 1,
            "{" if depth == 0 => return Some(i),
            ";" if depth == 0 => return None,
            _ => {}
        }
    }
    None
}

fn functions(tokens: &[Token]) -> Vec<Function> {
    let named = |i: usize| tokens.get(i + 1).filter(|t| t.text.starts_with(|c: char| c.is_alphabetic() || c == '_'));
    let mut found = Vec::new();
    for (i, token) in tokens.iter().enumerate() {
        let (true, Some(name)) = (token.text == "fn", named(i)) else { continue };
        let Some(open) = body_start(tokens, i) else { continue };
        let ends_item = |t: &Token| matches!(t.text.as_str(), "{" | "}" | ";");
        let head = tokens[..i].iter().rposition(ends_item).map_or(0, |n| n + 1);
        found.push(Function { name: name.text.clone(), head: head..i, body: open..block_end(tokens, open) });
    }
    found
}

/// Items under `#[cfg(test)]`, `#[cfg(any(test, …))]` or `#[cfg(all(test, …))]`, attribute included.
fn test_items(tokens: &[Token]) -> Vec<Range<usize>> {
    let starts = |i: usize, words: &[&str]| {
        words.len() <= tokens.len() - i && words.iter().zip(&tokens[i..]).all(|(word, token)| *word == token.text)
    };
    let shapes: [&[&str]; 3] = [
        &["#", "[", "cfg", "(", "test"],
        &["#", "[", "cfg", "(", "any", "(", "test"],
        &["#", "[", "cfg", "(", "all", "(", "test"],
    ];
    let item_end = |i: usize| match body_start(tokens, i) {
        Some(open) => block_end(tokens, open),
        None => tokens[i..].iter().position(|t| t.text == ";").map_or(tokens.len(), |n| i + n + 1),
    };
    (0..tokens.len()).filter(|i| shapes.iter().any(|shape| starts(*i, shape))).map(|i| i..item_end(i)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<String> {
        Source::parse("src/x.rs", text).tokens.into_iter().map(|t| t.text).collect()
    }

    #[test]
    fn literals_and_comments_leave_no_words() {
        let text = r##"let a = "serde::x // \" y"; /* tokio /* deep */ actix */ let b = r#"a "q" b"#; // end
            let c = 'x'; let d = '\''; let e = '\u{1F600}'; fn f<'a>(x: &'a str) {} let g = b"by"; let h = b'x'; let r = 1;"##;
        let expected = "let a = ; let b = ; let c = ; let d = ; let e = ; fn f < > ( x : & str ) { } let g = ; let h = ; \
                        let r = 1 ;";
        assert_eq!(words(text).join(" "), expected);
    }

    #[test]
    fn test_items_and_functions_are_found() {
        let text = "fn a() {}\n#[cfg(test)]\nmod tests {\n    #[test]\n    fn b() { c(); }\n}\nfn d();\nfn e() {}\n";
        let source = Source::parse("src/x.rs", text);
        let marked: Vec<usize> = (1..=8).filter(|line| source.is_test(*line)).collect();
        assert_eq!(marked, [2, 3, 4, 5, 6]);
        let names: Vec<&str> = source.functions.iter().map(|f| f.name.as_str()).collect();
        assert_eq!(names, ["a", "b", "e"]);
        assert_eq!(source.tests(), ["b"]);
        let (call, _) = source.find("c").next().expect("the call is a token");
        assert_eq!(source.function_at(call).map(|f| f.name.as_str()), Some("b"));
    }

    #[test]
    fn files_below_tests_are_tests_throughout() {
        assert!(Source::parse("tests/demo.rs", "fn a() {}\n").is_test(1));
        assert!(Source::parse("src/wire/tests.rs", "fn a() {}\n").is_test(1));
        assert!(!Source::parse("src/wire.rs", "fn a() {}\n").is_test(1));
    }
}
