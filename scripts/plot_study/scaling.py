"""scaling: what training costs against L, and the field on its way."""

import math

import numpy as np
from matplotlib.ticker import MaxNLocator

from plot_study.report import (bracketed, label, legend, number, panels, points,
                               rough, shade, style)


def size_axis(panel, lattices):
    """Lattice sizes, not powers of ten, on a log axis."""
    panel.set_xscale("log")
    panel.set_xticks(lattices, [f"{l:.0f}" for l in lattices])
    panel.set_xlim(lattices[0] / 1.15, lattices[-1] * 1.15)
    panel.set_xlabel("L")


def shift(i, n):
    """Of n flows side by side: trainings with one budget end together."""
    return 1.02**(2 * i / (n - 1) - 1) if n > 1 else 1.0


def draw_costs(cost, fit):
    targets, lattices = cost.numbers("target"), cost.numbers("L")
    figure, axes = panels(1, len(targets), width=6, height=5.5, sharey=True)
    for panel, target in zip(axes[0], targets):
        panel.set(yscale="log", title=f"to acceptance {target:g}")
        flows = cost.texts("flow")
        for i, flow in enumerate(flows):
            own, look = cost.where(flow=flow, target=target), style(flow)
            aside, open_look = shift(i, len(flows)), {
                "linestyle": "none", "fillstyle": "none",
                "color": look["color"], "marker": look["marker"]}
            known, upper, lower = (own.where(limit=limit)
                                   for limit in ("", "upper", "lower"))
            panel.plot(known["L"] * aside, known["core_seconds"],
                       linestyle="none", **look)
            for rows, seconds, arrow in (
                    (upper, "core_seconds", {"uplims": True}),
                    (lower, "core_seconds_total", {"lolims": True})):
                points(panel, rows["L"] * aside, rows[seconds],
                       0.25 * rows[seconds], **arrow, **open_look)
            law = fit.where(flow=flow, target=target)
            if math.isfinite(law.value("exponent")):
                l = known["L"]
                panel.plot(l * aside, law.value("core_seconds_at_1")
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
        for panel, name, look in (
                (left, "chi_2", {"markersize": 5, "label": f"L = {l:.0f}"}),
                (right, "xi_2nd", {"markersize": 9, "linestyle": "--",
                                   "markerfacecolor": "white"}),
                (right, "xi", {"markersize": 5, "zorder": 3})):
            points(panel, rows["t"], rows[name], rows[name + "_error"],
                   color=colour, marker="o", **look)
    left.set(xlabel="flow time t", ylabel=r"$\chi_2$")
    right.set(xlabel="flow time t",
              ylabel=r"$\xi$ (open, dashed: $\xi_{2nd}$)")
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


def law_said(law):
    """The power law, if there is one."""
    if not len(law):
        return "fewer than two lattices with a known time, no power law"
    z, draws = (bracketed(law.value(name), law.value(name + "_error"))
                for name in ("exponent", "draws_exponent"))
    text = (f"core seconds = {number(law.value('core_seconds_at_1'))} L^z with "
            f"z = {z}, draws with z = {draws}, from "
            f"{law.value('points'):.0f} lattices")
    if not math.isfinite(law.value("exponent_error")):
        text += ", too few for an error of z"
    return text


def missed(lattices, law):
    """What lattices that did not reach it say of the power law."""
    text = "not reached at L = " + ", ".join(f"{l:.0f}" for l in lattices)
    if not len(law):
        return text
    longer = law.value("missed_longer")
    if not longer > 0:
        return text + (", where training was too short to tell: the law "
                       "predicts that it takes longer")
    where = "there" if longer == len(lattices) else f"at {longer:.0f} of these"
    return text + (f", though training lasted longer {where} than the law "
                   "predicts, so that z of core seconds is a lower bound")


def sentences(cost, fit):
    for flow in cost.texts("flow"):
        for target in cost.numbers("target"):
            rows = cost.where(flow=flow, target=target)
            law = fit.where(flow=flow, target=target)
            parts = [law_said(law)]
            upper, lower = (rows.where(limit=limit)
                            for limit in ("upper", "lower"))
            for l, seconds in zip(upper["L"], upper["core_seconds"]):
                parts.append(f"at L = {l:.0f} within {rough(seconds)} core "
                             "seconds (already at its first point)")
            if len(lower):
                parts.append(missed(lower["L"], law))
            yield (f"- {label(flow)}, acceptance {target:g}: "
                   + "; ".join(parts) + ".")


def plot(study, report):
    cost, fit = study.table("cost"), study.table("fit")
    times, two_point = study.table("flow_time"), study.table("two_point")
    if len(cost):
        report.figure(
            "cost", "Cost of training", draw_costs(cost, fit),
            "Processor time of training until an acceptance is reached, "
            "against the extent of the lattice, with power laws through what "
            "is known. Open symbols with an arrow are limits: upwards, it was "
            "not reached in the whole training; downwards, it was reached at "
            "the first point of the curve already. Symbols of one L are drawn "
            "side by side.")
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
            "its draws at t = 1, not reweighted. Where a correlation length "
            "has no value, its line is broken.")
        report.figure(
            "two-point", "Gt(r) at intermediate flow times",
            draw_two_point(two_point),
            "The two-point function, dark to light from the base to the draws; "
            "points within two standard deviations of 0 are left out.")
    else:
        report.left_out("The field at intermediate flow times",
                        "no gated flow is complete")
