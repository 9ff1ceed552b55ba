//! A request as it stands in a message: who asks which service, where the answer is wanted, by when.

use std::time::Duration;

use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderName, HeaderValue};

use super::meters::Outcome;
use crate::mqtt::{Incoming, Properties};
use crate::wire::{Root, Segment, Topic};

/// Correlation data are echoed with every reply, so they count against what a reply may take.
const MAX_CORRELATION_BYTES: usize = 1_024;

/// User properties that are passed on as headers; all others are the client's own affair.
const PASSED_ON: [&str; 5] = [
    "x-request-id",
    "x-tidegate-placement",
    "x-tidegate-deadline-ms",
    "idempotency-key",
    "inference-header-content-length",
];

/// Where an answer goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ReplyTo {
    /// The whole topic, one of the client's.
    pub(super) topic: String,
    pub(super) correlation: Option<Vec<u8>>,
}

/// A request that can be asked.
#[derive(Debug)]
pub(super) struct Request {
    pub(super) service: Segment,
    pub(super) client: Segment,
    /// What the topic tells it from the client's others by.
    pub(super) id: Option<Segment>,
    pub(super) reply_to: ReplyTo,
    pub(super) headers: HeaderMap,
    pub(super) expiry: Option<Duration>,
    pub(super) payload: Vec<u8>,
}

/// What two messages have in common that are one request.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct Key {
    service: Segment,
    client: Segment,
    id: Option<Segment>,
    correlation: Option<Vec<u8>>,
}

/// Why a message is no request.
#[derive(Debug)]
pub(super) struct Unfit {
    pub(super) outcome: Outcome,
    /// Where the client can be told, and what.
    pub(super) told: Option<(ReplyTo, String)>,
}

impl Unfit {
    fn silent(outcome: Outcome) -> Self {
        Self { outcome, told: None }
    }

    fn malformed(reply_to: ReplyTo, why: impl Into<String>) -> Self {
        Self { outcome: Outcome::Malformed, told: Some((reply_to, why.into())) }
    }
}

impl Request {
    /// What is asked with a message that came below `root`.
    pub(super) fn read(root: &Root, message: Incoming) -> Result<Self, Unfit> {
        let Ok((_, Topic::Infer { service, client, id })) = Root::parse(&message.topic) else {
            return Err(Unfit::silent(Outcome::BadTopic));
        };
        if message.retained {
            return Err(Unfit::silent(Outcome::Retained));
        }
        let properties = message.properties.map_or_else(Properties::default, |properties| *properties);
        let reply_to = reply_to(root, &service, &client, id.as_ref(), &properties)?;
        let headers = headers(&properties, &message.payload);
        let (expiry, payload) = (message.expiry, message.payload);
        Ok(Self { service, client, id, reply_to, headers, expiry, payload })
    }

    /// What a message that is this one again has in common with it; none where nothing tells two apart.
    pub(super) fn key(&self) -> Option<Key> {
        let (id, correlation) = (self.id.clone(), self.reply_to.correlation.clone());
        let is_told_apart = id.is_some() || correlation.is_some();
        is_told_apart.then(|| Key { service: self.service.clone(), client: self.client.clone(), id, correlation })
    }
}

/// Where the client wants its answer, if that is one of its own topics; else there is one for each service and id.
fn reply_to(
    root: &Root,
    service: &Segment,
    client: &Segment,
    id: Option<&Segment>,
    properties: &Properties,
) -> Result<ReplyTo, Unfit> {
    let below = [Some(service), id].into_iter().flatten().cloned().collect();
    let usual = root.topic(&Topic::Reply { client: client.clone(), below });
    let correlation = properties.correlation.clone();
    if correlation.as_ref().is_some_and(|data| data.len() > MAX_CORRELATION_BYTES) {
        let why = format!("the correlation data have more than {MAX_CORRELATION_BYTES} bytes; send a shorter id");
        return Err(Unfit::malformed(ReplyTo { topic: usual, correlation: None }, why));
    }
    let Some(wanted) = &properties.response_topic else { return Ok(ReplyTo { topic: usual, correlation }) };
    match Root::parse(wanted) {
        Ok((there, Topic::Reply { client: whose, .. })) if there == *root && whose == *client => {
            Ok(ReplyTo { topic: wanted.clone(), correlation })
        }
        _ => {
            let why = format!(
                "the response topic is none of this client's: it must be {root}/reply/{client}/ and one to three names, \
                 256 bytes in all"
            );
            Err(Unfit::malformed(ReplyTo { topic: usual, correlation }, why))
        }
    }
}

/// The headers that the same request would have over HTTP.
fn headers(properties: &Properties, payload: &[u8]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in &properties.user {
        let name = PASSED_ON.into_iter().find(|known| known.eq_ignore_ascii_case(name));
        if let (Some(name), Ok(value)) = (name, HeaderValue::try_from(value)) {
            headers.insert(HeaderName::from_static(name), value);
        }
    }
    let said = properties.content_type.as_ref().and_then(|said| HeaderValue::try_from(said).ok());
    headers.insert(CONTENT_TYPE, said.unwrap_or_else(|| HeaderValue::from_static(guessed(payload))));
    headers
}

