//! The look at an ONNX file that comes before the engine parses it.

use tidegate::model::decoders::look_at_model;

/// The input of the built-in model, and of the corpus.
const TENSOR: &str = "image";

/// Looks and nothing else.
pub fn decode(data: &[u8]) {
    let _ = look_at_model(data, TENSOR);
}

/// The look ends, however deep and long what it sees, and a file that ends in the middle of a field never passes.
pub fn target(data: &[u8]) {
    let (looks_right, _) = look_at_model(data, TENSOR);
    assert!(!(looks_right && data.is_empty()), "nothing is no model");
    if looks_right {
        // Field 1 with a length of 127, and nothing behind it.
        let cut = [data, &[0x0a, 0x7f]].concat();
        assert!(!look_at_model(&cut, TENSOR).0, "a file that ends within a field was let pass");
    }
}
