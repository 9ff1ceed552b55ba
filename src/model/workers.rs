//! The threads that infer, and the bounded line before them.
//!
//! Inference is seconds of arithmetic at worst and must not stall the thread that answers health checks. Reading and
//! writing tensors happens here too: a large body is work.

use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};

use rten::ThreadPool;
use tokio::sync::oneshot;

use super::engine::Engine;
use super::error::InferError;
use super::protocol::{self, InferAnswer, InferRequest};

/// How many requests wait for a thread before the next one is refused: with bodies of a few kilobytes this is nothing,
/// and at a body's limit it still bounds memory. The gateway queues, not the replica.
const MAX_WAITING: usize = 64;

struct Job {
    request: InferRequest,
    answer: oneshot::Sender<Result<InferAnswer, InferError>>,
}

/// The line to the inference threads. The threads end when it is dropped.
#[derive(Debug)]
pub(super) struct Workers {
    line: SyncSender<Job>,
}

impl Workers {
    /// Starts `concurrency` threads that run one inference each, on `threads_each` engine threads.
    pub(super) fn start(
        engine: &Arc<Engine>,
        model_name: &str,
        concurrency: usize,
        threads_each: usize,
    ) -> std::io::Result<Self> {
        let (line, jobs) = sync_channel(MAX_WAITING);
        let jobs = Arc::new(Mutex::new(jobs));
        for index in 0..concurrency {
            let worker = Worker {
                engine: Arc::clone(engine),
                model_name: model_name.to_owned(),
                threads: Arc::new(ThreadPool::with_num_threads(threads_each)),
                jobs: Arc::clone(&jobs),
            };
            std::thread::Builder::new().name(format!("infer-{index}")).spawn(move || worker.work())?;
        }
        Ok(Self { line })
    }

    /// Has a thread infer. Dropping the returned future gives up on the answer, and on the work if it has not begun.
    pub(super) async fn infer(&self, request: InferRequest) -> Result<InferAnswer, InferError> {
        let (answer, answered) = oneshot::channel();
        self.line.try_send(Job { request, answer }).map_err(|refused| match refused {
            TrySendError::Full(_) => InferError::Busy { waiting: MAX_WAITING },
            TrySendError::Disconnected(_) => InferError::Draining,
        })?;
        answered.await.unwrap_or_else(|_| Err(InferError::Failed("the inference thread gave no answer".to_owned())))
    }
}

struct Worker {
    engine: Arc<Engine>,
    model_name: String,
    threads: Arc<ThreadPool>,
    jobs: Arc<Mutex<Receiver<Job>>>,
}

impl Worker {
    fn work(&self) {
        while let Some(job) = self.next_job() {
            // The caller may have hung up while its request waited.
            if !job.answer.is_closed() {
                let answer = self.infer(&job.request);
                let _caller_gone = job.answer.send(answer);
            }
        }
    }

    fn next_job(&self) -> Option<Job> {
        self.jobs.lock().unwrap_or_else(PoisonError::into_inner).recv().ok()
    }

    fn infer(&self, request: &InferRequest) -> Result<InferAnswer, InferError> {
        // The engine catches its own panics; this one is for the tensors around it.
        let infer = || protocol::infer(&self.engine, &self.threads, &self.model_name, request);
        std::panic::catch_unwind(std::panic::AssertUnwindSafe(infer))
            .unwrap_or_else(|_| Err(InferError::Failed("the request could not be handled".to_owned())))
    }
}
