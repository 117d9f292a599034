"""report.md and its figures: made in memory, then written all at once."""

import io
import math
import os

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter

from plot_study.tables import Problem

matplotlib.rcdefaults()  # not those of a file of the user's
matplotlib.rcParams.update({
    "font.size": 15, "legend.fontsize": 14, "axes.titlesize": 15,
    "axes.grid": True, "grid.color": "0.88", "axes.axisbelow": True,
    "lines.linewidth": 2, "lines.markersize": 7, "errorbar.capsize": 3,
    "savefig.dpi": 100, "savefig.bbox": "tight",
    "svg.hashsalt": "latticed",  # the same bytes each time
})

# Okabe and Ito's colours, which the colour-blind can tell apart; what belongs
# to one flow has its colour in every figure.
BLUE, VERMILLION, GREEN, PURPLE, ORANGE, SKY, BLACK = (
    "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
GREY, BROWN = "#888888", "#8C5A2B"  # not theirs: always with other markers
STYLES = {  # label, colour, marker
    "gated": ("gated (ours)", BLUE, "o"),
    "published": ("as published", VERMILLION, "s"),
    "realnvp": ("realNVP", GREEN, "^"),
    "affine": ("affine", PURPLE, "D"),
    "spline": ("spline", GREY, "<"),
    "full": ("full (as published, smaller)", BROWN, "p"),
    "without-d4": ("without D4", ORANGE, "v"),
    "without-z2": ("without Z2", SKY, "P"),
    "without-both": ("without both", BLACK, "X"),
    "cluster": ("cluster", BLACK, "X"),
    "hmc": ("HMC", ORANGE, "v"),
    "flow reweighted": ("gated, reweighted", BLUE, "o"),
    "flow chain": ("gated, in a chain", SKY, "P"),
}


def label(name):
    return STYLES.get(name, (name,))[0]


def style(name):
    _, colour, marker = STYLES.get(name, (name, "0.5", "*"))
    return {"label": label(name), "color": colour, "marker": marker}


def shade(i, n):
    """Of n values in order, dark to light; yellow would be lost on white."""
    return matplotlib.colormaps["viridis"](0.88 * i / max(n - 1, 1))


def panels(rows, columns, width=6, height=4.2, **shared):
    """A figure and its axes [rows][columns], each panel so many inches."""
    figure = Figure(figsize=(width * columns, height * rows),
                    layout="constrained")
    return figure, figure.subplots(rows, columns, squeeze=False, **shared)


def points(panel, x, y, error, **look):
    """What is known of y, with error bars where there is an error; no line
    joins points across one that is unknown."""
    x, y, error = np.atleast_1d(x, y, np.nan_to_num(error))
    low = error
    if panel.get_yscale() == "log":  # one that reaches 0 ends a decade below
        low = np.minimum(error, 0.9 * np.abs(y))
    if np.isfinite(y).any():
        panel.errorbar(x, y, (low, error), **look)


def legend(figure, columns=4):
    """One for all panels, above them: it covers no data."""
    entries = {}
    for axes in figure.axes:
        for handle, text in zip(*axes.get_legend_handles_labels()):
            entries.setdefault(text, handle)
    if entries:
        figure.legend(entries.values(), entries, loc="lower center",
                      bbox_to_anchor=(0.5, 1.0), frameon=False,
                      ncol=min(columns, len(entries)))


def plain_ticks(figure):
    """2, 5, 10 on log axes of less than two decades, not powers of ten."""
    for panel in figure.axes:
        for axis, (low, high) in ((panel.xaxis, panel.get_xlim()),
                                  (panel.yaxis, panel.get_ylim())):
            if axis.get_scale() != "log":
                continue
            axis.set_minor_formatter(NullFormatter())
            if (isinstance(axis.get_major_locator(), LogLocator)
                    and high < 100 * low):
                axis.set_major_locator(LogLocator(subs=(1, 2, 5))
                                       if high > 8 * low else MaxNLocator(5))
                axis.set_major_formatter("{x:g}")


def number(value):
    """Nothing for an empty cell."""
    if not math.isfinite(value):
        return ""
    return f"{value:.0f}" if value == int(value) else f"{value:.4g}"


def rough(value):
    """Two digits: 4941 is 4900."""
    return f"{float(f'{value:.2g}'):.10g}"


def bracketed(value, error):
    """1.234(5): one digit of the error, two if it begins with 1."""
    if not (math.isfinite(value) and 0 < error < math.inf):
        return number(value)
    power = math.floor(math.log10(max(abs(value), error)))
    if -4 < power < 6:
        power = 0
    value, error = value / 10.0**power, error / 10.0**power
    decimals = -math.floor(math.log10(error))
    if error * 10.0**decimals < 1.95:
        decimals += 1
    decimals = max(decimals, 0)
    text = f"{value:.{decimals}f}({error * 10**decimals:.0f})"
    return text + f"e{power:+03d}" if power else text


def listed(texts):
    return ", ".join(texts) or "none"


def builds(about):
    """Of a study's folder: what put it together, and what made its parts.
    Earlier versions wrote the first alone."""
    last, parts = (about.text(column) if column in about.columns else ""
                   for column in ("build", "builds"))
    said = [f"put together by build {last}"] if last else []
    parts = parts.replace(",", " ").split()
    if parts:
        said.append(f"pieces by build{'s'[:len(parts) - 1]} "
                    + listed(parts))
    text = "; ".join(said)
    return text[:1].upper() + text[1:]


class Report:
    """Figures, sentences and tables in the order in which they are added."""

    def __init__(self, study):
        self.directory = study.directory
        self.files = {}
        about = study.about
        self.parts = [
            f"# {study.name}: {about.text('about')}",
            f"Made by\n\n```\n{about.text('command')}\n```\n\n{builds(about)}. "
            f"Compute threads: {number(about.value('threads'))}; pieces: "
            f"{number(about.value('pieces'))}. Figures: `scripts/plot-study`; "
            "symbols: `docs/notation.md`. Errors are one standard deviation: "
            "1.234(5) is 1.234 +- 0.005."]
        missing = about.text("missing").split()
        if missing:
            self.say("**Incomplete.** Pieces that failed and are missing "
                     f"below: {listed(missing)}. The same command makes them.")

    def say(self, *sentences):
        if sentences:
            self.parts.append("\n".join(sentences))

    def figure(self, name, title, figure, *caption):
        plain_ticks(figure)
        for kind, metadata in (("svg", {"Date": None}), ("png", None)):
            content = io.BytesIO()
            figure.savefig(content, format=kind, metadata=metadata)
            self.files[f"{name}.{kind}"] = content.getvalue()
        self.say(f"## {title}")
        self.say(f"![{title}]({name}.png)")
        self.say(*caption, f"([{name}.svg]({name}.svg))")

    def left_out(self, title, why):
        self.say(f"## {title}")
        self.say(f"**Left out:** {why}.")

    def table(self, table):
        """Its rows, an error beside its value, and what the columns are."""
        columns = [column for column in table.columns
                   if not (column.endswith("_error")
                           and column[:-len("_error")] in table.columns)]

        def text(row, column):
            cell = row.get(column, math.nan)
            if column == "digest" and isinstance(cell, str):
                return cell[:12]
            return cell if isinstance(cell, str) else bracketed(
                cell, row.get(column + "_error", math.nan))

        self.say(f"### {table.name}: {table.about}")
        self.say("| " + " | ".join(columns) + " |",
                 "|" + "---|" * len(columns),
                 *("| " + " | ".join(text(row, column) for column in columns)
                   + " |" for row in table.rows))
        self.say("; ".join(f"`{column}`: {table.columns[column]}"
                           for column in columns if table.columns[column])
                 + f". All digits: [{table.name}.csv]({table.name}.csv)")

    def write(self):
        self.files["report.md"] = ("\n\n".join(self.parts) + "\n").encode()
        paths = {os.path.join(self.directory, name): content
                 for name, content in self.files.items()}
        temporary = {path: f"{path}.{os.getpid()}.tmp" for path in paths}
        try:
            for path, content in paths.items():
                with open(temporary[path], "wb") as file:
                    file.write(content)
            for path in paths:
                os.replace(temporary[path], path)
        except OSError as error:
            for path in temporary.values():
                if os.path.exists(path):
                    os.remove(path)
            raise Problem(
                f"{self.directory} cannot be written: {error.strerror}; free "
                "space, or copy the folder to where you may write") from error
