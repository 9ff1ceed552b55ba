//! The channel between a node and its instances: a launch's own key, the pin on it, and the two ends of a connection.
//!
//! A node has no certificate authority. From its secret it derives a key for each launch, hands it over with the launch,
//! and later speaks with the holder of that key alone: names, dates and issuers prove nothing there, and a gateway that
//! boots in 1970 must reach its instances all the same.
//!
//! `identity` derives, `certificate` writes the key down as TLS wants it, `pinned` checks it, `dial` is the node's end
//! (and speaks with a provider's ingress by its name), `accept` the instance's. Other matters are those who have a name and an
//! authority: `broker` is the settings for an MQTT broker of the site, `fleet` the answering end where this node lets its fleet
//! in, `peer` the channel between two nodes. All that is TLS stands here, so that the gateway, the small calls of `host`, the
//! wrapper and the MQTT link know channels and no library.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;

mod accept;
mod broker;
mod certificate;
mod channel;
mod dial;
mod fleet;
mod identity;
mod peer;
mod pinned;

pub use accept::{Acceptor, KeyFilesError};
pub use broker::{BrokerTls, BrokerTlsError, NodeCertificate};
pub use channel::Channel;
pub use dial::{DialError, Dialer, RootsError};
pub use fleet::{FleetIdentity, FleetStream, FleetTls, Unwelcome, is_for_certificate};
pub use identity::{IdentityError, LaunchIdentity, launch_pin, launch_token};
pub(crate) use identity::{PKCS8_BEFORE_SEED, pem};
pub use peer::PeerAcceptor;

/// What both ends speak inside; a peer that wants something else is turned away by the handshake.
const ALPN_HTTP_1_1: &[u8] = b"http/1.1";

/// Whether a connection ended because the other end did not take our certificate: it has read nothing of what was sent after
/// it. In TLS 1.3 the answering end checks last, when the calling one has begun to speak.
pub fn was_not_let_in(error: &(dyn std::error::Error + 'static)) -> bool {
    use rustls::AlertDescription as Alert;
    let mut cause = Some(error);
    while let Some(error) = cause {
        let inner = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        let tls = error.downcast_ref().or_else(|| inner.and_then(|inner| inner.downcast_ref()));
        if let Some(rustls::Error::AlertReceived(alert)) = tls {
            return matches!(
                alert,
                Alert::BadCertificate
                    | Alert::UnsupportedCertificate
                    | Alert::CertificateRevoked
                    | Alert::CertificateExpired
                    | Alert::CertificateUnknown
                    | Alert::CertificateRequired
                    | Alert::UnknownCA
                    | Alert::AccessDenied
            );
        }
        cause = error.source();
    }
    false
}

/// Reads a small file: one that is larger is another file than was meant.
fn read_limited(path: &Path, most: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(most + 1).read_to_end(&mut bytes)?;
    if u64::try_from(bytes.len()).is_ok_and(|read| read > most) {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("it is larger than {most} bytes")));
    }
    Ok(bytes)
}
