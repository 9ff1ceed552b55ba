//! How this node is let in at a broker elsewhere: password and certificate, read anew for each attempt to connect, so that
//! what was renewed or changed counts without a restart.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use edge_config::{Broker, BrokerAddress, BrokerTls as TlsFiles, Config, Credentials};

use super::NodeError;
use super::trust::Trust;
use crate::mqtt::link::LinkOptions;
use crate::tls::{BrokerTls, NodeCertificate};
use crate::trust::{Signer, Verifier, to_pem};
use crate::wire::registry::Ear;

/// What proves a node to a broker, and the broker to the node.
pub(super) struct Access {
    password: Option<Credentials>,
    tls: Option<TlsAccess>,
}

struct TlsAccess {
    /// Which of the link's brokers are spoken with by TLS, the preferred first.
    spoken: Vec<bool>,
    /// The key that names them.
    key: &'static str,
    files: TlsFiles,
    /// The credential that the node was enrolled with, and the fleet's roots.
    enrolled: Option<(Arc<Signer>, Arc<Verifier>)>,
}

impl Access {
    /// As the configuration has it for the brokers of one link; by its files alone, where there is no node yet.
    pub(super) fn new(config: &Config, trust: Option<&Trust>, ear: Ear) -> Self {
        let named = match (ear, &config.mqtt.uplink, &config.mqtt.broker) {
            (Ear::Uplink, Some(uplink), _) => {
                Some(("mqtt.uplink", uplink.addresses.as_slice(), &uplink.credentials, &uplink.tls))
            }
            (Ear::Home, _, Broker::External { address, credentials, tls, .. }) => {
                Some(("mqtt.broker", std::slice::from_ref(address), credentials, tls))
            }
            _ => None,
        };
        named.map_or(Self { password: None, tls: None }, |(key, addresses, credentials, files)| {
            let tls = TlsAccess::new(key, addresses, files, config, trust);
            Self { password: credentials.clone(), tls }
        })
    }

    /// Whether all of it can be read.
    pub(super) fn check(&self) -> Result<(), NodeError> {
        self.login()?;
        self.tls.as_ref().map_or(Ok(()), |tls| tls.current().map(drop))
    }

    fn login(&self) -> Result<Option<(String, String)>, NodeError> {
        let Some(credentials) = &self.password else { return Ok(None) };
        let password = credentials.password_file.as_deref().map(read_secret).transpose()?.unwrap_or_default();
        Ok(Some((credentials.username.clone(), password)))
    }

    /// Puts it into a link's options as it stands now.
    pub(super) fn apply(&self, options: &mut LinkOptions) -> Result<(), NodeError> {
        if let Some(login) = self.login()? {
            options.credentials = Some(login);
        }
        if let Some(tls) = &self.tls {
            let current = tls.current()?;
            let slots =
                [&mut options.tls].into_iter().chain(options.alternatives.iter_mut().map(|other| &mut other.tls));
            for (slot, is_spoken) in slots.zip(&tls.spoken) {
                *slot = is_spoken.then(|| current.clone());
            }
        }
        Ok(())
    }
}

impl TlsAccess {
    /// None where no broker is spoken with by TLS.
    fn new(
        key: &'static str,
        addresses: &[BrokerAddress],
        files: &TlsFiles,
        config: &Config,
        trust: Option<&Trust>,
    ) -> Option<Self> {
        // A credential that the node made for itself is known to nobody, and a broker that asks for one may refuse it.
        let enrolled = trust.filter(|_| config.node.credentials.is_some());
        let enrolled = enrolled.map(|trust| (trust.signer.clone(), trust.verifier.clone()));
        let spoken: Vec<bool> = addresses.iter().map(|address| address.tls).collect();
        spoken.contains(&true).then(|| Self { spoken, key, files: files.clone(), enrolled })
    }

    fn current(&self) -> Result<BrokerTls, NodeError> {
        let authorities = match (&self.files.ca_file, &self.enrolled) {
            (Some(path), _) => Some(read("mqtt.ca_file", path)?),
            (None, Some((_, verifier))) => Some(to_pem(verifier.anchors().roots()).into_bytes()),
            (None, None) => None,
        };
        let own = match (&self.files.certificate, &self.enrolled) {
            (Some((certificate, key)), _) => {
                Some((read("mqtt.certificate_file", certificate)?, read("mqtt.key_file", key)?))
            }
            (None, Some((signer, _))) => {
                let credential = signer.credential();
                Some((credential.certificate_pem().into_bytes(), credential.key_pem().into_bytes()))
            }
            (None, None) => None,
        };
        let node = own.as_ref().map(|(chain, key)| NodeCertificate { chain, key });
        let made = BrokerTls::new(authorities.as_deref(), node);
        made.map_err(|error| NodeError::Setting(format!("{} by TLS ({}): {error}", self.key, self.sources())))
    }

    /// The files that are read, for a message.
    fn sources(&self) -> String {
        let certificate = self.files.certificate.iter().flat_map(|(certificate, key)| [certificate, key]);
        let files: Vec<_> =
            self.files.ca_file.iter().chain(certificate).map(|path| path.display().to_string()).collect();
        if files.is_empty() { "the node's credential".to_owned() } else { files.join(", ") }
    }
}

fn read(key: &str, path: &PathBuf) -> Result<Vec<u8>, NodeError> {
    let wrong = |error| NodeError::Setting(format!("{key} {} cannot be read: {error}", path.display()));
    std::fs::read(path).map_err(wrong)
}

fn read_secret(path: &Path) -> Result<String, NodeError> {
    let text = std::fs::read_to_string(path).map_err(|error| {
        NodeError::Setting(format!("mqtt.password_file {} cannot be read: {error}", path.display()))
    })?;
    Ok(text.trim_end_matches(['\r', '\n']).to_owned())
}
