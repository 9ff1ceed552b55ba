//! Which user an image's processes are, by number: the secrets are readable for nobody else.

use std::io::Read;

use super::daemon::Daemon;
use super::parcel::User;
use crate::AdapterError;

/// Who the user of a container is, from its setting (`1000`, `1000:7`, `app`, `app:web`, or nothing for root) and, for a
/// name, from the container's own `/etc/passwd`.
pub(super) async fn of_container(daemon: &Daemon, name: &str, setting: &str) -> Result<User, AdapterError> {
    if let Some(user) = by_number(setting) {
        return Ok(user);
    }
    let archive = daemon.read_archive(name, "/etc/passwd").await?.unwrap_or_default();
    by_name(setting, &first_file(&archive)).ok_or_else(|| {
        AdapterError::bad_configuration(format!(
            "the image's user `{setting}` is not in its /etc/passwd: build the image with a user that is, or a number"
        ))
    })
}

fn by_number(setting: &str) -> Option<User> {
    let (user, group) = setting.split_once(':').unwrap_or((setting, "0"));
    if matches!(user, "" | "root") {
        return Some(User::default());
    }
    // A named group changes nothing: what is brought is for the user alone.
    Some(User { uid: user.parse().ok()?, gid: group.parse().unwrap_or(0) })
}

fn by_name(setting: &str, passwd: &str) -> Option<User> {
    let wanted = setting.split(':').next()?;
    let mut lines = passwd.lines().map(|line| line.split(':').collect::<Vec<_>>());
    let fields = lines.find(|fields| fields.first() == Some(&wanted))?;
    Some(User { uid: fields.get(2)?.parse().ok()?, gid: fields.get(3)?.parse().ok()? })
}

fn first_file(archive: &[u8]) -> String {
    let mut text = Vec::new();
    let mut archive = tar::Archive::new(archive);
    if let Some(Ok(mut entry)) = archive.entries().ok().and_then(|mut entries| entries.next()) {
        // A file that breaks off lacks the user, which is told.
        let _ = entry.read_to_end(&mut text);
    }
    String::from_utf8_lossy(&text).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_is_told_by_number_or_by_the_images_own_list() {
        let user = |uid, gid| Some(User { uid, gid });
        assert_eq!(by_number(""), user(0, 0));
        assert_eq!(by_number("root"), user(0, 0));
        assert_eq!(by_number("1000"), user(1000, 0));
        assert_eq!(by_number("1000:7"), user(1000, 7));
        assert_eq!(by_number("1000:web"), user(1000, 0));
        assert_eq!(by_number("app"), None);
        let passwd = "root:x:0:0:root:/:/bin/sh\napp:x:101:102::/home/app:/bin/sh\nbroken\n";
        assert_eq!(by_name("app", passwd), user(101, 102));
        assert_eq!(by_name("app:web", passwd), user(101, 102));
        assert_eq!(by_name("broken", passwd), None);
        assert_eq!(by_name("nobody", passwd), None);
    }
}
