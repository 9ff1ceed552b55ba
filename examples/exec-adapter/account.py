"""A cloud to try things on: instances are detached `tidegate wrap` processes here, and the account is a directory.

local_processes.py uses it as it would use a provider's library; nothing here is about Tidegate's protocol. What a
provider must give is: an id of our choice that makes a launch happen once, labels, a list, and an end.

    lock                    held while an instance is made or removed
    key                     who may use the account, if it is there
    instances/<launch>/     one instance: labels.json, secrets, and what its wrapper writes (lock, address, ended, log)
    staging/, trash/        instances being made and removed, so that a name appears and vanishes in one step

An instance lives while its wrapper holds the lock on instances/<launch>/lock.
"""
import contextlib
import fcntl
import json
import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

START_SECONDS = 10  # what a wrapper may take until it holds its lock
GRACE_SECONDS = 2  # what a wrapper gets beyond its drain timeout before it is killed
MARK = "TIDEGATE_INSTANCE_DIR"  # in the environment of every process of an instance: children inherit it


class Account:
    def __init__(self, root):
        self.root = Path(root).absolute()
        for part in ("instances", "staging", "trash"):
            (self.root / part).mkdir(parents=True, exist_ok=True, mode=0o700)

    def takes(self, key):
        return read(self.root / "key") in ("", key)

    def locked(self):
        """Also waits for a call that was killed while it started a process: the child holds the lock until it runs."""
        return hold(self.root / "lock")

    def home(self, launch):
        return self.root / "instances" / launch

    def instances(self):
        return [Instance(home) for home in sorted((self.root / "instances").iterdir()) if (home / "labels.json").exists()]

    def instance(self, launch):
        home = self.home(launch)
        return Instance(home) if (home / "labels.json").exists() else None

    def create(self, launch, labels, secrets, files):
        """Complete, or not there: it gets its name last."""
        staging = self.root / "staging" / launch
        shutil.rmtree(staging, ignore_errors=True)
        (staging / "files").mkdir(parents=True)
        for name, text in secrets.items():
            with open(os.open(staging / name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
                file.write(text)
        for name, path in files.items():
            os.symlink(path, staging / "files" / name)  # a real cloud is sent a copy
        (staging / "labels.json").write_text(json.dumps(dict(labels, created=now())))
        staging.rename(self.home(launch))
        return Instance(self.home(launch))

    def remove(self, launch):
        trash = self.root / "trash" / launch
        shutil.rmtree(trash, ignore_errors=True)
        if self.home(launch).exists():
            self.home(launch).rename(trash)
        shutil.rmtree(trash, ignore_errors=True)
        shutil.rmtree(self.root / "staging" / launch, ignore_errors=True)


class Instance:
    def __init__(self, home):
        self.home = home
        self.labels = json.loads((home / "labels.json").read_text())

    def was_never_started(self):
        return not (self.home / "started").exists() and not self.read("lock")

    def start(self, command, environment):
        kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
        environment = {**kept, **environment, MARK: str(self.home)}
        with open(self.home / "log", "ab") as log:
            # A session of its own: Tidegate kills this program's process group when the call is over.
            subprocess.Popen(command, env=environment, cwd=self.home, start_new_session=True,
                             stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        self.stamp("started")

    def look(self):
        """Its state, why it ended, and where it listens."""
        if self.read("ended"):
            return "ended", self.read("ended"), None
        # Before its process id stands in the lock the lock is not touched: a wrapper that finds it taken gives up.
        age = self.age_seconds()
        if not self.read("lock") and age is not None and age < START_SECONDS:
            return "pending", None, None
        with hold(self.home / "lock", fcntl.LOCK_SH | fcntl.LOCK_NB) as is_free:
            if is_free:
                last_words = self.read("log")[-200:]
                return "ended", f"its wrapper was killed, or never started. {last_words}", None
        address = self.read("address")
        return ("running", None, address) if address else ("pending", None, None)

    def age_seconds(self):
        """None after the machine was restarted."""
        boot, then = json.loads(self.read("started") or "null") or self.labels["created"]
        return now()[1] - then if boot == now()[0] else None

    def end(self, account):
        """One step: asks it to end, kills it when it had its time, removes it. Whether it is gone."""
        with hold(self.home / "lock", fcntl.LOCK_EX | fcntl.LOCK_NB) as is_free:
            if not is_free:
                self.ask_to_end()
            # No wrapper lives, and while the lock is ours none can start; its server may still be there.
            elif not self.kill_all():
                account.remove(self.home.name)
                return True
        return False

    def ask_to_end(self):
        asked, pid = json.loads(self.read("stopping") or "null"), self.read("lock")
        if asked and now()[1] - asked[1] > self.labels["drain_timeout_ms"] / 1000 + GRACE_SECONDS:
            self.kill_all()
        elif not asked and pid:
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(pid), signal.SIGTERM)  # once: a second one could cut its drain short
            self.stamp("stopping")

    def kill_all(self):
        """Kills every process that carries the mark, whatever group it moved to; how many there were."""
        mark, found = f"{MARK}={self.home}".encode(), 0
        for process in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                if mark in (process / "environ").read_bytes().split(b"\0"):
                    os.kill(int(process.name), signal.SIGKILL)
                    found += 1
        return found

    def read(self, name):
        return read(self.home / name)

    def stamp(self, name):
        (self.home / name).write_text(json.dumps(now()))


@contextlib.contextmanager
def hold(path, how=fcntl.LOCK_EX):
    """Holds the lock on a file: whether it was free."""
    with open(path, "a") as file:
        try:
            fcntl.flock(file, how)
            is_free = True
        except BlockingIOError:
            is_free = False
        yield is_free


def read(path):
    return path.read_text(errors="replace").strip() if path.exists() else ""


def now():
    """Which start of the machine this is, and the seconds since, on a clock that nobody sets."""
    return [Path("/proc/sys/kernel/random/boot_id").read_text().strip(), time.clock_gettime(time.CLOCK_BOOTTIME)]
