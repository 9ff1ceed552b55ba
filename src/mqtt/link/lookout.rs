//! Whether the preferred broker answers again, asked once in a long while from a connection to another one.
//!
//! A connection that stands is worth more than a preference: moving costs a gap, and a thousand gateways that move at once
//! cost the broker that just came back its second death. So each asks after a time of its own, and asks by a mere connection
//! of TCP beside the one that stands, which is given up only where somebody answers.

use std::time::Duration;

use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::session::CONNECT_TIMEOUT_S;

/// Watches while one connection stands.
pub(super) struct Lookout {
    pause: Duration,
    ask_at: Instant,
    asking: Option<JoinHandle<bool>>,
}

impl Lookout {
    /// Asks after `pause`, and up to as long again, drawn by `random` in [0, 1).
    pub(super) fn new(pause: Duration, random: f64) -> Self {
        Self { pause, ask_at: Instant::now() + pause.mul_f64(1.0 + random), asking: None }
    }

    /// Whether somebody listens there. Waits for nothing: an answer is told by a later call.
    pub(super) async fn sees(&mut self, host: &str, port: u16) -> bool {
        if let Some(asked) = self.asking.take_if(|asking| asking.is_finished()) {
            self.ask_at = Instant::now() + self.pause;
            return asked.await.unwrap_or(false);
        }
        if self.asking.is_none() && Instant::now() >= self.ask_at {
            self.asking = Some(tokio::spawn(answers(host.to_owned(), port)));
        }
        false
    }
}

impl Drop for Lookout {
    fn drop(&mut self) {
        if let Some(asking) = &self.asking {
            asking.abort();
        }
    }
}

async fn answers(host: String, port: u16) -> bool {
    let patience = Duration::from_secs(CONNECT_TIMEOUT_S);
    tokio::time::timeout(patience, TcpStream::connect((host, port))).await.is_ok_and(|connected| connected.is_ok())
}
