"""classical: the flow beside the cluster algorithm and HMC."""

import math

from plot_study.report import bracketed, label, legend, panels, points, style
from plot_study.scaling import size_axis

COST = "core_seconds_per_independent"


def draw(samplers):
    lattices = samplers.numbers("L")
    figure, axes = panels(1, 2, width=7, height=5.5)
    for panel, name, title in (
            (axes[0][0], "tau_int", r"$\tau_{int}$ of $\chi_2$, in updates"),
            (axes[0][1], COST,
             "core seconds per independent\nconfiguration")):
        panel.set(yscale="log", ylabel=title)
        for sampler in samplers.texts("sampler"):
            rows = samplers.where(sampler=sampler)
            points(panel, rows["L"], rows[name], rows[name + "_error"],
                   **style(sampler))
        size_axis(panel, lattices)
    axes[0][0].axhline(0.5, color="0.4", linestyle=":", label="independent")
    legend(figure, columns=5)
    return figure


def verdicts(verdict):
    """For each lattice, the flow against the algorithms without one."""
    for l in verdict.numbers("L"):
        parts = []
        for against in ("cluster", "hmc"):
            row = verdict.where(L=l, against=against)
            ratio, error = (row.value("cost_ratio"),
                            row.value("cost_ratio_error"))
            if not math.isfinite(ratio):
                parts.append(f"{label(against)} is missing")
            elif abs(ratio - 1) < 2 * error:
                parts.append(f"the flow costs {bracketed(ratio, error)} times "
                             f"{label(against)}, the same within two standard "
                             "deviations")
            elif ratio < 1:
                parts.append("the flow is cheaper than "
                             f"{label(against)}, by a factor of "
                             + bracketed(1 / ratio, error / ratio**2))
            else:
                parts.append(f"{label(against)} is cheaper than the flow, by a "
                             f"factor of {bracketed(ratio, error)}")
        yield f"- L = {l:.0f}: " + "; ".join(parts) + "."


def plot(study, report):
    samplers, verdict = study.table("samplers"), study.table("verdict")
    if not len(samplers):
        report.left_out("Cost of an independent configuration",
                        "no sampler is complete")
        return
    report.figure(
        "cost", "Cost of an independent configuration", draw(samplers),
        "Left: integrated autocorrelation time of chi_2; the dotted line, 1/2, "
        "is what independent configurations have. Right: processor time per "
        "independent configuration, 2 tau_int updates of a chain or 1 / ESS "
        "draws of the reweighted flow. The flow's training is not counted.")
    report.say("## Which is cheaper")
    if len(verdict):
        report.say(*verdicts(verdict))
    else:
        report.say("The flow is missing, which is compared with the others.")
    report.table(verdict)
    report.table(samplers)
