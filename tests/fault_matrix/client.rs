//! A client that keeps one request in flight at an instance from the moment that it is ready, and what came of them.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use super::support::http::Client as Http;

pub(crate) struct Client {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Vec<String>>,
}

impl Client {
    /// Sends to an instance until it takes no more.
    pub(crate) fn start(launch: &str, authority: &str, token: &str) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let (stopped, launch, authority) = (Arc::clone(&stop), launch.to_owned(), authority.to_owned());
        let bearer = format!("Bearer {token}");
        let thread = std::thread::spawn(move || {
            let (mut client, mut answered) = (Http::new(&authority), Vec::new());
            for number in 0.. {
                let path = format!("/work/{launch}/{number}");
                let headers = [("x-tidegate-authorization", bearer.as_str())];
                let Ok(answer) = client.try_request("POST", &path, &headers, b"") else { break };
                if answer.status != 200 {
                    break;
                }
                answered.push(path);
                if stopped.load(Ordering::SeqCst) {
                    break;
                }
            }
            answered
        });
        Self { stop, thread }
    }

    /// The requests that were answered.
    pub(crate) fn stop(self) -> Vec<String> {
        self.stop.store(true, Ordering::SeqCst);
        self.thread.join().expect("the client")
    }
}

/// What the server wrote down, against what clients know.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Requests {
    pub(crate) answered: usize,
    /// The server got them, and their client heard nothing.
    pub(crate) lost: usize,
    /// The server got them more than once.
    pub(crate) doubled: usize,
}

impl Requests {
    pub(crate) fn compare(counts: &Path, answered: &[String]) -> Self {
        let written = std::fs::read_to_string(counts).unwrap_or_default();
        let mut got: BTreeMap<&str, usize> = BTreeMap::new();
        written
            .lines()
            .filter_map(|line| line.strip_prefix("got "))
            .for_each(|path| *got.entry(path).or_default() += 1);
        Self {
            answered: answered.len(),
            lost: got.keys().filter(|path| !answered.iter().any(|known| known == *path)).count(),
            doubled: got.values().filter(|times| **times > 1).count(),
        }
    }
}
