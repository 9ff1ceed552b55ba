"""One node: start, idle memory, burst, build, and the gateway beside nginx.

Each figure is taken from a node of its own with the quickstart profile, in a temporary folder, on free loopback ports.
MB are 10^6 bytes. Everything that is started is ended by its process id.
"""

import statistics
import time

from parts import burst, build, memory, overhead
from parts.figures import CannotMeasure, Report, arguments, progress, program, run, spread
from parts.node import QUICKSTART, folder, mosquitto, running, settings
from parts.process import mentioning, ran_s, rollup_bytes, status_bytes, tree

MB = 1e6
START_S = 0.5
# Greengrass nucleus lite is given with 14.8 MB.
WITH_BROKER_MB, WITHOUT_BROKER_MB = 15, 10
CROSSING_S = 1.5
BUILD_MIN = 6
CRATES = 320
STARTS = 5
IDLE_S, IDLE_QUICK_S = 60, 5
DEMOS = 3
OVERHEAD_S, OVERHEAD_ROUNDS = 8, 3
PARTS = ("start", "memory", "burst", "build", "overhead")


def read_arguments():
    """The options of this area."""
    parser = arguments("node", __doc__, PARTS)
    parser.add_argument("--build", action="store_true", help="time a release build of a fresh clone too")
    return parser.parse_args()


def quickstart(place, mqtt='listen = "127.0.0.1:0"'):
    """The quickstart profile with free ports and a state directory of its own."""
    return QUICKSTART.read_text() + settings(place / "state", mqtt)


def guarded(report, name, target, measure):
    """A figure that cannot be measured is one that is missed; the others go on."""
    try:
        measure()
    except CannotMeasure as error:
        report.failed(name, target, str(error))


def start(report, binary, options):
    """From exec to the first 200 of /readyz: the first tick and the local replica's start are inside."""
    name = "node start to ready"

    def measure():
        taken, ran = [], []
        for number in range(STARTS):
            with folder() as place, running(binary, place, quickstart(place)) as node:
                taken.append(node.wait_ready())
                ran.append(ran_s(node.pid))
            progress(f"start {number + 1} of {STARTS}: {taken[-1]:.3f} s")
        note = spread(taken, "s", 3) + "; from exec to /readyz 200, local replica included, fresh state directory"
        # On a busy machine most of a start is waiting for a core.
        note += f"\non a core, its replica included: {spread(ran, 's', 3)}"
        report.below(name, START_S, statistics.median(taken), "s", 3, note)

    guarded(report, name, f"< {START_S} s", measure)


def idle_memory(report, binary, options):
    """Memory of a node that nobody asks anything, with the embedded broker and without."""
    idle_s = IDLE_QUICK_S if options.quick else IDLE_S
    with_broker = "idle memory (RSS), embedded broker"
    guarded(
        report,
        with_broker,
        f"< {WITH_BROKER_MB} MB",
        lambda: idle(report, binary, with_broker, WITH_BROKER_MB, 'listen = "127.0.0.1:0"', idle_s, False),
    )
    with folder() as place, mosquitto(place) as broker:
        if broker:
            name, mqtt = "idle memory (RSS), site's broker (mosquitto)", f'broker = "mqtt://127.0.0.1:{broker[0]}"'
        else:
            name, mqtt = "idle memory (RSS), MQTT off (no mosquitto here)", "enabled = false"
        guarded(
            report,
            name,
            f"< {WITHOUT_BROKER_MB} MB",
            lambda: idle(report, binary, name, WITHOUT_BROKER_MB, mqtt, idle_s, bool(broker)),
        )


def idle(report, binary, name, target, mqtt, idle_s, external):
    """One node, `idle_s` seconds after it was ready: its own resident memory, and the whole tree's proportional one."""
    with folder() as place, running(binary, place, quickstart(place, mqtt)) as node:
        node.wait_ready()
        if external:
            node.wait_connected()
        progress(f"{name}: idle for {idle_s} s")
        time.sleep(idle_s)
        status = status_bytes(node.pid)
        lines = [
            f"{idle_s} s after ready, no requests; anonymous {status['RssAnon'] / MB:.2f} MB,"
            f" of files {status['RssFile'] / MB:.2f} MB, {status['Threads']} threads"
        ]
        if status["VmRSS"] / MB >= target:
            lines += memory.profile(node.pid)
        report.below(name, target, status["VmRSS"] / MB, "MB", 2, "\n".join(lines))
        processes = sorted({pid for pid, _ in tree(node.pid)} | set(mentioning(place)))
        sizes = [rollup_bytes(pid)["Pss"] / MB for pid in processes]
        each = " + ".join(f"{size:.1f}" for size in sizes)
        note = f"{len(sizes)} processes: {each}"
        report.shown("  its process tree, proportional (PSS)", f"{sum(sizes):.2f} MB", note)


