"""fig1: ESS and acceptance during training."""

import math

import numpy as np

from plot_study.report import (label, legend, listed, number, panels, points,
                               rough, style)

QUALITIES = (  # axis, column, what is drawn of it, log axis
    ("ESS", "ess", lambda ess: ess, False),
    ("1 - ESS", "ess", lambda ess: 1 - ess, True),
    ("acceptance", "acceptance", lambda acceptance: acceptance, False))
TARGETS = (  # target, what it is, line, its label
    ("end", "which realNVP ends with", ":", "realNVP at its end"),
    ("best", "the largest on realNVP's curve", "-.", "realNVP at its best"))
WIDE = 2  # longest gap between points, as a ratio, not worth a word


def targets(time_to, l):
    """Of realNVP at this L: what is aimed at and the ESS; once if the same."""
    own = time_to.where(L=l, flow="realnvp")
    ess = {target: own.where(target=target).value("target_ess")
           for target, *_ in TARGETS}
    return [target for target in TARGETS if math.isfinite(ess[target[0]])
            and not (target[0] == "best" and ess["best"] == ess["end"])]


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
        for target, _, line, text in targets(time_to, l):
            axes[0][column].axhline(
                time_to.where(L=l, flow="realnvp", target=target).value(
                    "target_ess"), color="0.4", linestyle=line, label=text)
    legend(figure)
    return figure


def gap(row, curve):
    """The points (core seconds, ESS) that a time is interpolated between, if
    they are far apart."""
    own = curve.where(L=row.value("L"), flow=row.text("flow"))
    ess, target = own["ess"], row.value("target_ess")
    reached = np.flatnonzero(ess >= target)
    if row.text("limit") or not len(reached) or reached[0] == 0:
        return ()
    after, times = reached[0], own["core_seconds"]
    if ess[after] == target or times[after] <= WIDE * times[after - 1]:
        return ()
    return tuple((times[i], ess[i]) for i in (after - 1, after))


def span(row, curve):
    """The least and the most core seconds that it can have taken."""
    seconds, ends = row.value("core_seconds"), gap(row, curve)
    if row.text("limit") == "upper":
        return 0, seconds
    return (ends[0][0], ends[1][0]) if ends else (seconds, seconds)


def faster(row, realnvp, curve):
    """How many times as fast as realNVP."""
    low, high = span(row, curve)
    realnvp_low, realnvp_high = span(realnvp, curve)
    slowest = realnvp_low / high
    fastest = realnvp_high / low if low else math.inf
    if not slowest:
        return ""
    if not low:
        times = f"at least {rough(slowest)}"
    else:
        times = f"about {rough(row.value('speedup'))}"
        if fastest > slowest * 1.001:
            times += f" ({rough(slowest)} to {rough(fastest)})"
    return (f", {times} times as fast as realNVP "
            f"({rough(realnvp.value('core_seconds'))} core seconds)")


def sentence(row, realnvp, curve, aim):
    """What a row of time_to says."""
    start = (f"- L = {row.value('L'):.0f}, {label(row.text('flow'))}: ESS "
             f"{number(row.value('target_ess'))}, {aim}, ")
    seconds, limit = rough(row.value("core_seconds")), row.text("limit")
    if limit == "lower":
        return (start + "is not reached in "
                f"{rough(row.value('core_seconds_total'))} core seconds; the "
                f"best is {number(row.value('best_ess'))}.")
    if limit == "upper":
        start += f"within {seconds} core seconds (already at its first point)"
    else:
        start += f"after {seconds} core seconds"
    ends = " and ".join(f"{rough(time)}, where it is {rough(ess)},"
                        for time, ess in gap(row, curve)).rstrip(",")
    if ends:
        start += f" (interpolated between {ends})"
    return start + faster(row, realnvp, curve) + "."


def sentences(curve, time_to):
    for l in time_to.numbers("L"):
        shown = targets(time_to, l)
        for target, aim, *_ in shown:
            if len(shown) == 1:
                aim += " and is its best"
            realnvp = time_to.where(L=l, flow="realnvp", target=target)
            for flow in time_to.texts("flow"):
                row = time_to.where(L=l, flow=flow, target=target)
                if flow != "realnvp" and len(row):
                    yield sentence(row, realnvp, curve, aim)


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
        "ESS, 1 - ESS and acceptance of the averaged weights (realNVP, "
        f"couplings: of the weights) of these flows: {flows}; against the "
        "processor time of training, on held-out draws: the further left a "
        "curve rises, the better. Dotted: the ESS that realNVP ends with; "
        "dash-dotted, where it is another: the largest on realNVP's curve.")
    report.figure(
        "training-draws", title + "draws in training",
        draw(curve, time_to, "draws", "configurations drawn in training"),
        "The same against the configurations that training has drawn: how much "
        "each flow learns from a draw, whatever a draw costs.")
    report.say("## Time to an ESS")
    if len(time_to):
        report.say(*sentences(curve, time_to))
        report.say("Times are interpolated between points of the curves, and "
                   "rounded to two digits. Where these points are further "
                   f"apart than a factor of {WIDE}, both are given, and what "
                   "the ratio of times would be at either.")
    else:
        report.say("realNVP is missing, which the times are measured against.")
    report.table(time_to)
