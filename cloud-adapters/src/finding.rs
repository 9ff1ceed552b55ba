//! What a look at a provider found, in words for an operator: `tidegate adapter check`.

use std::fmt;

/// One thing that was looked at, and how it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// What was looked at.
    pub subject: Subject,
    /// How it is.
    pub verdict: Verdict,
    /// What was seen; where it is not good, also what to do.
    pub words: String,
}

/// What an operator has to get right at a provider.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Subject {
    /// Who we are there, and whether we may do what we need.
    Credentials,
    /// How much we may have.
    Quota,
    /// What instances run: an image or a program.
    Image,
    /// How instances are reached.
    Network,
}

/// How it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    /// As it should be.
    Good,
    /// Could not be told, or may become a problem.
    Doubtful,
    /// A launch would fail.
    Bad,
}

impl Finding {
    /// It is as it should be.
    pub fn good(subject: Subject, words: impl Into<String>) -> Self {
        Self { subject, verdict: Verdict::Good, words: words.into() }
    }

    /// It could not be told, or may become a problem.
    pub fn doubtful(subject: Subject, words: impl Into<String>) -> Self {
        Self { subject, verdict: Verdict::Doubtful, words: words.into() }
    }

    /// A launch would fail.
    pub fn bad(subject: Subject, words: impl Into<String>) -> Self {
        Self { subject, verdict: Verdict::Bad, words: words.into() }
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Credentials => "credentials",
            Self::Quota => "quota",
            Self::Image => "image",
            Self::Network => "network",
        })
    }
}
