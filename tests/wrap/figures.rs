//! `GET /.tidegate/metrics`: our figures, the server's where it has some, and what is said where it has none.

use super::replica::{Answer, eventually, get, request, tidegate};
use super::{Instance, infer};
use crate::Program;

/// A server with metrics of every kind, in Python's standard library.
const SERVER: &str = r##"
import os, threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
TEXT = {
    "/metrics": ("text/plain; version=0.0.4", b"# a comment\nserver_things 7\n"),
    "/openmetrics": ("application/openmetrics-text; version=1.0.0", b"server_things 7\n# EOF\n"),
    "/large": ("text/plain", b"x" * (4 * 1024 * 1024 + 1)),
}
class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        if self.path == "/slow":
            threading.Event().wait()
        kind, body = TEXT.get(self.path, ("text/plain", b"no"))
        self.send_response(200 if self.path in TEXT else 404)
        self.send_header("content-type", kind)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *_):
        pass
ThreadingHTTPServer(("127.0.0.1", int(os.environ["PORT"])), Handler).serve_forever()
"##;

/// A wrapper of that server, which is told that its metrics are at `path`.
fn python(path: &str) -> (Instance, String) {
    let directory = tempfile::tempdir().unwrap();
    let mut command = tidegate(&["wrap", "--service", "s", "--launch", "l-1", "--metrics", path]);
    command.arg("--run-dir").arg(directory.path()).args(["--", "python3", "-c", SERVER]);
    let instance = Instance { program: Program::start(command), directory };
    let address = instance.ready();
    (instance, address)
}

fn metrics(address: &str) -> (Answer, String) {
    let answer = get(address, "/.tidegate/metrics");
    let text = String::from_utf8(answer.body.clone()).unwrap();
    assert_eq!(answer.status, 200);
    assert!(text.starts_with("# TYPE tidegate_wrap_requests counter\n"), "{text}");
    (answer, text)
}

fn value(text: &str, sample: &str) -> f64 {
    let line = text.lines().find_map(|line| line.strip_prefix(sample)?.strip_prefix(' '));
    line.unwrap_or_else(|| panic!("no {sample} in {text}")).parse().unwrap()
}

#[test]
fn without_a_path_only_our_own_are_told_as_openmetrics() {
    let instance = Instance::start(&["--lease-ttl", "100s"]);
    let address = instance.ready();
    assert_eq!(infer(&address).status, 200);
    assert_eq!(get(&address, "/v2/models/none").status, 404);
    let (answer, text) = eventually("nothing is in flight", || {
        Some(metrics(&address)).filter(|(_, text)| value(text, "tidegate_wrap_in_flight") == 0.0)
    });
    assert_eq!(answer.header("content-type"), Some("application/openmetrics-text; version=1.0.0; charset=utf-8"));
    assert!(text.ends_with("\n# EOF\n"), "{text}");
    assert_eq!(value(&text, "tidegate_wrap_requests_total{code=\"2xx\"}"), 1.0);
    assert_eq!(value(&text, "tidegate_wrap_requests_total{code=\"4xx\"}"), 1.0);
    let (lease, uptime) =
        (value(&text, "tidegate_wrap_lease_remaining_seconds"), value(&text, "tidegate_wrap_uptime_seconds"));
    assert!(lease > 0.0 && uptime > 0.0 && (lease + uptime - 100.0).abs() < 1.0, "{lease} {uptime}");
    // None of the above asked the server for anything.
    assert_eq!(get(&address, "/.tidegate/status").json()["served"], 2);
}

#[test]
fn the_servers_own_follow_as_they_are() {
    let (_instance, address) = python("/metrics");
    let (answer, text) = metrics(&address);
    assert!(text.ends_with("\n# a comment\nserver_things 7\n"), "{text}");
    assert_eq!(answer.header("content-type"), Some("text/plain; version=0.0.4; charset=utf-8"));
    // A scrape is no request of a client's.
    assert_eq!(value(&text, "tidegate_wrap_requests_total{code=\"2xx\"}"), 0.0);
    assert_eq!(get(&address, "/.tidegate/status").json()["served"], 0);
}

#[test]
fn openmetrics_of_the_server_stay_openmetrics() {
    let (_instance, address) = python("/openmetrics");
    let (answer, text) = metrics(&address);
    assert!(text.ends_with("\nserver_things 7\n# EOF\n"), "{text}");
    assert_eq!(text.matches("# EOF").count(), 1);
    assert_eq!(answer.header("content-type"), Some("application/openmetrics-text; version=1.0.0; charset=utf-8"));
}

#[test]
fn a_server_without_or_with_too_many_or_too_slow_costs_its_part_only() {
    for (path, why) in [
        ("/none", "it answered 404 Not Found"),
        ("/large", "they are larger than 4 MiB"),
        ("/slow", "no answer within 5s"),
    ] {
        let (_instance, address) = python(path);
        let (answer, text) = metrics(&address);
        let last = text.lines().last().unwrap();
        assert_eq!(last, format!("# the server's own metrics at {path} are missing: {why}"));
        // OpenMetrics has no comments.
        assert_eq!(answer.header("content-type"), Some("text/plain; version=0.0.4; charset=utf-8"));
        assert_eq!(value(&text, "tidegate_wrap_in_flight"), 0.0);
    }
}

#[test]
fn they_are_for_the_holder_of_the_token() {
    let directory = tempfile::tempdir().unwrap();
    let token_file = directory.path().join("token");
    std::fs::write(&token_file, "secret\n").unwrap();
    let instance = Instance::start(&["--token-file", token_file.to_str().unwrap()]);
    let address = instance.address();
    assert_eq!(get(&address, "/.tidegate/metrics").status, 401);
    let head = "GET /.tidegate/metrics HTTP/1.1\r\nx-tidegate-authorization: Bearer secret\r\n";
    let answer = request(&address, head, b"");
    assert_eq!(answer.status, 200);
    // The one above that had no token.
    assert_eq!(value(&String::from_utf8_lossy(&answer.body), "tidegate_wrap_requests_total{code=\"4xx\"}"), 1.0);
}
