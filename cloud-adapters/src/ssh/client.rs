//! The command line of the system's `ssh`: nothing of the user's own configuration unless it is named, every host key
//! verified, and never a question, since nobody is there to answer.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tokio::process::Command;

use super::SshOptions;
use super::trouble::Trouble;

/// The client's program, found in PATH.
pub(super) const SSH: &str = "ssh";

/// What the way to the far side's ssh server may take: a far satellite link answers within seconds.
pub(super) const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// How often a silent connection is asked for a sign of life, and how many may be missing: a dead one is known as such
/// within 15 seconds.
const ALIVE_INTERVAL_S: u32 = 5;
const ALIVE_MISSING_MAX: u32 = 3;

/// Texts that `ssh` or a far shell would read as something else.
const UNUSABLE_IN_PATHS: [char; 5] = ['"', '\\', '$', '\n', '\0'];

/// Refuses options that no connection could be made with, before one is tried.
pub(super) fn check(options: &SshOptions) -> Result<(), Trouble> {
    check_host(options)?;
    check_directory(&options.directory)?;
    let key = options.key.iter().map(|path| ("key", path));
    let known = options.known_hosts.iter().map(|path| ("known_hosts", path));
    let config = options.config_file.iter().map(|path| ("ssh_config", path));
    key.chain(known).chain(config).try_for_each(|(setting, path)| check_file(setting, path))?;
    match default_known_hosts(options) {
        Some(missing) if !missing.exists() => Err(Trouble::bad_configuration(format!(
            "there is no {}: name a known_hosts file that holds the host key of {}",
            missing.display(),
            options.host
        ))),
        _ => Ok(()),
    }
}

fn check_host(options: &SshOptions) -> Result<(), Trouble> {
    let is_word = |text: &str| !text.is_empty() && !text.starts_with('-') && text.bytes().all(|b| b.is_ascii_graphic());
    let is_user = options.user.as_deref().is_none_or(|user| is_word(user) && !user.contains('@'));
    if is_word(&options.host) && !options.host.contains(['@', '/']) && is_user {
        return Ok(());
    }
    let user = options.user.as_deref().unwrap_or_default();
    Err(Trouble::bad_configuration(format!(
        "`{}` as host with `{user}` as user: give the name or address alone, and the user by its own key",
        options.host
    )))
}

/// The directory becomes part of a command line over there, so it holds nothing that any shell reads as more than a
/// letter.
fn check_directory(directory: &str) -> Result<(), Trouble> {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"./_@+=,:-".contains(&byte);
    let is_good = !directory.is_empty()
        && directory.bytes().all(is_plain)
        && !directory.starts_with('-')
        && !directory.split('/').any(|part| part == "..");
    if is_good {
        return Ok(());
    }
    Err(Trouble::bad_configuration(format!(
        "`{directory}` as directory on {}: use letters, digits and ./_@+=,:- without `..`",
        "the far side"
    )))
}

fn check_file(setting: &str, path: &Path) -> Result<(), Trouble> {
    let shown = path.display();
    if path.to_str().is_none_or(|text| text.contains(UNUSABLE_IN_PATHS)) {
        let message =
            format!("{setting} = `{shown}`: ssh does not take quotes, backslashes or $ in it; rename the file");
        return Err(Trouble::bad_configuration(message));
    }
    std::fs::File::open(path).map(drop).map_err(|error| {
        let message = format!("{setting} = `{shown}` cannot be read: name a file that this user can read");
        Trouble::bad_configuration(message).saying(&error.to_string())
    })
}

/// The file that `ssh` looks into where none is named; none where a configuration file may name another.
fn default_known_hosts(options: &SshOptions) -> Option<PathBuf> {
    if options.known_hosts.is_some() || options.config_file.is_some() || Path::new("/etc/ssh/ssh_known_hosts").exists()
    {
        return None;
    }
    Some(PathBuf::from(std::env::var_os("HOME")?).join(".ssh/known_hosts"))
}

