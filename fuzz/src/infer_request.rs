//! The body of an inference request (Open Inference Protocol v2), read for the built-in model up to its tensors. A first
//! line of digits is the length of the JSON part, as the header `inference-header-content-length` says it.

use std::sync::OnceLock;

use tidegate::model::decoders::read_request;
use tidegate::model::{Engine, ModelSource};

/// Reads it and nothing else.
pub fn decode(data: &[u8]) {
    let (json_length, body) = parts(data);
    drop(read_request(engine(), body, json_length));
}

/// A request that is taken has data for every element: a shape alone makes no tensor.
pub fn target(data: &[u8]) {
    let (json_length, body) = parts(data);
    if let Ok(elements) = read_request(engine(), body, json_length) {
        assert!(elements <= body.len(), "{elements} elements of {} bytes", body.len());
    }
}

fn parts(data: &[u8]) -> (Option<usize>, &[u8]) {
    let line = data.iter().position(|byte| *byte == b'\n');
    let length = line.and_then(|end| Some((str::from_utf8(&data[..end]).ok()?.parse().ok()?, end)));
    length.map_or((None, data), |(length, end)| (Some(length), &data[end + 1..]))
}

fn engine() -> &'static Engine {
    static ENGINE: OnceLock<Engine> = OnceLock::new();
    ENGINE.get_or_init(|| {
        let source = ModelSource::parse("builtin:digits").expect("the built-in model");
        Engine::load(&source).expect("the built-in model loads")
    })
}
