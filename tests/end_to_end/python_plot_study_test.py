#!/usr/bin/python3
"""scripts/plot-study on small studies with known numbers."""

import json
import math
import os
import re
import resource
import shutil
import struct
import subprocess
import tempfile
import unittest
import xml.etree.ElementTree

SCRIPT = os.path.join(os.path.dirname(os.path.abspath(__file__)),
                      "../../scripts/plot-study")
BLUE, PURPLE, ORANGE = "#0072b2", "#cc79a7", "#e69f00"
FIGURES = {"table1": ["observables"],
           "fig1": ["training-time", "training-draws"],
           "fig2": ["images-l4", "spread"],
           "fig3": ["time-nodes", "orbits"],
           "fig4": ["kernels-l4", "kernel-map-l4"],
           "fig5": ["training", "ends"],
           "scaling": ["cost", "flow-times", "two-point"],
           "classical": ["cost"]}


def rows(columns, *cells):
    """Rows of these cells; None is an empty one."""
    return [{column: cell for column, cell in zip(columns.split(), row)
             if cell is not None} for row in cells]


def with_errors(names):
    return " ".join(f"{name} {name}_error" for name in names.split())


def curve(keys, *cells):
    """Points of trainings: keys, then time, steps, ESS and acceptance."""
    return rows(keys + " draws core_seconds step "
                + with_errors("ess acceptance"),
                *((*key, 64 * step, time, step, ess, .01, acceptance, .02)
                  for *key, time, step, ess, acceptance in cells))


def table1():
    paper, mc, flow = "2110.02673", "Monte Carlo", "flow"
    return {
        "table1": rows(
            "L coupling lambda source "
            + with_errors("chi_2 m_p_L ess sigma2_per_site")
            + " minutes digest",
            (6, "printed", 6.975, paper, 1.06, None, 3.98, None, .99),
            (6, "corrected", 6.975, mc, 1.0630, .0021, 3.975, .0052),
            (6, "corrected", 6.975, flow, 1.2345, .0996, 3.981, .012, .98874,
             .00013, 7.51e-6, 2.6e-7, 2.5, "0123456789abcdef"),
            (20, "printed", 5.113, paper, 10.57, None, 4.05, None, .90),
            (20, "printed", 5.113, mc, 5.57, .31, 5.73, .21),
            (20, "corrected", 4.807, mc, 10.5658, .0302, 4.063, .0072)),
        "agreement": rows(
            "L source lambda_of_Monte_Carlo coupling observable difference "
            "errors",
            (6, flow, 6.975, "corrected", "chi_2", .1715, 1.72),
            (20, paper, 5.113, "printed", "chi_2", 5.0, 16.1),
            (20, paper, 4.807, "corrected", "chi_2", .0042, .14))}


def fig1():
    return {
        "curve": curve("L flow", (8, "gated", 2, 100, .2, .10),
                       (8, "gated", 20, 300, .7, .40),
                       (8, "gated", 200, 400, .99, .90),
                       (8, "realnvp", 3, 50, .1, .1),
                       (8, "realnvp", 300, 5000, .6, .5),
                       (8, "published", 5, 10, .01, .02)),
        "time_to": rows(
            "L flow best_ess target_ess core_seconds core_seconds_total "
            "speedup",
            (8, "gated", .99, .6, 15.25, 200, 19.67),
            (8, "published", .0123, .6, None, 5.5),
            (8, "realnvp", .6, .6, 300, 300, 1))}


def fig2():
    flows = {"gated": 1e-7, "realnvp": .5}
    return {
        "images": rows("L flow configuration symmetry element log_q",
                       *((4, flow, i, "sign", sign, -3 * i + change)
                         for flow, size in flows.items() for i in range(3)
                         for sign, change in (("+", size), ("-", -size)))),
        "spread": rows("L flow symmetry rms max",
                       (4, "gated", "sign", 0, 0),
                       (4, "gated", "translation", 1e-7, 3.2e-7),
                       (4, "realnvp", "sign", .5, .72),
                       (4, "realnvp", "translation", 4e-6, 5e-6))}


