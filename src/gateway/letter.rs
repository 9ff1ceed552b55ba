//! Requests that come another way than HTTP, answered as if they had come over it: the same line, limits, balancing, second
//! tries and metrics, without a connection. The end of the node waits for them as it does for connections.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use http::{HeaderValue, Request, Response};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use tokio::sync::RwLock;

use super::Gateway;
use super::problem::Refusal;
use super::request::{self, AskedBody, Visitor};

/// A request whose body is at hand.
#[derive(Debug)]
pub struct Letter {
    /// As it would have come over HTTP; its path says which service is asked.
    pub request: Request<Bytes>,
    /// Who asks, for `x-forwarded-for`.
    pub from: HeaderValue,
    /// What metrics call the way it came: their `http_route`.
    pub route: &'static str,
    /// The largest answer that can be passed on, in bytes.
    pub max_answer_bytes: usize,
}

/// Why there is no answer to pass on, although a replica began one.
#[derive(Debug, thiserror::Error)]
pub enum NoAnswer {
    /// It is over the limit.
    #[error("the answer is larger than {limit} bytes")]
    TooLarge {
        /// The limit.
        limit: usize,
    },
    /// The replica did not end it.
    #[error("{0}")]
    BrokeOff(String),
}

/// The requests that are being answered: each holds a share, so that whoever takes the whole has waited for all of them.
#[derive(Debug, Default)]
pub(super) struct Letters(RwLock<()>);

impl Letters {
    pub(super) async fn all_gone(&self) {
        drop(self.0.write().await);
    }
}

impl Gateway {
    /// Answers a request that came another way than HTTP. A refusal is an answer too.
    ///
    /// # Errors
    /// [`NoAnswer`] where a replica's answer cannot be passed on whole.
    pub async fn answer(self: &Arc<Self>, letter: Letter) -> Result<Response<Bytes>, NoAnswer> {
        let (head, body) = letter.request.into_parts();
        // Whoever comes while the last ones are waited for is told so, as a connection would be refused.
        let share = self.letters.0.try_read();
        if share.is_err() || self.is_draining.load(Ordering::Relaxed) {
            let id = super::headers::request_id(&head.headers);
            return whole(Refusal::NotReady.answer(&id), letter.max_answer_bytes).await;
        }
        let visitor = Visitor { address: letter.from, guest: None, route: Some(letter.route) };
        let answer = request::answer(Arc::clone(self), head, AskedBody::Whole(body), visitor).await;
        whole(answer, letter.max_answer_bytes).await
    }
}

async fn whole(answer: Response<super::answer_body::AnswerBody>, limit: usize) -> Result<Response<Bytes>, NoAnswer> {
    let (head, body) = answer.into_parts();
    let read = Limited::new(body, limit).collect().await;
    let body = read.map_err(|error| match error.is::<LengthLimitError>() {
        true => NoAnswer::TooLarge { limit },
        false => NoAnswer::BrokeOff(error.to_string()),
    })?;
    Ok(Response::from_parts(head, body.to_bytes()))
}
