//! The process table as the kernel tells it, never as a node's own rows do.

use nix::unistd::Pid;

/// A process that is alive; who only waits to be reaped is not.
#[derive(Clone)]
pub(crate) struct Process {
    pub(crate) pid: Pid,
    pub(crate) parent: Pid,
    /// Program and arguments.
    pub(crate) arguments: Vec<String>,
    /// `NAME=value` each.
    pub(crate) environment: Vec<String>,
    /// Since the machine's start, in the kernel's ticks of 10 ms.
    pub(crate) started_ticks: u64,
}

impl std::fmt::Debug for Process {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} (parent {}): {}", self.pid, self.parent, self.arguments.join(" "))
    }
}

impl Process {
    /// `tidegate run`, also as the copy that is about to become something else.
    pub(crate) fn is_node(&self) -> bool {
        self.arguments.get(1).is_some_and(|word| word == "run")
    }

    /// The wrapper of an instance.
    pub(crate) fn is_instance(&self) -> bool {
        self.arguments.get(1).is_some_and(|word| word == "wrap") && self.launch().is_some()
    }

    /// A model server.
    pub(crate) fn is_model_server(&self) -> bool {
        self.arguments.get(1).is_some_and(|word| word == "model")
    }

    /// The launch that a wrapper was started for.
    pub(crate) fn launch(&self) -> Option<&str> {
        let own = self.arguments.split(|word| word == "--").next()?;
        let at = own.iter().position(|word| word == "--launch")?;
        own.get(at + 1).map(String::as_str)
    }
}

/// Everything alive whose details we may read.
pub(crate) fn processes() -> Vec<Process> {
    let entries = std::fs::read_dir("/proc").unwrap().flatten();
    entries.filter_map(|entry| process(entry.file_name().to_str()?.parse().ok()?)).collect()
}

/// One process, if it is alive.
pub(crate) fn process(pid: i32) -> Option<Process> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name before it, in brackets, may hold anything.
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_ascii_whitespace().collect();
    if matches!(fields[0], "Z" | "X") {
        return None;
    }
    Some(Process {
        pid: Pid::from_raw(pid),
        parent: Pid::from_raw(fields[1].parse().ok()?),
        arguments: words(pid, "cmdline")?,
        environment: words(pid, "environ")?,
        started_ticks: fields[19].parse().ok()?,
    })
}

fn words(pid: i32, file: &str) -> Option<Vec<String>> {
    let bytes = std::fs::read(format!("/proc/{pid}/{file}")).ok()?;
    let words = bytes.split(|byte| *byte == 0).filter(|word| !word.is_empty());
    Some(words.map(|word| String::from_utf8_lossy(word).into_owned()).collect())
}

/// All that a process started, and what that started.
pub(crate) fn descendants(ancestor: Pid) -> Vec<Process> {
    let table = processes();
    let mut found = vec![ancestor];
    let mut next = 0;
    while next < found.len() {
        let parent = found[next];
        found.extend(table.iter().filter(|process| process.parent == parent).map(|process| process.pid));
        next += 1;
    }
    table.into_iter().filter(|process| found[1..].contains(&process.pid)).collect()
}
