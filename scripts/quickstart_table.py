"""The table of scripts/quickstart: draws beside their Monte Carlo reference.

usage: quickstart_table.py REPOSITORY MODEL:REPORT...

A REPORT is what `latticectl --json` wrote. Exits 1 if an observable is more
than five combined standard deviations away from the reference.
"""

import json
import math
import os
import sys

OBSERVABLES = (("chi_2", "chi_2"), ("m_p_L", "m_p L"), ("abs_M", "|M|"))
SIGMAS_MAX = 5


def bracketed(estimate):
    """1.874(35): two digits of the error."""
    value, error = estimate["value"], estimate["error"]
    if value is None or error is None:
        return "-"
    if not error > 0:
        return f"{value:.5g}"
    decimals = max(0, 1 - math.floor(math.log10(error)))
    digits = round(error * 10**decimals)
    if digits == 100 and decimals > 0:  # 0.0996 rounds to 0.10
        decimals, digits = decimals - 1, 10
    return f"{value:.{decimals}f}({digits})"


def reference_of(repository, model):
    path = os.path.join(repository, model, "reference", "manifest.json")
    try:
        with open(path) as file:
            return json.load(file)["observables"]
    except FileNotFoundError:
        sys.exit(f"{path} is missing; `latticed-train reference` writes it")


def main():
    repository = sys.argv[1]
    rows = [["", "draws", "ESS", "acceptance"]
            + [title for _, title in OBSERVABLES] + ["draws/s"]]
    far = []
    references = {}
    for argument in sys.argv[2:]:
        model, path = argument.split(":", 1)
        with open(path) as file:
            report = json.load(file)
        chain = "steps" in report
        unit = "steps" if chain else "draws"
        if model not in references:
            references[model] = reference_of(repository, model)
        reference = references[model]
        summary = report["summary"]
        row = [model + (" chain" if chain else ""), str(report[unit]),
               bracketed(summary["ESS"]) if "ESS" in summary else "",
               bracketed(summary["acceptance"])]
        for name, title in OBSERVABLES:
            row.append(bracketed(summary[name]))
            drawn, exact = summary[name], reference[name]
            if drawn["value"] is None or drawn["error"] is None:
                continue  # too few draws to tell
            sigmas = abs(drawn["value"] - exact["value"]) / math.hypot(
                drawn["error"], exact["error"])
            if not sigmas <= SIGMAS_MAX:
                far.append(f"{row[0]}: {title} is {sigmas:.1f} standard "
                           "deviations from Monte Carlo")
        row.append(f"{report[unit + '_per_second']:.0f}")
        rows.append(row)
    for model, reference in references.items():
        rows.append([f"{model} Monte Carlo", "", "", ""]
                    + [bracketed(reference[name]) for name, _ in OBSERVABLES]
                    + [""])
    widths = [max(map(len, column)) for column in zip(*rows)]
    for row in rows:
        cells = [row[0].ljust(widths[0])]
        cells += [cell.rjust(width) for cell, width in zip(row[1:], widths[1:])]
        print("  ".join(cells).rstrip())
    for line in far:
        print(line)
    sys.exit(1 if far else 0)


if __name__ == "__main__":
    main()
