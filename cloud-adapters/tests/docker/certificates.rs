//! Certificates for a daemon and its clients, made by `openssl`: one authority that both trust, and one that nobody does.

use std::path::{Path, PathBuf};
use std::process::Command;

use cloud_adapters::DockerTls;

/// Where a daemon's certificates lie.
pub(crate) struct Files {
    directory: PathBuf,
}

impl Files {
    pub(crate) fn in_directory(directory: &Path) -> Self {
        Self { directory: directory.to_owned() }
    }

    /// What a client is given that the daemon trusts.
    pub(crate) fn client(&self) -> DockerTls {
        self.files("ca.pem", "client")
    }

    /// A client whose certificate another authority has signed.
    pub(crate) fn stranger(&self) -> DockerTls {
        self.files("ca.pem", "stranger")
    }

    /// A client that trusts another authority than the daemon's.
    pub(crate) fn distrustful(&self) -> DockerTls {
        self.files("other-ca.pem", "client")
    }

    fn files(&self, ca: &str, client: &str) -> DockerTls {
        let at = |name: String| self.directory.join(name);
        DockerTls { ca: at(ca.to_owned()), cert: at(format!("{client}.pem")), key: at(format!("{client}-key.pem")) }
    }
}

/// Writes all of them into a directory.
pub(crate) fn make(directory: &Path) {
    std::fs::write(directory.join("server.ext"), "subjectAltName=IP:127.0.0.1,DNS:localhost\n").expect("write");
    std::fs::write(directory.join("client.ext"), "extendedKeyUsage=clientAuth\n").expect("write");
    for ca in ["ca", "other-ca"] {
        let key = format!("{ca}-key.pem");
        let made = ["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"];
        openssl(
            directory,
            &[&made[..], &["-subj", "/CN=test", "-keyout", &key, "-out", &format!("{ca}.pem")]].concat(),
        );
    }
    signed(directory, "server", "server.ext", "ca");
    signed(directory, "client", "client.ext", "ca");
    signed(directory, "stranger", "client.ext", "other-ca");
}

fn signed(directory: &Path, name: &str, extensions: &str, ca: &str) {
    let file = |end: &str| format!("{name}{end}");
    let (key, request, certificate) = (file("-key.pem"), file(".csr"), file(".pem"));
    let (ca_certificate, ca_key) = (format!("{ca}.pem"), format!("{ca}-key.pem"));
    let made = ["req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj", "/CN=test"];
    openssl(directory, &[&made[..], &["-keyout", &key, "-out", &request]].concat());
    let sign = ["x509", "-req", "-days", "2", "-CAcreateserial", "-extfile", extensions];
    let files = ["-in", &request, "-CA", &ca_certificate, "-CAkey", &ca_key, "-out", &certificate];
    openssl(directory, &[&sign[..], &files[..]].concat());
}

fn openssl(directory: &Path, arguments: &[&str]) {
    let output = Command::new("openssl").current_dir(directory).args(arguments).output().expect("openssl");
    assert!(output.status.success(), "openssl {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
}
