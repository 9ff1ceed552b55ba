//! The surge: when each request is sent, decided before the first one, and what came of it.
//!
//! The generator is open-loop: arrivals do not wait for answers, and a latency counts from the moment at which the
//! request was to be sent, so that a slow system cannot hide behind its own slowness (coordinated omission).

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt, Full};
use hyper_util::client::legacy::Client as Pool;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use tokio::sync::mpsc;

use super::images::{self, Image};
use crate::logic::route::Placement;

/// A request that has no 2xx by then is lost.
pub(super) const DEADLINE: Duration = Duration::from_secs(10);
/// Load in the calm parts, over what one replica can do.
const CALM: f64 = 0.25;
/// Load of the surge, over what one replica can do: more than the one core of the local replicas, less than two cores.
const PEAK: f64 = 1.35;
/// Share of a play before the surge, and of the surge itself; the rest is for the way back.
const BEFORE: f64 = 0.12;
const DURING: f64 = 0.55;
/// Each image is sent about so often, so that local and cloud answers to the same image can be compared.
const REPEATS: usize = 8;
/// Both plays draw the same arrivals.
const SEED: u64 = 0x7465_6c65_6761_7465;

/// When requests are sent, as times from the beginning.
#[derive(Clone, Debug)]
pub(super) struct Surge {
    arrivals: Arc<Vec<Duration>>,
    /// When the load rises.
    pub(super) rises_at: Duration,
    /// When it falls.
    pub(super) falls_at: Duration,
    /// When the last request has been sent.
    pub(super) ends_at: Duration,
    /// Requests per second at the peak.
    pub(super) peak_per_s: f64,
    /// Requests per second before and after.
    pub(super) calm_per_s: f64,
}

impl Surge {
    /// A surge for replicas that answer so many requests per second, in so much time.
    pub(super) fn plan(replica_per_s: f64, time: Duration) -> Self {
        let (rises_at, falls_at) = (time.mul_f64(BEFORE), time.mul_f64(BEFORE + DURING));
        let (peak_per_s, calm_per_s) = (replica_per_s * PEAK, replica_per_s * CALM);
        let rate = |at: Duration| if at >= rises_at && at < falls_at { peak_per_s } else { calm_per_s };
        let mut random = fastrand::Rng::with_seed(SEED);
        let mut arrivals = Vec::new();
        let mut at = Duration::ZERO;
        while at < time {
            // Poisson arrivals: the gaps are exponential.
            at += Duration::from_secs_f64(-(1.0 - random.f64()).ln() / rate(at));
            arrivals.push(at);
        }
        Self { arrivals: Arc::new(arrivals), rises_at, falls_at, ends_at: time, peak_per_s, calm_per_s }
    }

    /// How many requests it has.
    pub(super) fn len(&self) -> usize {
        self.arrivals.len()
    }
}

/// What came of one request.
#[derive(Clone, Debug)]
pub(super) struct Record {
    /// Which image.
    pub(super) image: usize,
    /// When it was to be sent.
    pub(super) due: Duration,
    /// From then to the end of the answer.
    pub(super) latency: Duration,
    /// HTTP status; 0 where no answer came.
    pub(super) status: u16,
    /// Who answered.
    pub(super) placement: Option<Placement>,
    /// What the answer says.
    pub(super) digit: Option<u8>,
    /// What the image shows.
    pub(super) label: u8,
}

impl Record {
    /// Whether a good answer came in time.
    pub(super) fn answered(&self) -> bool {
        (200..300).contains(&self.status) && self.latency <= DEADLINE
    }
}

