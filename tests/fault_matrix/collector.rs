//! Writes down for servers that cannot reach the directory of their cell: one listener for all cells, which answers once
//! a line is in the file.

use std::fs::OpenOptions;
use std::io::{BufRead, BufReader, Error, Read, Write};
use std::net::{IpAddr, TcpListener, TcpStream};
use std::path::Path;
use std::time::Duration;

/// The file of a cell.
pub(crate) const COUNTS: &str = "counts";
/// The variable that tells a server where its collector is.
pub(crate) const ADDRESS: &str = "FAULT_MATRIX_COLLECTOR";

/// For one line: a file's append, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(10);
/// What it answers.
const WRITTEN: u8 = b'.';

/// Listens at an address until this program ends, and says at which port.
pub(crate) fn start(address: IpAddr) -> String {
    let listener = TcpListener::bind((address, 0)).expect("a port");
    let here = listener.local_addr().expect("an address").to_string();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            // A server that was ended in between had nothing to say.
            std::thread::spawn(move || collect(stream).ok());
        }
    });
    here
}

fn collect(stream: TcpStream) -> std::io::Result<()> {
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut heard = BufReader::new(stream);
    let (mut home, mut line) = (String::new(), String::new());
    heard.read_line(&mut home)?;
    heard.read_line(&mut line)?;
    if !line.ends_with('\n') {
        return Err(Error::other("cut short"));
    }
    let path = Path::new(home.trim_end()).join(COUNTS);
    OpenOptions::new().create(true).append(true).open(path)?.write_all(line.as_bytes())?;
    heard.get_mut().write_all(&[WRITTEN])
}

/// Has a line written into the counts of a cell.
pub(crate) fn tell(collector: &str, home: &str, line: &str) -> std::io::Result<()> {
    let mut stream = TcpStream::connect(collector)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(format!("{home}\n{line}\n").as_bytes())?;
    stream.read_exact(&mut [0])
}
