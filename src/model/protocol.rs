//! One inference, from the bytes of the request to the bytes of the answer.
//!
//! Open Inference Protocol v2, REST, with the binary tensor data extension: a header says how long the JSON part is,
//! and tensors follow it as little-endian bytes in the order in which the JSON names them.
//! <https://github.com/kserve/open-inference-protocol/blob/main/specification/protocol/inference_rest.md>

use std::sync::Arc;

use bytes::Bytes;
use rten::{NodeId, ThreadPool, Value};
use serde::{Deserialize, Serialize};

use super::datatype::Datatype;
use super::engine::{Engine, TensorSpec};
use super::error::InferError;
use super::numbers::Numbers;
use super::tensor::{OutputData, TensorHeader};

/// The only version of a model here: a replica serves one file.
pub(super) const MODEL_VERSION: &str = "1";

/// A request as it came.
#[derive(Debug)]
pub(super) struct InferRequest {
    pub(super) body: Bytes,
    /// Bytes of JSON at the body's start; all of it where the header is missing.
    pub(super) json_length: Option<usize>,
}

/// The answer to send.
#[derive(Debug)]
pub(super) struct InferAnswer {
    pub(super) body: Vec<u8>,
    /// Bytes of JSON at the body's start, where binary tensors follow.
    pub(super) json_length: Option<usize>,
}

#[derive(Deserialize)]
struct RequestJson {
    #[serde(default)]
    id: Option<String>,
    inputs: Vec<InputJson>,
    #[serde(default)]
    outputs: Vec<WantedJson>,
    #[serde(default)]
    parameters: RequestParameters,
}

#[derive(Default, Deserialize)]
struct RequestParameters {
    #[serde(default)]
    binary_data_output: bool,
}

#[derive(Deserialize)]
struct InputJson {
    name: String,
    shape: Vec<usize>,
    datatype: String,
    #[serde(default)]
    data: Option<Numbers>,
    #[serde(default)]
    parameters: InputParameters,
}

#[derive(Default, Deserialize)]
struct InputParameters {
    #[serde(default)]
    binary_data_size: Option<usize>,
}

#[derive(Deserialize)]
struct WantedJson {
    name: String,
    #[serde(default)]
    parameters: WantedParameters,
}

#[derive(Default, Deserialize)]
struct WantedParameters {
    #[serde(default)]
    binary_data: Option<bool>,
}

#[derive(Serialize)]
struct AnswerJson<'a> {
    model_name: &'a str,
    model_version: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<String>,
    outputs: Vec<OutputJson<'a>>,
}

#[derive(Serialize)]
struct OutputJson<'a> {
    name: &'a str,
    datatype: &'static str,
    shape: Vec<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    parameters: Option<OutputParameters>,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<OutputData>,
}

#[derive(Serialize)]
struct OutputParameters {
    binary_data_size: usize,
}

/// An output that the request asks for.
struct Wanted<'a> {
    spec: &'a TensorSpec,
    binary: bool,
}

/// What a request asks for.
pub(super) struct Asked<'a> {
    id: Option<String>,
    wanted: Vec<Wanted<'a>>,
    pub(super) inputs: Vec<(NodeId, Value)>,
}

/// Reads the request, runs the model, writes the answer.
pub(super) fn infer(
    engine: &Engine,
    threads: &Arc<ThreadPool>,
    model_name: &str,
    request: &InferRequest,
) -> Result<InferAnswer, InferError> {
    let Asked { id, wanted, inputs } = read(engine, request)?;
    let nodes: Vec<NodeId> = wanted.iter().map(|output| output.spec.node).collect();
    let values = engine.run(inputs, &nodes, threads)?;
    write_answer(model_name, id, &wanted, &values)
}

/// Reads a request for the model that `engine` holds.
pub(super) fn read<'a>(engine: &'a Engine, request: &InferRequest) -> Result<Asked<'a>, InferError> {
    let (json, binary) = split(request)?;
    let parsed: RequestJson = serde_json::from_slice(json)
        .map_err(|error| InferError::invalid(format!("the request is not a valid inference request: {error}")))?;
    let wanted = wanted_outputs(engine, &parsed.outputs, parsed.parameters.binary_data_output)?;
    let inputs = engine_inputs(engine, parsed.inputs, binary)?;
    Ok(Asked { id: parsed.id, wanted, inputs })
}

fn split(request: &InferRequest) -> Result<(&[u8], &[u8]), InferError> {
    let length = request.json_length.unwrap_or(request.body.len());
    request.body.split_at_checked(length).ok_or_else(|| {
        let body = request.body.len();
        InferError::invalid(format!("the header says {length} bytes of JSON, but the body has only {body}"))
    })
}

fn wanted_outputs<'a>(
    engine: &'a Engine,
    asked: &[WantedJson],
    binary_by_default: bool,
) -> Result<Vec<Wanted<'a>>, InferError> {
    if asked.is_empty() {
        return Ok(engine.outputs().iter().map(|spec| Wanted { spec, binary: binary_by_default }).collect());
    }
    let mut wanted: Vec<Wanted<'a>> = Vec::with_capacity(asked.len());
    for output in asked {
        let spec = find(engine.outputs(), &output.name, "output")?;
        if wanted.iter().any(|known| known.spec.node == spec.node) {
            return Err(InferError::invalid(format!("output '{}' is asked for twice", output.name)));
        }
        wanted.push(Wanted { spec, binary: output.parameters.binary_data.unwrap_or(binary_by_default) });
    }
    Ok(wanted)
}

