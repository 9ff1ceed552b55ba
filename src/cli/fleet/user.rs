//! `tidegate fleet user`: who may watch at a hub by a password.

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::cli::terminal::say;
use crate::trust::{Users, generate_password};

/// The users' file in the fleet's folder.
pub(super) const USERS: &str = "users";

/// `fleet user`.
#[derive(Debug, clap::Args)]
pub struct User {
    /// The user's name: letters, digits and -_.@
    name: String,
    /// The folder that `fleet init` made; its file `users` is changed.
    #[arg(long, value_name = "DIR", env = "TIDEGATE_FLEET_DIR", required_unless_present = "file")]
    dir: Option<PathBuf>,
    /// Another file of users, as a hub's mqtt.users_file.
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// The password stands in this file; without it one is made and shown.
    #[arg(long, value_name = "FILE", conflicts_with = "remove")]
    password_file: Option<PathBuf>,
    /// Let the user in no longer.
    #[arg(long)]
    remove: bool,
}

impl User {
    pub(super) fn run(self) -> Result<()> {
        let path = match (&self.file, &self.dir) {
            (Some(file), _) => file.clone(),
            (None, Some(dir)) if dir.join("root.pem").exists() => dir.join(USERS),
            (None, Some(dir)) => {
                bail!("{} is not the folder of a fleet; `tidegate fleet init` makes one", dir.display())
            }
            (None, None) => bail!("give --dir or --file"),
        };
        let mut users = Users::read(&path)?;
        if self.remove {
            if !users.remove(&self.name) {
                bail!("there is no user {} in {}", self.name, path.display());
            }
            write(&users, &path)?;
            say!("{} may watch no longer", self.name);
        } else {
            let given = self.password_file.as_deref().map(read_password).transpose()?;
            let password = given.clone().map_or_else(generate_password, Ok)?;
            let was_there = users.set(&self.name, &password)?;
            write(&users, &path)?;
            let may = if was_there { "has a new password" } else { "may watch" };
            match given {
                Some(_) => say!("{} {may}", self.name),
                None => say!("{} {may}; the password, shown this once: {password}", self.name),
            }
        }
        say!("a hub takes it within seconds once {} stands there as its mqtt.users_file", path.display());
        Ok(())
    }
}

/// Makes the first user of a fleet and returns the password, which stands nowhere else.
pub(super) fn first(folder: &Path, name: &str) -> Result<String> {
    let password = generate_password()?;
    let mut users = Users::default();
    users.set(name, &password)?;
    users.write(&folder.join(USERS))?;
    Ok(password)
}

/// Leaves the file with whom it belonged to: a hub is not root.
fn write(users: &Users, path: &Path) -> Result<()> {
    let owner = std::fs::metadata(path).ok().map(|file| (file.uid(), file.gid()));
    users.write(path)?;
    if let Some((user, group)) = owner {
        std::os::unix::fs::chown(path, Some(user), Some(group))
            .with_context(|| format!("{} now belongs to you: give it back to whom tidegate runs as", path.display()))?;
    }
    Ok(())
}

fn read_password(path: &Path) -> Result<String> {
    let text = std::fs::read_to_string(path).with_context(|| format!("--password-file {}", path.display()))?;
    Ok(text.trim_end_matches(['\r', '\n']).to_owned())
}