/// Who and where, for a reader.
pub(super) fn far(options: &SshOptions) -> String {
    let user = options.user.as_deref().map(|user| format!("{user}@")).unwrap_or_default();
    let port = options.port.map(|port| format!(":{port}")).unwrap_or_default();
    format!("{user}{}{port}", options.host)
}

/// The connection that all calls share, held by a `cat` over there: it ends with our end of its standard input, however
/// this process ends.
pub(super) fn master(options: &SshOptions, socket: &Path) -> Command {
    let mut command = base();
    option(&mut command, "ControlMaster=yes");
    option(&mut command, &quoted("ControlPath", socket));
    option(&mut command, "ControlPersist=no");
    settings(&mut command, options);
    command.arg("--").arg(&options.host).arg("cat");
    command
}

/// One command over a connection. Without it nothing is reached: a connection of its own would be slower by far.
pub(super) fn over(socket: &Path, words: &str) -> Command {
    let mut command = joined(socket);
    command.arg("--").arg("far-side").arg(words);
    command
}

/// A word to the connection itself, about a forward.
pub(super) fn control(socket: &Path, word: &str, forward: &str) -> Command {
    let mut command = joined(socket);
    command.args(["-O", word, "-L", forward, "--", "far-side"]);
    command
}

fn joined(socket: &Path) -> Command {
    let mut command = base();
    command.args(["-F", "none"]);
    option(&mut command, "ControlMaster=no");
    option(&mut command, &quoted("ControlPath", socket));
    option(&mut command, "ProxyCommand=false");
    command
}

fn base() -> Command {
    let mut command = Command::new(SSH);
    command.arg("-T");
    for setting in ["BatchMode=yes", "LogLevel=INFO", "EscapeChar=none"] {
        option(&mut command, setting);
    }
    command.env("LC_ALL", "C").stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    // A group of its own: Ctrl-C in the node's terminal drains instances, for which the connection is still needed.
    command.process_group(0).kill_on_drop(true);
    command
}

fn settings(command: &mut Command, options: &SshOptions) {
    match &options.config_file {
        Some(path) => command.arg("-F").arg(path),
        None => command.args(["-F", "none"]),
    };
    for setting in [
        "StrictHostKeyChecking=yes",
        "UpdateHostKeys=no",
        "PreferredAuthentications=publickey",
        "PasswordAuthentication=no",
        "KbdInteractiveAuthentication=no",
        "ForwardAgent=no",
        "ForwardX11=no",
        "PermitLocalCommand=no",
        "TCPKeepAlive=yes",
        "RequestTTY=no",
    ] {
        option(command, setting);
    }
    option(command, &format!("ConnectTimeout={}", CONNECT_TIMEOUT.as_secs()));
    option(command, &format!("ServerAliveInterval={ALIVE_INTERVAL_S}"));
    option(command, &format!("ServerAliveCountMax={ALIVE_MISSING_MAX}"));
    if let Some(key) = &options.key {
        option(command, "IdentitiesOnly=yes");
        option(command, &quoted("IdentityFile", key));
    }
    if let Some(known_hosts) = &options.known_hosts {
        option(command, &quoted("UserKnownHostsFile", known_hosts));
        option(command, "GlobalKnownHostsFile=/dev/null");
    }
    options.port.iter().for_each(|port| option(command, &format!("Port={port}")));
    options.user.iter().for_each(|user| option(command, &format!("User={user}")));
}

fn option(command: &mut Command, setting: &str) {
    command.arg("-o").arg(setting);
}

/// A setting whose value is a path: `ssh` splits values at spaces and replaces what follows a percent sign.
fn quoted(setting: &str, path: &Path) -> String {
    format!("{setting}=\"{}\"", path.display().to_string().replace('%', "%%"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_is_nothing_that_a_shell_would_read_as_more() {
        for good in [".tidegate", "/srv/tide gate".replace(' ', "-").as_str(), "a/b_c"] {
            check_directory(good).expect(good);
        }
        for bad in ["", "~/x", "a b", "$HOME", "a;b", "-rf", "a/../b", "'", "ä"] {
            assert!(check_directory(bad).is_err(), "{bad}");
        }
    }
}
