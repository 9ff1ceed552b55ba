//! Certificates for a broker and its nodes: one authority that both trust, and one that nobody does. Made by `openssl`, or as
//! `tidegate fleet` makes them.

use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;
use tidegate::tls::{BrokerTls, NodeCertificate};
use tidegate::trust::{Authority, Credential, Role, Subject};

/// Elliptic keys, since they are made in no time; days are far from any clock's doubt.
const KEY: [&str; 5] = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"];
const DAYS: [&str; 2] = ["-days", "30"];

/// Of the certificates that a fleet's root issues: its fleet, a day in seconds, and a time at which they hold.
const FLEET: &str = "plant-a";
const DAY: u64 = 86_400;
fn now() -> u64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs()
}

/// A folder of PEM files.
pub(crate) struct Certificates(TempDir);

impl Certificates {
    /// The authorities, and the broker's certificate for 127.0.0.1.
    pub(crate) fn make() -> Self {
        let own = Self::empty();
        for authority in ["ca", "other-ca"] {
            let subject = format!("/CN={authority}");
            own.openssl(&["-subj", &subject, "-keyout", &key(authority), "-out", &pem(authority)]);
        }
        own.issue("ca", "server", "broker", "subjectAltName=IP:127.0.0.1");
        own
    }

    /// With the roots of two fleets as authorities, both of one name.
    pub(crate) fn of_fleets() -> Self {
        let own = Self::empty();
        for authority in ["ca", "other-ca"] {
            let root = own.path(authority);
            Authority::found(&root, FLEET, now()).unwrap();
            std::fs::copy(root.join("root.pem"), own.path(&pem(authority))).unwrap();
        }
        own
    }

    /// A node's certificate by a fleet's root.
    pub(crate) fn enroll(&self, authority: &str, file: &str, name: &str, hosts: &[&str]) -> Credential {
        let hosts = hosts.iter().map(ToString::to_string).collect();
        let subject = Subject { fleet: FLEET.to_owned(), name: name.to_owned(), role: Role::Node, hosts };
        let credential = self.authority(authority).enroll(&subject, DAY, now()).unwrap();
        std::fs::write(self.path(&pem(file)), credential.certificate_pem()).unwrap();
        std::fs::write(self.path(&key(file)), credential.key_pem()).unwrap();
        credential
    }

    /// One of the fleets.
    pub(crate) fn authority(&self, name: &str) -> Authority {
        Authority::open(&self.path(name)).unwrap()
    }

    fn empty() -> Self {
        let own = Self(tempfile::tempdir().unwrap());
        // A broker that gives up root reads them as somebody else.
        std::fs::set_permissions(own.0.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        own
    }

    /// A node's certificate, and its common name.
    pub(crate) fn node(&self, authority: &str, file: &str, name: &str) {
        self.issue(authority, file, name, "extendedKeyUsage=clientAuth");
    }

    fn issue(&self, authority: &str, file: &str, name: &str, extension: &str) {
        let subject = format!("/CN={name}");
        let signed_by = ["-CA", &pem(authority), "-CAkey", &key(authority), "-addext", extension];
        let not_an_authority = ["-addext", "basicConstraints=critical,CA:FALSE"];
        let files = ["-subj", &subject, "-keyout", &key(file), "-out", &pem(file)];
        self.openssl(&[&signed_by[..], &not_an_authority[..], &files[..]].concat());
        std::fs::set_permissions(self.path(&key(file)), std::os::unix::fs::PermissionsExt::from_mode(0o644)).unwrap();
    }

    fn openssl(&self, arguments: &[&str]) {
        let arguments = [&["req", "-x509"], &KEY[..], &DAYS[..], arguments].concat();
        let output = Command::new("openssl").current_dir(&self.0).args(&arguments).output().expect("openssl");
        assert!(output.status.success(), "openssl {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    }

    pub(crate) fn folder(&self) -> &Path {
        self.0.path()
    }

    pub(crate) fn path(&self, file: &str) -> PathBuf {
        self.0.path().join(file)
    }

    fn read(&self, file: &str) -> Vec<u8> {
        std::fs::read(self.path(file)).unwrap()
    }

    /// Trusts an authority, and shows a node's certificate.
    pub(crate) fn tls(&self, authority: &str, node: Option<&str>) -> BrokerTls {
        let files = node.map(|file| (self.read(&pem(file)), self.read(&key(file))));
        let node = files.as_ref().map(|(chain, key)| NodeCertificate { chain, key });
        BrokerTls::new(Some(&self.read(&pem(authority))), node).unwrap()
    }
}

fn pem(name: &str) -> String {
    format!("{name}.pem")
}

fn key(name: &str) -> String {
    format!("{name}-key.pem")
}
