#!/usr/bin/python3
"""The README's table of bundled flows, from the manifests.

usage: flow_table.py          prints the table
       flow_table.py --write  puts it into README.md
       flow_table.py --check  exits 1 if README.md has another one
"""

import glob
import hashlib
import json
import os
import sys

import marked

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
# Effective sample sizes of arXiv:2110.02673, by L.
PAPER = {6: "0.99", 12: "0.97", 20: "0.90", 32: "0.66"}


def bracketed(value, error):
    """0.99725(3): one digit of the error."""
    decimals = 0
    while error * 10**decimals < 0.95 and decimals < 12:
        decimals += 1
    return f"{value:.{decimals}f}({round(error * 10**decimals)})"


def manifests():
    """The newest manifest of every model, and all of them by digest."""
    newest, by_digest = {}, {}
    for path in glob.glob(os.path.join(ROOT, "models/*/*/manifest.json")):
        if os.path.basename(os.path.dirname(path)) == "reference":
            continue
        with open(path, "rb") as file:
            text = file.read()
        manifest = json.loads(text)
        by_digest[hashlib.sha256(text).hexdigest()] = manifest
        model = manifest["model"]
        if (model not in newest
                or int(manifest["version"]) > int(newest[model]["version"])):
            newest[model] = manifest
    return newest, by_digest


def history(manifest, by_digest):
    """The trainings a version went through, first to last."""
    stages = []
    while manifest is not None:
        training = manifest["training"]
        stages.insert(0, training)
        manifest = by_digest.get(training.get("started_from", ""))
    return stages


def table():
    newest, by_digest = manifests()
    lines = ["| model | lambda | ESS | at 2N steps | acceptance | sigma^2/site "
             "| step doubling, rms | minutes | ESS in 2110.02673 |",
             "|---|---|---|---|---|---|---|---|---|"]
    commands = []
    by_size = sorted(newest.values(),
                     key=lambda m: m["spec"]["lattice"]["extent"])
    for manifest in by_size:
        quality, spec = manifest["quality"], manifest["spec"]
        stages = history(manifest, by_digest)
        minutes = sum(stage["seconds"] for stage in stages) / 60
        lines.append("| " + " | ".join([
            manifest["model"],
            f"{spec['action']['phi4']['latticed']['lambda']:g}",
            bracketed(quality["ess"], quality["ess_error"]),
            bracketed(quality["ess_doubled_steps"],
                      quality["ess_doubled_steps_error"]),
            bracketed(quality["acceptance"], quality["acceptance_error"]),
            f"{quality['sigma2_per_site']:.1e}",
            f"{quality['step_doubling_rms']:.1e}",
            f"{minutes:.0f}",
            PAPER.get(spec["lattice"]["extent"][0], "-")]) + " |")
        commands += [stage["command"] for stage in stages]
    lines += ["", "Made by, in this order:", "", "```"]
    lines += commands + ["```"]
    return "\n".join(lines) + "\n"


def main():
    marked.update(os.path.join(ROOT, "README.md"), "flow_table.py", table(),
                  sys.argv[1] if len(sys.argv) > 1 else "")


if __name__ == "__main__":
    main()
