//! The cases: what Tidegate asks of a broker, in the order in which they run. The last one restarts it.

#[path = "cases/delivery.rs"]
mod delivery;
#[path = "cases/entry.rs"]
mod entry;
#[path = "cases/retained.rs"]
mod retained;
#[path = "cases/standing.rs"]
mod standing;

use crate::gaps::Finding;
use crate::site::Site;

type Case = (&'static str, fn(&mut dyn Site) -> Finding);

pub(crate) const CASES: &[Case] = &[
    ("mqtt 5", entry::version),
    ("password", entry::password),
    ("tls", entry::tls),
    ("mutual tls", entry::mutual_tls),
    ("retained", retained::exact),
    ("wildcard retained", retained::wildcard),
    ("expiry", retained::expiry),
    ("ten thousand retained", retained::ten_thousand),
    ("last will", delivery::last_will),
    ("shared subscription", delivery::shared),
    ("takeover", standing::takeover),
    ("restart", standing::restart),
];
