"""What the node costs a gateway: packages, start, memory, disk and processor when nobody asks.

Programs are built with the profile `dist` (minutes each), or named: --bin with the default features, --minimal without any. MB are
10^6 bytes; an idle node is one with the quickstart profile, its embedded broker and one replica. Everything that is started is ended
by its process id.
"""

import os
import pathlib
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

from parts.figures import ROOT, CannotMeasure, Report, arguments, progress, run, spread
from parts.node import QUICKSTART, folder, running, settings
from parts.process import ran_s, status_bytes, tree

MB = 1e6
DAY_S = 86_400
DEB_MB, INSTALLED_MB = 6, 18
MINIMAL_DEB_MB, MINIMAL_INSTALLED_MB = 3, 8
IDLE_MEMORY_MB = 15
SERVING_S, WITHOUT_NETWORK_S = 2, 5
WRITTEN_MB_A_DAY = 20
IDLE_CPU_PERCENT = 0.5
STARTS = 5
# After its start a node writes nothing for minutes; a day is told from at least some refreshes of what it announces.
IDLE_S, IDLE_QUICK_S = 600, 30
# The pages of the start are given back ten seconds after it.
SETTLED_S = 15
PARTS = ("size", "start", "idle")


def read_arguments():
    """The options of this area."""
    parser = arguments("deploy", __doc__, PARTS)
    parser.add_argument("--minimal", type=pathlib.Path, metavar="PATH", help="this program has no default feature")
    return parser.parse_args()


def built(path, *more):
    """A program as it is shipped: the named one, or one that is built now and kept beside."""
    if path is None:
        command = ["cargo", "build", "--locked", "--profile", "dist", "--bin", "tidegate", *more]
        progress(" ".join(command))
        if subprocess.run(command, cwd=ROOT, stdout=sys.stderr).returncode != 0:
            raise CannotMeasure("the program was not built; see above")
        made = ROOT / os.environ.get("CARGO_TARGET_DIR", "target") / "dist" / "tidegate"
        path = made.with_name("tidegate-minimal" if more else "tidegate-default")
        shutil.copy2(made, path)
    if not os.access(path, os.X_OK):
        raise CannotMeasure(f"{path} is not a program; build it, or name another")
    return path.resolve()


def package(binary, place):
    """Bytes of the Debian package, and of what it installs."""
    command = [ROOT / "firmware-targets" / "package", "x86_64-gateway", binary, place]
    made = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if made.returncode != 0:
        raise CannotMeasure(made.stderr.strip())
    file = made.stdout.strip()
    field = subprocess.run(["dpkg-deb", "--field", file, "Installed-Size"], capture_output=True, text=True, check=True)
    return pathlib.Path(file).stat().st_size, int(field.stdout) * 1024


def sizes(report, binary, minimal, _options):
    """What is downloaded, and what stands on the disk then."""
    both = [("default", binary, DEB_MB, INSTALLED_MB), ("minimal", minimal, MINIMAL_DEB_MB, MINIMAL_INSTALLED_MB)]
    for name, program, deb_mb, installed_mb in both:
        with folder() as place:
            downloaded, installed = package(program, place)
        note = f"the program alone {program.stat().st_size / MB:.2f} MB"
        report.below(f"Debian package, {name}", deb_mb, downloaded / MB, "MB", 2, note)
        report.below(f"installed, {name}", installed_mb, installed / MB, "MB")


def config(place, mqtt='listen = "127.0.0.1:0"'):
    """The quickstart profile with free ports and a state directory of its own."""
    return QUICKSTART.read_text() + settings(place / "state", mqtt)


def start(report, binary, _minimal, _options):
    """From exec to the first 200 of /readyz, which needs a replica: with a network, and in a machine that has none."""
    taken = []
    for _ in range(STARTS):
        with folder() as place, running(binary, place, config(place)) as node:
            taken.append(node.wait_ready())
    note = spread(taken, "s", 3) + "; from exec to /readyz 200, local replica included"
    report.below("serving after the service starts", SERVING_S, statistics.median(taken), "s", 3, note)
    name = "replicas back without a network"
    inside = "ip link set lo up && exec \"$@\""
    command = ["unshare", "--user", "--map-root-user", "--net", "sh", "-ec", inside, "sh"]
    command += [sys.executable, __file__, "--only", "start", "--bin", binary]
    alone = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "TIDEGATE_BENCH_ALONE": "1"})
    if alone.returncode != 0:
        report.failed(name, f"< {WITHOUT_NETWORK_S} s", alone.stderr.strip())
        return
    times = [float(line) for line in alone.stdout.split()]
    note = spread(times, "s", 3) + "; in a network namespace with the loopback alone, its broker elsewhere not to be found"
    report.below(name, WITHOUT_NETWORK_S, statistics.median(times), "s", 3, note)


def start_alone(binary):
    """Prints the seconds of each start; there is no network here."""
    for _ in range(STARTS):
        nowhere = 'broker = "mqtt://broker.plant-a.example:1883"'
        with folder() as place, running(binary, place, config(place, nowhere)) as node:
            print(f"{node.wait_ready():.4f}")
    return 0


def written_bytes(pid):
    """Bytes that a process and all below it have caused to be written to disk."""
    total = 0
    for one, _ in tree(pid):
        fields = dict(line.split(": ") for line in pathlib.Path(f"/proc/{one}/io").read_text().splitlines())
        total += int(fields["write_bytes"])
    return total


def idle(report, binary, _minimal, options):
    """Memory, disk and processor of a node that nobody asks anything. Its state is on a disk and not in memory."""
    seconds = IDLE_QUICK_S if options.quick else IDLE_S
    place = pathlib.Path(tempfile.mkdtemp(prefix="bench-", dir=ROOT / "target"))
    try:
        with running(binary, place, config(place)) as node:
            node.wait_ready()
            time.sleep(SETTLED_S)
            progress(f"idle for {seconds} s")
            began, wrote, ran = time.monotonic(), written_bytes(node.pid), ran_s(node.pid)
            time.sleep(seconds)
            elapsed = time.monotonic() - began
            written, used = written_bytes(node.pid) - wrote, ran_s(node.pid) - ran
            memory = status_bytes(node.pid)
    finally:
        shutil.rmtree(place, ignore_errors=True)
    resident = f"anonymous {memory['RssAnon'] / MB:.2f} MB, of files {memory['RssFile'] / MB:.2f} MB"
    report.below("idle memory (RSS)", IDLE_MEMORY_MB, memory["VmRSS"] / MB, "MB", 2, resident)
    note = f"{written} bytes in {elapsed:.0f} s, its replica included"
    report.below("idle writes", WRITTEN_MB_A_DAY, written / elapsed * DAY_S / MB, "MB a day", 2, note)
    note = f"{used:.3f} s on a core in {elapsed:.0f} s at the default tick, its replica included"
    report.below("idle processor time", IDLE_CPU_PERCENT, used / elapsed * 100, "% of a core", 3, note)


def main():
    """Each part in turn."""
    options = read_arguments()
    if os.environ.get("TIDEGATE_BENCH_ALONE"):
        return start_alone(options.bin.resolve())
    wanted = options.only or PARTS
    binary = built(options.bin)
    minimal = built(options.minimal, "--no-default-features") if "size" in wanted else None
    report = Report("deploy")
    for name, part in (("size", sizes), ("start", start), ("idle", idle)):
        if name in wanted:
            part(report, binary, minimal, options)
    return report.end()


if __name__ == "__main__":
    run(main)
