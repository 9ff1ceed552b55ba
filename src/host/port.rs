//! Free TCP ports on loopback.

use std::io;
use std::net::TcpListener;

/// A loopback port that was free a moment ago. Somebody may take it before its user does; the user's start then fails
/// and the next one gets another port.
pub fn free() -> io::Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}
