"""fig5: the flow without some of its symmetries."""

import math

import numpy as np

from plot_study.report import (label, legend, listed, panels, points, rough,
                               style)

CURVES = (("ESS", lambda ess: ess), ("1 - ESS", lambda ess: 1 - ess))
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


def drawn(seed, value):
    """A training as it is drawn, on log axes: what is not above 0 is not."""
    values = value(seed["ess"])
    return np.log(seed["draws"]), np.log(np.where(values > 0, values, np.nan))


def mean_line(curves):
    """The mean of lines, at all their corners where all of them have values."""
    begin, end = max(x[0] for x, _ in curves), min(x[-1] for x, _ in curves)
    corners = np.unique(np.concatenate([x for x, _ in curves]))
    corners = corners[(begin <= corners) & (corners <= end)]
    return corners, np.mean([np.interp(corners, x, y) for x, y in curves],
                            axis=0)


def draw_curves(curve):
    lattices = curve.numbers("L")
    figure, axes = panels(len(lattices), len(CURVES), width=7, height=5,
                          sharex=True, sharey="col")
    for l, row in zip(lattices, axes):
        for panel, (title, value) in zip(row, CURVES):
            for variant in curve.texts("variant"):
                rows, look = curve.where(L=l, variant=variant), style(variant)
                seeds = [drawn(rows.where(seed=seed), value)
                         for seed in rows.numbers("seed")]
                for x, y in seeds:
                    panel.plot(np.exp(x), np.exp(y), linewidth=0.8,
                               color=look["color"])
                if seeds:
                    x, y = mean_line(seeds)
                    panel.plot(np.exp(x), np.exp(y), linewidth=3.5,
                               color=look["color"], label=look["label"])
            panel.set(xscale="log", yscale="log", title=f"L = {l:.0f}",
                      ylabel=title)
    for panel in axes[-1]:
        panel.set_xlabel("configurations drawn in training")
    legend(figure)
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


def add_tests(ablation):
    """What is computed here: errors of means, and p of each comparison with
    the full flow."""
    seeds = np.sqrt(ablation["seeds"])
    for name, spread in (("ess", ablation["ess_spread"]),
                         ("acceptance", ablation["acceptance_spread"]),
                         ("draws_to_ess", ablation["draws_to_ess"]
                          * ablation["log_draws_spread"])):
        ablation.add(name + "_error", "standard error of the mean",
                     spread / seeds)
    comparisons = np.array([len(ablation.where(L=l)) - 1
                            for l in ablation["L"]])
    for prefix, what in (("draws_", "draws"), ("", "ESS")):
        p = np.array([two_sided_p(t, n) for t, n in zip(
            ablation[prefix + "t"], ablation[prefix + "degrees_of_freedom"])])
        ablation.add(prefix + "p", f"two-sided, of {what}: Student's t", p)
        ablation.add(prefix + "p_corrected", f"{prefix}p times the comparisons "
                     "at this L (Bonferroni), at most 1",
                     np.minimum(1, p * comparisons))


def order(rows, column, sign, shown):
    """Of the variants, with what they are ordered by; then those without."""
    variants = dict(zip(rows.texts("variant"), rows[column]))
    known = [name for name in variants if math.isfinite(variants[name])]
    known.sort(key=variants.get, reverse=sign == " > ")
    text = sign.join(f"{label(name)} {shown(variants[name])}" for name in known)
    rest = listed(label(name) for name in variants if name not in known)
    return (text or "none") + ("" if rest == "none" else
                               f"; not reached by all seeds: {rest}")


def tested(row, prefix):
    p, corrected = row.value(prefix + "p"), row.value(prefix + "p_corrected")
    if not math.isfinite(p):
        return "too few seeds to tell"
    return (f"p = {p:.2g}, corrected {corrected:.2g}: "
            f"{'significant' if corrected < 0.05 else 'not significant'}")


def verdicts(ablation):
    for l in ablation.numbers("L"):
        rows = ablation.where(L=l)
        yield (f"- L = {l:.0f}, draws to ESS 0.9 (geometric mean): "
               + order(rows, "draws_to_ess", " < ", rough) + ".")
        yield (f"- L = {l:.0f}, ESS after training (mean): "
               + order(rows, "ess", " > ", "{:.4g}".format) + ".")
        for variant in rows.texts("variant"):
            row = rows.where(variant=variant)
            if variant == "full":
                continue
            parts = []
            if math.isfinite(row.value("draws_ratio")):
                parts.append(f"{row.value('draws_ratio'):.2f} times the full "
                             f"flow's draws to ESS 0.9 "
                             f"({tested(row, 'draws_')})")
            else:
                parts.append("draws to ESS 0.9 cannot be compared")
            difference = row.value("difference")
            if math.isfinite(difference):
                parts.append(f"ESS {abs(difference):.2g} "
                             f"{'below' if difference > 0 else 'above'} the "
                             f"full flow's ({tested(row, '')})")
            yield f"- L = {l:.0f}, {label(variant)}: " + "; ".join(parts) + "."


def plot(study, report):
    curve, training = study.table("curve"), study.table("training")
    ablation = study.table("ablation")
    if not len(curve) or not len(training) or not len(ablation):
        report.left_out("ESS during training", "no training is complete")
        return
    report.figure(
        "training", "ESS during training", draw_curves(curve),
        "ESS of the averaged weights and its distance from 1, against the "
        "configurations that training has drawn, of which all draw the same "
        "number: thin lines are seeds; thick ones are their mean on these "
        "axes, so a geometric one, where all seeds have values.")
    report.figure(
        "ends", "After training", draw_ends(ablation, training),
        "The end of every training (open) and mean and standard deviation over "
        "the seeds (filled).")
    add_tests(ablation)
    report.say("## Ordering")
    report.say(*verdicts(ablation))
    report.say("Each p is two-sided, of Welch's t for one comparison with the "
               "full flow (draws: of their logarithms); corrected, it is times "
               "the number of these comparisons at an L (Bonferroni), and "
               "significant means below 5 % then. Errors of means are the "
               "spread over the seeds over the square root of their number.")
    report.table(ablation)
