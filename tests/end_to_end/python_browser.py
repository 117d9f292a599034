"""A headless Chromium, for tests of pages."""

import base64
import json
import os
import shutil
import tempfile
import urllib.parse

from selenium import webdriver
from selenium.webdriver.chrome.options import Options
from selenium.webdriver.chrome.service import Service


class Browser:
    """`chromium`, `chromedriver`: the programs."""

    def __init__(self, chromium, chromedriver):
        self.profile = tempfile.mkdtemp(prefix="latticed-browser-")
        options = Options()
        options.binary_location = chromium
        # Its sandbox does not work for root, nor in most containers, which
        # have a small /dev/shm besides.
        for flag in ("headless=new", "no-sandbox", "disable-dev-shm-usage",
                     "disable-gpu", "force-color-profile=srgb",
                     f"user-data-dir={self.profile}"):
            options.add_argument("--" + flag)
        options.set_capability("goog:loggingPrefs",
                               {"browser": "ALL", "performance": "ALL"})
        self.driver = webdriver.Chrome(service=Service(chromedriver),
                                       options=options)
        self.driver.set_script_timeout(60)

    def stop(self):
        self.driver.quit()
        shutil.rmtree(self.profile, ignore_errors=True)

    def run(self, script, *arguments):
        """What a function with this body returns in the page."""
        return self.driver.execute_script(script, *arguments)

    def emulate(self, scheme, width, height):
        """`scheme`: light or dark."""
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {
            "features": [{"name": "prefers-color-scheme", "value": scheme}]})
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", {
            "width": width, "height": height, "deviceScaleFactor": 1,
            "mobile": False})

    def console(self):
        """Its lines since the last time."""
        return [entry["message"] for entry in self.driver.get_log("browser")]

    def origins(self):
        """Where requests went since the last time, but for those of the pages
        that Chromium itself begins with."""
        found = set()
        for entry in self.driver.get_log("performance"):
            message = json.loads(entry["message"])["message"]
            if message["method"] == "Network.requestWillBeSent":
                url = urllib.parse.urlsplit(
                    message["params"]["request"]["url"])
                if url.scheme != "chrome":
                    found.add("data:" if url.scheme == "data"
                              else f"{url.scheme}://{url.netloc}")
        return found

    def screenshot(self, path):
        """A PNG of what is in view."""
        found = self.driver.execute_cdp_cmd("Page.captureScreenshot",
                                            {"format": "png"})
        os.makedirs(os.path.dirname(os.path.abspath(path)), exist_ok=True)
        with open(path, "wb") as file:
            file.write(base64.b64decode(found["data"]))
