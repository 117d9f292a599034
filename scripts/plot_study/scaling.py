"""scaling: what training costs against L, and the field on its way."""

import math

import numpy as np
from matplotlib.ticker import MaxNLocator

from plot_study.report import (bracketed, label, legend, number, panels, points,
                               shade, style)


def size_axis(panel, lattices):
    """Lattice sizes, not powers of ten, on a log axis."""
    panel.set_xscale("log")
    panel.set_xticks(lattices, [f"{l:.0f}" for l in lattices])
    panel.set_xlim(lattices[0] / 1.15, lattices[-1] * 1.15)
    panel.set_xlabel("L")


def draw_costs(cost, fit):
    targets, lattices = cost.numbers("target"), cost.numbers("L")
    figure, axes = panels(1, len(targets), width=7, height=5.5, sharey=True)
    for panel, target in zip(axes[0], targets):
        panel.set(yscale="log", title=f"to acceptance {target:g}")
        for i, flow in enumerate(cost.texts("flow")):
            rows, look = cost.where(flow=flow, target=target), style(flow)
            panel.plot(rows["L"], rows["core_seconds"], linestyle="none",
                       **look)
            reached = np.isfinite(rows["core_seconds"])
            limits = np.where(reached, np.nan, rows["core_seconds_total"])
            # Side by side: trainings with one budget end at the same time.
            points(panel, rows["L"] * 1.02**i, limits, 0.25 * limits,
                   lolims=True, linestyle="none", fillstyle="none",
                   color=look["color"], marker=look["marker"])
            law = fit.where(flow=flow, target=target)
            if math.isfinite(law.value("exponent")):
                l = rows["L"][reached]
                panel.plot(l, law.value("core_seconds_at_1")
                           * l**law.value("exponent"),
                           color=look["color"], linewidth=1.5)
        size_axis(panel, lattices)
    axes[0][0].set_ylabel("core seconds of training")
    legend(figure)
    return figure


def draw_flow_times(times):
    figure, ((left, right),) = panels(1, 2, width=7, height=5)
    left.set_yscale("log")
    lattices = times.numbers("L")
    for i, l in enumerate(lattices):
        rows, colour = times.where(L=l), shade(i, len(lattices))
        for panel, name, line in ((left, "chi_2", "-"), (right, "xi", "-"),
                                  (right, "xi_2nd", "--")):
            text = f"L = {l:.0f}" if line == "-" else None
            points(panel, rows["t"], rows[name], rows[name + "_error"],
                   color=colour, linestyle=line, label=text, marker="o",
                   markersize=4)
    left.set(xlabel="flow time t", ylabel=r"$\chi_2$")
    right.set(xlabel="flow time t", ylabel=r"$\xi$ (dashed: $\xi_{2nd}$)")
    legend(figure)
    return figure


def draw_two_point(two_point):
    lattices = two_point.numbers("L")
    figure, axes = panels(1, len(lattices), width=5.5, height=5, sharey=True)
    for panel, l in zip(axes[0], lattices):
        times = two_point.where(L=l).numbers("t")
        chosen = times[::max(1, (len(times) - 1) // 4)]
        for i, t in enumerate(chosen):
            rows = two_point.where(L=l, t=t)
            signal = rows["Gt"] > 2 * rows["Gt_error"]
            points(panel, rows["r"], np.where(signal, rows["Gt"], np.nan),
                   rows["Gt_error"], marker="o", markersize=5,
                   color=shade(i, len(chosen)), label=f"t = {t:.3g}")
        panel.set(xlabel="r", yscale="log", title=f"L = {l:.0f}")
        panel.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes[0][0].set_ylabel("Gt(r)")
    legend(figure, columns=5)
    return figure


def sentences(cost, fit):
    for flow in cost.texts("flow"):
        for target in cost.numbers("target"):
            rows = cost.where(flow=flow, target=target)
            missed = [f"{l:.0f}" for l, best in
                      zip(rows["L"], rows["best_acceptance"])
                      if not best >= target]
            law = fit.where(flow=flow, target=target)
            text = f"- {label(flow)}, acceptance {target:g}: "
            if len(law):
                z, error = law.value("exponent"), law.value("exponent_error")
                text += ("core seconds = "
                         f"{number(law.value('core_seconds_at_1'))} L^z with "
                         f"z = {bracketed(z, error)} from "
                         f"{law.value('points'):.0f} lattices")
                if not math.isfinite(error):
                    text += ", too few for an error of z"
            else:
                text += "fewer than two lattices reach it, no power law"
            if missed:
                text += f"; not reached at L = {', '.join(missed)}"
                text += ", so that z is a lower bound" if len(law) else ""
            yield text + "."


def plot(study, report):
    cost, fit = study.table("cost"), study.table("fit")
    times, two_point = study.table("flow_time"), study.table("two_point")
    if len(cost):
        report.figure(
            "cost", "Cost of training", draw_costs(cost, fit),
            "Processor time of training until an acceptance is reached, "
            "against the extent of the lattice, with power laws through what "
            "was reached. Open symbols with an arrow were not reached: the "
            "whole training is a lower limit.")
        report.say(*sentences(cost, fit))
        report.table(cost)
        report.table(fit)
    else:
        report.left_out("Cost of training", "no training is complete")
    if len(times) and len(two_point):
        report.figure(
            "flow-times", "The field at intermediate flow times",
            draw_flow_times(times),
            "chi_2 and the correlation length (from m_eff; dashed: second "
            "moment) of the gated flow's field between the base at t = 0 and "
            "its draws at t = 1, not reweighted.")
        report.figure(
            "two-point", "Gt(r) at intermediate flow times",
            draw_two_point(two_point),
            "The two-point function, dark to light from the base to the draws; "
            "points within two standard deviations of 0 are left out.")
    else:
        report.left_out("The field at intermediate flow times",
                        "no gated flow is complete")