/// Sends the surge from a thread of its own; records come as answers do, and end when the last one has come.
pub(super) fn send(
    surge: &Surge,
    authority: String,
    began: Instant,
) -> anyhow::Result<mpsc::UnboundedReceiver<Record>> {
    #[expect(clippy::disallowed_methods, reason = "bounded by the arrivals, a few thousand")]
    let (sender, records) = mpsc::unbounded_channel();
    let arrivals = surge.arrivals.clone();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    std::thread::Builder::new().name("generator".to_owned()).spawn(move || {
        runtime.block_on(generate(&arrivals, &authority, began, sender));
    })?;
    Ok(records)
}

async fn generate(arrivals: &[Duration], authority: &str, began: Instant, sender: mpsc::UnboundedSender<Record>) {
    let client = Client::new(authority);
    let images = Arc::new(images::all());
    let distinct = (arrivals.len() / REPEATS).clamp(1, images.len());
    let mut under_way = tokio::task::JoinSet::new();
    for (number, due) in arrivals.iter().copied().enumerate() {
        tokio::time::sleep_until((began + due).into()).await;
        let (client, images, sender) = (client.clone(), images.clone(), sender.clone());
        under_way.spawn(async move {
            let image = number % distinct;
            let answer = client.infer(&images[image], DEADLINE).await;
            let record = Record {
                image,
                due,
                latency: (began + due).elapsed(),
                status: answer.status,
                placement: answer.placement,
                digit: images::digit(&answer.body),
                label: images[image].label,
            };
            // Nobody listens once the demo was interrupted.
            let _ = sender.send(record);
        });
        while under_way.try_join_next().is_some() {}
    }
    under_way.join_all().await;
}

/// An answer, or its absence.
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) placement: Option<Placement>,
    pub(super) body: Bytes,
}

/// A client with kept-alive connections.
#[derive(Clone)]
pub(super) struct Client {
    pool: Pool<HttpConnector, Full<Bytes>>,
    uri: Arc<str>,
}

impl Client {
    pub(super) fn new(authority: &str) -> Self {
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        let pool = Pool::builder(TokioExecutor::new()).pool_timer(TokioTimer::new()).build(connector);
        Self { pool, uri: format!("http://{authority}/v2/models/{}/infer", super::scene::SERVICE).into() }
    }

    /// One inference; no answer in time has the status 0.
    pub(super) async fn infer(&self, image: &Image, deadline: Duration) -> Answer {
        let nothing = Answer { status: 0, placement: None, body: Bytes::new() };
        tokio::time::timeout(deadline, self.exchange(image, deadline)).await.ok().flatten().unwrap_or(nothing)
    }

    async fn exchange(&self, image: &Image, deadline: Duration) -> Option<Answer> {
        let request = Request::post(&*self.uri)
            .header(http::header::CONTENT_TYPE, "application/json")
            .header("x-tidegate-deadline-ms", deadline.as_millis().to_string())
            .body(Full::new(image.body.clone()))
            .ok()?;
        let answer = self.pool.request(request).await.ok()?;
        let placement = answer.headers().get("x-tidegate-placement").and_then(|value| value.to_str().ok());
        let placement = placement.and_then(|word| {
            [Placement::Local, Placement::Peer, Placement::Cloud].into_iter().find(|p| p.as_str() == word)
        });
        let status = answer.status().as_u16();
        let body = answer.into_body().collect().await.ok()?.to_bytes();
        Some(Answer { status, placement, body })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_plays_have_the_same_arrivals_and_the_surge_is_in_the_middle() {
        let (one, two) = (Surge::plan(200.0, Duration::from_secs(20)), Surge::plan(200.0, Duration::from_secs(20)));
        assert_eq!(one.arrivals, two.arrivals);
        let during = one.arrivals.iter().filter(|at| **at >= one.rises_at && **at < one.falls_at).count();
        let seconds = (one.falls_at - one.rises_at).as_secs_f64();
        #[expect(clippy::cast_precision_loss, reason = "a few thousand")]
        let rate = during as f64 / seconds;
        assert!((rate / one.peak_per_s - 1.0).abs() < 0.1, "{rate} against {}", one.peak_per_s);
    }
}
