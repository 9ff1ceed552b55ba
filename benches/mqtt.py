"""Messages on MQTT: what signatures, the registry and the codec cost, beside serde_json in the same run.

A late joiner and ten thousand announcements, each signed by a node that was enrolled for real; the next round of all of them;
a load report of 26 fields and 8 services. Figures of this process alone, without a broker. MB are 10^6 bytes.
"""

import json
import os
import subprocess
import sys

from parts.figures import ROOT, CannotMeasure, Report, arguments, progress, run

NODES, NODES_QUICK = 10_000, 500
LATE_JOINER_S = 3
HELD_BYTES = 2_000
# A thousand nodes that announce each ten seconds.
FLEET_MESSAGES_PER_S = 1_000 / 10
CORE_PERCENT = 3
ENCODE, DECODE, SIZE = 0.75, 0.5, 0.4


def measured(nodes):
    """What benches/messages.rs measures, built as the program is."""
    progress("cargo bench --bench messages (built first)")
    command = ["cargo", "bench", "--locked", "--quiet", "--bench", "messages"]
    environment = {**os.environ, "TIDEGATE_BENCH_NODES": str(nodes)}
    done = subprocess.run(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True)
    if done.returncode != 0:
        raise CannotMeasure("benches/messages.rs failed; its words are above")
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


def main():
    options = arguments("mqtt", __doc__).parse_args()
    report = Report("mqtt")
    found = measured(NODES_QUICK if options.quick else NODES)
    joined(report, found)
    codec(report, found["codec"])
    return report.end()


if __name__ == "__main__":
    sys.exit(run(main))
