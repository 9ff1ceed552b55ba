//! The built-in model server, as the real binary, over HTTP.

mod replica;

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::Stdio;

use nix::sys::signal::Signal;
use replica::{
    Answer, Program, eventually, get, kibibytes_of, model, post, read_answer, relu, request, tidegate, write_model,
};
use rten_onnx::onnx::DataType;
use serde_json::{Value, json};
use tempfile::TempDir;

/// A server, the directory of its model, and where it listens.
struct Served {
    program: Program,
    address: String,
    _directory: TempDir,
}

fn serve_with(make: impl FnOnce(&Path) -> std::path::PathBuf, arguments: &[&str]) -> Served {
    let directory = tempfile::tempdir().unwrap();
    let mut command = tidegate(&["model", "serve"]);
    command.arg(make(directory.path())).args(arguments);
    let mut program = Program::start(command);
    let address = program.address();
    Served { program, address, _directory: directory }
}

fn serve_relu(arguments: &[&str]) -> Served {
    serve_with(relu, arguments)
}

fn tensor(shape: &[usize], datatype: &str, data: Value) -> Value {
    json!({ "name": "x", "shape": shape, "datatype": datatype, "data": data })
}

fn infer(address: &str, input: Value) -> Answer {
    post(address, "/v2/models/relu/infer", &json!({ "inputs": [input] }))
}

/// Runs a server that is expected to give up, and returns its exit code and what it said.
fn refused(arguments: &[&str]) -> (Option<i32>, String) {
    let mut command = tidegate(&["model", "serve"]);
    command.args(arguments).stderr(Stdio::piped());
    let mut program = Program::start(command);
    let code = program.ended().code();
    let mut said = String::new();
    program.child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
    (code, said)
}

#[test]
fn metadata_and_health_are_told_with_and_without_a_version() {
    let served = serve_relu(&["--name", "m"]);
    let server = get(&served.address, "/v2").json();
    assert_eq!(server["name"], "tidegate");
    assert_eq!(server["extensions"], json!(["binary_tensor_data", "model_configuration"]));
    assert_eq!(get(&served.address, "/v2/health/live").json(), json!({ "live": true }));
    assert_eq!(get(&served.address, "/v2/health/ready").json(), json!({ "ready": true }));
    for path in ["/v2/models/m", "/v2/models/m/versions/1"] {
        let metadata = get(&served.address, path).json();
        assert_eq!(metadata["inputs"], json!([{ "name": "x", "datatype": "FP32", "shape": [-1, 2] }]));
        assert_eq!(metadata["outputs"], json!([{ "name": "y", "datatype": "FP32", "shape": [-1, 2] }]));
        assert_eq!(metadata["versions"], json!(["1"]));
        assert_eq!(get(&served.address, &format!("{path}/ready")).json(), json!({ "name": "m", "ready": true }));
        let config = get(&served.address, &format!("{path}/config")).json();
        assert_eq!(config["input"], json!([{ "name": "x", "data_type": "TYPE_FP32", "dims": [-1, 2] }]));
        assert_eq!(config["max_batch_size"], 0);
    }
}

#[test]
fn an_inference_answers_with_the_id_the_version_and_the_tensors() {
    let served = serve_relu(&[]);
    let body = json!({
        "id": "a-7",
        "inputs": [tensor(&[2, 2], "FP32", json!([[-1, 2.5], [3, -4]]))],
        "outputs": [{ "name": "y" }],
    });
    for path in ["/v2/models/relu/infer", "/v2/models/relu/versions/1/infer"] {
        let answer = post(&served.address, path, &body);
        assert_eq!(answer.status, 200, "{answer:?}");
        let wanted = json!({
            "id": "a-7",
            "model_name": "relu",
            "model_version": "1",
            "outputs": [{ "name": "y", "datatype": "FP32", "shape": [2, 2], "data": [0.0, 2.5, 3.0, 0.0] }],
        });
        assert_eq!(answer.json(), wanted);
    }
    assert_eq!(
        infer(&served.address, tensor(&[1, 2], "FP64", json!([1, -1]))).json()["outputs"][0]["data"],
        json!([1.0, 0.0])
    );
    assert_eq!(infer(&served.address, tensor(&[0, 2], "FP32", json!([]))).json()["outputs"][0]["shape"], json!([0, 2]));
}

