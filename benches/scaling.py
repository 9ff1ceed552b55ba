"""Scaling: what the node's policy loses beside what others do, on made traces.

loss: instance hours and late requests at 0.0003, 0.001, 0.003 and 0.01 hours each, at cold starts of 10, 60 and 180 s, on six
shapes of load of 24 hours each, the first two not scored; the geometric mean of the ratios over the 72 cells. Beside it stand who knew
all (optimum), who saw no rise coming but knew how long each lasts (reactive), and the policy without each of its parts. The baselines' parameters
were chosen by a search on another seed and other rates (benches/scaling.rs); `--tune` repeats it, which takes an hour.
trace: a recorded trace of language model requests in the folder that TIDEGATE_TRACES names; nothing was chosen on it. With the price of a
late request that is the default, and at prices, chosen in hindsight, at which no more hours are spent than were aimed at.
"""

import json
import os
import pathlib
import subprocess

from parts.figures import ROOT, CannotMeasure, Report, arguments, program, progress, run

EACH, BEST, WORST_CELL = 0.5, 0.75, 1.15
DECISION_US, MILLION_S = 1_000, 10
SEEDS, SEEDS_QUICK = 10, 1
TRACE = "AzureLLMInferenceTrace_code.csv"
ONLINE = ("hpa", "kpa", "ray", "skyserve")
HOURS = {10: 0.8, 60: 0.6, 180: 0.6}
PEAK = 1.5
PRICES = [0.002 * 1.1**step for step in range(16)]


def loss(report, options):
    """The cells."""
    progress("cargo bench --bench scaling (built first); ten seeds take over an hour on two cores")
    settings = {"TIDEGATE_BENCH_SEEDS": str(SEEDS_QUICK if options.quick else SEEDS)}
    if options.tune:
        settings["TIDEGATE_BENCH_TUNE"] = "1"
    command = ["cargo", "bench", "--locked", "--quiet", "--package", "tidegate", "--bench", "scaling"]
    done = subprocess.run(command, cwd=ROOT, env={**os.environ, **settings}, stdout=subprocess.PIPE, text=True)
    if done.returncode != 0:
        raise CannotMeasure("benches/scaling.rs failed; its words are above")
    found = json.loads(done.stdout)
    for name in ONLINE:
        report.at_most(f"loss beside {name}, tuned", EACH, round(found["ratios"][name], 3), "times")
    report.at_most("loss beside the best of them in each cell", BEST, round(found["best"], 3), "times")
    cells = sorted(found["cells"], key=lambda cell: -cell["ratio"])
    note = "\n".join(f"{c['shape']} {c['cold_start_s']} s {c['penalty']}: {c['ratio']:.2f}" for c in cells[:6])
    report.at_most("worst cell beside the best of them", WORST_CELL, round(cells[0]["ratio"], 3), "times", note)
    for name in (*(f"{name}, defaults" for name in ONLINE), "best-static", "reactive", "optimum"):
        report.shown(f"loss beside {name}", f"{found['ratios'][name]:.3f} times")
    for bound in ("reactive", "optimum"):
        beside = ", ".join(f"{name} {found['bounds'][bound][name]:.3f}" for name in ONLINE)
        report.shown(f"loss of {bound} beside each, tuned", beside)
    for part, times in sorted(found["without"].items(), key=lambda item: -item[1]):
        report.shown(f"loss without {part}, beside with all", f"{times:.3f} times")
    report.below("a decision for 100 services, 1,000 replicas", DECISION_US, found["decision_us"], "us", 0)
    report.below("the same where loads vary", DECISION_US, found["varying_decision_us"], "us", 0)
    report.below("a million requests simulated", MILLION_S, found["million_s"], "s", 1)


def recorded(report, options):
    """The recorded trace."""
    folder = os.environ.get("TIDEGATE_TRACES")
    trace = pathlib.Path(folder or "", TRACE)
    if not folder or not trace.is_file():
        report.skipped("recorded trace", "-", f"set TIDEGATE_TRACES to the folder of {TRACE}")
        return
    binary = program(options.bin)
    for cold, share in HOURS.items():
        rows = played(binary, trace, cold)
        ours = rows["predictive"]
        best = min((rows[name] for name in ONLINE), key=lambda row: row["violations_pct"])
        what = f"trace, {cold} s"
        note = f"{ours['violations_pct']:.1f} % beside {best['violations_pct']:.1f} % of {best['policy']}"
        violations = round(ours["violations_pct"] / best["violations_pct"], 2)
        report.at_most(f"{what}: late requests beside the best", 1.0, violations, "times", note)
        note = f"{ours['cloud_hours']:.2f} beside {best['cloud_hours']:.2f} hours"
        report.at_most(f"{what}: hours beside it", share, round(ours["cloud_hours"] / best["cloud_hours"], 2), "times", note)
        # How many hours are spent to have fewer late is the operator's choice, by the price of a late request.
        rows_by_price = [played(binary, trace, cold, ("predictive",), price)["predictive"] for price in PRICES]
        within = [row for row in rows_by_price if row["cloud_hours"] <= share * best["cloud_hours"]]
        if not within:
            raise CannotMeasure(f"{what}: more hours at every price than were aimed at; let PRICES begin lower")
        ours = max(within, key=lambda row: row["cloud_hours"])
        note = f"{ours['violations_pct']:.1f} % in {ours['cloud_hours']:.2f} hours"
        violations = round(ours["violations_pct"] / best["violations_pct"], 2)
        report.at_most(f"{what}: late requests at {share} of its hours, by price", 1.0, violations, "times", note)
    peak = rows["predictive"]["peak_replicas"] / rows["optimum"]["peak_replicas"]
    report.at_most("trace, 180 s: peak replicas beside the optimum's", PEAK, round(peak, 2), "times")


def played(binary, trace, cold, policies=("predictive", *ONLINE, "optimum"), price=None):
    """What `tidegate simulate` says of each policy, a late request at its default price or at so many hours of an instance."""
    command = [binary, "simulate", "--trace", trace, "--format", "azure-llm", "--policy", ",".join(policies), "--json"]
    command += [] if price is None else ["--late-request-cost", str(price)]
    command += ["--cold-start", f"{cold}s", "--concurrency", "2", "--local", "1", "--slo-wait", "1s"]
    command += ["--warmup", "600s", "--max-replicas", "200"]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True)
    if done.returncode != 0:
        raise CannotMeasure("tidegate simulate failed; its words are above")
    return {row["policy"]: row for row in json.loads(done.stdout)}


def main():
    parser = arguments("scaling", __doc__, PARTS)
    parser.add_argument("--tune", action="store_true", help="search the baselines' parameters anew first")
    options = parser.parse_args()
    report = Report("scaling")
    for part in PARTS:
        if part in (options.only or PARTS):
            PARTS[part](report, options)
    return report.end()


PARTS = {"loss": loss, "trace": recorded}


if __name__ == "__main__":
    run(main)
