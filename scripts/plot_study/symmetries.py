"""fig2: log q of configurations and of their images."""

import numpy as np
from matplotlib.ticker import MaxNLocator

from plot_study.report import label, legend, listed, panels, style

ROUNDING = 1e-3  # a change of log q below it is rounding, not asymmetry


def draw_images(images):
    flows, symmetries = images.texts("flow"), images.texts("symmetry")
    figure, axes = panels(len(flows), len(symmetries), width=5, height=2.5,
                          sharex=True, sharey=True)
    for flow, row in zip(flows, axes):
        for symmetry, panel in zip(symmetries, row):
            points = images.where(flow=flow, symmetry=symmetry)
            _, group = np.unique(points["configuration"], return_inverse=True)
            mean = np.bincount(group, points["log_q"]) / np.bincount(group)
            panel.plot(points["configuration"], points["log_q"] - mean[group],
                       ".", markersize=5, color=style(flow)["color"])
            panel.set_yscale("symlog", linthresh=0.1)
        row[0].set_ylabel(label(flow).replace(" (", "\n(") + "\n"
                          r"$\log q$ - mean")
    for symmetry, panel, last in zip(symmetries, axes[0], axes[-1]):
        panel.set_title(symmetry)
        last.set_xlabel("configuration")
        last.xaxis.set_major_locator(MaxNLocator(integer=True))
    return figure


def draw_spread(spread):
    lattices, symmetries = spread.numbers("L"), spread.texts("symmetry")
    flows = spread.texts("flow")
    positive = spread["max"][spread["max"] > 0]
    floor = positive.min() / 30 if len(positive) else 1e-12
    figure, axes = panels(1, len(lattices), width=9, height=5, sharey=True)
    for panel, l in zip(axes[0], lattices):
        for i, flow in enumerate(flows):
            for place, symmetry in enumerate(symmetries):
                row = spread.where(L=l, flow=flow, symmetry=symmetry)
                x = place + 0.8 * ((i + 0.5) / len(flows) - 0.5)
                own, zero = style(flow), row.value("max") == 0
                panel.plot(x, floor if zero else row.value("rms"), **own,
                           linestyle="none", fillstyle="none" if zero else None)
                if not zero:
                    panel.plot([x, x], [row.value("rms"), row.value("max")],
                               color=own["color"])
        panel.axhline(ROUNDING, color="0.4", linestyle=":")
        panel.set(yscale="log", title=f"L = {l:.0f}")
        panel.set_xticks(range(len(symmetries)), symmetries)
        panel.text(0.02, floor, "exactly 0", va="center", size=13,
                   transform=panel.get_yaxis_transform())
        panel.set_xlim(-0.9, len(symmetries) - 0.5)
    axes[0][0].set_ylim(floor / 3, None)
    axes[0][0].set_ylabel(r"$\log q$ of images: rms to largest" "\n"
                          "distance from their mean")
    legend(figure)
    return figure


def verdicts(spread):
    for l in spread.numbers("L"):
        for flow in spread.texts("flow"):
            rows = spread.where(L=l, flow=flow)
            change = dict(zip(rows.texts("symmetry"), rows["max"]))
            if change:
                held = [s for s in change if change[s] < ROUNDING]
                broken = [f"{s} (by up to {change[s]:.2g})" for s in change
                          if not change[s] < ROUNDING]
                yield (f"- L = {l:.0f}, {label(flow)}: kept up to rounding: "
                       f"{listed(held)}; broken: {listed(broken)}.")


def plot(study, report):
    images, spread = study.table("images"), study.table("spread")
    if not len(images) or not len(spread):
        report.left_out("log q of images", "no flow is complete")
        return
    for l in images.numbers("L"):
        report.figure(
            f"images-l{l:.0f}", f"log q of images, L = {l:.0f}",
            draw_images(images.where(L=l)),
            "For each of some draws of a flow (across), log q of its images "
            "under each symmetry of the action, from their mean; the axis is "
            "linear up to 0.1, logarithmic beyond. S is the same for all "
            "images of a configuration, so a perfect flow has a point at 0 "
            "only.")
    report.figure(
        "spread", "Spread of log q over images", draw_spread(spread),
        "From the rms to the largest distance of log q from the mean over the "
        "images. Below the dotted line it is rounding; open symbols at the "
        "bottom are exactly 0.")
    report.say(*verdicts(spread))
    report.table(spread)
