//! The routes of the Open Inference Protocol v2.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::Router;
use axum::body::Body;
use axum::extract::{Path, Request, State};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use http::header::{CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderMap, HeaderName, StatusCode};
use serde::Deserialize;
use serde_json::{Value as Json, json};

use super::engine::{Engine, TensorSpec};
use super::error::InferError;
use super::protocol::{InferAnswer, InferRequest, MODEL_VERSION};
use super::workers::Workers;

/// Larger bodies are refused: a replica holds up to a line of them in memory.
pub(super) const MAX_BODY_BYTES: usize = 16 * 1024 * 1024;

/// Bytes of JSON at a body's start, from the binary tensor data extension.
const JSON_LENGTH: HeaderName = HeaderName::from_static("inference-header-content-length");

/// What the routes share.
#[derive(Debug)]
pub(super) struct Replica {
    pub(super) name: String,
    pub(super) engine: Arc<Engine>,
    pub(super) workers: Workers,
    pub(super) draining: AtomicBool,
}

impl Replica {
    /// A replica exists only once its model is loaded, so all that can keep it from being ready is its end.
    fn ready(&self) -> bool {
        !self.draining.load(Ordering::Relaxed)
    }

    fn check(&self, path: &ModelPath) -> Result<(), InferError> {
        if path.model != self.name {
            let (asked, here) = (&path.model, &self.name);
            return Err(InferError::NotFound(format!(
                "there is no model '{asked}' here; this replica serves '{here}'"
            )));
        }
        match path.version.as_deref() {
            None | Some(MODEL_VERSION) => Ok(()),
            Some(version) => Err(InferError::NotFound(format!(
                "model '{}' has no version '{version}'; it has '{MODEL_VERSION}'",
                self.name
            ))),
        }
    }
}

#[derive(Deserialize)]
struct ModelPath {
    model: String,
    #[serde(default)]
    version: Option<String>,
}

type Shared = State<Arc<Replica>>;
type Answer = Result<Response, InferError>;

impl IntoResponse for InferError {
    fn into_response(self) -> Response {
        let mut response = json_response(self.status(), &json!({ "error": self.to_string() }));
        if self.status() == StatusCode::SERVICE_UNAVAILABLE {
            response.headers_mut().insert(RETRY_AFTER, http::HeaderValue::from_static("1"));
        }
        response
    }
}

/// Every route, with and without a version.
pub(super) fn router(replica: Arc<Replica>) -> Router {
    let mut router = Router::new()
        .route("/v2", get(server_metadata))
        .route("/v2/health/live", get(live))
        .route("/v2/health/ready", get(ready));
    for model in ["/v2/models/{model}", "/v2/models/{model}/versions/{version}"] {
        router = router
            .route(model, get(model_metadata))
            .route(&format!("{model}/ready"), get(model_ready))
            .route(&format!("{model}/config"), get(model_config))
            .route(&format!("{model}/infer"), post(infer));
    }
    router.fallback(unknown_path).method_not_allowed_fallback(wrong_method).with_state(replica)
}

async fn server_metadata() -> Response {
    let metadata = json!({
        "name": "tidegate",
        "version": env!("CARGO_PKG_VERSION"),
        "extensions": ["binary_tensor_data", "model_configuration"],
    });
    json_response(StatusCode::OK, &metadata)
}

async fn live() -> Response {
    json_response(StatusCode::OK, &json!({ "live": true }))
}

async fn ready(State(replica): Shared) -> Response {
    json_response(ready_status(&replica), &json!({ "ready": replica.ready() }))
}

async fn model_ready(State(replica): Shared, Path(path): Path<ModelPath>) -> Answer {
    replica.check(&path)?;
    Ok(json_response(ready_status(&replica), &json!({ "name": replica.name, "ready": replica.ready() })))
}

