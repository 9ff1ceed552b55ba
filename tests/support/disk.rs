//! A disk of the test's own: a file with a filesystem, mounted. It can hang, and its power can be cut.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::{Home, PATIENCE, python, wait_until};

pub(crate) struct Disk {
    image: PathBuf,
    pub(crate) mounted: PathBuf,
}

impl Disk {
    pub(crate) fn make(home: &Home) -> Self {
        let disk = Self { image: home.path().join("disk.img"), mounted: home.path().join("disk") };
        std::fs::File::create(&disk.image).unwrap().set_len(64 << 20).unwrap();
        std::fs::create_dir(&disk.mounted).unwrap();
        run(Command::new("mkfs.ext4").args(["-q", "-F"]).arg(&disk.image));
        disk.plug_in();
        disk
    }

    pub(crate) fn plug_in(&self) {
        run(Command::new("mount").args(["-o", "loop"]).arg(&self.image).arg(&self.mounted));
    }

    /// A call that was under way when its node was killed may hold the disk for a moment.
    pub(crate) fn unplug(&self) {
        wait_until(PATIENCE, "nobody uses the disk", || {
            let output = Command::new("umount").arg(&self.mounted).output().unwrap();
            output.status.success().then_some(())
        });
    }

    /// EXT4_IOC_SHUTDOWN, without flushing the journal: what was not on the disk is gone.
    pub(crate) fn cut(&self) {
        let call = "import fcntl, os, struct, sys\n\
             fcntl.ioctl(os.open(sys.argv[1], os.O_RDONLY), 0x8004587d, struct.pack('I', 2))";
        run(Command::new(python::interpreter()).args(["-c", call]).arg(&self.mounted));
    }

    /// Every write waits, for as long as what it gives is there.
    pub(crate) fn hang(&self) -> Frozen<'_> {
        freeze("--freeze", &self.mounted);
        Frozen(self)
    }
}

/// To be made after the node, and so gone before it also where the test fails: a process that waits for a frozen disk cannot
/// even be killed.
pub(crate) struct Frozen<'a>(&'a Disk);

impl Drop for Frozen<'_> {
    fn drop(&mut self) {
        freeze("--unfreeze", &self.0.mounted);
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(&self.mounted).output();
    }
}

fn freeze(how: &str, mounted: &Path) {
    run(Command::new("fsfreeze").arg(how).arg(mounted));
}

fn run(command: &mut Command) {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}
