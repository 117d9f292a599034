"""fig5: the flow without some of its symmetries."""

import math

import numpy as np

from plot_study.report import label, legend, panels, points, style

QUALITIES = (("ESS", "ess"), ("acceptance", "acceptance"))


def two_sided_p(t, degrees_of_freedom):
    """Student's: with t = sqrt(n) tan(a), a's density is cos^(n-1) a."""
    if not (math.isfinite(t) and degrees_of_freedom >= 1):
        return math.nan

    def tail(start):
        width = (math.pi / 2 - start) / 20000
        middles = start + width * (np.arange(20000) + 0.5)
        return width * np.sum(np.cos(middles)**(degrees_of_freedom - 1))

    return tail(math.atan(abs(t) / math.sqrt(degrees_of_freedom))) / tail(0)


def scale_for(panel, values):
    """A log axis for values that span decades."""
    if np.nanmin(values) > 0 and np.nanmax(values) > 30 * np.nanmin(values):
        panel.set_yscale("log")


def draw_curves(curve):
    lattices = curve.numbers("L")
    figure, axes = panels(len(QUALITIES), len(lattices), width=8, sharex="col",
                          sharey="row")
    for column, l in enumerate(lattices):
        for row, (title, name) in enumerate(QUALITIES):
            panel = axes[row][column]
            for variant in curve.texts("variant"):
                rows = curve.where(L=l, variant=variant)
                seeds = [rows.where(seed=seed) for seed in rows.numbers("seed")]
                if not seeds:
                    continue
                look = style(variant)
                for seed in seeds:
                    panel.plot(seed["step"], seed[name], linewidth=0.8,
                               color=look["color"])
                # Over the seeds, where all have begun and none has ended.
                begin = max(seed["step"][0] for seed in seeds)
                end = min(seed["step"][-1] for seed in seeds)
                steps = np.geomspace(begin, max(begin, end))
                mean = np.mean([
                    np.interp(np.log(steps), np.log(seed["step"]), seed[name])
                    for seed in seeds], axis=0)
                panel.plot(steps, mean, linewidth=3.5, color=look["color"],
                           label=look["label"])
            panel.set_xscale("log")
            scale_for(panel, curve[name])
            if column == 0:
                panel.set_ylabel(title)
        axes[0][column].set_title(f"L = {l:.0f}")
        axes[-1][column].set_xlabel("steps of training")
    legend(figure, columns=2)
    return figure


def draw_ends(ablation, training):
    lattices, variants = training.numbers("L"), ablation.texts("variant")
    figure, axes = panels(len(lattices), len(QUALITIES), width=7)
    for l, row in zip(lattices, axes):
        for panel, (title, name) in zip(row, QUALITIES):
            scale_for(panel, training.where(L=l)[name])
            for place, variant in enumerate(variants):
                own = ablation.where(L=l, variant=variant)
                seeds = training.where(L=l, variant=variant)[name]
                look = style(variant)
                panel.plot(np.full(len(seeds), place - 0.15), seeds, "o",
                           markersize=5, fillstyle="none", color=look["color"])
                points(panel, place + 0.1, own.value(name),
                       own.value(name + "_spread"), **look)
            panel.set_xticks(range(len(variants)), [
                label(variant).split(" (")[0].replace(" ", "\n")
                for variant in variants])
            panel.set_xlim(-0.5, len(variants) - 0.5)
            panel.set(title=f"L = {l:.0f}", ylabel=title)
    return figure


def verdicts(ablation):
    for l in ablation.numbers("L"):
        rows = ablation.where(L=l)
        order = sorted(zip(rows["ess"], rows.texts("variant")), reverse=True)
        yield (f"- L = {l:.0f}, mean ESS: " + " > ".join(
            f"{label(variant)} {ess:.4g}" for ess, variant in order) + ".")
        for variant in rows.texts("variant"):
            row = rows.where(variant=variant)
            p, t = row.value("p"), row.value("t")
            if variant == "full":
                continue
            if not math.isfinite(p):
                yield (f"- L = {l:.0f}, {label(variant)}: too few seeds to "
                       "tell it from the full flow.")
                continue
            yield (f"- L = {l:.0f}, {label(variant)}: ESS "
                   f"{'below' if t > 0 else 'above'} the full flow's, "
                   f"{'significant' if p < 0.05 else 'not significant'} at "
                   f"5 % (p = {p:.2g}).")


def plot(study, report):
    curve, training = study.table("curve"), study.table("training")
    ablation = study.table("ablation")
    if not len(curve) or not len(training) or not len(ablation):
        report.left_out("ESS during training", "no training is complete")
        return
    report.figure(
        "training", "ESS during training", draw_curves(curve),
        "ESS and acceptance of the averaged weights against the steps of "
        "training, of which all have the same number: thin lines are seeds, "
        "thick ones their mean.")
    report.figure(
        "ends", "After training", draw_ends(ablation, training),
        "The end of every training (open) and mean and standard deviation over "
        "the seeds (filled).")
    ablation.add("ess_error", "standard error of the mean",
                 ablation["ess_spread"] / np.sqrt(ablation["seeds"]))
    ablation.add("acceptance_error", "standard error of the mean",
                 ablation["acceptance_spread"] / np.sqrt(ablation["seeds"]))
    ablation.add("p", "two-sided, of Student's t", [
        two_sided_p(t, n)
        for t, n in zip(ablation["t"], ablation["degrees_of_freedom"])])
    report.say("## Ordering")
    report.say(*verdicts(ablation))
    report.say("Each p is of one comparison with the full flow; none is "
               "corrected for there being several. Errors of the mean ESS and "
               "acceptance are their spread over the square root of the seeds.")
    report.table(ablation)
