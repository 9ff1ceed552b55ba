"""Messages on MQTT: what signatures, the registry, the codec and the embedded broker cost.

messages: a late joiner and ten thousand announcements, each signed by a node that was enrolled for real; the next round of all
of them; a load report of 26 fields and 8 services beside serde_json. Figures of one process, without a broker.
brokers: the embedded broker in a process of its own beside Mosquitto (Debian: apt-get install mosquitto), the same loads in
turns. No more than 500 messages are on their way at once. Mosquitto has max_queued_messages 100000 and persistence off. On a
busy machine the rates tell who got a core; the processor time for each delivery holds there too.
MB are 10^6 bytes.
"""

import json
import os
import statistics
import subprocess

from parts import brokers
from parts.figures import ROOT, CannotMeasure, Report, arguments, progress, run, spread
from parts.node import folder

NODES, NODES_QUICK = 10_000, 500
LATE_JOINER_S = 3
HELD_BYTES = 2_000
# A thousand nodes that announce each ten seconds.
FLEET_MESSAGES_PER_S = 1_000 / 10
CORE_PERCENT = 3
ENCODE, DECODE, SIZE = 0.75, 0.5, 0.4
# Many short turns rather than few long ones: what else the machine does then meets both brokers.
ROUNDS, ROUNDS_QUICK = 7, 2
LOAD_S, LOAD_QUICK_S = 0.5, 0.3


def measured(name, package, **settings):
    """What benches/{name}.rs measures, built as the program is."""
    progress(f"cargo bench --bench {name} (built first)")
    command = ["cargo", "bench", "--locked", "--quiet", "--package", package, "--bench", name]
    done = subprocess.run(command, cwd=ROOT, env={**os.environ, **settings}, stdout=subprocess.PIPE, text=True)
    if done.returncode != 0:
        raise CannotMeasure(f"benches/{name}.rs failed; its words are above")
    return json.loads(done.stdout)


def joined(report, found):
    """What a late joiner does with the whole fleet."""
    nodes = found["nodes"]
    note = f"of it verification: {found['verify_s']:.3f} s; {found['announcement_bytes']} bytes each"
    report.below(f"late joiner: {nodes} signed announcements", LATE_JOINER_S, found["apply_s"], "s", 3, note)
    report.below("held for each announcement", HELD_BYTES, found["held_bytes_each"], "bytes", 0)
    percent = found["next_us_each"] * FLEET_MESSAGES_PER_S / 1e6 * 100
    note = f"{found['next_us_each']:.1f} us for an announcement of a node that is known"
    report.below("1,000 nodes, each 10 s: share of one core", CORE_PERCENT, percent, "%", 2, note)


def codec(report, found):
    """A load report, beside serde_json."""
    for name, target, ours, theirs in (
        ("encode", ENCODE, found["cbor_encode_ns"], found["json_encode_ns"]),
        ("decode", DECODE, found["cbor_decode_ns"], found["json_decode_ns"]),
        ("bytes", SIZE, found["cbor_bytes"], found["json_bytes"]),
    ):
        unit = "bytes" if name == "bytes" else "ns"
        note = f"{ours:.0f} beside {theirs:.0f} {unit}"
        report.at_most(f"load report, {name}: ratio to serde_json", target, round(ours / theirs, 3), "", note)


def messages(report, options):
    """What one process does with messages."""
    nodes = NODES_QUICK if options.quick else NODES
    joined(report, measured("messages", "tidegate", TIDEGATE_BENCH_NODES=str(nodes)))
    codec(report, measured("codec", "wire"))


def beside_mosquitto(report, options):
    """The embedded broker and Mosquitto, as ratios."""
    rounds, seconds = (ROUNDS_QUICK, LOAD_QUICK_S) if options.quick else (ROUNDS, LOAD_S)
    with folder() as place:
        found = brokers.measure(place, rounds, seconds)
    if found is None:
        why = "Mosquitto is not installed (Debian: apt-get install mosquitto)"
        report.skipped("embedded broker beside Mosquitto", "-", why)
        return
    for load in brokers.LOADS:
        loaded(report, found, load)
    for qos in (0, 1):
        late(report, found, qos)
    remembered(report, found)


def ratios(found, values):
    """Ours over theirs, a round at a time, so that a busy moment of the machine meets both."""
    ours, theirs = (values(found[side]) for side in brokers.SIDES)
    return [one / other for one, other in zip(ours, theirs, strict=True)]


def loaded(report, found, load):
    """One load: deliveries a second, and what they cost the broker."""
    rates = ratios(found, lambda one: one.rates[load])
    notes = [f"rate: {spread(rates, 'times')}"]
    cost = {}
    for side, one in found.items():
        cost[side] = one.cpu_s[load] / max(one.delivered[load], 1) * 1e6
        lost = f", {one.lost[load]} LOST" if one.lost[load] else ""
        notes.append(f"{side:<9} {statistics.median(one.rates[load]):.0f} a second, {cost[side]:.1f} us of CPU each{lost}")
    ours, theirs = (cost[side] for side in brokers.SIDES)
    measured = f"rate {statistics.median(rates):.2f}, CPU {ours / max(theirs, 0.01):.2f}"
    report.shown(f"{load}: times mosquitto's", measured, "\n".join(notes))


def late(report, found, qos):
    """What a late subscriber gets of what is retained."""
    seconds = lambda one: [taken for taken, _ in one.late[qos]]
    notes = [spread(ratios(found, seconds), "times")]
    for side, one in found.items():
        least = min(received for _, received in one.late[qos])
        notes.append(f"{side:<9} {least} of {brokers.RETAINED}, {spread(seconds(one), 's', 3)}")
    ratio = statistics.median(ratios(found, seconds))
    name = f"{brokers.RETAINED} retained, late, QoS {qos}: times mosquitto's"
    report.shown(name, f"time {ratio:.2f}", "\n".join(notes))


def remembered(report, found):
    """The brokers' resident memory, as the measurement went on."""
    ours, theirs = (found[side].memory for side in brokers.SIDES)
    for when in ours:
        note = f"{ours[when] / brokers.MB:.1f} beside {theirs[when] / brokers.MB:.1f} MB"
        report.shown(f"RSS {when}: times mosquitto's", f"{ours[when] / theirs[when]:.2f}", note)


def main():
    parser = arguments("mqtt", __doc__, PARTS)
    options = parser.parse_args()
    report = Report("mqtt")
    for part in PARTS:
        if part in (options.only or PARTS):
            PARTS[part](report, options)
    return report.end()


PARTS = {"messages": messages, "brokers": beside_mosquitto}


if __name__ == "__main__":
    run(main)
