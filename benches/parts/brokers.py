"""The embedded broker, in a process of its own, beside Mosquitto: the same loads in turns, processor time and memory."""

import collections
import contextlib
import dataclasses
import json
import subprocess

from parts.figures import ROOT, CannotMeasure, progress
from parts.node import mosquitto
from parts.process import cpu_s, started, status_bytes, tail

# Small, and as a load report of 26 fields and 8 services.
SIZES = (200, 783)
SHAPES = ((1, 1), (10, 1), (1, 100))
RETAINED, RETAINED_BYTES = 10_000, 200
SIDES = ("embedded", "mosquitto")
MB = 1e6


@dataclasses.dataclass(frozen=True)
class Load:
    """Who publishes to whom, and what."""

    qos: int
    publishers: int
    subscribers: int
    size: int

    def __str__(self):
        return f"QoS {self.qos}, {self.publishers} to {self.subscribers}, {self.size} bytes"


LOADS = [Load(qos, *shape, size) for shape in SHAPES for size in SIZES for qos in (0, 1)]


@dataclasses.dataclass
class Found:
    """What was measured of one broker."""

    # Deliveries a second, one a round.
    rates: dict = dataclasses.field(default_factory=lambda: collections.defaultdict(list))
    cpu_s: collections.Counter = dataclasses.field(default_factory=collections.Counter)
    delivered: collections.Counter = dataclasses.field(default_factory=collections.Counter)
    lost: collections.Counter = dataclasses.field(default_factory=collections.Counter)
    # For each QoS, seconds and messages of a late subscriber, one a round.
    late: dict = dataclasses.field(default_factory=lambda: collections.defaultdict(list))
    # Resident bytes by when.
    memory: dict = dataclasses.field(default_factory=dict)


def built():
    """The program that hosts the embedded broker and makes the loads, built as the program is."""
    progress("cargo bench --bench brokers (built first)")
    command = ["cargo", "bench", "--locked", "--quiet", "--bench", "brokers", "--no-run", "--message-format=json"]
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    if done.returncode != 0:
        raise CannotMeasure("benches/brokers.rs was not built; the reason is above")
    messages = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    programs = [message.get("executable") for message in messages if message.get("target", {}).get("name") == "brokers"]
    return next(program for program in programs if program)


@contextlib.contextmanager
def embedded(program, place):
    """The embedded broker; gives its port and process id."""
    log = place / "embedded.log"
    with started([program, "host"], log, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        line = child.stdout.readline()
        if not line:
            raise CannotMeasure(f"the embedded broker did not start: {tail(log)}")
        yield int(line), child.pid


def measure(place, rounds, seconds):
    """What was found of each side; nothing where Mosquitto is not installed."""
    with mosquitto(place) as site:
        if site is None:
            return None
        program = built()
        with embedded(program, place) as own:
            return beside(program, dict(zip(SIDES, (own, site), strict=True)), rounds, seconds)


def beside(program, brokers, rounds, seconds):
    """Everything of both brokers, in turns."""
    found = {side: Found() for side in SIDES}
    remember(brokers, found, "before")
    for number in range(rounds):
        progress(f"brokers, round {number + 1} of {rounds}: {len(LOADS)} loads of {seconds:g} s at each")
        for load in LOADS:
            for side in in_turn(number):
                play(program, brokers[side], found[side], load, seconds)
    remember(brokers, found, "after the loads")
    for side in SIDES:
        call(program, "fill", brokers[side][0], RETAINED, RETAINED_BYTES)
    for number in range(rounds):
        for qos in (0, 1):
            for side in in_turn(number):
                answer = call(program, "late", brokers[side][0], RETAINED, qos)
                found[side].late[qos].append((answer["seconds"], answer["received"]))
    remember(brokers, found, f"with {RETAINED} retained")
    return found


def in_turn(number):
    """Who is first changes with each round."""
    return SIDES if number % 2 == 0 else SIDES[::-1]


def remember(brokers, found, when):
    """The resident memory of both, now."""
    for side, (_, pid) in brokers.items():
        found[side].memory[when] = status_bytes(pid)["VmRSS"]


def play(program, broker, found, load, seconds):
    """One load at one broker."""
    port, pid = broker
    before = cpu_s(pid)
    words = (load.publishers, load.subscribers, load.qos, load.size, round(seconds * 1000))
    answer = call(program, "load", port, *words)
    found.cpu_s[load] += cpu_s(pid) - before
    found.delivered[load] += answer["delivered"]
    found.lost[load] += answer["lost"]
    found.rates[load].append(answer["delivered"] / answer["seconds"])


def call(program, *words):
    """What a load prints at its end."""
    done = subprocess.run([program, *map(str, words)], capture_output=True, text=True)
    if done.returncode != 0:
        raise CannotMeasure(f"{' '.join(map(str, words))}: {done.stderr}")
    return json.loads(done.stdout)
