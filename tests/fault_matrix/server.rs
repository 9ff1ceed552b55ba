//! The part of the wrapped server: it takes a while for each request, and has written down which it got and which it
//! answered before anybody hears of it.

use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::collector;

/// So long a request is in progress: short against the drain, long against a call.
const WORK: Duration = Duration::from_millis(300);

/// Where it writes.
enum Counts {
    /// A file of its cell.
    Here(File),
    /// A collector at this address, which has the file: a server in a container cannot reach it.
    Away { collector: String, home: String },
}

impl Counts {
    fn of(home: &Path) -> Self {
        if let Ok(collector) = std::env::var(collector::ADDRESS) {
            return Self::Away { collector, home: home.display().to_string() };
        }
        let path = home.join(collector::COUNTS);
        Self::Here(OpenOptions::new().create(true).append(true).open(path).expect("the counts"))
    }

    fn write(&self, line: &str) -> std::io::Result<()> {
        match self {
            Self::Here(file) => (&*file).write_all(format!("{line}\n").as_bytes()),
            Self::Away { collector, home } => collector::tell(collector, home, line),
        }
    }
}

/// Serves until it is ended.
pub(crate) fn play(home: &Path) {
    let port: u16 = std::env::var("PORT").expect("the wrapper's port").parse().expect("a port");
    let counts = Arc::new(Counts::of(home));
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).expect("bind");
    for stream in listener.incoming().flatten() {
        let counts = Arc::clone(&counts);
        // Whoever went away is not served.
        std::thread::spawn(move || serve(stream, &counts).ok());
    }
}

fn serve(stream: TcpStream, counts: &Counts) -> std::io::Result<()> {
    let mut heard = BufReader::new(stream);
    loop {
        let mut request = String::new();
        if heard.read_line(&mut request)? == 0 {
            return Ok(());
        }
        let mut header = String::from("-");
        while !header.trim().is_empty() {
            header.clear();
            heard.read_line(&mut header)?;
        }
        let path = request.split(' ').nth(1).unwrap_or_default().to_owned();
        if path.starts_with("/work/") {
            work(counts, &path)?;
        }
        write!(heard.get_mut(), "HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{path}", path.len())?;
    }
}

fn work(counts: &Counts, path: &str) -> std::io::Result<()> {
    counts.write(&format!("got {path}"))?;
    // delay: a request has to be in progress when an instance goes
    std::thread::sleep(WORK);
    counts.write(&format!("did {path}"))
}
