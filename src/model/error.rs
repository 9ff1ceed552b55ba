//! Why an inference was refused or failed, and the HTTP status that says so.

use http::StatusCode;

/// What went wrong with one request. The message reaches the caller as `{"error": "…"}`.
#[derive(Debug, thiserror::Error)]
pub enum InferError {
    /// The request does not fit the protocol or the model: the caller must change it.
    #[error("{0}")]
    Invalid(String),
    /// No such model, version or path here.
    #[error("{0}")]
    NotFound(String),
    /// The body is larger than this server reads.
    #[error("the request body is over the limit of {limit_bytes} bytes; send a smaller batch")]
    TooLarge {
        /// The limit.
        limit_bytes: usize,
    },
    /// Every inference thread is busy and the line before them is full.
    #[error("{waiting} requests already wait for this replica; try again shortly")]
    Busy {
        /// How many wait.
        waiting: usize,
    },
    /// The server is on its way out.
    #[error("this replica is shutting down; ask another one")]
    Draining,
    /// The model failed on a request that looked right.
    #[error("{0}")]
    Failed(String),
}

impl InferError {
    /// The HTTP status of the answer.
    pub fn status(&self) -> StatusCode {
        match self {
            Self::Invalid(_) => StatusCode::BAD_REQUEST,
            Self::NotFound(_) => StatusCode::NOT_FOUND,
            Self::TooLarge { .. } => StatusCode::PAYLOAD_TOO_LARGE,
            Self::Busy { .. } | Self::Draining => StatusCode::SERVICE_UNAVAILABLE,
            Self::Failed(_) => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    pub(super) fn invalid(message: impl Into<String>) -> Self {
        Self::Invalid(message.into())
    }
}
