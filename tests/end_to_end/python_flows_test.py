#!/usr/bin/python3
"""Every kind of flow is trained, published, gated, served, drawn from by chains
and verified, by the programs as a user runs them."""

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import unittest

import numpy

from python_faults import metrics, until
from python_server import SPEC, Server, train

ARGUMENTS = None  # of the command line

# Steps of training and the flow.
FLOWS = {
    "published": (20, """position_space { sine_features: 5 feature_bonds: 4
        harmonics: 2 time_bonds: 3 rk4_steps: 6 }"""),
    "without-d4": (20, """position_space { sine_features: 5 feature_bonds: 4
        harmonics: 2 time_bonds: 3 rk4_steps: 6 without_point_group: true }"""),
    "without-z2": (20, """position_space { sine_features: 5 feature_bonds: 4
        harmonics: 2 time_bonds: 3 rk4_steps: 6 without_z2: true }"""),
    "realnvp": (60, """coupling { layers { count: 4
        transform: COUPLING_TRANSFORM_SCALE_SHIFT net { hidden: 8 hidden: 8
        kernel: 3 activation: ACTIVATION_LEAKY_RELU tanh_output: true } } }"""),
    "spline": (60, """coupling { layers { count: 4
        transform: COUPLING_TRANSFORM_SPLINE net { hidden: 16
        activation: ACTIVATION_TANH } segments: 8 interval: 3 }
        global_rescaling: true }"""),
    "additive": (60, """coupling { layers { count: 6
        transform: COUPLING_TRANSFORM_ADDITIVE net { hidden: 16
        activation: ACTIVATION_TANH } } global_rescaling: true }"""),
    "convolutional": (60, """coupling { layers { count: 4
        transform: COUPLING_TRANSFORM_SHIFT_SCALE odd: true net { hidden: 4
        kernel: 3 activation: ACTIVATION_TANH } } global_rescaling: true }"""),
    "odd": (200, """coupling { layers { count: 6
        transform: COUPLING_TRANSFORM_SHIFT_SCALE odd: true net { hidden: 16
        activation: ACTIVATION_TANH } } global_rescaling: true }"""),
}


def spec_of(steps, flow):
    """tiny.textproto at L = 4 and weak coupling with another flow, trained for a moment and good
    enough for a gate that asks for an ESS of 0.05."""
    with open(SPEC) as file:
        text = file.read()
    for pattern, by in ((r"  flow \{.*\n", f"  flow {{ {flow} }}\n"),
                        (r"from_free_field \{.*\}", "from_random {}"),
                        (r"phase \{.*", f"phase {{ steps: {steps} batch: 128 }}"),
                        (r"extent: 8 extent: 8", "extent: 4 extent: 4"),
                        (r"mass_squared: -4 lambda: 6.008",
                         "mass_squared: 1 lambda: 0.5"),
                        (r"base \{.*", "base { free_field { mass: 1.2 } }"),
                        (r"ess_floor: .*", "ess_floor: 0.05")):
        text, count = re.subn(pattern, by, text)
        assert count == 1, pattern
    return text


class Flows(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.mkdtemp(prefix="latticed-flows-")
        cls.addClassCleanup(shutil.rmtree, cls.folder, ignore_errors=True)
        repository = os.path.join(cls.folder, "models")
        for name, (steps, flow) in FLOWS.items():
            spec = os.path.join(cls.folder, f"{name}.textproto")
            with open(spec, "w") as file:
                file.write(spec_of(steps, flow))
            # One thread: LibTorch's two wait for each other by spinning, and
            # other tests have a use for the cores.
            train(ARGUMENTS.train, repository, model=name, spec=spec,
                  flags=("--threads", "1"))
        cls.server = Server(ARGUMENTS.latticed, repository=repository,
                            flags=("--gate_draws", "8192", "--threads", "1"))
        cls.addClassCleanup(cls.server.stop)

    def latticectl(self, *arguments):
        done = subprocess.run(
            [ARGUMENTS.latticectl, *arguments, "--server", self.server.address],
            capture_output=True, text=True, timeout=120)
        self.assertEqual(done.returncode, 0, done.stderr)
        return done.stdout

    def test_every_flow_is_served(self):
        for name in FLOWS:
            with self.subTest(name):
                until(lambda: 'latticed_model_gate_ess_ratio' in "".join(
                    key for key in metrics(self.server) if f'"{name}"' in key),
                      f"{name} has been at the gate", 120)
                path = os.path.join(self.folder, f"{name}.npz")
                self.latticectl("sample", "--model", name, "--count", "600",
                                "--stream", "flows", "--output", path)
                drawn = numpy.load(path)
                self.assertEqual(drawn["phi"].shape, (600, 4, 4))
                self.assertTrue(numpy.isfinite(drawn["log_q"]).all())
                self.latticectl("verify", path)
                chain = os.path.join(self.folder, f"{name}-chain.npz")
                self.latticectl("chain", "--model", name, "--steps", "300",
                                "--stream", "flows", "--output", chain)
                self.latticectl("verify", chain)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    for name in ("latticed", "train", "latticectl", "protos", "protoc",
                 "grpc_plugin"):
        parser.add_argument(f"--{name}")
    ARGUMENTS, rest = parser.parse_known_args()
    unittest.main(argv=[sys.argv[0]] + rest)
