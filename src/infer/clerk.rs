//! Takes requests out of the queue of a link and has each answered, on the gateway's runtime.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::uri::InvalidUri;
use http::{HeaderName, HeaderValue, Method, StatusCode, Uri};
use tokio::sync::mpsc;

use super::intake::{self, Arrived, Hold, Room};
use super::meters::{Meters, Outcome};
use super::reply::{self, MAX_ANSWER_BYTES, Problem};
use super::request::{Request, Unfit};
use super::seen::Seen;
use crate::gateway::{Gateway, Letter};
use crate::mqtt::Outgoing;
use crate::mqtt::link::{Link, LinkObserver};
use crate::wire::{Root, Segment};

/// What metrics call the way that these requests come.
const ROUTE: &str = "mqtt";
/// An answer to a request for no service names at most so many.
const MAX_SERVICES_NAMED: usize = 10;

const DEADLINE_MS: HeaderName = HeaderName::from_static("x-tidegate-deadline-ms");

/// A path that cannot be asked for.
#[derive(Debug, thiserror::Error)]
#[error("service.{service}.mqtt.path = {path:?} cannot be asked for: {reason}")]
pub struct BadPath {
    service: String,
    path: String,
    reason: InvalidUri,
}

/// Answers the requests of all links of a node.
pub struct Clerk {
    root: Root,
    /// The gateway's path for each service that is asked over MQTT.
    paths: BTreeMap<String, Uri>,
    gateway: Arc<Gateway>,
    room: Room,
    seen: Mutex<Seen>,
    meters: Arc<Meters>,
}

/// Where the requests of one link come out.
pub struct Desk {
    clerk: Arc<Clerk>,
    requests: mpsc::Receiver<Arrived>,
}

impl Clerk {
    /// For the services of `gateway` that are named in `paths`, each with its path there. A metrics recorder must be
    /// installed before.
    ///
    /// # Errors
    /// [`BadPath`] for a path that no URI has.
    pub fn new(root: Root, paths: BTreeMap<String, String>, gateway: Arc<Gateway>) -> Result<Arc<Self>, BadPath> {
        let uri = |(service, path): (String, String)| match path.parse() {
            Ok(uri) => Ok((service, uri)),
            Err(reason) => Err(BadPath { service, path, reason }),
        };
        let paths = paths.into_iter().map(uri).collect::<Result<_, _>>()?;
        let (seen, meters) = (Mutex::default(), Arc::new(Meters::new()));
        Ok(Arc::new(Self { root, paths, gateway, room: Room::default(), seen, meters }))
    }

    /// The observer for a link that passes to `rest` what is no request, and the desk for its requests.
    pub fn open(self: &Arc<Self>, rest: Arc<dyn LinkObserver>) -> (Arc<dyn LinkObserver>, Desk) {
        let (observer, requests) = intake::open(&self.root, self.room.clone(), Arc::clone(&self.meters), rest);
        (observer, Desk { clerk: Arc::clone(self), requests })
    }

    /// One request: turned away at once, or answered by a task of its own.
    fn handle(self: &Arc<Self>, arrived: Arrived, link: &Link) {
        let topic = arrived.message.topic.clone();
        let request = match Request::read(&self.root, arrived.message) {
            Ok(request) => request,
            Err(unfit) => return self.turn_away(unfit, &topic, link),
        };
        // It may have gone since the start, or be asked otherwise now.
        let is_asked = self.gateway.is_asked_by_message(request.service.as_str());
        let Some(path) = self.paths.get(request.service.as_str()).filter(|_| is_asked) else {
            let why = Problem::unknown_service(request.service.as_str(), &self.services());
            return self.say(Outcome::UnknownService, &topic, reply::of_problem(&request.reply_to, &why, None), link);
        };
        if request.key().is_some_and(|key| !self.seen().is_first(key, arrived.at)) {
            return self.meters.count(Outcome::Duplicate, &topic);
        }
        let case = Case { clerk: Arc::clone(self), request, path: path.clone(), topic, at: arrived.at };
        tokio::spawn(case.run(link.clone(), arrived.hold));
    }

    fn turn_away(&self, unfit: Unfit, topic: &str, link: &Link) {
        match unfit.told {
            Some((to, why)) => {
                self.say(unfit.outcome, topic, reply::of_problem(&to, &Problem::malformed(why), None), link);
            }
            None => self.meters.count(unfit.outcome, topic),
        }
    }

    fn say(&self, outcome: Outcome, topic: &str, reply: Outgoing, link: &Link) {
        self.meters.count(outcome, topic);
        link.publish(reply);
    }

