"""A burst as `tidegate demo` plays and measures it: the same surge without and with burst."""

import re
import subprocess

from parts.figures import CannotMeasure
from parts.process import started, tail

SHORTEST_S = 30
# A play that does not come back is given up by the demo itself well before.
PATIENCE_S = 240
TEMPLATE = r"^{name} {{2,}}(\S+(?: \S+)?) {{2,}}(\S+(?: \S+)?)$"


def play(program, place):
    """One demo: crossing to first cloud answer in seconds, p95 without and with burst in milliseconds, and what of its
    verdict failed."""
    log = place / "demo.log"
    command = [program, "demo", "--seconds", SHORTEST_S, "--no-timing"]
    with started(command, log, cwd=place) as child:
        try:
            child.wait(PATIENCE_S)
        except subprocess.TimeoutExpired:
            raise CannotMeasure(f"the demo took longer than {PATIENCE_S} s:\n{tail(log)}") from None
    text = log.read_text(errors="replace")
    failed = re.findall(r"^FAILED +(.*)$", text, re.MULTILINE)
    try:
        crossing = number(cells(text, "crossing to first cloud answer")[1], "s")
        p95 = [number(cell, "ms") for cell in cells(text, "p95")]
    except ValueError as error:
        raise CannotMeasure(f"the demo's summary has no {error}:\n{tail(log)}") from None
    return crossing, p95, failed


def cells(text, name):
    """The two cells of a row of the demo's summary: without burst, with burst."""
    found = re.search(TEMPLATE.format(name=re.escape(name)), text, re.MULTILINE)
    if not found:
        raise ValueError(f"row '{name}'")
    return found.groups()


def number(cell, unit):
    """A cell's value; `-` is none."""
    value, _, found = cell.partition(" ")
    if found != unit:
        raise ValueError(f"time in {unit} but '{cell}'")
    return float(value)
