"""Processes: starting and ending our own, and what /proc tells of them."""

import collections
import contextlib
import os
import pathlib
import re
import signal
import socket
import subprocess
import time

from parts.figures import CannotMeasure

PROC = pathlib.Path("/proc")
TICKS_PER_S = os.sysconf("SC_CLK_TCK")
# Longer than a node's drain timeout in any configuration of ours.
PATIENCE_S = 20.0


@contextlib.contextmanager
def started(command, log, **options):
    """A process that is ended, with what it started, when the block is left. Its output goes to the file `log`."""
    with open(log, "wb") as output:
        settings = {"stdin": subprocess.DEVNULL, "stdout": output, "stderr": output, **options}
        child = subprocess.Popen([str(word) for word in command], **settings)
        try:
            yield child
        finally:
            end(child)


def held_to(cores):
    """For `preexec_fn`: the process runs on these cores alone."""
    return lambda: os.sched_setaffinity(0, cores)


def end(child):
    """SIGTERM, and what is left after a while SIGKILL, by process id."""
    family = tree(child.pid)
    child.terminate()
    try:
        child.wait(PATIENCE_S)
    except subprocess.TimeoutExpired:
        family += tree(child.pid)
        child.kill()
        child.wait()
    if child.stdout:
        child.stdout.close()
    for pid, born in family:
        if pid != child.pid and starttime(pid) == born:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def tail(log, lines=5):
    """The last words of a process."""
    return "\n".join(pathlib.Path(log).read_text(errors="replace").splitlines()[-lines:])


def wait_for(what, probe, child=None, deadline_s=PATIENCE_S, every_s=0.01):
    """Polls until `probe` gives something true, and returns that."""
    until = time.monotonic() + deadline_s
    while time.monotonic() < until:
        found = probe()
        if found:
            return found
        if child is not None and child.poll() is not None:
            raise CannotMeasure(f"{what}: the process ended with {child.returncode}")
        time.sleep(every_s)
    raise CannotMeasure(f"{what}: not within {deadline_s:g} s")


def free_port():
    """A port that nobody has just now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def accepts(port):
    """Whether somebody listens."""
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        return True
    return False


def stat(pid):
    """The fields of /proc/PID/stat behind the name in parentheses; none when it is gone."""
    try:
        return (PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []


def starttime(pid):
    """When it started, in clock ticks since boot: with the id it names a process for good."""
    fields = stat(pid)
    return fields[19] if fields else None


def tree(pid):
    """A process and all below it by parent, as (id, start time)."""
    children = collections.defaultdict(list)
    for entry in PROC.iterdir():
        if entry.name.isdigit() and (fields := stat(entry.name)):
            children[int(fields[1])].append((int(entry.name), fields[19]))
    found = [(pid, starttime(pid))]
    for parent, _ in found:
        found += children[parent]
    return [member for member in found if member[1] is not None]


def mentioning(path):
    """Ids of the processes that were started with something below `path`: a node's instances are no children of it."""
    found = []
    for entry in PROC.iterdir():
        with contextlib.suppress(OSError):
            if entry.name.isdigit() and os.fsencode(path) in (entry / "cmdline").read_bytes():
                found.append(int(entry.name))
    return found


def cpu_s(pid, whole_tree=True):
    """Processor seconds that a process, with all below it or alone, has used until now."""
    members = [one for one, _ in tree(pid)] if whole_tree else [pid]
    return sum(sum(map(int, fields[11:13])) for one in members if (fields := stat(one))) / TICKS_PER_S


def ran_s(pid):
    """Seconds that a process and all below it have been on a core until now, finer than the clock ticks of `cpu_s`."""
    files = [file for one, _ in tree(pid) for file in PROC.glob(f"{one}/task/*/schedstat")]
    nanoseconds = 0
    for file in files:
        with contextlib.suppress(OSError):
            nanoseconds += int(file.read_text().split()[0])
    return nanoseconds / 1e9


def status_bytes(pid):
    """The memory lines of /proc/PID/status, in bytes, and the number of threads."""
    text = (PROC / str(pid) / "status").read_text()
    values = {name: int(kib) * 1024 for name, kib in re.findall(r"^(\w+):\s+(\d+) kB$", text, re.MULTILINE)}
    values["Threads"] = int(re.search(r"^Threads:\s+(\d+)$", text, re.MULTILINE)[1])
    return values


def rollup_bytes(pid):
    """/proc/PID/smaps_rollup in bytes."""
    text = (PROC / str(pid) / "smaps_rollup").read_text()
    return {name: int(kib) * 1024 for name, kib in re.findall(r"^(\w+):\s+(\d+) kB$", text, re.MULTILINE)}