async fn model_metadata(State(replica): Shared, Path(path): Path<ModelPath>) -> Answer {
    replica.check(&path)?;
    let tensors = |specs: &[TensorSpec]| specs.iter().map(tensor_metadata).collect::<Vec<Json>>();
    let metadata = json!({
        "name": replica.name,
        "versions": [MODEL_VERSION],
        "platform": "onnx_rten",
        "inputs": tensors(replica.engine.inputs()),
        "outputs": tensors(replica.engine.outputs()),
    });
    Ok(json_response(StatusCode::OK, &metadata))
}

async fn model_config(State(replica): Shared, Path(path): Path<ModelPath>) -> Answer {
    replica.check(&path)?;
    let tensors = |specs: &[TensorSpec]| specs.iter().map(tensor_config).collect::<Vec<Json>>();
    // `max_batch_size` 0: shapes are given whole, batching is up to the client.
    let config = json!({
        "name": replica.name,
        "platform": "onnx_rten",
        "backend": "rten",
        "max_batch_size": 0,
        "input": tensors(replica.engine.inputs()),
        "output": tensors(replica.engine.outputs()),
    });
    Ok(json_response(StatusCode::OK, &config))
}

async fn infer(State(replica): Shared, Path(path): Path<ModelPath>, request: Request) -> Answer {
    replica.check(&path)?;
    if !replica.ready() {
        return Err(InferError::Draining);
    }
    let json_length = json_length(request.headers())?;
    let body = read_body(request.into_body()).await?;
    replica.workers.infer(InferRequest { body, json_length }).await.map(infer_response)
}

async fn unknown_path(request: Request) -> InferError {
    InferError::NotFound(format!("there is nothing at {}; GET /v2 says what this is", request.uri().path()))
}

async fn wrong_method(request: Request) -> Response {
    let message = format!("{} is not possible at {}", request.method(), request.uri().path());
    json_response(StatusCode::METHOD_NOT_ALLOWED, &json!({ "error": message }))
}

fn ready_status(replica: &Replica) -> StatusCode {
    if replica.ready() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }
}

fn tensor_metadata(spec: &TensorSpec) -> Json {
    json!({ "name": spec.name, "datatype": spec.datatype.name(), "shape": spec.protocol_shape() })
}

fn tensor_config(spec: &TensorSpec) -> Json {
    let datatype = format!("TYPE_{}", spec.datatype.name());
    json!({ "name": spec.name, "data_type": datatype, "dims": spec.protocol_shape() })
}

fn json_length(headers: &HeaderMap) -> Result<Option<usize>, InferError> {
    let Some(value) = headers.get(JSON_LENGTH) else { return Ok(None) };
    let length = value.to_str().ok().and_then(|text| text.trim().parse().ok());
    length.map(Some).ok_or_else(|| InferError::invalid("Inference-Header-Content-Length is no number of bytes"))
}

async fn read_body(body: Body) -> Result<bytes::Bytes, InferError> {
    use http_body::Body as _;
    let too_large = InferError::TooLarge { limit_bytes: MAX_BODY_BYTES };
    if usize::try_from(body.size_hint().lower()).is_ok_and(|announced| announced > MAX_BODY_BYTES) {
        return Err(too_large);
    }
    axum::body::to_bytes(body, MAX_BODY_BYTES).await.map_err(|error| {
        if is_limit(&error) { too_large } else { InferError::invalid(format!("the request body broke off: {error}")) }
    })
}

fn is_limit(error: &axum::Error) -> bool {
    std::error::Error::source(error).is_some_and(|source| source.is::<http_body_util::LengthLimitError>())
}

fn infer_response(answer: InferAnswer) -> Response {
    let content_type = if answer.json_length.is_some() { "application/octet-stream" } else { "application/json" };
    let mut response = ([(CONTENT_TYPE, content_type)], answer.body).into_response();
    if let Some(length) = answer.json_length {
        response.headers_mut().insert(JSON_LENGTH, length.into());
    }
    response
}

fn json_response(status: StatusCode, body: &Json) -> Response {
    (status, [(CONTENT_TYPE, "application/json")], body.to_string()).into_response()
}
