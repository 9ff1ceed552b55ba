"""Figures: what is measured, against which target, and whether it is met."""

import argparse
import os
import pathlib
import platform
import signal
import statistics
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]

MET, MISSED, SHOWN, SKIPPED = "met", "MISSED", "shown", "not measured"

# Wide enough for the longest figure of any area, so that a row can be printed as soon as it is measured.
WIDTHS = (52, 14, 30)


class CannotMeasure(Exception):
    """Something that a figure needs is not there, or does not work; says what."""


class Report:
    """Prints a row for each figure as it comes, and remembers the verdicts."""

    def __init__(self, area):
        self.verdicts = []
        print(f"Tidegate, figures of `{area}`")
        print(f"machine    {machine()}")
        print("shared     whatever else this machine does is in the figures; several runs give their median\n")
        self._line("FIGURE", "TARGET", "MEASURED", "VERDICT")

    def below(self, name, target, measured, unit, decimals=2, note=None):
        """A figure that has to stay under its target."""
        self._judge(name, f"< {target:g} {unit}", f"{measured:.{decimals}f} {unit}", measured < target, note)
        return measured < target

    def at_most(self, name, target, measured, unit, note=None):
        """A figure that may reach its target."""
        self._judge(name, f"<= {target:g} {unit}", f"{measured:g} {unit}", measured <= target, note)

    def failed(self, name, target, why):
        """A figure with a target that could not be measured though it should: missed."""
        self._judge(name, target, "failed", False, why)

    def shown(self, name, measured, note=None):
        """A figure without a target."""
        self._add(SHOWN, name, "-", measured, note)

    def skipped(self, name, target, why):
        """A figure that was not measured; it counts neither as met nor as missed."""
        self._add(SKIPPED, name, target, "-", f"SKIPPED: {why}")

    def end(self):
        """Prints the sum and returns the exit code."""
        counted = {verdict: self.verdicts.count(verdict) for verdict in (MET, MISSED, SHOWN, SKIPPED)}
        print("\n" + ", ".join(f"{count} {verdict}" for verdict, count in counted.items()))
        return 1 if counted[MISSED] else 0

    def _judge(self, name, target, measured, met, note):
        self._add(MET if met else MISSED, name, target, measured, note)

    def _add(self, verdict, name, target, measured, note):
        self.verdicts.append(verdict)
        self._line(name, target, measured, verdict)
        for line in (note or "").splitlines():
            print(f"    {line}", flush=True)

    @staticmethod
    def _line(*cells):
        padded = [cell.ljust(width) for cell, width in zip(cells, WIDTHS)]
        print("  ".join([*padded, cells[-1]]), flush=True)


def machine():
    """The machine in one line."""
    cores = len(os.sched_getaffinity(0))
    load = " ".join(f"{one:.2f}" for one in os.getloadavg())
    return f"{cores} cores, {processor()}, Linux {platform.release()}, load average {load} (1, 5, 15 min)"


def processor():
    """The processor's name, as far as the system tells it."""
    for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines():
        name, _, value = line.partition(":")
        if name.strip() == "model name":
            return value.strip()
    return platform.machine()


def spread(values, unit, decimals=2):
    """Median, least and most of several runs, for a note."""
    least, most = (f"{value:.{decimals}f}" for value in (min(values), max(values)))
    return f"{len(values)} runs: median {statistics.median(values):.{decimals}f}, min {least}, max {most} {unit}"


def progress(text):
    """Says on standard error what is being waited for."""
    print(f"... {text}", file=sys.stderr, flush=True)


def arguments(area, description, parts):
    """The options that every area knows, and that for one of its parts; an area adds its own."""
    parser = argparse.ArgumentParser(
        prog=f"benches/run {area}",
        description=description,
        epilog="Exit codes: 0 all figures met, 1 one is missed, 2 bad usage or nothing could be measured.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--bin", type=pathlib.Path, metavar="PATH", help="measure this program; without it, cargo build --release"
    )
    parser.add_argument("--quick", action="store_true", help="shorter and fewer measurements, to see that all works")
    parser.add_argument(
        "--only", action="append", choices=parts, metavar="PART", help=f"one part, repeatable: {', '.join(parts)}"
    )
    return parser


def program(path):
    """The program to measure: the given one, or a release build of what is here."""
    if path is None:
        progress("cargo build --release")
        built = subprocess.run(["cargo", "build", "--release", "--locked"], cwd=ROOT, stdout=sys.stderr)
        if built.returncode != 0:
            raise CannotMeasure("cargo build --release failed; see above")
        folder = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", "target"))
        path = ROOT / folder / "release" / "tidegate"
    if not os.access(path, os.X_OK):
        raise CannotMeasure(f"{path} is not a program; build it, or name another with --bin")
    return path.resolve()


def run(measure):
    """Runs an area's main function. SIGTERM and SIGINT unwind it, so that every process it started is ended."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        sys.exit(measure())
    except CannotMeasure as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit(130)
