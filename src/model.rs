//! The built-in ONNX replica server.
