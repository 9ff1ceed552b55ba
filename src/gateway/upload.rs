//! The body of a request on its way to a replica: read whole where it is small, its length known and there is room for it, so
//! that it can be sent a second time, and otherwise passed on as it comes, counted against the limit.

use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Bodies up to this length are held until the answer begins: an image or a tensor of an edge model. How many of them at once is
/// `GatewayOptions::replay_bytes`.
const MAX_REPLAY_BYTES: u32 = 256 * 1024;

/// Why a body cannot be forwarded.
#[derive(Debug, thiserror::Error)]
pub(super) enum UploadError {
    #[error("the body is over the limit")]
    TooLarge,
    #[error("the client broke off the body")]
    Broken(#[source] hyper::Error),
}

/// A request body, before or between the tries.
#[derive(Debug)]
pub(super) enum Upload {
    Whole {
        bytes: Bytes,
        /// Its share of the replay buffer; what did not come over a connection of ours has none.
        #[expect(dead_code, reason = "it is there to be given back with the bytes")]
        room: Option<OwnedSemaphorePermit>,
    },
    Stream(Arc<Source>),
}

/// A body that is passed on as it comes. It stays here until the first try to read it, so that a try that read nothing
/// leaves it for the next.
#[derive(Debug)]
pub(super) struct Source {
    untouched: Mutex<Option<Incoming>>,
    size_hint: SizeHint,
    max_bytes: u64,
    is_over_limit: AtomicBool,
    is_broken: AtomicBool,
}

impl Upload {
    /// Takes the body in: reads it whole if it is small enough and there is room, else prepares to pass it on. A declared length
    /// over `max_bytes` is refused without reading a byte.
    pub(super) async fn receive(
        incoming: Incoming,
        max_bytes: u64,
        replay_room: &Arc<Semaphore>,
    ) -> Result<Self, UploadError> {
        let length = incoming.size_hint().exact();
        if length.is_some_and(|length| length > max_bytes) {
            return Err(UploadError::TooLarge);
        }
        let small = length.and_then(|length| u32::try_from(length).ok()).filter(|length| *length <= MAX_REPLAY_BYTES);
        let room = small.and_then(|length| Arc::clone(replay_room).try_acquire_many_owned(length).ok());
        match (small, room) {
            (Some(length), Some(room)) => {
                Ok(Self::Whole { bytes: read_whole(incoming, length as usize).await?, room: Some(room) })
            }
            _ => Ok(Self::Stream(Arc::new(Source::new(incoming, max_bytes)))),
        }
    }

    /// Whether it was read whole, so that it can be sent as often as need be.
    pub(super) fn is_whole(&self) -> bool {
        matches!(self, Self::Whole { .. })
    }

    /// Whether a try can still send the body whole.
    pub(super) fn is_complete(&self) -> bool {
        match self {
            Self::Whole { .. } => true,
            Self::Stream(source) => source.untouched.lock().unwrap_or_else(PoisonError::into_inner).is_some(),
        }
    }

    /// The body for one try.
    pub(super) fn body(&self) -> UploadBody {
        match self {
            Self::Whole { bytes, .. } => UploadBody::Whole(Some(bytes.clone()).filter(|bytes| !bytes.is_empty())),
            Self::Stream(source) => UploadBody::Stream { source: Arc::clone(source), incoming: None, passed: 0 },
        }
    }

    /// What was wrong with the body itself, if a try failed for that.
    pub(super) fn fault(&self) -> Option<Fault> {
        match self {
            Self::Stream(source) if source.is_over_limit.load(Ordering::Acquire) => Some(Fault::TooLarge),
            Self::Stream(source) if source.is_broken.load(Ordering::Acquire) => Some(Fault::Broken),
            Self::Whole { .. } | Self::Stream(_) => None,
        }
    }
}

/// What the client did wrong with a body that was passed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    TooLarge,
    Broken,
}

impl Source {
    fn new(incoming: Incoming, max_bytes: u64) -> Self {
        Self {
            size_hint: incoming.size_hint(),
            untouched: Mutex::new(Some(incoming)),
            max_bytes,
            is_over_limit: AtomicBool::new(false),
            is_broken: AtomicBool::new(false),
        }
    }

    fn take(&self) -> Option<Incoming> {
        self.untouched.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// Most small bodies come in one piece, which is then passed on as it is.
async fn read_whole(mut incoming: Incoming, length: usize) -> Result<Bytes, UploadError> {
    let mut whole = Bytes::new();
    let mut pieces = BytesMut::new();
    while let Some(frame) = incoming.frame().await {
        let Ok(data) = frame.map_err(UploadError::Broken)?.into_data() else { continue };
        if data.len() == length {
            whole = data;
        } else {
            pieces.reserve(length - pieces.len());
            pieces.extend_from_slice(&data);
        }
    }
    Ok(if pieces.is_empty() { whole } else { pieces.freeze() })
}

/// The body of one try.
#[derive(Debug)]
pub(super) enum UploadBody {
    Whole(Option<Bytes>),
    Stream { source: Arc<Source>, incoming: Option<Incoming>, passed: u64 },
}

impl Body for UploadBody {
    type Data = Bytes;
    type Error = UploadError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, UploadError>>> {
        match &mut *self {
            Self::Whole(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Self::Stream { source, incoming, passed } => {
                if incoming.is_none() {
                    *incoming = source.take();
                }
                let Some(body) = incoming else { return Poll::Ready(None) };
                Pin::new(body).poll_frame(cx).map(|frame| frame.map(|frame| source.pass(frame, passed)))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Whole(bytes) => bytes.is_none(),
            Self::Stream { incoming, .. } => incoming.as_ref().is_some_and(Body::is_end_stream),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64)),
            Self::Stream { source, incoming, .. } => {
                incoming.as_ref().map_or_else(|| source.size_hint, Body::size_hint)
            }
        }
    }
}

impl Source {
    /// Counts a piece before it is passed on; the piece that goes over the limit ends the request.
    fn pass(&self, frame: Result<Frame<Bytes>, hyper::Error>, passed: &mut u64) -> Result<Frame<Bytes>, UploadError> {
        let frame = frame.map_err(|error| {
            self.is_broken.store(true, Ordering::Release);
            UploadError::Broken(error)
        })?;
        *passed += frame.data_ref().map_or(0, |data| data.len() as u64);
        if *passed > self.max_bytes {
            self.is_over_limit.store(true, Ordering::Release);
            return Err(UploadError::TooLarge);
        }
        Ok(frame)
    }
}
