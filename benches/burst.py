"""Bursting: a restart among fifty instances, and what a launch costs beside the engine's own start.

Everything runs on this machine: the Docker Engine, the sshd and the instances are the measurement's own, on private
sockets and loopback ports, in a temporary folder, and are ended by process id. The fault matrix is no figure but a test:
`tests/run --with faults` prints it.
"""

import json
import statistics
import time

from parts import far
from parts.figures import CannotMeasure, Report, arguments, progress, program, run, spread
from parts.node import folder, running, settings
from parts.process import mentioning, wait_for

INSTANCES = 50
RECONCILED_S = 1
OVERHEAD_S = 0.3
ROUNDS, ROUNDS_QUICK = 7, 3
START_ALL_S = 120
PARTS = ("restart", "docker", "ssh")

# Fifty servers that cost nothing: what is measured is the node.
MANY = f"""
[service.many.local]
runtime = "process"
command = ["busybox", "httpd", "-f", "-p", "127.0.0.1:{{port}}"]
[service.many.burst]
adapters = ["cloud"]
max_replicas = {INSTANCES}
[service.many.scaling]
policy = "threshold"
min_replicas = {INSTANCES + 1}
scale_factor = 6000
interval = "1s"
[adapter.cloud]
kind = "process"
free = true
lease_ttl = "120s"
"""

ONE = """
[service.digits.local]
runtime = "onnx"
model = "builtin:digits"
[service.digits.burst]
adapters = ["cloud"]
[adapter.cloud]
free = true
"""


def read_arguments():
    """The options of this area."""
    parser = arguments("burst", __doc__, PARTS)
    return parser.parse_args()


def answer(node, path):
    """JSON from a node's console, or nothing."""
    status, body = node.get(path)
    return json.loads(body) if status == 200 else None


def ready_instances(node):
    """How many instances are ready."""
    services = answer(node, "/api/v1/services") or [{}]
    return services[0].get("ready_cloud", 0)


def wrappers(place):
    """The process ids of the instances' wrappers."""
    found = []
    for pid in mentioning(place / "state" / "adapters"):
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            if b"--run-dir" in file.read():
                found.append(pid)
    return sorted(found)


def restart(report, binary, options):
    """A node that is killed among its instances, and started again: how long until it has them all back."""
    name = f"restart: all of {INSTANCES} instances adopted"
    taken = []
    with folder() as place:
        config = settings(place / "state") + MANY
        with running(binary, place, config) as node:
            wait_for("all instances ready", lambda: ready_instances(node) >= INSTANCES, node.child, START_ALL_S)
            before = wrappers(place)
            for number in range(ROUNDS_QUICK if options.quick else ROUNDS):
                node.child.kill()
                node.child.wait()
                with running(binary, place, config) as node:
                    adopted = lambda: len(answer(node, "/api/v1/bursts") or []) >= INSTANCES
                    wait_for("all rows back", adopted, node.child)
                    taken.append(time.monotonic() - node.began)
                    wait_for("all ready again", lambda: ready_instances(node) >= INSTANCES, node.child)
                    if wrappers(place) != before:
                        report.failed(name, f"< {RECONCILED_S} s", "an instance was ended or replaced")
                        return
                    progress(f"restart {number + 1}: {taken[-1]:.3f} s")
                    node.child.kill()
                    node.child.wait()
    note = f"{spread(taken, 's', 3)}; from exec to the last of them in /api/v1/bursts; none was ended"
    report.below(name, RECONCILED_S, statistics.median(taken), "s", 3, note)


def overhead(report, binary, options, kind, place_of):
    """A launch by the engine, beside the provider's own start of the same server."""
    name = f"{kind}: launch to ready, over its own start"
    rounds = ROUNDS_QUICK if options.quick else ROUNDS
    with folder() as place, place_of(binary, place) as provider:
        if not provider:
            report.skipped(name, f"< {OVERHEAD_S} s", provider.why)
            return
        config = place / "one.toml"
        config.write_text(settings(place / "state") + ONE + provider.settings)
        ours, theirs = [], []
        far.check_launch(binary, config, provider.environment)  # the image is made, the program copied
        for number in range(rounds):
            theirs.append(provider.start_by_hand())
            ours.append(far.check_launch(binary, config, provider.environment))
            progress(f"{kind} {number + 1}: {ours[-1]:.3f} s, by hand {theirs[-1]:.3f} s")
    over = statistics.median(ours) - statistics.median(theirs)
    note = f"launch to ready {spread(ours, 's', 3)}\nby hand {spread(theirs, 's', 3)}; {provider.by_hand}"
    report.below(name, OVERHEAD_S, over, "s", 3, note)


def main():
    """Every part."""
    options = read_arguments()
    wanted = options.only or PARTS
    binary = program(options.bin)
    report = Report("burst")
    measures = {
        "restart": lambda: restart(report, binary, options),
        "docker": lambda: overhead(report, binary, options, "docker", far.docker),
        "ssh": lambda: overhead(report, binary, options, "ssh", far.ssh),
    }
    for part in PARTS:
        if part in wanted:
            try:
                measures[part]()
            except CannotMeasure as error:
                report.failed(part, "-", str(error))
    return report.end()


if __name__ == "__main__":
    run(main)
