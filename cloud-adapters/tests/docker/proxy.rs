//! Something wrong between a client and its daemon: a socket that passes requests on and does one thing to each.

use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

use cloud_adapters::contract::Fault;

/// Later than the second of patience that the suite has with a faulty client.
const DELAY: Duration = Duration::from_millis(1500);

/// Starts one on a socket beside the daemon's; it ends with the test's process.
pub(crate) fn start(daemon: PathBuf, fault: Fault) -> PathBuf {
    let socket = daemon.with_file_name(format!("{fault:?}.sock"));
    let listener = UnixListener::bind(&socket).expect("bind");
    std::thread::spawn(move || {
        for client in listener.incoming().flatten() {
            let daemon = daemon.clone();
            // An error is a client that went away.
            std::thread::spawn(move || serve(client, &daemon, fault));
        }
    });
    socket
}

fn serve(mut client: UnixStream, daemon: &Path, fault: Fault) -> std::io::Result<()> {
    let request = read_request(&mut client)?;
    // The version is agreed on first, by a client that is sound: the faults are for what is asked then.
    if request.starts_with(b"GET /version") {
        return client.write_all(&ask(daemon, &request)?);
    }
    match fault {
        Fault::CutBeforeRequest => Ok(()),
        Fault::Failing => {
            let body = "{\"message\":\"the daemon's own internal error\"}";
            let head = format!("HTTP/1.1 500 Internal Server Error\r\nContent-Length: {}\r\n\r\n", body.len());
            client.write_all(format!("{head}{body}").as_bytes())
        }
        Fault::CutBeforeAnswer => ask(daemon, &request).map(drop),
        Fault::Truncated => {
            let answer = ask(daemon, &request)?;
            // An answer without a body breaks off in its head.
            let half = if answer.ends_with(b"\r\n\r\n") { answer.len() / 2 } else { answer.len() - 2 };
            client.write_all(&answer[..half])
        }
        Fault::Slow => {
            let answer = ask(daemon, &request)?;
            // delay: a late answer is the fault itself.
            std::thread::sleep(DELAY);
            client.write_all(&answer)
        }
    }
}

/// The daemon's whole answer; it closes the connection after it.
fn ask(daemon: &Path, request: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut stream = UnixStream::connect(daemon)?;
    let line_end = request.windows(2).position(|pair| pair == b"\r\n").unwrap_or(0) + 2;
    stream.write_all(&request[..line_end])?;
    stream.write_all(b"Connection: close\r\n")?;
    stream.write_all(&request[line_end..])?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    Ok(answer)
}

/// One request, head and body.
fn read_request(client: &mut UnixStream) -> std::io::Result<Vec<u8>> {
    let (mut request, mut block) = (Vec::new(), [0; 8192]);
    while !is_whole(&request) {
        match client.read(&mut block)? {
            0 => return Err(std::io::ErrorKind::UnexpectedEof.into()),
            read => request.extend_from_slice(&block[..read]),
        }
    }
    Ok(request)
}

fn is_whole(request: &[u8]) -> bool {
    let Some(head_end) = request.windows(4).position(|part| part == b"\r\n\r\n") else { return false };
    let head = String::from_utf8_lossy(&request[..head_end]).to_lowercase();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
    match length.map(str::parse::<usize>) {
        Some(length) => request.len() >= head_end + 4 + length.expect("a length"),
        None => !head.contains("transfer-encoding: chunked") || request.ends_with(b"0\r\n\r\n"),
    }
}
