#!/usr/bin/python3
"""The status page of a real server in a real Chromium while real clients draw.

With LATTICED_SCREENSHOTS=FOLDER it draws for LATTICED_SCREENSHOT_SECONDS (280)
and writes status-light.png, status-dark.png and status-phone.png there."""

import argparse
import math
import os
import re
import shutil
import subprocess
import sys
import threading
import time
import unittest

import grpc

import python_faults
from python_browser import Browser
from python_faults import FaultTest, figure, metrics, total, until
from python_server import Server, connect, train

SCREENSHOTS = os.environ.get("LATTICED_SCREENSHOTS")
SCREENSHOT_SECONDS = float(os.environ.get("LATTICED_SCREENSHOT_SECONDS", 280))

# The contrast of all text with what is behind it, the smallest one first.
CONTRASTS = """
const channel = (c) => c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4;
const luminance = ([r, g, b]) => 0.2126 * channel(r / 255) +
  0.7152 * channel(g / 255) + 0.0722 * channel(b / 255);
const colour = (text) => text.match(/[\\d.]+/g).map(Number);
const found = [];
for (const element of document.body.querySelectorAll("*")) {
  const texts = [...element.childNodes].filter(
    (node) => node.nodeType === 3 && node.data.trim());
  if (!texts.length || !element.getClientRects().length) continue;
  const style = getComputedStyle(element);
  if (element.closest("noscript, .hidden")) continue;
  const front = luminance(colour(
    element.namespaceURI.endsWith("svg") ? style.fill : style.color));
  let behind = element;
  while (behind && /, 0\\)$|transparent/.test(
      getComputedStyle(behind).backgroundColor)) behind = behind.parentElement;
  const back = luminance(colour(getComputedStyle(behind).backgroundColor));
  found.push([(Math.max(front, back) + 0.05) / (Math.min(front, back) + 0.05),
              texts[0].data.trim().slice(0, 40)]);
}
return found.sort((a, b) => a[0] - b[0]);
"""


class Draws:
    """Two streams and a chain of phi4-l8, until `end`."""

    def __init__(self, address):
        self.ending = threading.Event()
        self.calls = []
        self.failure = None
        self.channel = connect(address)
        self.threads = [threading.Thread(target=self.run, args=(call,))
                        for call in (self.stream, self.stream, self.chain)]
        for thread in self.threads:
            thread.start()

    def stream(self):
        from latticed.v1 import sampler_pb2 as pb
        from latticed.v1 import sampler_pb2_grpc
        return sampler_pb2_grpc.SamplerServiceStub(self.channel).StreamSamples(
            pb.StreamSamplesRequest(model=pb.ModelSelector(model="phi4-l8"),
                                    count=1 << 40, block_bytes_max=1 << 17))

    def chain(self):
        from latticed.v1 import chain_pb2 as pb
        from latticed.v1 import chain_pb2_grpc, sampler_pb2
        return chain_pb2_grpc.ChainServiceStub(self.channel).RunChain(
            pb.RunChainRequest(steps=1 << 40, block_bytes_max=1 << 17,
                               chain=pb.ChainStart(
                model=sampler_pb2.ModelSelector(model="phi4-l8"))))

    def run(self, start):
        call = start()
        self.calls.append(call)
        try:
            for _ in call:
                if self.ending.is_set():
                    break
        except grpc.RpcError as error:
            if not self.ending.is_set():
                self.failure = error
        call.cancel()

    def end(self):
        self.ending.set()
        for thread in self.threads:
            thread.join()
        self.channel.close()
        if self.failure is not None:
            raise self.failure


def counted(value):
    """A large number as the page writes it."""
    for unit, name in ((1e9, "G"), (1e6, "M"), (1e4, "k")):
        if value >= unit:
            scaled = value / (1e3 if name == "k" else unit)
            digits = 3 - math.floor(math.log10(scaled))
            return f"{scaled:.{digits}f}\u2009{name}"
    return str(int(value))


