//! `mqtt.listen_tls` and `mqtt.users_file`: the embedded broker as a site's hub, open to those who prove who they are.

use std::net::SocketAddr;
use std::path::PathBuf;

use crate::section::Section;
use crate::shape::{Address, FilePath};

/// The embedded broker's second listener: TLS, at any address.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Hub {
    /// Where it listens; port 0 takes a free one.
    pub listen: SocketAddr,
    /// Who may watch by user and password, as `tidegate fleet user` writes it. Without it only certificates of the fleet
    /// let anyone in.
    pub users_file: Option<PathBuf>,
}

const KEYS: [&str; 2] = ["listen_tls", "users_file"];

/// Reads it beside the embedded broker.
pub(super) fn read(section: &mut Section<'_>) -> Option<Hub> {
    let listen = section.optional("listen_tls", &Address);
    let users_file = section.optional("users_file", &FilePath);
    if users_file.is_some() && listen.is_none() && section.sound(&["listen_tls"]) {
        section.refuse("users_file", "is for those who come in by mqtt.listen_tls; set that, or remove it");
    }
    Some(Hub { listen: listen?, users_file })
}

/// Refuses it beside a broker elsewhere.
pub(super) fn refuse(section: &mut Section<'_>) {
    for key in KEYS {
        section.foreign(key, "is the embedded broker's, but mqtt.broker names another; remove either");
    }
}

/// Passes it over where a broken key decides what it means.
pub(super) fn leave(section: &mut Section<'_>) {
    section.leave(&KEYS);
}
