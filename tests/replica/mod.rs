//! What the tests of replicas share: the real binary as a process that never outlives its test, a plain HTTP client, the
//! process table, and a small model.

#![allow(dead_code, reason = "each test binary uses its part")]

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;
use rten_onnx::onnx::{
    DataType, Dimension, GraphProto, ModelProto, NodeProto, OperatorSetIdProto, TensorShapeProto, TypeProto,
    TypeProtoTensor, ValueInfoProto,
};

/// Ample on a machine that builds and tests other things at the same time.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// Between two looks at a condition.
const LOOK_INTERVAL: Duration = Duration::from_millis(15);

/// Looks until the condition gives something, or fails the test after [`PATIENCE`].
pub(crate) fn eventually<T>(what: &str, mut condition: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = condition() {
            return found;
        }
        assert!(Instant::now() < deadline, "not within {PATIENCE:?}: {what}");
        std::thread::sleep(LOOK_INTERVAL);
    }
}

/// The program under test, leading a process group of its own.
pub(crate) fn tidegate(arguments: &[&str]) -> Command {
    use std::os::unix::process::CommandExt;
    let mut command = Command::new(env!("CARGO_BIN_EXE_tidegate"));
    command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::inherit()).process_group(0);
    command
}

/// A started program. Dropped, it and its group are killed, and so is what it started in other groups.
pub(crate) struct Program {
    pub(crate) child: Child,
}

impl Program {
    pub(crate) fn start(mut command: Command) -> Self {
        Self { child: command.spawn().expect("the program starts") }
    }

    pub(crate) fn pid(&self) -> Pid {
        Pid::from_raw(self.child.id().try_into().unwrap())
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill(self.pid(), signal).expect("the program is there");
    }

    /// Its exit status, once it ended by itself.
    pub(crate) fn ended(&mut self) -> ExitStatus {
        eventually("the program ends", || self.child.try_wait().unwrap())
    }

    pub(crate) fn close_stdin(&mut self) {
        drop(self.child.stdin.take());
    }

    /// Reads its standard output until the line with its address.
    pub(crate) fn address(&mut self) -> String {
        use std::io::BufRead;
        let output = self.child.stdout.take().expect("standard output is a pipe");
        let line = std::io::BufReader::new(output).lines().next().expect("a line").unwrap();
        line.rsplit_once("http://").expect("an address").1.to_owned()
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(Some(_))) {
            return;
        }
        let started = descendants(self.pid());
        let _gone = killpg(self.pid(), Signal::SIGKILL);
        for pid in started {
            let _gone = kill(pid, Signal::SIGKILL);
        }
        let _reaped = self.child.wait();
    }
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    pid: i32,
    parent: i32,
    group: i32,
}

/// Everything alive in the process table; who only waits to be reaped is not alive.
fn processes() -> Vec<Entry> {
    let entries = std::fs::read_dir("/proc").unwrap().flatten();
    entries.filter_map(|entry| process(entry.file_name().to_str()?.parse().ok()?)).collect()
}

fn process(pid: i32) -> Option<Entry> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_ascii_whitespace().collect();
    let alive = !matches!(fields[0], "Z" | "X");
    alive.then_some(Entry { pid, parent: fields[1].parse().ok()?, group: fields[2].parse().ok()? })
}

/// Who is alive in a process group.
pub(crate) fn group_members(group: Pid) -> Vec<Pid> {
    processes().iter().filter(|entry| entry.group == group.as_raw()).map(|entry| Pid::from_raw(entry.pid)).collect()
}

/// All that a process started, and what that started.
pub(crate) fn descendants(ancestor: Pid) -> Vec<Pid> {
    let table = processes();
    let mut found = vec![ancestor.as_raw()];
    let mut next = 0;
    while next < found.len() {
        let parent = found[next];
        found.extend(table.iter().filter(|entry| entry.parent == parent).map(|entry| entry.pid));
        next += 1;
    }
    found[1..].iter().map(|pid| Pid::from_raw(*pid)).collect()
}

pub(crate) fn is_alive(pid: Pid) -> bool {
    process(pid.as_raw()).is_some()
}

pub(crate) fn kibibytes_of(pid: Pid, field: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with(field)).unwrap();
    line.split_ascii_whitespace().nth(1).unwrap().parse().unwrap()
}