/// What a payload is that says nothing of itself, as MQTT 3.1.1 has it: JSON begins as an object or an array does.
fn guessed(payload: &[u8]) -> &'static str {
    match payload.iter().find(|byte| !byte.is_ascii_whitespace()) {
        Some(b'{' | b'[') => "application/json",
        _ => "application/octet-stream",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::Encoding;

    const TREE: &str = "tidegate/v1/plant-a";

    fn root() -> Root {
        Root::new(Encoding::Cbor, "plant-a").unwrap()
    }

    fn message(below: &str, properties: Properties) -> Incoming {
        Incoming {
            topic: format!("{TREE}/{below}"),
            payload: b" {}".to_vec(),
            retained: false,
            expiry: None,
            properties: (properties != Properties::default()).then(|| Box::new(properties)),
        }
    }

    fn read(below: &str, properties: Properties) -> Result<Request, Unfit> {
        Request::read(&root(), message(below, properties))
    }

    fn answered_at(topic: &str) -> Properties {
        Properties { response_topic: Some(topic.to_owned()), ..Properties::default() }
    }

    #[test]
    fn a_client_that_says_nothing_is_answered_on_its_topic_for_the_service() {
        let request = read("infer/digits/cam-1", Properties::default()).unwrap();
        assert_eq!(request.reply_to.topic, format!("{TREE}/reply/cam-1/digits"));
        assert_eq!((request.service.as_str(), request.client.as_str()), ("digits", "cam-1"));
        assert_eq!(request.headers[CONTENT_TYPE], "application/json");
        assert!(request.key().is_none(), "nothing tells two of them apart");
        let request = read("infer/digits/cam-1/17", Properties::default()).unwrap();
        assert_eq!(request.reply_to.topic, format!("{TREE}/reply/cam-1/digits/17"));
        assert!(request.key().is_some());
    }

    #[test]
    fn a_response_topic_is_one_of_the_clients_own() {
        for below in ["x", "x/y", "x/y/z"] {
            let wanted = format!("{TREE}/reply/cam-1/{below}");
            assert_eq!(read("infer/digits/cam-1", answered_at(&wanted)).unwrap().reply_to.topic, wanted);
        }
        let others = [
            "tidegate/v1/plant-a/reply/cam-2/x",
            "tidegate/v1/plant-a/reply/cam-1",
            "tidegate/v1/plant-a/reply/cam-1/",
            "tidegate/v1/plant-a/reply/cam-1/+",
            "tidegate/v1/plant-a/reply/cam-1/#",
            "tidegate/v1/plant-a/reply/cam-1/1/2/3/4",
            "tidegate/v1/plant-b/reply/cam-1/x",
            "tidegate-json/v1/plant-a/reply/cam-1/x",
            "tidegate/v1/plant-a/node/gateway-7/state",
            "tidegate/v1/plant-a/infer/digits/cam-1",
            "$SYS/x",
            "",
        ];
        for wanted in others {
            let unfit = read("infer/digits/cam-1", answered_at(wanted)).unwrap_err();
            let (told, why) = unfit.told.expect("the client is told");
            assert_eq!(
                (unfit.outcome, told.topic.as_str()),
                (Outcome::Malformed, "tidegate/v1/plant-a/reply/cam-1/digits")
            );
            assert!(why.contains("reply/cam-1/"), "{why}");
        }
    }

    #[test]
    fn what_is_no_request_is_not_answered() {
        let outcome = |message| Request::read(&root(), message).unwrap_err().outcome;
        for below in ["infer/digits", "infer/digits/cam-1/1/2", "infer//cam-1", "node/n/load"] {
            assert_eq!(outcome(message(below, Properties::default())), Outcome::BadTopic, "{below}");
        }
        let retained = Incoming { retained: true, ..message("infer/digits/cam-1", Properties::default()) };
        assert_eq!(outcome(retained), Outcome::Retained);
    }

    #[test]
    fn correlation_data_come_back_and_tell_requests_apart() {
        let with = |data: usize| Properties { correlation: Some(vec![7; data]), ..Properties::default() };
        let request = read("infer/digits/cam-1", with(1_024)).unwrap();
        assert_eq!(request.reply_to.correlation.as_ref().map(Vec::len), Some(1_024));
        assert_ne!(request.key(), read("infer/digits/cam-1", with(1)).unwrap().key());
        assert_ne!(request.key(), read("infer/digits/cam-2", with(1_024)).unwrap().key());
        let (told, _) = read("infer/digits/cam-1", with(1_025)).unwrap_err().told.unwrap();
        assert_eq!(told.correlation, None, "what is too long is not sent back");
    }

    #[test]
    fn few_properties_become_headers_and_none_that_a_client_may_not_set() {
        let user =
            [("X-Request-Id", "r-1"), ("authorization", "Bearer x"), ("host", "h"), ("x-request-id ", "x"), ("a", "b")];
        let user = user.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec();
        let properties = Properties { user, content_type: Some("image/png".to_owned()), ..Properties::default() };
        let headers = read("infer/digits/cam-1", properties).unwrap().headers;
        assert_eq!(
            (headers.len(), &headers["x-request-id"], &headers[CONTENT_TYPE]),
            (2, &"r-1".parse().unwrap(), &"image/png".parse().unwrap())
        );
    }

    #[test]
    fn what_a_payload_is_is_guessed_where_nobody_says() {
        assert_eq!(
            [&b"\n [1]"[..], b"{", b"\x89PNG", b""].map(guessed).map(|guess| guess.ends_with("json")),
            [true, true, false, false]
        );
    }
}