fn engine_inputs(
    engine: &Engine,
    given: Vec<InputJson>,
    mut binary: &[u8],
) -> Result<Vec<(NodeId, Value)>, InferError> {
    let mut inputs: Vec<(NodeId, Value)> = Vec::with_capacity(given.len());
    for input in given {
        let spec = find(engine.inputs(), &input.name, "input")?;
        if inputs.iter().any(|(node, _)| *node == spec.node) {
            return Err(InferError::invalid(format!("input '{}' is given twice", input.name)));
        }
        inputs.push((spec.node, engine_input(spec, input, &mut binary)?));
    }
    if !binary.is_empty() {
        return Err(InferError::invalid(format!("{} bytes follow the last binary tensor", binary.len())));
    }
    match engine.inputs().iter().find(|spec| !inputs.iter().any(|(node, _)| *node == spec.node)) {
        Some(missing) => Err(InferError::invalid(format!("input '{}' is missing", missing.name))),
        None => Ok(inputs),
    }
}

fn engine_input(spec: &TensorSpec, input: InputJson, binary: &mut &[u8]) -> Result<Value, InferError> {
    let header = TensorHeader {
        name: &input.name,
        sent: sent_datatype(spec, &input)?,
        declared: spec.datatype,
        shape: &input.shape,
    };
    if !spec.admits(&input.shape) {
        let (name, given, wanted) = (&input.name, &input.shape, spec.protocol_shape());
        return Err(InferError::invalid(format!("input '{name}' has shape {given:?}, but the model wants {wanted:?}")));
    }
    match (input.data, input.parameters.binary_data_size) {
        (Some(numbers), None) => header.value_from_numbers(numbers),
        (None, Some(size)) => header.value_from_bytes(take(binary, size, &input.name)?),
        (Some(_), Some(_)) => Err(InferError::invalid(format!("input '{}' has both data and binary data", input.name))),
        (None, None) => Err(InferError::invalid(format!("input '{}' has no data", input.name))),
    }
}

fn sent_datatype(spec: &TensorSpec, input: &InputJson) -> Result<Datatype, InferError> {
    let sent = Datatype::parse(&input.datatype).filter(|sent| spec.datatype.accepts(*sent));
    sent.ok_or_else(|| {
        let (name, given, wanted) = (&input.name, &input.datatype, spec.datatype.name());
        InferError::invalid(format!("input '{name}' has datatype {given}, but the model wants {wanted}"))
    })
}

fn take<'a>(binary: &mut &'a [u8], size: usize, name: &str) -> Result<&'a [u8], InferError> {
    let Some((tensor, rest)) = binary.split_at_checked(size) else {
        let left = binary.len();
        return Err(InferError::invalid(format!("input '{name}' announces {size} binary bytes, but {left} are left")));
    };
    *binary = rest;
    Ok(tensor)
}

fn find<'a>(specs: &'a [TensorSpec], name: &str, what: &str) -> Result<&'a TensorSpec, InferError> {
    specs.iter().find(|spec| spec.name == name).ok_or_else(|| {
        let known: Vec<&str> = specs.iter().map(|spec| spec.name.as_str()).collect();
        InferError::invalid(format!("the model has no {what} '{name}'; it has: {}", known.join(", ")))
    })
}

fn write_answer(
    model_name: &str,
    id: Option<String>,
    wanted: &[Wanted<'_>],
    values: &[Value],
) -> Result<InferAnswer, InferError> {
    let mut binary = Vec::new();
    let outputs = wanted
        .iter()
        .zip(values)
        .map(|(output, value)| output_json(output, value, &mut binary))
        .collect::<Result<_, _>>()?;
    let answer = AnswerJson { model_name, model_version: MODEL_VERSION, id, outputs };
    let mut body = serde_json::to_vec(&answer)
        .map_err(|error| InferError::Failed(format!("the answer cannot be written: {error}")))?;
    let json_length = wanted.iter().any(|output| output.binary).then_some(body.len());
    body.append(&mut binary);
    Ok(InferAnswer { body, json_length })
}

fn output_json<'a>(output: &Wanted<'a>, value: &Value, binary: &mut Vec<u8>) -> Result<OutputJson<'a>, InferError> {
    let spec = output.spec;
    let data = OutputData::from_value(spec.datatype, value).ok_or_else(|| {
        InferError::Failed(format!(
            "output '{}' is {}, not the declared {}",
            spec.name,
            value.dtype(),
            spec.datatype.name()
        ))
    })?;
    let (parameters, data) = if output.binary {
        let before = binary.len();
        data.append_bytes(binary);
        (Some(OutputParameters { binary_data_size: binary.len() - before }), None)
    } else {
        (None, Some(finite(spec, data)?))
    };
    Ok(OutputJson { name: &spec.name, datatype: spec.datatype.name(), shape: shape(value), parameters, data })
}

fn finite(spec: &TensorSpec, data: OutputData) -> Result<OutputData, InferError> {
    match data.first_non_finite() {
        None => Ok(data),
        Some(index) => Err(InferError::Failed(format!(
            "output '{}' holds NaN or infinity at element {index}, which JSON cannot carry; ask for it with binary_data",
            spec.name
        ))),
    }
}

fn shape(value: &Value) -> Vec<usize> {
    use rten_tensor::Layout;
    value.shape().to_vec()
}
