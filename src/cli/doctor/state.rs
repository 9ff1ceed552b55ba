//! The state directory: whose it is, whether it can be written, how much room there is, and who lives in it.

use std::fs::{self, Metadata};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use nix::sys::statvfs::{FsFlags, Statvfs, statvfs};
use nix::unistd::{Uid, User, geteuid};

use super::Finding;
use crate::journal::holder;

const ABOUT: &str = "state directory";
/// A journal of 20,000 launches and a spool at its limit take some 30 MB, and an older one is copied before it is converted.
const ROOM_WANTED: u64 = 64 << 20;
/// Under this the next write may fail.
const ROOM_NEEDED: u64 = 1 << 20;

/// What is found, and whether a node lives there now.
pub(super) fn look(path: &Path) -> (Vec<Finding>, bool) {
    let shown = path.display();
    let metadata = match fs::metadata(path) {
        Ok(metadata) if metadata.is_dir() => metadata,
        Ok(_) => {
            let mend = "move it away, or set node.state_dir to a directory";
            return (vec![Finding::problem(ABOUT, format!("{shown} is no directory"), mend)], false);
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return (vec![not_there(path)], false),
        Err(error) => {
            let mend = "run this as the user that the node runs as, or as root";
            return (vec![Finding::problem(ABOUT, format!("{shown}: {error}"), mend)], false);
        }
    };
    let holder = holder(path);
    let lives = holder.clone().map(|pid| Finding::ok(ABOUT, format!("a node (process {pid}) lives in {shown}")));
    let quiet = || Finding::ok(ABOUT, format!("{shown}, and no node lives in it now"));
    let mut found = vec![lives.unwrap_or_else(quiet)];
    found.extend(ownership(path, &metadata));
    found.extend(room(path));
    (found, holder.is_some())
}

/// It is made at the first start, if the one above lets us.
fn not_there(path: &Path) -> Finding {
    let above = path.ancestors().skip(1).find(|above| above.exists()).unwrap_or(Path::new("/"));
    if nix::unistd::access(above, nix::unistd::AccessFlags::W_OK).is_ok() {
        return Finding::ok(ABOUT, format!("{} is made at the first start", path.display()));
    }
    let what = format!("{} is not there, and {} cannot be written by this user", path.display(), above.display());
    Finding::problem(ABOUT, what, "make it, and give it to the user that the node runs as, or set node.state_dir")
}

fn ownership(path: &Path, metadata: &Metadata) -> Option<Finding> {
    let shown = path.display();
    let (owner, own) = (Uid::from_raw(metadata.uid()), geteuid());
    if owner != own && !own.is_root() {
        let what = format!("{shown} belongs to {}, and this is {}", name_of(owner), name_of(own));
        let mend = format!("run the node as {}, or: chown -R {} {shown}", name_of(owner), name_of(own));
        return Some(Finding::problem(ABOUT, what, mend));
    }
    let mode = metadata.permissions().mode() & 0o777;
    (mode & 0o077 != 0).then(|| {
        let what = format!("others may look into {shown} (mode {mode:o}), where the node's secrets are");
        Finding::warning(ABOUT, what, format!("chmod 700 {shown}"))
    })
}

fn name_of(uid: Uid) -> String {
    User::from_uid(uid).ok().flatten().map_or_else(|| format!("user {uid}"), |user| user.name)
}

#[allow(clippy::useless_conversion, reason = "the C library counts in 32 bits on a machine of 32 bits")]
fn free_bytes(disk: &Statvfs) -> u64 {
    u64::from(disk.blocks_available()) * u64::from(disk.fragment_size())
}

fn room(path: &Path) -> Option<Finding> {
    let shown = path.display();
    let disk = statvfs(path).ok()?;
    if disk.flags().contains(FsFlags::ST_RDONLY) {
        let mend = "mount it writable, or set node.state_dir to a place that is";
        return Some(Finding::problem(ABOUT, format!("{shown} is on a disk that is mounted read-only"), mend));
    }
    let free = free_bytes(&disk);
    let what = format!("{} MiB are free at {shown}", free >> 20);
    let mend = "make room: without it nothing is launched, and events are lost";
    if free < ROOM_NEEDED {
        Some(Finding::problem(ABOUT, what, mend))
    } else if free < ROOM_WANTED {
        Some(Finding::warning(ABOUT, what, mend))
    } else {
        None
    }
}
