//! The built-in ONNX replica server: one model behind the Open Inference Protocol v2 (REST), in a process of its own.
//!
//! `datatype` and `tensor` know the protocol's tensors, `protocol` its messages, `onnx_file` and `engine` the model, `workers` the
//! threads that infer, `http` the routes, `serve` the life of the process. It stands alone: nothing here knows a node.

mod datatype;
#[doc(hidden)]
pub mod decoders;
mod engine;
mod error;
mod http;
mod numbers;
mod onnx_file;
mod protocol;
mod serve;
mod tensor;
mod workers;

pub use engine::{Engine, LoadError, ModelSource};
pub use error::InferError;
pub use serve::{ServeError, ServeOptions, serve};
