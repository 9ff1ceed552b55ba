//! A line between client and server that breaks: it passes on so many bytes to the server, then cuts both ways.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

pub(crate) struct Proxy {
    /// Where clients connect.
    pub(crate) port: u16,
    is_over: Arc<AtomicBool>,
    accepting: Option<JoinHandle<()>>,
}

impl Proxy {
    /// A proxy to a port of this machine that cuts each connection after `limit` bytes from the client.
    pub(crate) fn start(server: u16, limit: usize) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("bind");
        let port = listener.local_addr().expect("an address").port();
        let is_over = Arc::new(AtomicBool::new(false));
        let seen = Arc::clone(&is_over);
        let accepting = std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                if seen.load(Ordering::Acquire) {
                    return;
                }
                std::thread::spawn(move || pass(client, server, limit));
            }
        });
        Self { port, is_over, accepting: Some(accepting) }
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Release);
        // Wakes the accept.
        let _ = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port));
        if let Some(accepting) = self.accepting.take() {
            let _ = accepting.join();
        }
    }
}

fn pass(client: TcpStream, server: u16, limit: usize) {
    if limit == 0 {
        return;
    }
    let Ok(server) = TcpStream::connect(SocketAddr::from((Ipv4Addr::LOCALHOST, server))) else { return };
    let (mut answers, mut client_out) = (server.try_clone().expect("clone"), client.try_clone().expect("clone"));
    let answering = std::thread::spawn(move || {
        let _ = std::io::copy(&mut answers, &mut client_out);
        let _ = client_out.shutdown(Shutdown::Both);
    });
    copy_at_most(&client, &server, limit);
    for stream in [client, server] {
        let _ = stream.shutdown(Shutdown::Both);
    }
    let _ = answering.join();
}

fn copy_at_most(mut from: &TcpStream, mut to: &TcpStream, limit: usize) {
    let (mut left, mut piece) = (limit, [0; 4096]);
    while left > 0 {
        let most = left.min(piece.len());
        match from.read(&mut piece[..most]) {
            Ok(read) if read > 0 && to.write_all(&piece[..read]).is_ok() => left -= read,
            _ => return,
        }
    }
}