def fig3():
    return {
        "time_kernel": rows("L node t weight",
                            *((2, node, i / 4, max(0, 1 - abs(i / 2 - node)))
                              for node in range(3) for i in range(5))),
        "orbits": rows("L r_0 r_1 orbit size distance", (2, 0, 0, 0, 1, 0),
                       (2, 0, 1, 1, 2, 1), (2, 1, 0, 1, 2, 1),
                       (2, 1, 1, 2, 1, math.sqrt(2)))}


def fig4():
    size = {(0, 0): 1, (0, 1): 3, (1, 0): 5, (1, 1): 2, (1, 2): 4}
    momentum, position = [], []
    for (g, f), k in size.items():
        for t in (0, .5, 1):
            for a, b in ((0, 0), (1, 0), (1, 1)):
                cells = (4, t, g, f, a, b)
                momentum += rows("L t gate feature k_0 k_1 khat_squared kernel",
                                 (*cells, 2 * (a + b), k))
                position += rows("L t gate feature r_0 r_1 distance kernel",
                                 (*cells, math.hypot(a, b), k * 10**-(a + b)))
    return {"momentum": momentum, "position": position,
            "frequencies": rows("L kind index frequency",
                                (4, "omega", 1, .4187), (4, "alpha", 1, 1.25))}


def fig5():
    variants = {"full": (.81, .82, .86), "without-d4": (.5, .6, .7),
                "without-z2": (.78, .8, .82), "without-both": (.83, .85, .87)}
    cells = [(6, variant, seed + 1, time, 100 * time, ess * part, ess * part)
             for variant, seeds in variants.items()
             for seed, ess in enumerate(seeds)
             for time, part in ((10 + seed, .5), (100 - seed, 1))]
    return {
        "curve": curve("L variant seed", *cells),
        "training": curve("L variant seed", *cells[1::2]),
        "ablation": rows(
            "L variant seeds ess ess_spread acceptance acceptance_spread "
            "difference t degrees_of_freedom",
            (6, "full", 3, .83, .0264575, .83, .03),
            (6, "without-d4", 3, .6, .1, .6, .1, .23, 6, 2),
            (6, "without-z2", 3, .8, .02, .8, .02, .03, 2.5, 4),
            (6, "without-both", 1, .85, None, .85, None, -.02))}


def scaling():
    return {
        "cost": rows(
            "flow L target core_seconds best_acceptance core_seconds_total",
            ("gated", 6, .5, 10, .9, 100), ("gated", 8, .5, 20, .9, 100),
            ("gated", 12, .5, 56, .9, 100), ("affine", 6, .5, 40, .6, 100),
            ("affine", 8, .5, None, .45, 110),
            ("affine", 12, .5, None, .2, 120)),
        "fit": rows("flow target points missed exponent exponent_error "
                    "core_seconds_at_1",
                    ("gated", .5, 3, 0, 2.4853, .0123, .116)),
        "flow_time": rows("L t " + with_errors("chi_2 xi xi_2nd"),
                          (6, 0, 1, .01), (6, .5, .8, .01, 1, .1, .9, .1),
                          (6, 1, 1.1, .01, 1.5, .1, 1.4, .1)),
        "two_point": rows("L t r " + with_errors("Gt"),
                          *((6, t, r, t * 10**-r + (r == 0), .01)
                            for t in (0, .5, 1) for r in range(3)))}


def classical():
    return {
        "samplers": rows(
            "L sampler updates acceptance " + with_errors("chi_2 tau_int")
            + " core_seconds_per_update "
            + with_errors("core_seconds_per_independent"),
            *((l, *cells) for l, hmc in ((8, 1e-4), (16, 1e-3)) for cells in (
                ("cluster", 1000, .5, 1.9, .1, 2.345, .0312, 1e-6, 4.2e-6,
                 1e-7),
                ("hmc", 1000, .9, 1.9, .1, 5, .5, 1e-5, hmc, hmc / 10),
                ("flow reweighted", 4096, None, 1.9, .1, None, None, 9e-6,
                 1e-5, 1e-9)))),
        "verdict": rows("L against cost_ratio cost_ratio_error cheaper",
                        (8, "cluster", 2.381, .0567, "cluster"),
                        (8, "hmc", .1, .01, "flow"),
                        (16, "cluster", .98, .0233, "flow"))}