#[test]
fn what_the_caller_did_wrong_is_said() {
    let served = serve_relu(&[]);
    let good = || tensor(&[1, 2], "FP32", json!([1, 2]));
    let with = |member: &str, value: Value| {
        let mut input = good();
        input[member] = value;
        json!({ "inputs": [input] })
    };
    let cases = [
        (json!({ "inputs": [] }), "input 'x' is missing"),
        (with("name", json!("z")), "the model has no input 'z'; it has: x"),
        (json!({ "inputs": [good(), good()] }), "input 'x' is given twice"),
        (with("shape", json!([1, 3])), "input 'x' has shape [1, 3], but the model wants [-1, 2]"),
        (with("shape", json!([2])), "input 'x' has shape [2], but the model wants [-1, 2]"),
        (with("shape", json!([2, 2])), "input 'x' has shape [2, 2], which is 4 elements, but its data holds 2"),
        (with("shape", json!([-1, 2])), "not a valid inference request"),
        (with("datatype", json!("INT32")), "input 'x' has datatype INT32, but the model wants FP32"),
        (with("datatype", json!("BYTES")), "input 'x' has datatype BYTES, but the model wants FP32"),
        (with("data", json!([1, "2"])), "not a valid inference request"),
        (with("data", json!([1, null])), "not a valid inference request"),
        (with("data", json!([true, false])), "input 'x' holds a boolean, which is no FP32"),
        (with("data", json!([1, 1e39])), "input 'x' holds 1e39, out of range for FP32"),
        (with("parameters", json!({ "binary_data_size": 8 })), "input 'x' has both data and binary data"),
        (json!({ "inputs": [good()], "outputs": [{ "name": "q" }] }), "the model has no output 'q'; it has: y"),
        (json!({ "inputs": [good()], "outputs": [{ "name": "y" }, { "name": "y" }] }), "output 'y' is asked for twice"),
        (json!({}), "missing field `inputs`"),
    ];
    for (body, message) in cases {
        let answer = post(&served.address, "/v2/models/relu/infer", &body);
        assert_eq!(answer.status, 400, "{body}");
        let error = answer.error();
        assert!(error.replace("1000000000000000000000000000000000000000", "1e39").contains(message), "{body}: {error}");
    }
    for broken in [&b"{"[..], b"", b"\xff\xfe", &b"[".repeat(200_000)] {
        assert_eq!(request(&served.address, "POST /v2/models/relu/infer HTTP/1.1\r\n", broken).status, 400);
    }
    assert_eq!(infer(&served.address, good()).status, 200, "it still serves");
}

#[test]
fn an_unknown_model_version_path_or_method_is_an_error_in_json() {
    let served = serve_relu(&[]);
    for path in ["/v2/models/other", "/v2/models/relu/versions/2", "/v2/models/relu/versions/2/ready", "/", "/v3"] {
        let answer = get(&served.address, path);
        assert_eq!(answer.status, 404, "{path}");
        assert!(!answer.error().is_empty());
    }
    assert_eq!(post(&served.address, "/v2/models/other/infer", &json!({})).status, 404);
    assert_eq!(get(&served.address, "/v2/models/relu/infer").status, 405);
}

