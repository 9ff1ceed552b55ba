"""A node of our own: its configuration, its start, its console."""

import contextlib
import http.client
import json
import pathlib
import selectors
import shutil
import subprocess
import tempfile
import time

from parts.figures import ROOT, CannotMeasure
from parts.process import accepts, end, free_port, held_to, started, tail, wait_for

QUICKSTART = ROOT / "edge-config" / "profiles" / "quickstart.toml"
START_PATIENCE_S = 30.0
# Much shorter than what is measured, long enough not to be load.
LOOK_S = 0.002


@contextlib.contextmanager
def folder():
    """A temporary folder, gone when the block is left."""
    path = pathlib.Path(tempfile.mkdtemp(prefix="tidegate-bench-"))
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


def settings(state_dir, mqtt='listen = "127.0.0.1:0"', gateway=""):
    """Everything but the services: listeners on free ports, state below `state_dir`."""
    return (
        f'[node]\nid = "bench"\nstate_dir = "{state_dir}"\ndrain_timeout = "5s"\nlog = "warn"\n'
        f'[console]\nlisten = "127.0.0.1:0"\n[gateway]\nlisten = "127.0.0.1:0"\n{gateway}\n[mqtt]\n{mqtt}\n'
    )


class Node:
    """A running node."""

    def __init__(self, child, began, addresses):
        self.child, self.began, self.addresses = child, began, addresses
        self.pid = child.pid

    def get(self, path):
        """Status and body of an answer of the console; nothing when it does not answer."""
        connection = http.client.HTTPConnection(self.addresses["console"], timeout=5)
        try:
            connection.request("GET", path)
            answer = connection.getresponse()
            return answer.status, answer.read()
        except OSError:
            return None, b""
        finally:
            connection.close()

    def wait_ready(self):
        """Seconds from exec until /readyz answered 200 for the first time."""
        wait_for("ready", lambda: self.get("/readyz")[0] == 200, self.child, START_PATIENCE_S, LOOK_S)
        return time.monotonic() - self.began

    def wait_connected(self):
        """Until it has reached its broker."""

        def connected():
            return json.loads(self.get("/api/v1/node")[1] or b"{}").get("broker_connected")

        wait_for("connected to the broker", connected, self.child)


@contextlib.contextmanager
def running(program, place, config, cores=None):
    """A node with the text `config` as its configuration, in the folder `place`, held to `cores` where some are named;
    ended when the block is left."""
    place.mkdir(parents=True, exist_ok=True)
    file, log = place / "node.toml", place / "node.log"
    file.write_text(config)
    began = time.monotonic()
    # Its standard output names the ports that it took.
    options = {"preexec_fn": held_to(cores)} if cores else {}
    with started([program, "run", "-c", file], log, stdout=subprocess.PIPE, cwd=place, bufsize=0, **options) as child:
        try:
            yield Node(child, began, addresses(child))
        except CannotMeasure as error:
            raise CannotMeasure(f"{error}\n{tail(log)}") from error


def addresses(child):
    """Where it listens, from what it prints when it does."""
    found, text = {}, b""
    with selectors.DefaultSelector() as selector:
        selector.register(child.stdout, selectors.EVENT_READ)
        while "console" not in found:
            if not selector.select(START_PATIENCE_S):
                raise CannotMeasure(f"the node printed no addresses within {START_PATIENCE_S:g} s")
            read = child.stdout.read(4096)
            if not read:
                end(child)
                raise CannotMeasure("the node did not start:")
            text += read
            lines = text.decode().rpartition("\n")[0].splitlines()
            found = dict(line.split(None, 1) for line in lines if " http://" in line)
    return {name: address.removeprefix("http://").strip() for name, address in found.items()}


@contextlib.contextmanager
def mosquitto(place):
    """A broker of our own; gives its port and process id, or nothing where Mosquitto is not installed."""
    program = shutil.which("mosquitto", path="/usr/sbin:/usr/local/sbin:/usr/bin:/usr/local/bin")
    if program is None:
        yield None
        return
    place.mkdir(parents=True, exist_ok=True)
    port = free_port()
    file = place / "mosquitto.conf"
    # Late subscribers at QoS 1 lose retained messages at the default limit of 1,000.
    limits = "persistence false\nmax_queued_messages 100000\n"
    file.write_text(f"listener {port} 127.0.0.1\nallow_anonymous true\n{limits}")
    with started([program, "-c", file], place / "mosquitto.log") as child:
        wait_for("mosquitto listens", lambda: accepts(port), child)
        yield port, child.pid
