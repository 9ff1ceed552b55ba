"""Where the memory of a process goes: its mappings, named by what they are for."""

import collections
import dataclasses
import os
import re

from parts.process import PROC, rollup_bytes, status_bytes

# glibc gives each thread that allocates an arena of its own, aligned to this.
ARENA_BYTES = 64 << 20
HEADER = re.compile(r"^([0-9a-f]+)-([0-9a-f]+) (\S+) \S+ \S+ \d+ *(.*)$")
MB = 1e6
TOP = 10


@dataclasses.dataclass
class Mapping:
    """One mapping of /proc/PID/smaps; sizes in bytes."""

    start: int
    end: int
    rights: str
    path: str
    rss: int = 0
    dirty: int = 0


def mappings(pid):
    """All mappings, by address."""
    found = []
    for line in (PROC / str(pid) / "smaps").read_text().splitlines():
        if header := HEADER.match(line):
            start, end, rights, path = header.groups()
            found.append(Mapping(int(start, 16), int(end, 16), rights, path))
            continue
        name, value = line.split(":", 1)
        if name == "Rss":
            found[-1].rss = int(value.split()[0]) * 1024
        elif name in ("Private_Dirty", "Shared_Dirty"):
            found[-1].dirty += int(value.split()[0]) * 1024
    return found


def kind(mapping, before, program):
    """What a mapping is for; `before` is the one below it."""
    if mapping.path == program:
        return {"r-xp": "program: code", "r--p": "program: constants and tables"}.get(mapping.rights, "program: data")
    if mapping.path.startswith("/"):
        return f"library or file: {os.path.basename(mapping.path)}"
    if mapping.path:
        return mapping.path
    if mapping.start % ARENA_BYTES == 0 and mapping.rights == "rw-p":
        return "arenas of threads (malloc)"
    # A stack has a page without rights below it, to stop an overflow.
    if before and before.end == mapping.start and before.rights == "---p" and before.end - before.start <= 64 << 10:
        return "stacks of threads"
    return "other anonymous memory (large blocks)"


def profile(pid):
    """Lines that tell where a process's resident memory goes."""
    program = os.readlink(PROC / str(pid) / "exe")
    by_kind = collections.Counter()
    counted = collections.Counter()
    before = None
    for mapping in mappings(pid):
        name = kind(mapping, before, program)
        if mapping.rss:
            by_kind[name] += mapping.rss
            counted[name] += 1
        before = mapping
    rollup, status = rollup_bytes(pid), status_bytes(pid)
    dirty = rollup["Private_Dirty"] + rollup["Shared_Dirty"]
    lines = [
        f"profile: resident {rollup['Rss'] / MB:.2f} MB = anonymous {rollup['Anonymous'] / MB:.2f} + of files"
        f" {(rollup['Rss'] - rollup['Anonymous']) / MB:.2f}; dirty {dirty / MB:.2f},"
        f" proportional {rollup['Pss'] / MB:.2f}, {status['Threads']} threads"
    ]
    lines += [f"  {rss / MB:7.2f} MB  {name} ({counted[name]})" for name, rss in by_kind.most_common(TOP)]
    return lines