#[test]
fn a_body_over_the_limit_is_refused_before_it_is_read() {
    let served = serve_relu(&[]);
    let mut stream = TcpStream::connect(&served.address).unwrap();
    let head =
        "POST /v2/models/relu/infer HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: 16777217\r\n\r\n";
    stream.write_all(head.as_bytes()).unwrap();
    let answer = read_answer(&mut stream).expect("an answer");
    assert_eq!(answer.status, 413);
    assert!(answer.error().contains("over the limit of 16777216 bytes"), "{answer:?}");
    let mut chunked = TcpStream::connect(&served.address).unwrap();
    let head =
        "POST /v2/models/relu/infer HTTP/1.1\r\nhost: x\r\nconnection: close\r\ntransfer-encoding: chunked\r\n\r\n";
    chunked.write_all(head.as_bytes()).unwrap();
    // One chunk of a body that is announced by nothing; the server may answer before it has taken all of it.
    let _answered_early = chunked.write_all(format!("{:x}\r\n", 17 << 20).as_bytes());
    let _answered_early = chunked.write_all(&vec![b' '; 17 << 20]);
    if let Some(answer) = read_answer(&mut chunked) {
        assert_eq!(answer.status, 413);
    }
    assert_eq!(get(&served.address, "/v2/health/ready").status, 200);
}

#[test]
fn integers_travel_as_declared_and_their_range_is_checked() {
    let int64 = |directory: &Path| {
        let sizes: &[Option<i64>] = &[None];
        let identity = model("Identity", &[("x", DataType::INT64, sizes)], &[("y", DataType::INT64, sizes)]);
        write_model(directory, "relu", &identity)
    };
    let served = serve_with(int64, &[]);
    let answer = infer(&served.address, tensor(&[2], "INT64", json!([-2_147_483_648_i64, 2_147_483_647])));
    let output = json!({ "name": "y", "datatype": "INT64", "shape": [2], "data": [-2_147_483_648_i64, 2_147_483_647] });
    assert_eq!(answer.json()["outputs"][0], output);
    assert_eq!(infer(&served.address, tensor(&[1], "INT8", json!([-128]))).status, 200);
    for (datatype, data) in [("INT64", json!([2_147_483_648_i64])), ("INT8", json!([128])), ("INT32", json!([0.5]))] {
        assert_eq!(infer(&served.address, tensor(&[1], datatype, data)).status, 400, "{datatype}");
    }
    assert_eq!(get(&served.address, "/v2/models/relu").json()["inputs"][0]["datatype"], "INT64");
}

#[test]
fn every_declared_type_goes_in_and_comes_back() {
    let types = [
        (DataType::BOOL, "BOOL", json!([true, false])),
        (DataType::INT8, "INT8", json!([-128, 127])),
        (DataType::UINT8, "UINT8", json!([0, 255])),
        (DataType::INT32, "INT32", json!([-7, 7])),
        (DataType::DOUBLE, "FP64", json!([0.5, -2.0])),
    ];
    for (element, datatype, data) in types {
        let identity = |directory: &Path| {
            let sizes: &[Option<i64>] = &[Some(2)];
            write_model(directory, "relu", &model("Identity", &[("x", element, sizes)], &[("y", element, sizes)]))
        };
        let served = serve_with(identity, &[]);
        let answer = infer(&served.address, tensor(&[2], datatype, data.clone())).json();
        assert_eq!(answer["outputs"], json!([{ "name": "y", "datatype": datatype, "shape": [2], "data": data }]));
    }
}

#[test]
fn a_result_that_json_cannot_carry_is_an_error_that_names_the_way_out() {
    let log = |directory: &Path| {
        let sizes: &[Option<i64>] = &[None];
        write_model(
            directory,
            "relu",
            &model("Log", &[("x", DataType::FLOAT, sizes)], &[("y", DataType::FLOAT, sizes)]),
        )
    };
    let served = serve_with(log, &[]);
    let answer = infer(&served.address, tensor(&[2], "FP32", json!([1, -1])));
    assert_eq!(answer.status, 500);
    assert_eq!(
        answer.error(),
        "output 'y' holds NaN or infinity at element 1, which JSON cannot carry; ask for it with binary_data"
    );
    let body =
        json!({ "inputs": [tensor(&[2], "FP32", json!([1, -1]))], "parameters": { "binary_data_output": true } });
    let answer = post(&served.address, "/v2/models/relu/infer", &body);
    let length: usize = answer.header("inference-header-content-length").unwrap().parse().unwrap();
    let elements: Vec<f32> = floats(&answer.body[length..]);
    assert!(elements[0].abs() < 1e-6 && elements[1].is_nan(), "{elements:?}");
}

