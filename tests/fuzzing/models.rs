//! Small ONNX files put together by hand, and requests for the built-in model, whole and damaged.

use super::corpus::Inputs;

/// More levels of graphs within graphs than the look follows.
const ABYSS: usize = 120;

/// A length-delimited field of a protocol buffer.
fn field(number: u8, content: &[u8]) -> Vec<u8> {
    let (low, high) = (content.len() & 0x7f, content.len() >> 7);
    let length = if high == 0 {
        vec![u8::try_from(low).unwrap()]
    } else {
        vec![u8::try_from(low).unwrap() | 0x80, u8::try_from(high).unwrap()]
    };
    [&[number << 3 | 2][..], &length, content].concat()
}

/// A model with one node, one weight and an input `image` of type FLOAT, as ONNX writes it.
fn model(tensor: &[u8]) -> Vec<u8> {
    let shape = field(1, &[0x08, 0x01]);
    let tensor_type = field(1, &[&[0x08, 0x01][..], &field(2, &shape)].concat());
    let input = [field(1, b"image"), field(2, &tensor_type)].concat();
    let node = [field(1, b"image"), field(2, b"y"), field(4, b"Relu")].concat();
    let graph = [field(1, &node), field(2, b"tide"), field(5, tensor), field(11, &input)].concat();
    [vec![0x08, 0x09], field(2, b"by hand"), field(7, &graph)].concat()
}

/// ONNX files: whole, cut, and with lengths that lie at each depth.
pub(super) fn files() -> Inputs {
    let whole = model(&[field(1, &[1, 8]), field(4, &[0; 32])].concat());
    let endless = [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01];
    let mut inputs: Inputs = [
        made("whole", whole.clone()),
        made("empty", Vec::new()),
        made("cut", whole[..whole.len() / 2].to_vec()),
        made("cut-before-the-end", whole[..whole.len() - 1].to_vec()),
        made("no-graph", field(2, b"by hand")),
        made("two-graphs", [&whole[..], &field(7, b"")].concat()),
        made("endless", [&[0x3a][..], &endless].concat()),
        made("number-of-eleven-bytes", [&[0x08][..], &endless, &[0x01]].concat()),
        made("group", vec![0x3b, 0x3c]),
        made("packed-number-cut", model(&field(7, &[0x80]))),
        made("floats-of-three-bytes", model(&field(4, &[0, 0, 0]))),
        made("doubles-of-seven-bytes", model(&field(10, &[0; 7]))),
        made("text", b"not a model at all".to_vec()),
    ]
    .into();
    for at in (0..whole.len()).step_by(9) {
        let mut lying = whole.clone();
        lying[at] = 0x7f;
        inputs.extend([made(&format!("lying-at-{at}"), lying)]);
    }
    // Graph { node { attribute { graph … } } }, three levels at a time.
    let mut graph = Vec::new();
    (0..ABYSS).for_each(|_| graph = field(1, &field(5, &field(6, &graph))));
    inputs.extend([made("deep", field(7, &graph))]);
    inputs
}

/// Requests in JSON: `(name, inputs and what follows them)`.
const REQUESTS: &[(&str, &str)] = &[
    ("shape-without-data", r#"[{"name":"image","shape":[1,1,8,8],"datatype":"FP32"}]}"#),
    ("huge-shape", r#"[{"name":"image","shape":[18446744073709551615,1,8,8],"datatype":"FP32","data":[1]}]}"#),
    (
        "shape-whose-product-overflows",
        r#"[{"name":"image","shape":[288230376151711744,1,8,8],"datatype":"FP32","data":[]}]}"#,
    ),
    ("shape-of-nothing", r#"[{"name":"image","shape":[0,1,8,8],"datatype":"FP32","data":[]}]}"#),
    ("shape-below-zero", r#"[{"name":"image","shape":[-1,1,8,8],"datatype":"FP32","data":[]}]}"#),
    ("shape-of-many", r#"[{"name":"image","shape":[1,1,1,1,1,1,1,1,1,1,1,1,8,8],"datatype":"FP32","data":[1]}]}"#),
    ("another-type", r#"[{"name":"image","shape":[1,1,8,8],"datatype":"BYTES","data":["x"]}]}"#),
    ("ragged", r#"[{"name":"image","shape":[1,1,8,8],"datatype":"FP32","data":[[1,2],[3]]}]}"#),
    ("deep-data", r#"[{"name":"image","shape":[1,1,8,8],"datatype":"FP32","data":[[[[[[[[[[[[1]]]]]]]]]]]]}]}"#),
    (
        "data-that-no-float-holds",
        r#"[{"name":"image","shape":[1,1,8,8],"datatype":"FP32","data":[1e400,"NaN",null,true]}]}"#,
    ),
    (
        "input-twice",
        r#"[{"name":"image","shape":[0,1,8,8],"datatype":"FP32","data":[]},{"name":"image","shape":[0,1,8,8],"datatype":"FP32","data":[]}]}"#,
    ),
    ("unknown-input", r#"[{"name":"x","shape":[1],"datatype":"FP32","data":[1]}]}"#),
    ("no-inputs", "[]}"),
    ("unknown-output", r#"[],"outputs":[{"name":"x"}]}"#),
    ("output-twice", r#"[],"outputs":[{"name":"logits"},{"name":"logits"}]}"#),
    (
        "both-kinds-of-data",
        r#"[{"name":"image","shape":[1,1,8,8],"datatype":"FP32","data":[1],"parameters":{"binary_data_size":256}}]}"#,
    ),
];

/// Requests for the built-in model: whole in JSON and in binary, and everything above.
pub(super) fn requests() -> Inputs {
    let numbers = vec!["16"; 64].join(",");
    let json =
        format!(r#"{{"id":"1","inputs":[{{"name":"image","shape":[1,1,8,8],"datatype":"FP32","data":[{numbers}]}}]}}"#);
    let header = |size: u64| {
        let parameters = format!(r#"{{"binary_data_size":{size}}}"#);
        format!(r#"{{"inputs":[{{"name":"image","shape":[1,1,8,8],"datatype":"FP32","parameters":{parameters}}}]}}"#)
    };
    let binary = |header: String, length: usize| [format!("{length}\n{header}").into_bytes(), vec![0x41; 256]].concat();
    let (right, lying) = (header(256), header(u64::MAX));
    let mut inputs: Inputs = [
        made("json", json.clone().into_bytes()),
        made("json-cut", json.as_bytes()[..json.len() / 2].to_vec()),
        made("binary", binary(right.clone(), right.len())),
        made("binary-with-a-size-that-lies", binary(lying.clone(), lying.len())),
        made("binary-with-a-header-that-is-too-long", binary(right.clone(), usize::MAX)),
        made("binary-with-a-header-that-is-too-short", binary(right.clone(), right.len() - 1)),
        made("binary-of-a-byte-too-many", [binary(right.clone(), right.len()), vec![0]].concat()),
        made("empty", Vec::new()),
        made("deep", [br#"{"inputs":"#.to_vec(), vec![b'['; 1_000]].concat()),
        made("not-utf-8", b"{\"inputs\":[{\"name\":\"\xc3\x28\"}]}".to_vec()),
    ]
    .into();
    inputs.extend(REQUESTS.iter().map(|(name, rest)| made(name, format!(r#"{{"inputs":{rest}"#).into_bytes())));
    inputs
}

fn made(name: &str, data: Vec<u8>) -> (String, Vec<u8>) {
    (format!("made-{name}"), data)
}