STUDIES = {"table1": table1, "fig1": fig1, "fig2": fig2, "fig3": fig3,
           "fig4": fig4, "fig5": fig5, "scaling": scaling,
           "classical": classical}
# What the reports must say of these numbers.
SAID = {
    "table1": ["| 1.06 | 3.98 | 0.99 |", "1.063(2) | 3.975(5)",
               "| 1.23(10) | 3.981(12) | 0.98874(13) | 7.5(3)e-06 | 2.5 | "
               "0123456789ab |", "10.57(3)",
               "chi_2 is 16.1 standard deviations from Monte Carlo at the "
               "coupling it prints, 5.113, and 0.1 at the corrected 4.807",
               "at most 1.7 combined", "ESS 0.98874(13) after 2.5 minutes"],
    "fig1": ["gated (ours): the ESS that realNVP ends with, 0.6, after 15.25 "
             "core seconds, 19.67 times as fast",
             "as published: the ESS that realNVP ends with, 0.6, is not reached "
             "in 5.5 core seconds; the best is 0.0123",
             "| 8 | published | 0.0123 | 0.6 |  | 5.5 |  |"],
    "fig2": ["gated (ours): kept up to rounding: sign, translation; broken: "
             "none",
             "realNVP: kept up to rounding: translation; broken: sign (by up "
             "to 0.72)", "| 4 | gated | translation | 1e-07 | 3.2e-07 |"],
    "fig3": ["L = 2: 3 numbers instead of 4"],
    "fig4": ["(K_00: 1, K_10: 5, K_12: 4, K_01: 3)",
             "| 4 | alpha | 1 | 1.25 |"],
    "fig5": ["without both 0.85 > full (as published, smaller) 0.83 > without "
             "Z2 0.8 > without D4 0.6",
             # 1 - t / sqrt(t^2 + 2) for two degrees of freedom
             "without D4: ESS below the full flow's, significant at 5 % "
             "(p = 0.027)", "| 0.23 | 6 | 2 | 0.02667 |",
             "without Z2: ESS below the full flow's, not significant at 5 % "
             "(p = 0.067)", "| 0.03 | 2.5 | 4 | 0.06677 |",
             "without both: too few seeds", "| 6 | full | 3 | 0.830(15) |"],
    "scaling": ["gated (ours), acceptance 0.5: core seconds = 0.116 L^z with "
                "z = 2.485(12) from 3 lattices.",
                "affine, acceptance 0.5: fewer than two lattices reach it, no "
                "power law; not reached at L = 8, 12."],
    "classical": ["L = 8: cluster is cheaper than the flow, by a factor of "
                  "2.38(6); the flow is cheaper than HMC, by a factor of "
                  "10.0(10).",
                  "L = 16: the flow costs 0.98(2) times cluster, the same "
                  "within two standard deviations; HMC is missing.",
                  "| 2.35(3) | 1e-06 | 4.20(10)e-06 |"]}


