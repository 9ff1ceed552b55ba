//! Why a call to a provider failed, sorted by the only question its caller has: can a retry help, and where?

use std::error::Error;

/// A boxed cause.
type Cause = Box<dyn Error + Send + Sync>;

/// A failed adapter call. `message` says what failed and what to do; the cause is in `source` and not repeated in it.
#[derive(Debug, thiserror::Error)]
pub enum AdapterError {
    /// The provider is full: another adapter may have room.
    #[error("{message}")]
    NoCapacity {
        /// What was asked for, and which limit it met.
        message: String,
        /// The provider's or the system's own error.
        source: Option<Cause>,
    },
    /// The request or the adapter's configuration is wrong: the same call fails until somebody changes it.
    #[error("{message}")]
    BadConfiguration {
        /// What is wrong, and what to change.
        message: String,
        /// The provider's or the system's own error.
        source: Option<Cause>,
    },
    /// The call may work later; what it asked for may even have happened.
    #[error("{message}")]
    Transient {
        /// What did not work.
        message: String,
        /// The provider's or the system's own error.
        source: Option<Cause>,
    },
}

/// What the caller of a failed call does next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Retry {
    /// Ask the next adapter.
    NextAdapter,
    /// Do not repeat the call: a person has to change something first.
    Never,
    /// Repeat the call after a backoff with full jitter.
    Backoff,
}

impl AdapterError {
    /// A [`NoCapacity`](Self::NoCapacity) without a cause.
    pub fn no_capacity(message: impl Into<String>) -> Self {
        Self::NoCapacity { message: message.into(), source: None }
    }

    /// A [`BadConfiguration`](Self::BadConfiguration) without a cause.
    pub fn bad_configuration(message: impl Into<String>) -> Self {
        Self::BadConfiguration { message: message.into(), source: None }
    }

    /// A [`Transient`](Self::Transient) without a cause.
    pub fn transient(message: impl Into<String>) -> Self {
        Self::Transient { message: message.into(), source: None }
    }

    /// The same error with its cause.
    #[must_use]
    pub fn because(mut self, cause: impl Into<Cause>) -> Self {
        let (Self::NoCapacity { source, .. } | Self::BadConfiguration { source, .. } | Self::Transient { source, .. }) =
            &mut self;
        *source = Some(cause.into());
        self
    }

    /// The message with all of its causes, for a reader who sees nothing else.
    pub fn with_causes(&self) -> String {
        let text = self.to_string();
        let (mut causes, mut next) = (Vec::new(), self.source());
        while let Some(cause) = next {
            causes.push(cause.to_string());
            next = cause.source();
        }
        // A message may hold one of its causes already, and with it all that lies between.
        let said = causes.iter().rposition(|cause| text.contains(cause)).map_or(0, |last| last + 1);
        [&[text], &causes[said..]].concat().join(": ")
    }

    /// What the caller does next.
    pub fn retry(&self) -> Retry {
        match self {
            Self::NoCapacity { .. } => Retry::NextAdapter,
            Self::BadConfiguration { .. } => Retry::Never,
            Self::Transient { .. } => Retry::Backoff,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_says_what_to_do_next() {
        assert_eq!(AdapterError::no_capacity("full").retry(), Retry::NextAdapter);
        assert_eq!(AdapterError::bad_configuration("wrong").retry(), Retry::Never);
        assert_eq!(AdapterError::transient("later").retry(), Retry::Backoff);
    }

    #[test]
    fn the_cause_is_the_source_and_is_not_printed_twice() {
        let error = AdapterError::transient("cannot read the directory").because(std::io::Error::other("disk on fire"));
        assert_eq!(error.to_string(), "cannot read the directory");
        assert_eq!(error.with_causes(), "cannot read the directory: disk on fire");
        assert_eq!(error.source().map(ToString::to_string).as_deref(), Some("disk on fire"));
        let inner = AdapterError::transient("client error").because(std::io::Error::other("no socket"));
        let told = AdapterError::transient("cannot ask: no socket").because(inner);
        assert_eq!(told.with_causes(), "cannot ask: no socket");
    }
}
