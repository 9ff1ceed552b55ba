//! What the suite knows of a broker: where it listens, who may enter, and how to restart it.

use tidegate::tls::BrokerTls;

use crate::certificates::Certificates;

/// User and password that every broker with users knows.
pub(crate) const LOGIN: (&str, &str) = ("tester", "correct horse");

/// The name in the node's certificate.
pub(crate) const NODE: &str = "gateway-7";

/// A broker under test.
pub(crate) trait Site {
    /// As the table of gaps names it.
    fn name(&self) -> &'static str;
    /// The port without TLS.
    fn plain(&self) -> u16;
    /// The port that takes TLS and a password, and the one that takes TLS and a certificate.
    fn tls(&self) -> Option<(u16, u16)>;
    /// What its certificate and the nodes' are made of.
    fn certificates(&self) -> &Certificates;
    /// Whether it asks for [`LOGIN`] at the port without TLS.
    fn has_users(&self) -> bool;
    /// A door that asks for [`LOGIN`].
    fn asks_for_login(&self) -> Option<Door> {
        self.has_users().then(|| Door { host: "127.0.0.1", port: self.plain(), login: login(), tls: None })
    }
    /// Ends it hard, with all that it remembers, and starts it again on the same ports.
    fn restart(&mut self);
}

/// Where and how to connect.
#[derive(Clone)]
pub(crate) struct Door {
    pub(crate) host: &'static str,
    pub(crate) port: u16,
    pub(crate) login: Option<(String, String)>,
    pub(crate) tls: Option<BrokerTls>,
}

/// [`LOGIN`] as a door has it.
pub(crate) fn login() -> Option<(String, String)> {
    Some((LOGIN.0.to_owned(), LOGIN.1.to_owned()))
}

impl Door {
    /// In the clear, with the right password where one is asked for.
    pub(crate) fn plain(site: &dyn Site) -> Self {
        let login = login().filter(|_| site.has_users());
        Self { host: "127.0.0.1", port: site.plain(), login, tls: None }
    }
}
