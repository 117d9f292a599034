"""fig1: ESS and acceptance during training."""

import math

from plot_study.report import (label, legend, listed, number, panels, points,
                               style)

QUALITIES = (  # axis, column, what is drawn of it, log axis
    ("ESS", "ess", lambda ess: ess, False),
    ("1 - ESS", "ess", lambda ess: 1 - ess, True),
    ("acceptance", "acceptance", lambda acceptance: acceptance, False))


def draw(curve, time_to, x, label_x):
    lattices = curve.numbers("L")
    figure, axes = panels(len(QUALITIES), len(lattices), sharex="col",
                          sharey="row")
    for column, l in enumerate(lattices):
        axes[0][column].set_title(f"L = {l:.0f}")
        axes[-1][column].set(xscale="log", xlabel=label_x)
        for row, (title, name, value, log) in enumerate(QUALITIES):
            panel = axes[row][column]
            if log:
                panel.set_yscale("log")
            else:
                panel.set_ylim(-0.03, 1.03)
            for flow in curve.texts("flow"):
                rows = curve.where(L=l, flow=flow)
                points(panel, rows[x], value(rows[name]),
                       rows[name + "_error"], **style(flow))
            if column == 0:
                panel.set_ylabel(title)
        target = time_to.where(L=l, flow="realnvp").value("target_ess")
        if math.isfinite(target):
            axes[0][column].axhline(target, color="0.4", linestyle=":",
                                    label="realNVP at its end")
    legend(figure)
    return figure


def sentence(row):
    """What a row of time_to says."""
    start = (f"- L = {row.value('L'):.0f}, {label(row.texts('flow')[0])}: "
             "the ESS that realNVP ends with, "
             f"{number(row.value('target_ess'))}, ")
    if math.isfinite(row.value("core_seconds")):
        return (start + f"after {number(row.value('core_seconds'))} core "
                f"seconds, {number(row.value('speedup'))} times as fast as "
                "realNVP.")
    return (start + "is not reached in "
            f"{number(row.value('core_seconds_total'))} core seconds; the "
            f"best is {number(row.value('best_ess'))}.")


def plot(study, report):
    curve, time_to = study.table("curve"), study.table("time_to")
    title = "Quality against "
    if not len(curve):
        report.left_out(title + "training time", "no training is complete")
        return
    flows = listed(label(flow) for flow in curve.texts("flow"))
    report.figure(
        "training-time", title + "training time",
        draw(curve, time_to, "core_seconds", "core seconds of training"),
        f"ESS, 1 - ESS and acceptance of the averaged weights ({flows}) "
        "against the processor time of training, on held-out draws: the "
        "further left a curve rises, the better. The dotted line is the ESS "
        "that realNVP ends with.")
    report.figure(
        "training-draws", title + "draws in training",
        draw(curve, time_to, "draws", "configurations drawn in training"),
        "The same against the configurations that training has drawn: how much "
        "each flow learns from a draw, whatever a draw costs.")
    rows = [time_to.where(L=l, flow=flow) for l in time_to.numbers("L")
            for flow in time_to.texts("flow") if flow != "realnvp"]
    report.say("## Time to an ESS")
    if len(time_to):
        report.say(*(sentence(row) for row in rows if len(row)))
    else:
        report.say("realNVP is missing, which the times are measured against.")
    report.table(time_to)
