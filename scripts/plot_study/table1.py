"""table1: couplings, observables and quality beside the paper's."""

import math

import numpy as np

from plot_study.report import (BLUE, ORANGE, VERMILLION, bracketed, legend,
                               panels, points)

OBSERVABLES = (("chi_2", r"$\chi_2$"), ("m_p_L", r"$m_p L$"))
PAPER_ERROR = 0.005  # half a unit of its last digit
SERIES = (  # source, coupling of Monte Carlo, colour, marker, label
    ("flow", "corrected", BLUE, "o", "gated (ours)"),
    ("2110.02673", "corrected", VERMILLION, "s",
     "2110.02673 / Monte Carlo at the corrected coupling"),
    ("2110.02673", "printed", ORANGE, "v",
     "2110.02673 / Monte Carlo at the coupling it prints"))


def ratio(table, l, source, coupling, observable):
    """A source's value over Monte Carlo's, and its error; NaN if one of them
    is missing."""
    own = table.where(L=l, source=source)
    truth = table.where(L=l, source="Monte Carlo", coupling=coupling)
    error = own.value(observable + "_error")
    if source == "2110.02673":
        error = PAPER_ERROR
    value = own.value(observable) / truth.value(observable)
    return value, abs(value) * math.hypot(
        error / own.value(observable),
        truth.value(observable + "_error") / truth.value(observable))


def draw(table):
    lattices = table.numbers("L")
    places = np.arange(len(lattices))
    figure, axes = panels(2, len(OBSERVABLES), sharex=True)
    for column, (observable, symbol) in enumerate(OBSERVABLES):
        near = 0.01  # how far the corrected couplings' points reach from 1
        for i, (source, coupling, colour, marker, text) in enumerate(SERIES):
            ratios = np.array([ratio(table, l, source, coupling, observable)
                               for l in lattices])
            if coupling == "corrected":
                reach = np.abs(ratios[:, 0] - 1) + 1.2 * ratios[:, 1]
                near = max(near, *reach[np.isfinite(reach)], 0)
            for panel in axes[:, column]:
                points(panel, places + 0.12 * (i - 1), *ratios.T, fmt=marker,
                       color=colour, label=text)
        axes[0][column].set_title(f"{symbol} over Monte Carlo's")
        axes[1][column].set_title("the same, near 1")
        axes[1][column].set_ylim(1 - near, 1 + near)
        for panel in axes[:, column]:
            panel.axhline(1, color="0.4", linewidth=1)
            panel.set_xticks(places, [f"{l:.0f}" for l in lattices])
            panel.set_xlim(-0.5, len(lattices) - 0.5)
        axes[1][column].set_xlabel("L")
    legend(figure, columns=1)
    return figure


def verdicts(agreement):
    """A sentence for each lattice whose coupling was corrected."""
    for l in agreement.where(coupling="printed").numbers("L"):
        paper = agreement.where(L=l, source="2110.02673", observable="chi_2")
        printed, corrected = (paper.where(coupling=coupling)
                              for coupling in ("printed", "corrected"))
        if not len(printed) or not len(corrected):
            continue
        yield (f"- L = {l:.0f}: the paper's chi_2 is "
               f"{abs(printed.value('errors')):.1f} standard deviations from "
               "Monte Carlo at the coupling it prints, "
               f"{printed.value('lambda_of_Monte_Carlo'):g}, and "
               f"{abs(corrected.value('errors')):.1f} at the corrected "
               f"{corrected.value('lambda_of_Monte_Carlo'):g}.")


def qualities(table):
    for l in table.numbers("L"):
        flow = table.where(L=l, source="flow")
        paper = table.where(L=l, source="2110.02673")
        if len(flow) and len(paper):
            yield (f"- L = {l:.0f}: ESS "
                   f"{bracketed(flow.value('ess'), flow.value('ess_error'))} "
                   f"after {flow.value('minutes'):.1f} minutes of training; "
                   f"the paper's is {paper.value('ess'):g}.")


def plot(study, report):
    table, agreement = study.table("table1"), study.table("agreement")
    title = "Observables over Monte Carlo's"
    if len(table) and len(agreement):
        report.figure(
            "observables", title, draw(table),
            "chi_2 and m_p L of the gated flow (reweighted) and of the paper, "
            "over Monte Carlo's values: 1 is agreement. The upper panels have "
            "all points, the lower ones those near 1. For some lattices the "
            "paper prints a coupling that its observables do not belong to; "
            "there its values are compared at both.")
        flow = agreement.where(source="flow")["errors"]
        if np.isfinite(flow).any():
            report.say("The flow's values are at most "
                       f"{np.nanmax(np.abs(flow)):.1f} combined standard "
                       f"deviations from Monte Carlo's, in {len(flow)} "
                       "comparisons.")
        report.say(*verdicts(agreement))
    else:
        report.left_out(title, "no lattice has both Monte Carlo and another "
                        "source")
    report.say("## Tables")
    report.say(*qualities(table))
    report.table(table)
    report.table(agreement)