/// An HTTP answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| {
            panic!("{error}: {}", String::from_utf8_lossy(&self.body));
        })
    }

    /// The member `error`, which every error answer has.
    pub(crate) fn error(&self) -> String {
        self.json()["error"].as_str().expect("an error message").to_owned()
    }
}

/// One request on a connection of its own. `None`: no connection, or one that broke.
pub(crate) fn try_request(address: &str, head: &str, body: &[u8]) -> Option<Answer> {
    let mut stream = TcpStream::connect(address).ok()?;
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let length = body.len();
    stream
        .write_all(format!("{head}host: {address}\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n").as_bytes())
        .ok()?;
    stream.write_all(body).ok()?;
    read_answer(&mut stream)
}

pub(crate) fn read_answer(stream: &mut TcpStream) -> Option<Answer> {
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).ok()?;
    let end = bytes.windows(4).position(|window| window == b"\r\n\r\n")?;
    let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
    let mut lines = head.lines();
    let status = lines.next()?.split(' ').nth(1)?.parse().ok()?;
    let headers =
        lines.filter_map(|line| line.split_once(": ")).map(|(n, v)| (n.to_lowercase(), v.to_owned())).collect();
    Some(Answer { status, headers, body: bytes[end + 4..].to_vec() })
}

pub(crate) fn request(address: &str, head: &str, body: &[u8]) -> Answer {
    try_request(address, head, body).unwrap_or_else(|| panic!("no answer to {head}"))
}

pub(crate) fn get(address: &str, path: &str) -> Answer {
    request(address, &format!("GET {path} HTTP/1.1\r\n"), b"")
}

pub(crate) fn post(address: &str, path: &str, body: &serde_json::Value) -> Answer {
    request(address, &format!("POST {path} HTTP/1.1\r\n"), body.to_string().as_bytes())
}

/// A tensor of a model that a test makes: name, element type, sizes (`None` for a dynamic one).
pub(crate) type Tensor<'a> = (&'a str, DataType, &'a [Option<i64>]);

/// A model of one operator.
pub(crate) fn model(operator: &str, inputs: &[Tensor<'_>], outputs: &[Tensor<'_>]) -> ModelProto {
    let names = |tensors: &[Tensor<'_>]| tensors.iter().map(|tensor| tensor.0.to_owned()).collect();
    let node = NodeProto {
        input: names(inputs),
        output: names(outputs),
        op_type: Some(operator.to_owned()),
        name: Some("op".to_owned()),
        ..NodeProto::default()
    };
    let graph = GraphProto {
        node: vec![node],
        input: inputs.iter().map(value_info).collect(),
        output: outputs.iter().map(value_info).collect(),
        ..GraphProto::default()
    };
    ModelProto {
        ir_version: Some(8),
        graph: Some(graph),
        opset_import: vec![OperatorSetIdProto { version: Some(17), ..OperatorSetIdProto::default() }],
        ..ModelProto::default()
    }
}

fn value_info(tensor: &Tensor<'_>) -> ValueInfoProto {
    let (name, element, sizes) = tensor;
    let dim = sizes.iter().map(|size| Dimension { dim_value: *size, dim_param: None }).collect();
    let tensor_type = TypeProtoTensor { elem_type: Some(*element), shape: Some(TensorShapeProto { dim }) };
    let r#type = Some(TypeProto { tensor_type: Some(tensor_type), ..TypeProto::default() });
    ValueInfoProto { name: Some((*name).to_owned()), r#type }
}

/// Writes a model to a directory and returns its path.
pub(crate) fn write_model(directory: &Path, name: &str, model: &ModelProto) -> PathBuf {
    let path = directory.join(format!("{name}.onnx"));
    std::fs::write(&path, model.write_buf().unwrap()).unwrap();
    path
}

/// `relu.onnx`: `x` of any number of rows of two FP32, and `y` of the same.
pub(crate) fn relu(directory: &Path) -> PathBuf {
    let sizes: &[Option<i64>] = &[None, Some(2)];
    write_model(directory, "relu", &model("Relu", &[("x", DataType::FLOAT, sizes)], &[("y", DataType::FLOAT, sizes)]))
}
