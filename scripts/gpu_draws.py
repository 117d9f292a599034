#!/usr/bin/env python3
"""Draws of a device beside those of the CPU: how far they differ, how good they
are, how fast they come. Prints JSON; exits 1 if they differ by more than rounding.

One server draws on the CPU with fused kernels, another on the device with
LibTorch; both serve the bundled flows, and the same streams are drawn from both.
"""

import argparse
import atexit
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.request

import numpy

# float32 with 8 to 16 Runge-Kutta steps of a few thousand terms each. log q adds
# the divergence of all sites: its rounding grows with their number.
PHI_DIFFERENCE_MAX = 5e-4
LOG_Q_DIFFERENCE_MAX_PER_SITE = 5e-5


class Server:
    def __init__(self, arguments, folder, name, flags):
        self.log = os.path.join(folder, name)
        self.process = subprocess.Popen(
            [os.path.join(arguments.bin, "latticed"), "--repository",
             arguments.models, "--listen=127.0.0.1:0",
             "--http_listen=127.0.0.1:0", "--admin_listen=", *flags],
            stdout=subprocess.PIPE, stderr=open(self.log, "w"), text=True)
        # Whatever happens to this script, none is left behind on the device.
        atexit.register(self.process.kill)
        start = time.monotonic()
        line = self.process.stdout.readline().split()
        self.seconds_to_ready = time.monotonic() - start
        if line[:2] != ["latticed", "ready"]:
            with open(self.log) as file:
                sys.exit(f"latticed {flags}: {file.read()[-2000:]}")
        words = dict(word.split("=") for word in line[2:])
        self.address, self.http = words["grpc"], words["http"]

    def metrics(self):
        with urllib.request.urlopen(f"http://{self.http}/metrics") as reply:
            return reply.read().decode()

    def gated(self, models):
        """Waits for all gates, which would be measured with the rest."""
        for _ in range(600):
            with open(self.log) as file:
                lines = re.findall(r".*(?:passed the gate|rejected).*",
                                   file.read())
            if len(lines) >= models:
                break
            time.sleep(0.5)
        return lines


def sample(arguments, server, model, count, output=None):
    command = [os.path.join(arguments.bin, "latticectl"), "sample", "--server",
               server.address, "--model", model, "--count", str(count),
               "--stream", "gpu-check", "--quiet", "--json"]
    if output:
        command += ["--output", output]
    return json.loads(subprocess.run(command, check=True, timeout=300,
                                     stdout=subprocess.PIPE).stdout)


def main():
    parser = argparse.ArgumentParser()
    for name in ("bin", "models", "device"):
        parser.add_argument(f"--{name}", required=True)
    parser.add_argument("--seconds", type=float, default=5,
                        help="of drawing in a measurement")
    parser.add_argument("--length_max", type=int, default=32,
                        help="largest L; for a try on a slow device")
    arguments = parser.parse_args()
    models = sorted((m for m in os.listdir(arguments.models)
                     if re.fullmatch(r"phi4-l\d+", m)
                     and int(m[6:]) <= arguments.length_max),
                    key=lambda m: int(m[6:]))
    wrong, result = [], {"flows": {}}
    with tempfile.TemporaryDirectory() as folder:
        for model in models:
            shutil.copytree(os.path.join(arguments.models, model),
                            os.path.join(folder, "models", model))
        arguments.models = os.path.join(folder, "models")
        servers = {"cpu": Server(arguments, folder, "cpu", [])}
        servers["device"] = Server(
            arguments, folder, "device",
            [f"--device={arguments.device}", "--kernel=plain"])
        for name, server in servers.items():
            result[f"gates_{name}"] = server.gated(len(models))
            result[f"seconds_to_ready_{name}"] = round(
                server.seconds_to_ready, 2)
        for model in models:
            sites = int(model[6:]) ** 2
            flow = result["flows"][model] = {}
            drawn = {}
            for name, server in servers.items():
                path = os.path.join(folder, f"{name}-{model}.npz")
                about = sample(arguments, server, model, 2048, path)
                with numpy.load(path) as data:
                    drawn[name] = {k: data[k] for k in ("phi", "log_q",
                                                        "action")}
                rate = about["draws_per_second"]
                count = int(min(max(rate * arguments.seconds, 2048), 4e6))
                again = sample(arguments, server, model, count)
                flow[name] = {
                    "numerics_mode": about["provenance"]["numerics_mode"],
                    "ess": about["summary"]["ESS"]["value"],
                    "draws": again["draws"],
                    "draws_per_second": round(again["draws_per_second"], 1)}
            difference = {
                key: float(numpy.max(numpy.abs(
                    drawn["cpu"][key].astype(float) - drawn["device"][key])))
                for key in ("phi", "log_q")}
            flow["largest_difference"] = difference
            flow["speed_ratio"] = round(
                flow["device"]["draws_per_second"] /
                flow["cpu"]["draws_per_second"], 3)
            if difference["phi"] > PHI_DIFFERENCE_MAX:
                wrong.append(f"{model}: phi differs by {difference['phi']}")
            if difference["log_q"] > LOG_Q_DIFFERENCE_MAX_PER_SITE * sites:
                wrong.append(f"{model}: log q differs by {difference['log_q']}")
        result["device_memory"] = re.findall(
            r"^latticed_device_memory_bytes\S* \S+", servers["device"].metrics(),
            re.MULTILINE)
        for name, server in servers.items():
            server.process.terminate()
            result[f"exit_code_{name}"] = server.process.wait(60)
            if result[f"exit_code_{name}"] != 0:
                wrong.append(f"the server on {name} did not end well")
    result["wrong"] = wrong
    json.dump(result, sys.stdout, indent=1)
    print()
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