def burst_time(report, binary, options):
    """The demo's own measure: from the sample with the load at the threshold, to the first answer of an instance."""
    name = "threshold crossed to first cloud answer"

    def measure():
        crossings, ratios, notes = [], [], []
        for number in range(1 if options.quick else DEMOS):
            with folder() as place:
                crossing, (without, with_burst), failed = burst.play(binary, place)
            notes.append(f"p95 {without:.0f} ms without, {with_burst:.0f} ms with burst")
            progress(f"demo {number + 1}: {crossing:.2f} s, {notes[-1]}")
            crossings.append(crossing)
            ratios.append(without / with_burst)
            notes += [f"the demo's verdict failed: {what}" for what in failed]
        note = (
            f"{spread(crossings, 's')}; tidegate demo --seconds {burst.SHORTEST_S}, tick 250 ms\n"
            "from the sample that shows it; that sample may be a tick, and its window of 500 ms, later than the load"
        )
        report.below(name, CROSSING_S, statistics.median(crossings), "s", 2, note)
        ratio = f"{statistics.median(ratios):.1f} times lower"
        report.shown("p95 of the same surge with burst", ratio, "\n".join(notes))

    guarded(report, name, f"< {CROSSING_S} s", measure)


def building(report, _binary, options):
    """Time and crates of the default build."""
    name, target = "clean release build, two cores", f"< {BUILD_MIN} min"
    if options.build:
        guarded(report, name, target, lambda: build_time(report, name))
    else:
        report.skipped(name, target, "takes minutes; ask for it with --build")
    crates = "crates in the default build"
    note = "unique name and version in cargo tree -e normal,build, our own included"
    limit = f"<= {CRATES} crates"
    guarded(report, crates, limit, lambda: report.at_most(crates, CRATES, build.crates(), "crates", note))


def build_time(report, name):
    """A fresh clone, a target folder of its own."""
    note = "fresh clone, own target folder, sources fetched before"
    if build.uncommitted():
        note += "; changes that are not committed are not in it"
    with folder() as place:
        report.below(name, BUILD_MIN, build.clean_build_s(place) / 60, "min", 2, note)


def beside_nginx(report, binary, options):
    """Processor time per request of the gateway and of nginx, in the same run, before the same server."""
    name = "gateway CPU per request beside nginx"
    if missing := overhead.missing():
        report.skipped(name, "-", f"{' and '.join(missing)} not installed (Debian: apt-get install nginx-light wrk)")
        return
    seconds, rounds = (3, 1) if options.quick else (OVERHEAD_S, OVERHEAD_ROUNDS)
    try:
        with folder() as place:
            found = overhead.measure(binary, place, seconds, rounds)
    except CannotMeasure as error:
        report.shown(name, "failed", str(error))
        return
    cost = {side: statistics.median(us for us, _ in runs) for side, runs in found.items()}
    notes = [f"{overhead.CONNECTIONS} connections, answers of {len(overhead.ANSWER)} bytes, one core each, in turns"]
    for side, runs in found.items():
        rate = statistics.median(rate for _, rate in runs)
        costs = spread([us for us, _ in runs], "us of CPU a request", 1)
        notes.append(f"{side:<8} {costs}; {rate:.0f} requests a second")
    report.shown(name, f"{cost['gateway'] / cost['nginx']:.2f} times nginx's", "\n".join(notes))


def main():
    """Every part, cheapest first."""
    options = read_arguments()
    wanted = options.only or PARTS
    binary = program(options.bin) if set(wanted) != {"build"} else None
    report = Report("node")
    measures = dict(zip(PARTS, (start, idle_memory, burst_time, building, beside_nginx), strict=True))
    for part, measure in measures.items():
        if part in wanted:
            measure(report, binary, options)
    return report.end()


if __name__ == "__main__":
    run(main)