fn floats(bytes: &[u8]) -> Vec<f32> {
    bytes.as_chunks::<4>().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect()
}

#[test]
fn tensors_travel_as_bytes_behind_the_json() {
    let served = serve_relu(&[]);
    let json = json!({
        "inputs": [{ "name": "x", "shape": [1, 2], "datatype": "FP32", "parameters": { "binary_data_size": 8 } }],
        "outputs": [{ "name": "y", "parameters": { "binary_data": true } }],
    })
    .to_string();
    let bytes: Vec<u8> = [-1.0_f32, 2.5].iter().flat_map(|element| element.to_le_bytes()).collect();
    let send = |json_length: usize, body: &[u8]| {
        let head = format!("POST /v2/models/relu/infer HTTP/1.1\r\ninference-header-content-length: {json_length}\r\n");
        request(&served.address, &head, body)
    };
    let answer = send(json.len(), &[json.as_bytes(), &bytes].concat());
    assert_eq!((answer.status, answer.header("content-type")), (200, Some("application/octet-stream")));
    let length: usize = answer.header("inference-header-content-length").unwrap().parse().unwrap();
    let described: Value = serde_json::from_slice(&answer.body[..length]).unwrap();
    let output = json!({ "name": "y", "datatype": "FP32", "shape": [1, 2], "parameters": { "binary_data_size": 8 } });
    assert_eq!(described["outputs"][0], output);
    assert_eq!(floats(&answer.body[length..]), [0.0, 2.5]);
    let too_long = [json.as_bytes(), &bytes, b"more"].concat();
    for (json_length, body) in [(json.len(), json.as_bytes()), (json.len(), &too_long), (9_999, json.as_bytes())] {
        assert_eq!(send(json_length, body).status, 400);
    }
}

#[test]
fn a_missing_corrupt_or_unsupported_model_exits_with_2_and_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let file = |name: &str, content: &[u8]| {
        let path = directory.path().join(name);
        std::fs::write(&path, content).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let good = std::fs::read(relu(directory.path())).unwrap();
    let unsupported = model("Identity", &[("x", DataType::STRING, &[None])], &[("y", DataType::STRING, &[None])]);
    let unsupported = write_model(directory.path(), "strings", &unsupported);
    let unknown = model("NoSuchOperator", &[("x", DataType::FLOAT, &[None])], &[("y", DataType::FLOAT, &[None])]);
    let unknown = write_model(directory.path(), "unknown", &unknown);
    let silent = model("Relu", &[("x", DataType::FLOAT, &[None])], &[]);
    let silent = write_model(directory.path(), "silent", &silent);
    let cases = [
        ("/no/such/model.onnx".to_owned(), "cannot read model"),
        (directory.path().to_str().unwrap().to_owned(), "cannot read model"),
        (file("empty.onnx", b""), "cannot load model"),
        (file("noise.onnx", &[0x9c; 4096]), "cannot load model"),
        (file("cut.onnx", &good[..good.len() / 2]), "cannot load model"),
        (file("model.bin", &good), "cannot load model"),
        (unsupported.to_str().unwrap().to_owned(), "tensor 'x' has element type STRING"),
        (unknown.to_str().unwrap().to_owned(), "NoSuchOperator"),
        (silent.to_str().unwrap().to_owned(), "it has no outputs"),
        ("builtin:nothing".to_owned(), "there is no built-in model 'nothing'"),
    ];
    for (path, message) in cases {
        let (code, said) = refused(&[&path]);
        assert_eq!(code, Some(2), "{path}: {said}");
        assert!(said.contains(message), "{path}: {said}");
        assert!(!said.contains("panicked"), "{path}: {said}");
    }
}

