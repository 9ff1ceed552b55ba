//! The rules for what is written beside the code: links lead somewhere, ARCHITECTURE.md stays short, decision records
//! keep one shape.

use std::path::{Path, PathBuf};

/// Most words in ARCHITECTURE.md: what a newcomer reads in ten minutes.
pub(crate) const MAX_ARCHITECTURE_WORDS: usize = 1_500;

/// Sections of a decision record, in order.
pub(crate) const DECISION_SECTIONS: [&str; 3] = ["## Why", "## What else was weighed", "## What follows"];

/// Relative links of a Markdown text with their lines, without anchors; code blocks and web addresses left out.
pub(crate) fn relative_links(text: &str) -> Vec<(usize, String)> {
    let mut in_code = false;
    let mut found = Vec::new();
    for (number, line) in (1..).zip(text.lines()) {
        if line.trim_start().starts_with("```") {
            in_code = !in_code;
        }
        if !in_code {
            found.extend(targets(line).into_iter().map(|target| (number, target)));
        }
    }
    found
}

fn targets(line: &str) -> Vec<String> {
    let inline = line.split("](").skip(1).filter_map(|rest| rest.split([')', ' ']).next());
    let html = ["src=\"", "href=\""]
        .into_iter()
        .flat_map(|mark| line.split(mark).skip(1).filter_map(|rest| rest.split('"').next()));
    let defined = line.strip_prefix('[').and_then(|rest| rest.split_once("]: ")).map(|(_, target)| target);
    let is_local =
        |target: &&str| !target.contains("://") && !target.starts_with("mailto:") && !target.starts_with('#');
    let file = |target: &str| target.split('#').next().unwrap_or_default().trim_matches(['<', '>']).to_owned();
    inline.chain(html).chain(defined).filter(is_local).map(file).filter(|target| !target.is_empty()).collect()
}

/// Links that lead nowhere, as `file:line: target`.
pub(crate) fn dead_links(root: &Path, file: &Path, text: &str) -> Vec<String> {
    let folder = file.parent().unwrap_or(root);
    let place = |target: &str| target.strip_prefix('/').map_or_else(|| folder.join(target), |rest| root.join(rest));
    let shown = file.strip_prefix(root).unwrap_or(file).display();
    let dead = relative_links(text).into_iter().filter(|(_, target)| !place(target).exists());
    dead.map(|(line, target)| format!("{shown}:{line}: the link to `{target}` leads nowhere")).collect()
}

/// Words of a Markdown text, code blocks counted too: they are read as well.
pub(crate) fn words(text: &str) -> usize {
    text.split_whitespace().filter(|word| word.contains(|c: char| c.is_alphanumeric())).count()
}

/// What is wrong with a decision record `docs/decisions/NNNN-title.md`.
pub(crate) fn decision_problems(name: &str, text: &str) -> Vec<String> {
    let mut problems = Vec::new();
    let number = name.split('-').next().filter(|n| n.len() == 4 && n.bytes().all(|b| b.is_ascii_digit()));
    let plain = name
        .strip_suffix(".md")
        .is_some_and(|stem| stem.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-'));
    match number {
        Some(number) if plain => {
            if !text.starts_with(&format!("# {number} ")) {
                problems.push(format!("{name}:1: the title begins with `# {number} `"));
            }
        }
        _ => problems.push(format!("{name}: the name has the shape NNNN-lower-case-words.md")),
    }
    let sections: Vec<&str> = text.lines().filter(|line| line.starts_with("## ")).collect();
    if sections != DECISION_SECTIONS {
        problems.push(format!("{name}: the sections are {DECISION_SECTIONS:?}, not {sections:?}"));
    }
    problems
}

/// What is wrong with the article's table: a row with the state `yes` or `part` names tests, each in backticks, that exist;
/// `not yet` names none.
pub(crate) fn article_problems(text: &str, is_test: impl Fn(&str) -> bool) -> Vec<String> {
    let mut problems = Vec::new();
    for (number, line) in (1..).zip(text.lines()) {
        let cells: Vec<&str> = line.split(" | ").map(|cell| cell.trim_matches(['|', ' '])).collect();
        let [element, _, _, tests, state] = cells[..] else { continue };
        if element == "Element" {
            continue;
        }
        let named: Vec<&str> = tests.split('`').skip(1).step_by(2).collect();
        let unknown = named.iter().filter(|name| !is_test(name));
        problems.extend(unknown.map(|name| format!("{number}: `{name}` ({element}) is no test")));
        match state.split([':', ' ']).next() {
            Some("yes" | "part") if named.is_empty() => problems.push(format!("{number}: {element} names no test")),
            Some("yes" | "part") => {}
            _ if state == "not yet" && named.is_empty() => {}
            _ => problems.push(format!("{number}: the state of {element} is yes, part: what is missing, or not yet")),
        }
    }
    problems
}

/// Files with this extension at the root and below the folders that people read.
pub(crate) fn files(folder: &Path, extension: &str) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    let mut found = Vec::new();
    for path in entries.flatten().map(|entry| entry.path()) {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if path.is_dir() && name != "target" && !name.starts_with('.') {
            found.extend(files(&path, extension));
        } else if path.extension().is_some_and(|have| have == extension) {
            found.push(path);
        }
    }
    found.sort();
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_relative_links_are_taken() {
        let text = "[a](docs/a.md) and ![b](b.svg \"t\") [c](https://x.y/z) [d](#here) [e](docs/e.md#part)\n```\n[f](f.md)\n```\n[g]: g.md\n<img src=\"h.svg\">\n";
        let links: Vec<String> =
            relative_links(text).into_iter().map(|(line, target)| format!("{line} {target}")).collect();
        assert_eq!(links, ["1 docs/a.md", "1 b.svg", "1 docs/e.md", "5 g.md", "6 h.svg"]);
    }

    #[test]
    fn a_link_to_nowhere_is_named_with_its_line() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let dead = dead_links(root, &root.join("tests/x.md"), "fine: [m](../Cargo.toml)\n[n](no-such-file.md)\n");
        assert_eq!(dead, ["tests/x.md:2: the link to `no-such-file.md` leads nowhere"]);
    }

    #[test]
    fn decision_records_with_a_wrong_shape_are_named() {
        let good = "# 0001 Embed mqtt5\n\n## Why\nx\n\n## What else was weighed\ny\n\n## What follows\nz\n";
        assert!(decision_problems("0001-embed-mqtt5.md", good).is_empty());
        assert_eq!(decision_problems("0002-embed-mqtt5.md", good).len(), 1, "the number in the title differs");
        assert_eq!(decision_problems("1-Embed.md", good).len(), 1, "the name is misshapen");
        assert_eq!(decision_problems("0001-embed-mqtt5.md", "# 0001 X\n## Why\n").len(), 1, "sections are missing");
    }

    #[test]
    fn rows_of_the_article_without_a_real_test_are_named() {
        let text = "| Element | Module | Config key | Test | State |\n|---|---|---|---|---|\n\
                    | a | `m` | – | `it_runs` | yes |\n| b | `m` | – | soon | yes |\n| c | `m` | – | `it_lies` | part: half |\n\
                    | d | – | – | – | not yet |\n| e | – | – | `it_runs` | maybe |\n";
        let problems = article_problems(text, |name| name == "it_runs");
        let lines: Vec<&str> = problems.iter().filter_map(|problem| problem.split(':').next()).collect();
        assert_eq!(lines, ["4", "5", "7"], "{problems:?}");
    }

    #[test]
    fn words_leave_out_punctuation() {
        assert_eq!(words("one two | three -- four.\n"), 4);
    }
}
