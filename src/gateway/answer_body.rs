//! The body of an answer: a few bytes of our own, or a replica's, passed on as it comes. The latter keeps the request's
//! guard, and so its slot, until the last byte.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use http_body_util::Full;
use hyper::body::Incoming;
use tokio::time::{Instant, Sleep};

use super::inflight::Passage;

/// Why a replica's answer broke off.
#[derive(Debug, thiserror::Error)]
pub(super) enum BrokenAnswer {
    #[error("the replica broke off its answer")]
    Replica(#[source] hyper::Error),
    #[error("the replica paused within its answer for longer than the service's request timeout")]
    Stalled,
}

/// See the file's head.
#[derive(Debug)]
pub(super) enum AnswerBody {
    Own(Full<Bytes>),
    Replica(Box<ReplicaBody>),
}

/// A replica's answer on its way.
#[derive(Debug)]
pub(super) struct ReplicaBody {
    incoming: Incoming,
    /// Gone once the answer has ended.
    passage: Option<Passage>,
    max_pause: Duration,
    /// Made when the replica pauses for the first time; most answers come at once.
    pause: Option<Pin<Box<Sleep>>>,
    is_pausing: bool,
}

impl AnswerBody {
    pub(super) fn own(bytes: impl Into<Bytes>) -> Self {
        Self::Own(Full::new(bytes.into()))
    }

    pub(super) fn replica(incoming: Incoming, passage: Passage, max_pause: Duration) -> Self {
        let passage = (!incoming.is_end_stream()).then_some(passage);
        Self::Replica(Box::new(ReplicaBody { incoming, passage, max_pause, pause: None, is_pausing: false }))
    }
}

impl ReplicaBody {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BrokenAnswer>>> {
        match Pin::new(&mut self.incoming).poll_frame(cx) {
            Poll::Ready(frame) => {
                self.is_pausing = false;
                Poll::Ready(self.passed_on(frame))
            }
            Poll::Pending => {
                ready!(self.poll_pause(cx));
                self.fail();
                Poll::Ready(Some(Err(BrokenAnswer::Stalled)))
            }
        }
    }

    fn passed_on(
        &mut self,
        frame: Option<Result<Frame<Bytes>, hyper::Error>>,
    ) -> Option<Result<Frame<Bytes>, BrokenAnswer>> {
        if let Some(Err(error)) = frame {
            self.fail();
            return Some(Err(BrokenAnswer::Replica(error)));
        }
        if frame.is_none() || self.incoming.is_end_stream() {
            self.passage = None;
        }
        frame.map(|frame| frame.map_err(BrokenAnswer::Replica))
    }

    fn poll_pause(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let until = Instant::now() + self.max_pause;
        let pause = self.pause.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(until)));
        if !self.is_pausing {
            pause.as_mut().reset(until);
            self.is_pausing = true;
        }
        pause.as_mut().poll(cx)
    }

    fn fail(&mut self) {
        if let Some(mut passage) = self.passage.take() {
            passage.broke_off();
        }
    }
}

impl Drop for ReplicaBody {
    fn drop(&mut self) {
        if let Some(passage) = &mut self.passage {
            passage.abandoned();
        }
    }
}

impl Body for AnswerBody {
    type Data = Bytes;
    type Error = BrokenAnswer;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BrokenAnswer>>> {
        match &mut *self {
            Self::Own(full) => Pin::new(full).poll_frame(cx).map_err(|never: Infallible| match never {}),
            Self::Replica(body) => body.poll(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Own(full) => full.is_end_stream(),
            Self::Replica(body) => body.incoming.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Own(full) => full.size_hint(),
            Self::Replica(body) => body.incoming.size_hint(),
        }
    }
}
