"""What it takes to build: crates and time."""

import os
import subprocess
import time

from parts.figures import ROOT, CannotMeasure, progress
from parts.process import held_to

CORES = 2


def crates():
    """How many crates the default build takes, by unique name and version, our own included."""
    command = ["cargo", "tree", "--locked", "-e", "normal,build", "--prefix", "none"]
    listed = _checked(command, ROOT, capture_output=True, text=True)
    return len({tuple(line.split()[:2]) for line in listed.stdout.splitlines() if line.strip()})


def clean_build_s(place):
    """Seconds that `cargo build --release` takes in a fresh clone of the last commit, on two cores, with the sources of
    all crates already here: how fast they come over the network is not ours."""
    clone = place / "clone"
    _checked(["git", "clone", "--quiet", "--no-hardlinks", ROOT, clone], place)
    environment = {**os.environ, "CARGO_TARGET_DIR": str(place / "target")}
    _checked(["cargo", "fetch", "--locked"], clone, env=environment)
    cores = sorted(os.sched_getaffinity(0))[:CORES]
    progress(f"cargo build --release in a fresh clone, on cores {cores}")
    began = time.monotonic()
    _checked(
        ["cargo", "build", "--release", "--locked"],
        clone,
        env=environment,
        preexec_fn=held_to(cores),
    )
    return time.monotonic() - began


def uncommitted():
    """Whether the working tree has changes that a clone does not."""
    found = subprocess.run(["git", "status", "--porcelain"], cwd=ROOT, capture_output=True, text=True)
    return bool(found.stdout.strip())


def _checked(command, folder, **options):
    done = subprocess.run([str(word) for word in command], cwd=folder, **options)
    if done.returncode != 0:
        raise CannotMeasure(f"{' '.join(str(word) for word in command)} failed: {done.stderr or 'see above'}")
    return done