    fn services(&self) -> String {
        let asked = self.paths.keys().map(String::as_str).filter(|name| self.gateway.is_asked_by_message(name));
        let mut named: Vec<&str> = asked.take(MAX_SERVICES_NAMED + 1).collect();
        if named.len() > MAX_SERVICES_NAMED {
            named[MAX_SERVICES_NAMED] = "…";
        }
        named.join(", ")
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Desk {
    /// Answers the link's requests by the same link, until the link is gone.
    pub async fn serve(mut self, link: Link) {
        while let Some(arrived) = self.requests.recv().await {
            self.clerk.handle(arrived, &link);
        }
    }
}

/// A request that is being answered.
struct Case {
    clerk: Arc<Clerk>,
    request: Request,
    path: Uri,
    topic: String,
    at: Instant,
}

impl Case {
    /// The room is held until the answer is with the link.
    async fn run(mut self, link: Link, hold: Hold) {
        let key = self.request.key();
        let (outcome, status, reply) = self.answer().await;
        // Nobody has looked at it: who sends it again means it.
        if let Some(key) = key.filter(|_| outcome == Outcome::Expired || is_to_be_sent_again(status)) {
            self.clerk.seen().forget(key);
        }
        self.clerk.say(outcome, &self.topic, reply, &link);
        drop(hold);
    }

    async fn answer(&mut self) -> (Outcome, StatusCode, Outgoing) {
        let problem = |case: &Self, why: &Problem| reply::of_problem(&case.request.reply_to, why, case.left());
        let Some(letter) = self.letter() else {
            let why = Problem::expired();
            return (Outcome::Expired, why.status, problem(self, &why));
        };
        match self.clerk.gateway.answer(letter).await {
            Ok(answer) => {
                let status = answer.status();
                (Outcome::Answered, status, reply::of_answer(&self.request.reply_to, answer, self.left()))
            }
            Err(error) => {
                let why = Problem::no_answer(&error);
                (Outcome::NoAnswer, why.status, problem(self, &why))
            }
        }
    }

    /// What is left of the client's patience.
    fn left(&self) -> Option<Duration> {
        self.request.expiry.map(|expiry| expiry.saturating_sub(self.at.elapsed()))
    }

    /// The request for the gateway; none once its time is over.
    fn letter(&mut self) -> Option<Letter> {
        let left = self.left();
        if left.is_some_and(|left| left.is_zero()) {
            return None;
        }
        let mut request = http::Request::new(Bytes::from(std::mem::take(&mut self.request.payload)));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = self.path.clone();
        *request.headers_mut() = std::mem::take(&mut self.request.headers);
        if let Some(deadline) = deadline_ms(request.headers().get(DEADLINE_MS), left) {
            request.headers_mut().insert(DEADLINE_MS, deadline);
        }
        let from = forwarded_for(&self.request.client);
        Some(Letter { request, from, route: ROUTE, max_answer_bytes: MAX_ANSWER_BYTES })
    }
}

fn is_to_be_sent_again(status: StatusCode) -> bool {
    matches!(status, StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE)
}

/// The sooner of what the client says in two ways. What cannot be read is the gateway's to refuse.
fn deadline_ms(said: Option<&HeaderValue>, left: Option<Duration>) -> Option<HeaderValue> {
    let left = u64::try_from(left?.as_millis()).unwrap_or(u64::MAX);
    let Some(said) = said else { return Some(left.into()) };
    let said = said.to_str().ok()?.trim().parse::<u64>().ok()?;
    Some(said.min(left).into())
}

/// An identifier that is no address begins with an underscore and has few kinds of characters (RFC 7239, 6.3).
fn forwarded_for(client: &Segment) -> HeaderValue {
    let plain = |c: char| if c.is_ascii_alphanumeric() || "._-".contains(c) { c } else { '_' };
    let name: String = std::iter::once('_').chain(client.as_str().chars().map(plain)).collect();
    HeaderValue::try_from(name).unwrap_or_else(|_| HeaderValue::from_static("unknown"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sooner_deadline_counts_and_a_bad_one_is_left_to_the_gateway() {
        let ms = |said: Option<&'static str>, left: Option<u64>| {
            let said = said.map(HeaderValue::from_static);
            let found = deadline_ms(said.as_ref(), left.map(Duration::from_millis));
            found.map(|value| value.to_str().unwrap().to_owned())
        };
        assert_eq!(ms(None, None), None);
        assert_eq!(ms(Some("50"), None), None, "it stands there already");
        assert_eq!(ms(None, Some(900)).as_deref(), Some("900"));
        assert_eq!(ms(Some("50"), Some(900)).as_deref(), Some("50"));
        assert_eq!(ms(Some("5000"), Some(900)).as_deref(), Some("900"));
        assert_eq!(ms(Some("soon"), Some(900)), None);
    }

    #[test]
    fn a_clients_name_is_no_address() {
        let name = |client: &str| forwarded_for(&Segment::new(client).unwrap()).to_str().unwrap().to_owned();
        assert_eq!([name("cam-1"), name("Kamera 3, Häfen")], ["_cam-1", "_Kamera_3__H_fen"]);
    }

    #[test]
    fn a_request_that_is_turned_away_unseen_may_come_again() {
        let again = [429, 503, 200, 400, 502, 504].map(|code| is_to_be_sent_again(StatusCode::from_u16(code).unwrap()));
        assert_eq!(again, [true, true, false, false, false, false]);
    }
}
