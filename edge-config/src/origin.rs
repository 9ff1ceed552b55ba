//! Where a value came from, kept from the first byte read to the last message printed.
//!
//! The `config` crate carries one string of origin with each value through its merge. We hand it a ticket there (an
//! index into [`Origins`]), so that an error can still tell the file and the line after four layers were merged.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use config::Value;

/// Where a value was set. Ordered as the layers are, then by file and line.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Origin {
    /// Nobody set it: the built-in default.
    Default,
    /// A profile that is compiled in, and the line (from 1) in it.
    Profile {
        /// The profile's name, as in `quickstart`.
        name: &'static str,
        /// The line in the profile's file, from 1.
        line: usize,
    },
    /// A file, with its line where one is to blame.
    File {
        /// The file, as it was named to us.
        path: PathBuf,
        /// The line, from 1; `None` when the whole file is meant.
        line: Option<usize>,
    },
    /// An environment variable, by its name.
    Environment {
        /// The variable's name, as in `TIDEGATE__NODE__ID`.
        variable: String,
    },
    /// An argument of the command line.
    CommandLine,
}

impl Origin {
    /// Whether values from here are plain text, so that `"8"` may stand for the number 8.
    pub(crate) fn is_text(&self) -> bool {
        matches!(self, Self::Environment { .. } | Self::CommandLine)
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::Profile { name, line } => write!(f, "profile {name}:{line}"),
            Self::File { path, line: Some(line) } => write!(f, "{}:{line}", path.display()),
            Self::File { path, line: None } => write!(f, "{}", path.display()),
            Self::Environment { variable } => write!(f, "environment variable {variable}"),
            Self::CommandLine => f.write_str("command line"),
        }
    }
}

/// Every origin seen during one load: of values by ticket, of tables by their dotted path.
#[derive(Debug, Default)]
pub(crate) struct Origins {
    seen: Vec<Origin>,
    tables: BTreeMap<String, Origin>,
}

impl Origins {
    /// A ticket for `origin`, to be carried by a value.
    pub(crate) fn ticket(&mut self, origin: Origin) -> String {
        self.seen.push(origin);
        (self.seen.len() - 1).to_string()
    }

    /// Remembers where the table at `path` was last opened, since the merge keeps origins of leaves only.
    pub(crate) fn table(&mut self, path: &str, origin: Origin) {
        self.tables.insert(path.to_owned(), origin);
    }

    /// Remembers that `origin` made the table at `path`, unless a file has it already.
    pub(crate) fn table_unless_known(&mut self, path: &str, origin: &Origin) {
        self.tables.entry(path.to_owned()).or_insert_with(|| origin.clone());
    }

    /// Where `value`, found at `path`, was set.
    pub(crate) fn of(&self, path: &str, value: &Value) -> Origin {
        let ticket = value.origin().and_then(|ticket| ticket.parse::<usize>().ok());
        ticket.and_then(|index| self.seen.get(index)).cloned().unwrap_or_else(|| self.of_table(path))
    }

    /// Where the table at `path` was opened, or the nearest table around it.
    pub(crate) fn of_table(&self, path: &str) -> Origin {
        let mut path = path;
        loop {
            if let Some(origin) = self.tables.get(path) {
                return origin.clone();
            }
            match path.rfind('.') {
                Some(dot) => path = &path[..dot],
                None => return Origin::Default,
            }
        }
    }
}