class PlotStudy(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.fonts = tempfile.mkdtemp(prefix="latticed-plot-fonts-")
        cls.addClassCleanup(shutil.rmtree, cls.fonts)

    def setUp(self):
        self.folder = tempfile.mkdtemp(prefix="latticed-plot-test-")
        self.addCleanup(shutil.rmtree, self.folder)

    def write(self, name, tables, missing="", folder=None):
        """The folder of a study as latticed-train writes it."""
        directory = os.path.join(self.folder, folder or name)
        os.makedirs(directory, exist_ok=True)
        about = {"study": name, "about": f"about {name}",
                 "command": f"latticed-train study {name} --output here",
                 "build": "1.2.3+abc", "threads": 2, "pieces": 7,
                 "missing": missing}
        for table, content in {**tables, "study": [about]}.items():
            columns = dict.fromkeys(
                column for row in STUDIES.get(name, dict)().get(table, content)
                for column in row)
            with open(os.path.join(directory, table + ".json"), "w") as file:
                json.dump({"table": table, "about": f"about {table}",
                           "columns": [{"name": column, "about": column}
                                       for column in columns],
                           "rows": content}, file)
        return directory

    def plot(self, *directories, largest_file=None):
        """Exit code and what was said on stderr."""
        def limit():
            if largest_file is not None:
                resource.setrlimit(resource.RLIMIT_FSIZE,
                                   (largest_file, largest_file))

        done = subprocess.run(
            [SCRIPT, *directories], capture_output=True, text=True,
            timeout=240, preexec_fn=limit,
            env={**os.environ, "MPLCONFIGDIR": self.fonts})
        for word in ("Traceback", "Warning"):
            self.assertNotIn(word, done.stderr)
        return done.returncode, done.stderr

    def contents(self, directory):
        found = {}
        if not os.path.isdir(directory):
            return found
        for name in os.listdir(directory):
            with open(os.path.join(directory, name), "rb") as file:
                found[name] = file.read()
        return found

    def check_figure(self, name, files):
        svg, png = files[name + ".svg"], files[name + ".png"]
        root = xml.etree.ElementTree.fromstring(svg)
        self.assertEqual(root.tag, "{http://www.w3.org/2000/svg}svg")
        self.assertEqual(png[:8], b"\x89PNG\r\n\x1a\n")
        self.assertEqual(png[-8:-4], b"IEND")
        width, height = struct.unpack(">II", png[16:24])
        self.assertTrue(400 < width < 2500 and 300 < height < 2500,
                        f"{name}: {width} x {height}")

    def markers(self, directory, figure, colour):
        """Places (x, y) of the points of this colour, in order."""
        svg = self.contents(directory)[figure + ".svg"].decode()
        return [(float(x), float(y)) for x, y in re.findall(
            r'<use xlink:href="#\w+" x="([\d.]+)" y="([\d.]+)" '
            rf'style="[^"]*{colour}', svg)]

    def check_linear(self, places, values):
        """Equal differences of values are equally far apart."""
        for place, value in zip(places[2:], values[2:]):
            self.assertAlmostEqual(
                (place - places[0]) / (value - values[0]),
                (places[1] - places[0]) / (values[1] - values[0]), delta=.05)

    def check_places(self, directories):
        """Points are where their numbers are."""
        # By panel: lower and upper ends of the error bars, then the points.
        places = self.markers(directories["fig1"], "training-time", BLUE)
        for first, values in (
                (6, (.2, .7, .99)),
                (15, [math.log(1 - ess) for ess in (.2, .7, .99)]),
                (24, (.1, .4, .9))):
            x, y = zip(*places[first:first + 3])
            self.check_linear(x, (0, 1, 2))  # decades
            self.check_linear(y, values)

        x, y = zip(*self.markers(directories["scaling"], "cost", BLUE)[:3])
        self.check_linear(x, [math.log(l) for l in (6, 8, 12)])
        self.check_linear(y, [math.log(cost) for cost in (10, 20, 56)])
        # Where it was not reached, the whole training.
        limits = [place for _, place in
                  self.markers(directories["scaling"], "cost", PURPLE)]
        for seconds in (110, 120):
            place = y[0] + (y[1] - y[0]) * math.log(seconds / 10, 2)
            self.assertTrue(any(abs(place - limit) < .1 for limit in limits),
                            (seconds, place, limits))

        hmc = self.markers(directories["classical"], "cost", ORANGE)[10:12]
        flow = self.markers(directories["classical"], "cost", BLUE)[4:6]
        self.assertAlmostEqual(2 * (hmc[0][1] - flow[0][1]),
                               hmc[1][1] - flow[1][1], delta=.05)

    def test_figures_and_numbers_of_every_study(self):
        directories = {name: self.write(name, tables())
                       for name, tables in STUDIES.items()}
        code, err = self.plot(*directories.values())
        self.assertEqual(code, 0, err)
        first = {}
        for name, directory in directories.items():
            files = first[name] = self.contents(directory)
            report = files["report.md"].decode()
            self.assertEqual(
                {file for file in files if not file.endswith(".json")},
                {f"{figure}.{kind}" for figure in FIGURES[name]
                 for kind in ("svg", "png")} | {"report.md"})
            for figure in FIGURES[name]:
                self.check_figure(figure, files)
                self.assertIn(f"]({figure}.png)", report)
            for text in SAID[name] + [
                    f"latticed-train study {name} --output here", "1.2.3+abc",
                    "threads: 2; pieces: 7"]:
                self.assertIn(text, report)
            self.assertNotIn("Incomplete", report)
            self.assertNotIn("Left out", report)
        self.check_places(directories)
        self.assertEqual(self.plot(*directories.values())[0], 0)
        for name, directory in directories.items():
            again = self.contents(directory)
            for file, content in first[name].items():
                self.assertTrue(again[file] == content,
                                f"{name}/{file} is not the same again")

    def test_an_incomplete_study_says_what_is_missing(self):
        tables = fig1()
        tables["curve"] = [row for row in tables["curve"]
                           if row["flow"] == "gated"]
        tables["time_to"] = []
        some = self.write("fig1", tables, missing="realnvp-l8 published-l8")
        none = [self.write(name, {table: [] for table in tables()},
                           missing="everything")
                for name, tables in STUDIES.items() if name != "fig1"]
        code, err = self.plot(some, *none)
        self.assertEqual(code, 0, err)
        files = self.contents(some)
        self.check_figure("training-time", files)
        report = files["report.md"].decode()
        self.assertIn("missing below: realnvp-l8, published-l8.", report)
        self.assertIn("realNVP is missing", report)
        for directory in none:
            report = self.contents(directory)["report.md"].decode()
            self.assertIn("missing below: everything.", report)
            self.assertIn("**Left out:**", report)
            self.assertNotIn(".png", report)

    def check_refused(self, refused, **limits):
        """One line for each folder, which says these texts."""
        before = [self.contents(folder) for folder, *_ in refused]
        code, err = self.plot(*(folder for folder, *_ in refused), **limits)
        self.assertEqual(code, 1, err)
        lines = err.splitlines()
        self.assertEqual(len(lines), len(refused), err)
        for line, (folder, *texts), files in zip(lines, refused, before):
            for text in ("plot-study: ", folder, *texts):
                self.assertIn(text, line)
            self.assertEqual(self.contents(folder), files)

    def test_what_it_cannot_read_is_left_as_it_was(self):
        def broken(folder, column, cell):
            tables = fig1()
            tables["curve"][2][column] = cell
            return self.write("fig1", tables, folder=folder)

        def rewritten(folder, text):
            directory = self.write("fig1", fig1(), folder=folder)
            with open(os.path.join(directory, "time_to.json"), "w") as file:
                file.write(text)
            return directory

        empty = os.path.join(self.folder, "empty")
        os.mkdir(empty)
        self.check_refused([
            (os.path.join(self.folder, "nowhere"), "no study.json",
             "--output OUT"),
            (empty, "no study.json"),
            (self.write("fig9", {}), "'fig9' that is not known",
             "table1, fig1"),
            (self.write("fig1", {"curve": fig1()["curve"]}),
             "time_to.json cannot be read: No such file",
             "run the study again"),
            (broken("text", "ess", "high"),
             "curve.json is damaged: 'high' in column ess"),
            (broken("list", "ess", [1]), "curve.json is damaged"),
            (rewritten("cut", '{"about": "", "columns": [{"na'),
             "time_to.json is damaged", "run the study again"),
            (rewritten("other", '{"about": "", "columns": [], "rows": []}'),
             "time_to.json has no column", "another version")])

    def test_what_it_cannot_write_is_left_as_it_was(self):
        self.plot(self.write("fig3", fig3()))  # fonts are found now
        self.check_refused(
            [(self.write("fig1", fig1()),
              "cannot be written: File too large", "free space")],
            largest_file=60000)

    def test_a_bad_folder_does_not_keep_others_from_being_plotted(self):
        good = self.write("fig3", fig3())
        code, err = self.plot(os.path.join(self.folder, "nowhere"), good)
        self.assertEqual(code, 1)
        self.assertIn("nowhere", err)
        self.assertIn("report.md", self.contents(good))


if __name__ == "__main__":
    unittest.main()
