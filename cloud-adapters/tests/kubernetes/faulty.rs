//! A way to the API server on which one thing is wrong: plain HTTP on a loopback port in front, the server's own TLS
//! behind, the fault between.

use std::net::SocketAddr;
use std::time::Duration;

use cloud_adapters::contract::Fault;
use http_body_util::BodyExt;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::cluster::Api;

/// Later than the second of patience that a faulty client has.
const SLOW: Duration = Duration::from_millis(1500);

/// More than any request of the adapter.
const MAX_REQUEST_BYTES: usize = 1 << 20;

/// Serves until the runtime of the test ends.
pub(crate) async fn serve(listener: std::net::TcpListener, api: Api, fault: Fault) {
    listener.set_nonblocking(true).expect("a socket");
    let listener = TcpListener::from_std(listener).expect("a listener");
    loop {
        let (connection, _) = listener.accept().await.expect("a connection");
        let api = api.clone();
        tokio::spawn(async move { answer(connection, api, fault).await });
    }
}

/// The address to be served.
pub(crate) fn bind() -> (std::net::TcpListener, SocketAddr) {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    (listener, address)
}

/// One request, and the connection is closed.
async fn answer(mut connection: TcpStream, api: Api, fault: Fault) {
    if fault == Fault::CutBeforeRequest {
        return;
    }
    let Some((head, body)) = read(&mut connection).await else { return };
    if fault == Fault::Failing {
        let words =
            r#"{"kind":"Status","code":500,"reason":"InternalError","message":"etcdserver: request timed out"}"#;
        return write(&mut connection, 500, words.as_bytes(), words.len()).await;
    }
    let (status, answer) = forward(&api, &head, body).await;
    match fault {
        Fault::CutBeforeAnswer => {}
        Fault::Truncated => write(&mut connection, status, &answer[..answer.len() / 2], answer.len()).await,
        _ => {
            // delay: the fault is that the answer is late.
            tokio::time::sleep(SLOW).await;
            write(&mut connection, status, &answer, answer.len()).await;
        }
    }
}

async fn read(connection: &mut TcpStream) -> Option<(String, Vec<u8>)> {
    let (mut bytes, mut chunk) = (Vec::new(), vec![0; 64 << 10]);
    loop {
        if let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
            let length = header(&head, "content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
            if bytes.len() >= end + 4 + length {
                return Some((head, bytes[end + 4..end + 4 + length].to_vec()));
            }
        }
        let count = connection.read(&mut chunk).await.ok().filter(|count| *count > 0)?;
        bytes.extend_from_slice(&chunk[..count]);
        assert!(bytes.len() < MAX_REQUEST_BYTES, "a request without an end");
    }
}

fn header<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    let fields = head.lines().skip(1).filter_map(|line| line.split_once(": "));
    fields.into_iter().find(|(field, _)| field.eq_ignore_ascii_case(name)).map(|(_, value)| value)
}

async fn forward(api: &Api, head: &str, body: Vec<u8>) -> (u16, Vec<u8>) {
    let mut words = head.split(' ');
    let (method, target) = (words.next().expect("a method"), words.next().expect("a target"));
    let mut request = http::Request::builder().method(method).uri(target);
    for name in ["accept", "content-type"] {
        if let Some(value) = header(head, name) {
            request = request.header(name, value);
        }
    }
    let answer = api.0.send(request.body(body.into()).expect("a request")).await.expect("an answer");
    let status = answer.status().as_u16();
    (status, answer.into_body().collect().await.expect("a body").to_bytes().to_vec())
}

/// Errors are the client's going away, which is its own affair.
async fn write(connection: &mut TcpStream, status: u16, body: &[u8], length: usize) {
    let head = format!(
        "HTTP/1.1 {status} Answer\r\ncontent-type: application/json\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n"
    );
    let _ = connection.write_all(head.as_bytes()).await;
    let _ = connection.write_all(body).await;
    let _ = connection.shutdown().await;
}
