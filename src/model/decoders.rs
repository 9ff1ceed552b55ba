//! The decoders of this room without a server around them, for the fuzz targets (`fuzz/`). Nothing else calls them.

use bytes::Bytes;

use super::engine::Engine;
use super::error::InferError;
use super::onnx_file;
use super::protocol::{self, InferRequest};

/// Looks at a model file as it is looked at before the engine parses it: whether the engine would be given it, and whether
/// it declares an element type for an input or output of that name.
pub fn look_at_model(file: &[u8], tensor: &str) -> (bool, bool) {
    (onnx_file::check(file).is_ok(), onnx_file::element_type(file, tensor).is_some())
}

/// Reads an inference request for the model of `engine`, as far as the tensors: how many elements they have. The first
/// `json_length` bytes are JSON, all of the body where that is not said.
///
/// # Errors
/// It is no request for that model.
pub fn read_request(engine: &Engine, body: &[u8], json_length: Option<usize>) -> Result<usize, InferError> {
    use rten_tensor::Layout;
    let request = InferRequest { body: Bytes::copy_from_slice(body), json_length };
    let asked = protocol::read(engine, &request)?;
    Ok(asked.inputs.iter().map(|(_, value)| value.len()).sum())
}
