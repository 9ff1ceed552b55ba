//! `tidegate init`: a commented configuration to start from.

use std::fs::OpenOptions;
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use edge_config::{INSTALLED_FILE, Machine, Profile};

use super::EXIT_USAGE;
use super::terminal::{complain, say};

/// Write a commented configuration to start from.
///
/// Example: tidegate init --profile cellular tidegate.toml
#[derive(Debug, clap::Args)]
pub struct Args {
    /// What kind of box this is: gateway-small, gateway-gpu, hub, cellular, or quickstart.
    #[arg(long, value_name = "NAME", default_value_t = Profile::GatewaySmall)]
    profile: Profile,
    /// Where to write it; `-` prints it. Without it /etc/tidegate/tidegate.toml as root, else tidegate.toml here.
    #[arg(value_name = "FILE")]
    file: Option<PathBuf>,
}

impl Args {
    pub(super) fn run(self) -> ExitCode {
        let default = || PathBuf::from(if Machine::this().root { INSTALLED_FILE } else { "tidegate.toml" });
        let file = self.file.unwrap_or_else(default);
        if file == Path::new("-") {
            say!("{}", self.profile.text().trim_end());
            return ExitCode::SUCCESS;
        }
        match write_new(&file, self.profile.text()) {
            Ok(()) => {
                let shown = file.display();
                say!("wrote {shown} (profile {})\nnext: edit it, then", self.profile);
                say!("  tidegate config check {shown}\n  tidegate run -c {shown}");
                ExitCode::SUCCESS
            }
            Err(error) if error.kind() == ErrorKind::AlreadyExists && file.is_file() => {
                complain!(
                    "error: {} is there already and was left as it is; name another file, or move it away",
                    file.display()
                );
                ExitCode::from(EXIT_USAGE)
            }
            Err(error) => {
                complain!("error: cannot write {}: {error}", file.display());
                ExitCode::FAILURE
            }
        }
    }
}

/// Writes a file that is not there yet, with the folders above it.
fn write_new(file: &Path, text: &str) -> std::io::Result<()> {
    if let Some(folder) = file.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        std::fs::create_dir_all(folder)?;
    }
    OpenOptions::new().write(true).create_new(true).open(file)?.write_all(text.as_bytes())
}
