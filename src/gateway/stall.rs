//! A connection that gives up on a client which does not read. Without this limit, someone who asks for a long answer and
//! never takes it holds a replica's slot for as long as they like.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::rt::TokioIo;
use tokio::sync::Notify;
use tokio::time::{Instant, Sleep};

use crate::tls::Channel;

/// A client's connection; writing fails once nothing could be written for `limit`.
#[derive(Debug)]
pub(super) struct StallLimited<'a> {
    io: TokioIo<&'a mut Channel>,
    limit: Duration,
    /// Made at the first stall; most clients read as fast as they are written to.
    patience: Option<Pin<Box<Sleep>>>,
    is_stalled: bool,
    /// Told of the first byte, once.
    first_byte: Option<Arc<Notify>>,
}

impl<'a> StallLimited<'a> {
    pub(super) fn new(channel: &'a mut Channel, limit: Duration, first_byte: Arc<Notify>) -> Self {
        Self { io: TokioIo::new(channel), limit, patience: None, is_stalled: false, first_byte: Some(first_byte) }
    }

    fn limited<T>(&mut self, written: Poll<io::Result<T>>, cx: &mut Context<'_>) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.is_stalled = false;
            return written;
        }
        let until = Instant::now() + self.limit;
        let patience = self.patience.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(until)));
        if !self.is_stalled {
            patience.as_mut().reset(until);
            self.is_stalled = true;
        }
        patience.as_mut().poll(cx).map(|()| Err(io::ErrorKind::TimedOut.into()))
    }
}

impl Read for StallLimited<'_> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, into: ReadBufCursor<'_>) -> Poll<io::Result<()>> {
        let read = Pin::new(&mut self.io).poll_read(cx, into);
        if read.is_ready()
            && let Some(first_byte) = self.first_byte.take()
        {
            first_byte.notify_one();
        }
        read
    }
}

impl Write for StallLimited<'_> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.io).poll_write(cx, bytes);
        self.limited(written, cx)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.io).poll_write_vectored(cx, pieces);
        self.limited(written, cx)
    }
}
