//! The process that plays the node, as the test that started it sees it. Dropped, it is killed.

use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use super::cell::Cell;
use super::provider::Kind;
use super::{AS_PART, CELL, HOME, PART, SAYS};

pub(crate) struct Player {
    child: Child,
    reader: JoinHandle<()>,
    said: Arc<Mutex<Vec<String>>>,
    /// How much of it was heard.
    heard: usize,
}

impl Player {
    /// Starts this very program once more, to play the node of a cell in a directory.
    pub(crate) fn start(kind: Kind, cell: Cell, home: &Path, is_restart: bool) -> Self {
        let log = std::fs::OpenOptions::new().create(true).append(true).open(home.join("node.log")).expect("a log");
        // SIGXFSZ stays ignored across exec: a write that is too large fails, and kills nobody.
        let mut command = Command::new("sh");
        command.args(["-c", "trap '' XFSZ; exec \"$0\" \"$@\""]).arg(std::env::current_exe().expect("this program"));
        command.args(AS_PART);
        let inherited = std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("TIDEGATE_"));
        for (name, _) in inherited {
            command.env_remove(name);
        }
        command.env(PART, "node").env(HOME, home).env("HOME", home);
        command.env(CELL, format!("{}:{cell}{}", kind.name(), if is_restart { ":again" } else { "" }));
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(log).process_group(0);
        let mut child = command.spawn().expect("this program starts");
        let said = Arc::new(Mutex::new(Vec::new()));
        let (lines, output) = (Arc::clone(&said), child.stdout.take().expect("a pipe"));
        let reader = std::thread::spawn(move || {
            let told = BufReader::new(output).lines().map_while(Result::ok);
            // The test harness may have begun a line of its own.
            let ours = told.filter_map(|line| Some(line.split_once(SAYS)?.1.to_owned()));
            ours.for_each(|line| lines.lock().expect("lines").push(line));
        });
        Self { child, reader, said, heard: 0 }
    }

    /// What it said since this was asked last.
    pub(crate) fn news(&mut self) -> Vec<String> {
        let said = self.said.lock().expect("lines");
        let news = said[self.heard..].to_vec();
        self.heard = said.len();
        news
    }

    /// Everything that it said.
    pub(crate) fn said(&self) -> Vec<String> {
        self.said.lock().expect("lines").clone()
    }

    /// Once all that it said was heard, too.
    pub(crate) fn ended(&mut self) -> Option<ExitStatus> {
        let status = self.child.try_wait().expect("our child");
        status.filter(|_| self.reader.is_finished())
    }
}

impl Drop for Player {
    fn drop(&mut self) {
        let _gone = self.child.kill();
        let _gone = self.child.wait();
    }
}