#[test]
fn a_taken_port_exits_with_1_and_an_unknown_core_with_2() {
    let directory = tempfile::tempdir().unwrap();
    let path = relu(directory.path());
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let (code, said) = refused(&[path.to_str().unwrap(), "--port", &port]);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains(&format!("cannot listen on 127.0.0.1:{port}")), "{said}");
    let (code, said) = refused(&[path.to_str().unwrap(), "--cpus", "1000"]);
    assert_eq!(code, Some(2));
    assert!(said.contains("core 1000 does not exist here; this process may run on 0"), "{said}");
    assert_eq!(refused(&[path.to_str().unwrap(), "--name", "a/b"]).0, Some(2));
}

#[test]
fn it_runs_on_the_cores_it_is_told() {
    let served = serve_relu(&["--cpus", "0"]);
    let pid = served.program.pid();
    let threads: Vec<_> = std::fs::read_dir(format!("/proc/{pid}/task")).unwrap().flatten().collect();
    // One that has ended since is gone.
    let statuses: Vec<_> =
        threads.iter().filter_map(|thread| std::fs::read_to_string(thread.path().join("status")).ok()).collect();
    assert!(!statuses.is_empty());
    for status in statuses {
        assert!(status.lines().any(|line| line == "Cpus_allowed_list:\t0"), "{status}");
    }
}

#[test]
fn it_ends_at_the_end_of_its_standard_input_only_where_told_to_watch_it() {
    let mut watching = serve_relu(&["--watch-stdin"]);
    let mut indifferent = serve_relu(&[]);
    indifferent.program.close_stdin();
    watching.program.close_stdin();
    assert_eq!(watching.program.ended().code(), Some(0));
    assert_eq!(infer(&indifferent.address, tensor(&[1, 2], "FP32", json!([1, 2]))).status, 200);
    assert!(indifferent.program.child.try_wait().unwrap().is_none());
}

#[test]
fn sigterm_finishes_what_is_in_flight_and_exits_with_0() {
    let mut served = serve_relu(&[]);
    let body = json!({ "inputs": [tensor(&[1, 2], "FP32", json!([-1, 2]))] }).to_string();
    let mut held = TcpStream::connect(&served.address).unwrap();
    let head = "POST /v2/models/relu/infer HTTP/1.1\r\nhost: x\r\nconnection: close\r\nexpect: 100-continue\r\n";
    held.write_all(format!("{head}content-length: {}\r\n\r\n", body.len()).as_bytes()).unwrap();
    // The interim answer proves that the request is being handled, not waiting to be accepted.
    let mut interim = [0; 25];
    held.read_exact(&mut interim).unwrap();
    served.program.signal(Signal::SIGTERM);
    eventually("it listens no more", || TcpStream::connect(&served.address).err());
    held.write_all(body.as_bytes()).unwrap();
    assert_eq!(read_answer(&mut held).expect("an answer").status, 200);
    assert_eq!(served.program.ended().code(), Some(0));
}

#[test]
fn the_built_in_model_reads_held_out_digits() {
    let mut program = Program::start(tidegate(&["model", "serve", "builtin:digits"]));
    let address = program.address();
    let images = edge_config::models::heldout();
    let count = images.len();
    assert!(count >= 300, "{count} images");
    let right = images.filter(|(pixels, digit)| read_digit(&address, *pixels) == usize::from(*digit)).count();
    println!("{right} of {count} right; resident {} KiB", kibibytes_of(program.pid(), "VmRSS"));
    assert!(right * 100 >= count * 97, "{right} of {count}");
}

fn read_digit(address: &str, pixels: &[u8]) -> usize {
    let input = json!({ "name": "image", "shape": [1, 1, 8, 8], "datatype": "FP32", "data": pixels });
    let answer = post(address, "/v2/models/digits/infer", &json!({ "inputs": [input] }));
    assert_eq!(answer.status, 200, "{answer:?}");
    let scores: Vec<f64> = serde_json::from_value(answer.json()["outputs"][0]["data"].clone()).unwrap();
    (0..scores.len()).max_by(|a, b| scores[*a].total_cmp(&scores[*b])).expect("ten scores")
}