class StatusPage(FaultTest):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        # Two versions of phi4-l8, a damaged one, and a model without a
        # reference.
        cls.repository = cls.path("models")
        for model in ("phi4-l6", "phi4-l8"):
            shutil.copytree(os.path.join(cls.arguments.models, model),
                            os.path.join(cls.repository, model))
        train(cls.arguments.train, cls.repository)
        cls.server = Server(cls.arguments.latticed, repository=cls.repository,
                            flags=("--gate_draws", "16384", "--poll_seconds",
                                   "0.2"))
        cls.addClassCleanup(cls.server.stop)
        cls.browser = Browser(cls.arguments.chromium,
                              cls.arguments.chromedriver)
        cls.addClassCleanup(cls.browser.stop)
        cls.gates(3)
        subprocess.run([cls.arguments.publish_again, cls.repository, "phi4-l8",
                        "1", cls.repository, "phi4-l8"], check=True)
        until(lambda: any(
            s.startswith("latticed_model_info{") and 'version="2"' in s
            and 'slot="live"' in s for s in metrics(cls.server)),
            "version 2 is live", 300)
        shutil.copytree(os.path.join(cls.repository, "phi4-l6", "1"),
                        os.path.join(cls.repository, "phi4-l8", "3"))
        cls.browser.emulate("light", 1280, 900)
        cls.browser.driver.get(f"http://{cls.server.http}/")

    @classmethod
    def gates(cls, number):
        until(lambda: len([s for s in metrics(cls.server) if s.startswith(
            "latticed_model_gate_ess_ratio{")]) >= number, "the gates", 300)

    def page(self, script, *arguments):
        return self.browser.run(script, *arguments)

    def card(self, model, selector):
        """Texts of elements of a model's card."""
        return self.page("""
            const card = document.querySelector(
              `[data-model="${arguments[0]}"]`);
            return card ? [...card.querySelectorAll(arguments[1])].map(
              (element) => element.textContent) : [];""", model, selector)

    def tile(self, name, model=None, what="value"):
        return self.page("""
            const root = arguments[1] ? document.querySelector(
              `[data-model="${arguments[1]}"]`) : document.getElementById("tiles");
            const tile = root && [...root.querySelectorAll(".tiles > div")].find(
              (one) => one.querySelector("dt").textContent === arguments[0]);
            return tile ? tile.querySelector("." + arguments[2]).textContent
              : "";""", name, model, what)

    def chart(self, model, title, selector):
        """How many elements a chart of a model's card has."""
        return self.page("""
            const figures = [...document.querySelectorAll(
              `[data-model="${arguments[0]}"] figure`)];
            const figure = figures.find((one) =>
              one.querySelector("h3").textContent === arguments[1]);
            return figure ? figure.querySelectorAll(arguments[2]).length
              : 0;""", model, title, selector)

    def link(self):
        return self.page("return document.getElementById('link').textContent")

    def assert_clean(self):
        self.assertEqual(self.browser.console(), [])
        self.assertLessEqual(self.browser.origins(),
                             {f"http://{self.server.http}", "data:"})

    def test_1_loads(self):
        until(lambda: self.link().startswith("live"), "the first answer")
        self.assertEqual(self.page("return document.title"), "latticed")
        self.assertEqual(
            self.page("return document.getElementById('state').textContent"),
            "serving")
        self.assertEqual(
            self.page("return [...document.querySelectorAll('.card')].map("
                      "(card) => card.dataset.model)"),
            ["phi4-l6", "phi4-l8", "tiny"])
        origins = self.browser.origins()
        self.assertIn(f"http://{self.server.http}", origins)
        self.assertLessEqual(origins, {f"http://{self.server.http}", "data:"})
        self.assertEqual(self.browser.console(), [])

    def test_2_shows_what_is_drawn(self):
        self.assertEqual(self.chart("phi4-l8", "ESS per draw", "circle"), 0)
        self.assertEqual(self.chart("phi4-l8", "ESS per draw", "path.band"), 1,
                         "the gate's band, before any draw")
        draws = Draws(self.server.address)
        try:
            # Nobody reloads the page.
            until(lambda: self.chart("phi4-l8", "ESS per draw", "circle") >= 3,
                  "ESS over time", 300)
            until(lambda: self.chart("phi4-l8", "Acceptance of chains",
                                     "circle") >= 3, "acceptance", 300)
            seen = self.tile("Draw rate", "phi4-l8", "detail")
            until(lambda: self.tile("Draw rate", "phi4-l8", "detail") != seen,
                  "the figures stand still")
            until(lambda: self.tile("Open calls") == "3" and set(self.tile(
                "Open calls", what="detail").split(", ")) ==
                {"2 StreamSamples", "1 RunChain"}, "three calls are open")
            for title in ("Draws per second", "Queue, configurations"):
                until(lambda: self.chart("phi4-l8", title, "path.area") > 0,
                      title)
            until(lambda: self.tile("χ₂", "phi4-l8") != "–",
                  "recent observables", 300)
            if SCREENSHOTS:
                time.sleep(SCREENSHOT_SECONDS)
                self.screenshots()
        finally:
            draws.end()
        self.assertEqual(self.chart("phi4-l8", "Two-point function G̃(t)",
                                    "circle"), 5)
        self.assertEqual(self.chart("phi4-l8", "Two-point function G̃(t)",
                                    "path.reference"), 1)
        self.assertEqual(self.chart("phi4-l8", "G̃(t) over the reference",
                                    ".error"), 5)
        self.assertIn("χ₂", self.card("phi4-l8", "table th"))
        # A good flow, reweighted, has Monte Carlo's values. The errors are of at
        # least 8 batches: a difference is beyond 10 of them with a probability
        # of 2e-5 (Student's t, 7 degrees of freedom).
        differences = self.card("phi4-l8", "td[data-head=difference]")
        self.assertEqual(len(differences), 5)
        for text in differences:
            self.assertRegex(text, r"^[+−]\d+\.\d σ$")
            self.assertLess(float(text[1:-2]), 10, text)
        self.assertEqual(self.tile("χ₂", "tiny", "detail"), "no reference")
        self.same_figures()
        self.assert_clean()

    def same_figures(self):
        """What the page has when all is quiet is what /metrics has."""
        def text(what, **labels):
            return total(metrics(self.server), what, **labels)

        def quiet():
            drawn = text("latticed_configurations_delivered_total",
                         model="phi4-l8")
            shown = self.tile("Draw rate", "phi4-l8", "detail")
            return shown == counted(drawn) + " delivered" and \
                self.tile("Open calls") == "0"
        until(quiet, "the page has every draw")
        live = {"model": "phi4-l8", "version": "2"}
        n = text("latticed_importance_weight_samples_total", **live)
        sum_w = text("latticed_importance_weight_sum_total", **live)
        sum_w2 = text("latticed_importance_weight_square_sum_total", **live)
        ess = sum_w**2 / (n * sum_w2)
        self.assertEqual(self.tile("ESS per draw", "phi4-l8"), f"{ess:.4f}")
        acceptance = \
            text("latticed_chain_proposals_accepted_total", model="phi4-l8") / \
            text("latticed_chain_proposals_total", model="phi4-l8")
        self.assertEqual(self.tile("Acceptance", "phi4-l8"),
                         f"{acceptance:.4f}")
        figure(f"{int(n)} draws of phi4-l8: ESS per draw {ess:.4f}, "
               f"acceptance {acceptance:.4f}; the page has both")

    def test_3_tells_what_became_of_versions(self):
        rows = until(lambda: self.page("""
            const rows = document.querySelectorAll(
              '[data-model="phi4-l8"] table');
            const body = [...rows].find((one) =>
              one.caption.textContent.startsWith("Versions")).tBodies[0];
            return body.rows.length > 3
              ? [...body.rows].map((row) => row.innerText) : null;"""),
            "three versions and a reason")
        self.assertIn("model and version are not those of the directory",
                      rows[1])
        # Below any version there may be a row of what its gate remarked: on a
        # loaded machine, that it drew slowly.
        versions = [row for row in rows if re.match(r"\d+ [0-9a-f]{12}\s", row)]
        self.assertEqual(len(versions), 3, rows)
        self.assertRegex(versions[0], r"^3 [0-9a-f]{12}\s+rejected")
        self.assertRegex(versions[1], r"^2 [0-9a-f]{12}\s+live\s+\d{4}-")
        self.assertRegex(versions[2], r"^1 [0-9a-f]{12}\s+previous\s+\d{4}-")
        ess = total(metrics(self.server), "latticed_model_gate_ess_ratio",
                    model="phi4-l8", version="2")
        # Rounded to the digits that its error leaves: 0.9887(12).
        shown = re.search(r"\s(\d\.(\d+))\(\d+\)\s", versions[1])
        self.assertAlmostEqual(float(shown[1]), ess,
                               delta=0.501 * 10**-len(shown[2]))
        self.assertRegex(
            "".join(self.card("phi4-l8", "summary")),
            r"^Gate of version 2: (\d+) of \1 checks passed, 16.38\sk draws")
        # An operator's words are text, whatever is in them.
        from latticed.v1 import admin_pb2, admin_pb2_grpc
        reason = '<img src="x" onerror="alert(1)"><script>alert(2)</script>'
        digest = python_faults.digest(self.repository, 1, "phi4-l8")
        with connect(self.server.admin) as channel:
            admin_pb2_grpc.AdminServiceStub(channel).QuarantineModelVersion(
                admin_pb2.QuarantineModelVersionRequest(
                    model="phi4-l8", digest=digest, reason=reason), timeout=60)
        until(lambda: any(reason in note
                          for note in self.card("phi4-l8", ".note")),
              "the reason is shown")
        self.assertEqual(self.page("return document.images.length"), 0)
        self.assertEqual(self.page("return document.scripts.length"), 1)
        self.assert_clean()

    def test_4_survives_a_restart(self):
        self.assert_clean()
        self.server.kill()
        until(lambda: self.link().startswith("no answer since"),
              "the page says that nobody answers")
        self.assertIn("no answer", self.page("return document.title"))
        self.server.start()
        until(lambda: self.link().startswith("live"), "it is there again", 120)
        # Before its models are loaded there is nothing to show of them.
        until(lambda: self.page(
            "return document.getElementById('state').textContent") ==
            "serving" and self.tile("Draw rate", "phi4-l8", "detail") != "",
            "its models are there", 120)
        self.assertIn("started again", self.link())
        self.assertEqual(self.tile("Draw rate", "phi4-l8", "detail"),
                         "0 delivered")
        # Chromium itself notes requests that reach nobody; no script can keep
        # it from that. Nothing else may be there.
        for line in self.browser.console():
            self.assertRegex(line, r"^http://[^ ]+/status\.json - Failed to "
                             r"load resource: net::ERR_(CONNECTION_REFUSED|"
                             r"CONNECTION_RESET|CONNECTION_CLOSED|"
                             r"SOCKET_NOT_CONNECTED|EMPTY_RESPONSE)$")
        draws = Draws(self.server.address)
        try:
            until(lambda: self.chart("phi4-l8", "ESS per draw", "circle") >= 2,
                  "it goes on with the new server's figures", 300)
        finally:
            draws.end()
        self.assert_clean()

    def test_5_reads_in_light_and_dark_and_on_a_phone(self):
        backgrounds = set()
        for scheme in ("light", "dark"):
            self.browser.emulate(scheme, 1280, 900)
            backgrounds.add(self.page(
                "return getComputedStyle(document.body).backgroundColor"))
            contrasts = self.page(CONTRASTS)
            self.assertGreater(len(contrasts), 100)
            # WCAG 2.1 AA.
            self.assertGreaterEqual(contrasts[0][0], 4.5, contrasts[:5])
            figure(f"{scheme}: smallest contrast {contrasts[0][0]:.2f} of "
                   f"{len(contrasts)} texts")
        self.assertEqual(len(backgrounds), 2)
        for width in (390, 320, 768):
            self.browser.emulate("light", width, 844)
            until(lambda: self.page("return innerWidth") == width, "resized")
            # Charts follow at the next frame.
            until(lambda: self.page(
                "const page = document.documentElement;"
                "return page.scrollWidth <= page.clientWidth && "
                "[...document.querySelectorAll('svg, table, p, dd')].every("
                "(one) => one.getBoundingClientRect().right <= "
                "page.clientWidth)"), f"nothing is wider than {width} pixels")
        self.browser.emulate("light", 1280, 900)

    def test_6_is_accessible(self):
        self.assertEqual(self.page(
            "return document.querySelectorAll('h1').length"), 1)
        self.assertEqual(self.page("return document.documentElement.lang"),
                         "en")
        for selector, name in (("svg", "aria-label"), ("svg", "role"),
                               ("th", "scope")):
            self.assertEqual(self.page(
                "return [...document.querySelectorAll(arguments[0])].filter("
                "(one) => !one.getAttribute(arguments[1])).length",
                selector, name), 0, selector)
        self.assertEqual(self.page(
            "return [...document.querySelectorAll('table')].filter("
            "(one) => !one.caption).length"), 0)

    def screenshots(self):
        self.browser.driver.execute_cdp_cmd("Emulation.setScrollbarsHidden",
                                            {"hidden": True})
        for name, scheme, width, height in (
                ("light", "light", 1280, 1440), ("dark", "dark", 1280, 1440),
                ("phone", "light", 390, 1500)):
            self.browser.emulate(scheme, width, height)
            # From the card that has most to show, under the page's head.
            self.page("scrollTo(0, 0); for (const card of document."
                      "querySelectorAll('.card')) card.hidden = "
                      "card.dataset.model !== 'phi4-l8'")
            time.sleep(3)
            self.browser.screenshot(
                os.path.join(SCREENSHOTS, f"status-{name}.png"))
        self.page("for (const card of document.querySelectorAll('.card')) "
                  "card.hidden = false")
        self.browser.emulate("light", 1280, 900)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    for name in ("models", "chromium", "chromedriver"):
        parser.add_argument(f"--{name}")
    own, sys.argv[1:] = parser.parse_known_args()
    parser = argparse.ArgumentParser()
    for name in ("latticed", "train", "latticectl", "protos", "protoc",
                 "grpc_plugin", "publish_again"):
        parser.add_argument(f"--{name}")
    FaultTest.arguments, rest = parser.parse_known_args(namespace=own)
    unittest.main(argv=[sys.argv[0]] + rest)
