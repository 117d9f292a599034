"""classical: the flow beside the cluster algorithm and HMC."""

import math

from plot_study.report import bracketed, label, legend, panels, points, style
from plot_study.scaling import size_axis

COST = "core_seconds_per_independent"
FLOWS = {"reweighted": "the reweighted flow", "chain": "the flow in a chain"}
TIE = 1.1  # timings vary by that much


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


def verdict_on(flow, row, against):
    """A flow's cost beside another's."""
    ratio, error = row.value("cost_ratio"), row.value("cost_ratio_error")
    if not math.isfinite(ratio):
        return f"{against} is missing"
    costs = f"{flow} costs {bracketed(ratio, error)} times {against}"
    if 1 / TIE <= ratio <= TIE:
        return costs + ", a tie"
    if abs(ratio - 1) < 2 * error:
        return costs + ", the same within two standard deviations"
    if ratio < 1:
        return (f"{flow} is cheaper than {against}, by a factor of "
                + bracketed(1 / ratio, error / ratio**2))
    return (f"{against} is cheaper than {flow}, by a factor of "
            + bracketed(ratio, error))


def verdicts(verdict):
    """For each lattice, the flow against the algorithms without one."""
    for l in verdict.numbers("L"):
        for flow, name in FLOWS.items():
            rows = verdict.where(L=l, flow=flow)
            if len(rows):
                yield f"- L = {l:.0f}: " + "; ".join(
                    verdict_on(name, rows.where(against=against),
                               label(against))
                    for against in ("cluster", "hmc")) + "."


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
        report.say("A ratio within 10 % of 1 is called a tie: timings vary by "
                   "that much between runs, and the errors do not count this.")
    else:
        report.say("The flow is missing, which is compared with the others.")
    report.table(verdict)
    report.table(samplers)
