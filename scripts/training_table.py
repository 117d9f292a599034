#!/usr/bin/python3
"""The trainings of the studies, of docs/reproduction.md, from their manifests.

usage: training_table.py          prints the table
       training_table.py --write  puts it into docs/reproduction.md
       training_table.py --check  exits 1 if that has another one
"""

import glob
import json
import os
import sys

import marked
from flow_table import ROOT, bracketed

FOLDER = os.path.join(ROOT, "docs", "reproduction")
HOUR = 3600


def planned(model):
    """What the head of a plan says; older plans have none."""
    with open(os.path.join(FOLDER, "trainings", model + ".textproto")) as file:
        first = file.readline()
    return first.split("planned by ")[1].strip() if "planned by" in first else ""


def manifests():
    for path in sorted(glob.glob(os.path.join(FOLDER, "models/*/1/manifest.json"))):
        with open(path) as file:
            yield json.load(file)


def table():
    lines = ["| flow | steps | draws | core seconds | wall seconds | ESS "
             "| acceptance | planned by | build |", "|---" * 9 + "|"]
    core = wall = count = 0
    for manifest in manifests():
        training, quality = manifest["training"], manifest["quality"]
        core += training["core_seconds"]
        wall += training["seconds"]
        count += 1
        lines.append("| " + " | ".join([
            manifest["model"], training["step"], training["draws"],
            f"{training['core_seconds']:.0f}", f"{training['seconds']:.0f}",
            bracketed(quality["ess"], quality["ess_error"]),
            bracketed(quality["acceptance"], quality["acceptance_error"]),
            planned(manifest["model"]),
            manifest["build"].split("+")[1]]) + " |")
    lines += ["", f"{count} trainings of one thread: {core / HOUR:.1f} core "
              f"hours, {wall / HOUR:.1f} hours of wall time, other work being "
              "done on the machine meanwhile."]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    marked.update(os.path.join(ROOT, "docs", "reproduction.md"),
                  "training_table.py", table(),
                  sys.argv[1] if len(sys.argv) > 1 else "")
