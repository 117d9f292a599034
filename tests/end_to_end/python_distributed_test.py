#!/usr/bin/python3
"""Several latticed-train processes of one training: the same losses whatever
their number, killed and stopped ones, resumption, refusals."""

import argparse
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import unittest

import numpy

from python_server import SPEC, free_port

ARGUMENTS = None  # of the command line
FINISHED = re.compile(r"^step (\d+)/\d+ .* loss (\S+) ", re.MULTILINE)


def weights(path):
    """All float32 tensors of a safetensors file, one after the other."""
    with open(path, "rb") as file:
        data = file.read()
    return numpy.frombuffer(data[8 + int.from_bytes(data[:8], "little"):],
                            "<f4")


class Distributed(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.mkdtemp(prefix="latticed-distributed-test-")
        self.addCleanup(shutil.rmtree, self.folder, ignore_errors=True)
        self.processes = []
        self.addCleanup(self.end_all)
        self.spec = self.make_spec("spec", 60, log=5, checkpoint=20)

    def make_spec(self, name, steps, log, checkpoint):
        """tiny.textproto, of another length."""
        with open(SPEC) as file:
            text = file.read()
        for field, value in (("steps: 60 ", f"steps: {steps} "),
                             ("log_every_steps: 20",
                              f"log_every_steps: {log}"),
                             ("checkpoint_every_steps: 60",
                              f"checkpoint_every_steps: {checkpoint}")):
            assert text.count(field) == 1
            text = text.replace(field, value)
        path = os.path.join(self.folder, name + ".textproto")
        with open(path, "w") as file:
            file.write(text)
        return path

    def end_all(self):
        for process in self.processes:
            if process.poll() is None:
                process.kill()
            process.wait()

    def log(self, repository, rank):
        with open(os.path.join(self.folder, f"{repository}.{rank}.log")) as f:
            return f.read()

    def start(self, repository, environment, *arguments, rank=0, spec=None):
        clean = {name: value for name, value in os.environ.items()
                 if not name.startswith(("SLURM_", "MASTER_", "TORCHELASTIC_",
                                         "GLOO_"))
                 and name not in ("RANK", "WORLD_SIZE", "LOCAL_RANK",
                                  "LOCAL_WORLD_SIZE")}
        with open(os.path.join(self.folder, f"{repository}.{rank}.log"),
                  "w") as log:
            process = subprocess.Popen(
                [ARGUMENTS.train, "--spec", spec or self.spec, "--repository",
                 os.path.join(self.folder, repository), "--model", "tiny",
                 "--threads", "1", "--rendezvous_seconds", "120", *arguments],
                stderr=log, env={**clean, **environment})
        self.processes.append(process)
        return process

    def start_all(self, repository, size, *arguments, specs=None):
        """As torchrun does."""
        port = str(free_port())
        return [self.start(repository, {
            "RANK": str(rank), "WORLD_SIZE": str(size),
            "LOCAL_RANK": str(rank), "LOCAL_WORLD_SIZE": str(size),
            "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}, *arguments,
            rank=rank, spec=specs[rank] if specs else None)
            for rank in range(size)]

    def codes(self, processes, timeout=240):
        end = time.monotonic() + timeout
        return [process.wait(timeout=max(1, end - time.monotonic()))
                for process in processes]

    def until(self, repository, pattern, processes):
        """The match in process 0's log."""
        end = time.monotonic() + 240
        while time.monotonic() < end:
            match = re.search(pattern, self.log(repository, 0), re.MULTILINE)
            if match:
                return match
            for process in processes:
                self.assertIsNone(process.poll(), self.log(repository, 0))
            time.sleep(0.05)
        self.fail(f"no {pattern} in {self.log(repository, 0)}")

    def until_saved(self, state, processes):
        end = time.monotonic() + 240
        while not os.path.exists(state):
            self.assertLess(time.monotonic(), end, "no state is saved")
            for process in processes:
                self.assertIsNone(process.poll())
            time.sleep(0.05)

    def versions(self, repository):
        folder = os.path.join(self.folder, repository, "tiny")
        return sorted(os.listdir(folder)) if os.path.isdir(folder) else []

    def published(self, repository):
        return weights(os.path.join(self.folder, repository, "tiny", "1",
                                    "weights.safetensors"))

    def losses(self, repository):
        return [(int(step), float(loss)) for step, loss
                in FINISHED.findall(self.log(repository, 0))]

    def test_the_losses_do_not_depend_on_the_number_of_processes(self):
        self.assertEqual(self.codes([self.start("1", {})]), [0],
                         self.log("1", 0))
        one, one_weights = self.losses("1"), self.published("1")
        self.assertEqual([step for step, _ in one], list(range(5, 65, 5)))
        for size in (2, 4):
            name = str(size)
            self.assertEqual(self.codes(self.start_all(name, size)),
                             [0] * size, self.log(name, 0))
            several = self.losses(name)
            self.assertEqual([step for step, _ in several],
                             [step for step, _ in one])
            # Losses are printed to 1e-4, and parameters drift apart by the
            # rounding of float32: 60 steps of 4e-7 (processes_test.cc) are
            # 2.4e-5 of a parameter, and of a loss that changes by O(1) with
            # its logarithm.
            for (step, loss), (_, expected) in zip(several, one):
                self.assertAlmostEqual(loss, expected, delta=2e-4, msg=step)
            numpy.testing.assert_allclose(self.published(name), one_weights,
                                          rtol=2.4e-5, atol=2.4e-5)
            # Process 0 alone speaks, publishes and keeps files.
            self.assertIn(f"{size} processes with 1 threads each",
                          self.log(name, 0))
            for rank in range(1, size):
                self.assertEqual(self.log(name, rank), "")
            self.assertEqual(self.versions(name), ["1"])

    def test_a_killed_process_ends_all_and_others_go_on(self):
        endless = self.make_spec("long", 1000000, log=50, checkpoint=50)
        for killed in (1, 0):
            name = f"killed-{killed}"
            processes = self.start_all(name, 3, specs=[endless] * 3)
            self.until(name, r"^step \d+/", processes)
            # What the others go on from.
            state = os.path.join(self.folder, name, ".training", "tiny.state")
            self.until_saved(state, processes)
            pid = processes[killed].pid
            processes[killed].kill()
            # At once, but for the seconds of looking who is silent.
            codes = self.codes(processes, timeout=110)
            self.assertEqual(
                codes, [-signal.SIGKILL if rank == killed else 2
                        for rank in range(3)])
            for rank in {0, 1, 2} - {killed}:
                said = self.log(name, rank)
                self.assertRegex(said, rf"process {killed}\b.* is gone")
                self.assertIn("the last saved state", said)
                if killed != 0:
                    self.assertIn(f"pid {pid})", said)
            self.assertEqual(self.versions(name), [])
            for size in (2, 1):
                again = (self.start_all(name, size, specs=[endless] * size)
                         if size > 1 else [self.start(name, {}, spec=endless)])
                step = int(self.until(name, r"^resuming at step (\d+) of",
                                      again).group(1))
                self.assertEqual(step % 50 if size == 2 else 0, 0)
                self.until(name, r"processes before, \d+ now", again)
                self.until(name, r"^step \d+/", again)
                again[-1].terminate()
                self.assertEqual(self.codes(again), [130] * size,
                                 self.log(name, 0))

    def test_a_killed_training_finishes_with_another_number(self):
        spec = self.make_spec("finish", 2500, log=20, checkpoint=20)
        processes = self.start_all("r", 2, specs=[spec] * 2)
        self.until("r", r"^step \d+/", processes)
        self.until("r", r"^step (?!20/)\d+/", processes)  # 20 is saved
        processes[1].kill()
        self.assertEqual(self.codes(processes, timeout=110),
                         [2, -signal.SIGKILL], self.log("r", 0))
        four = self.start_all("r", 4, "--minutes", "0.05", specs=[spec] * 4)
        codes = self.codes(four)
        self.assertEqual(codes, [0] * 4, self.log("r", 0))
        self.assertRegex(self.log("r", 0), r"(?m)^resuming at step \d+ of 2500")
        self.assertEqual(self.codes([self.start("r", {}, spec=spec)], 600), [0],
                         self.log("r", 0))
        self.assertEqual(self.versions("r"), ["1"])

    def test_a_process_that_stands_still_ends_all_in_time(self):
        endless = self.make_spec("long", 1000000, log=50, checkpoint=50)
        processes = self.start_all("still", 2, "--exchange_seconds", "20",
                                   specs=[endless] * 2)
        self.until("still", r"^step \d+/", processes)
        processes[1].send_signal(signal.SIGSTOP)
        self.assertEqual(self.codes(processes[:1], timeout=110), [2])
        self.assertRegex(self.log("still", 0),
                         r"process 1 .* is gone or does not answer")

    def test_one_signal_stops_all_after_the_same_step(self):
        endless = self.make_spec("long", 1000000, log=50, checkpoint=1000000)
        for number, rank in ((signal.SIGTERM, 2), (signal.SIGINT, 0)):
            processes = self.start_all("stopped", 3, specs=[endless] * 3)
            self.until("stopped", r"^step \d+/", processes)
            processes[rank].send_signal(number)
            self.assertEqual(self.codes(processes), [130] * 3,
                             self.log("stopped", 0))
            self.assertIn("stopped, state saved", self.log("stopped", 0))
        self.assertIn("resuming at step", self.log("stopped", 0))
        self.assertEqual(self.versions("stopped"), [])

    def test_time_is_process_0s(self):
        endless = self.make_spec("long", 1000000, log=50, checkpoint=1000000)
        processes = self.start_all("timed", 2, "--minutes", "0.02",
                                   specs=[endless] * 2)
        self.assertEqual(self.codes(processes), [0, 0], self.log("timed", 0))
        self.assertIn("stopped, state saved", self.log("timed", 0))

    def test_the_same_number_of_processes_resumes_to_the_same_bits(self):
        spec = self.make_spec("bits", 400, log=1, checkpoint=1000)
        self.assertEqual(
            self.codes(self.start_all("whole", 2, specs=[spec] * 2)), [0, 0],
            self.log("whole", 0))
        pieces = self.start_all("pieces", 2, specs=[spec] * 2)
        self.until("pieces", r"^step 3/", pieces)
        pieces[1].terminate()
        self.assertEqual(self.codes(pieces), [130, 130],
                         self.log("pieces", 0))
        self.assertEqual(
            self.codes(self.start_all("pieces", 2, specs=[spec] * 2)), [0, 0],
            self.log("pieces", 0))
        numpy.testing.assert_array_equal(self.published("pieces"),
                                         self.published("whole"))

    def test_a_process_with_another_spec_is_refused(self):
        other = self.make_spec("other", 61, log=5, checkpoint=20)
        processes = self.start_all("specs", 2, specs=[self.spec, other])
        self.assertEqual(self.codes(processes), [1, 1])
        for rank in (0, 1):
            self.assertIn("process 1 has another spec than process 0",
                          self.log("specs", rank))
        self.assertFalse(os.path.exists(os.path.join(self.folder, "specs")))

    def test_an_error_of_process_0_is_that_of_all(self):
        path = os.path.join(self.folder, "damaged", ".training")
        os.makedirs(path)
        with open(os.path.join(path, "tiny.state"), "w") as file:
            file.write("x" * 1000)
        processes = self.start_all("damaged", 2)
        self.assertEqual(self.codes(processes), [1, 1])
        for rank in (0, 1):
            self.assertIn("the training state is damaged",
                          self.log("damaged", rank))

    def test_environments_that_contradict_themselves(self):
        one = {"RANK": "1", "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1",
               "MASTER_PORT": str(free_port())}
        for change, code, said in (
                ({"RANK": "2"}, 1, "RANK=2 is not below WORLD_SIZE=2"),
                ({"RANK": ""}, 1, "RANK is not set"),
                ({"MASTER_ADDR": ""}, 1, "MASTER_ADDR is not set"),
                ({"MASTER_PORT": "none"}, 1, "MASTER_PORT='none'"),
                ({}, 2, "cannot reach the store of process 0")):
            process = self.start("bad", {**one, **change},
                                 "--rendezvous_seconds", "10")
            self.assertEqual(self.codes([process]), [code])
            self.assertIn(said, self.log("bad", 0))
        # Of two processes one.
        process = self.start("bad", {**one, "RANK": "0"},
                             "--rendezvous_seconds", "10")
        self.assertEqual(self.codes([process]), [2])
        self.assertIn("of 2 processes 1 did not come within 10 s",
                      self.log("bad", 0))
        with socket.socket() as taken:
            taken.bind(("", 0))
            taken.listen()
            port = str(taken.getsockname()[1])
            process = self.start("bad", {**one, "RANK": "0",
                                         "MASTER_PORT": port})
            self.assertEqual(self.codes([process]), [2])
            self.assertIn(f"store on port {port}", self.log("bad", 0))
        # In one process whatever the environment says.
        process = self.start("alone", one, "--launcher", "none")
        self.assertEqual(self.codes([process]), [0], self.log("alone", 0))

    def test_torchrun_starts_again_what_was_killed(self):
        endless = self.make_spec("long", 1000000, log=10, checkpoint=10)
        # Of the first start process 1 is killed once a state is saved, which
        # may take its time; the second one soon ends by itself.
        script = os.path.join(self.folder, "one-process")
        state = os.path.join(self.folder, "t", ".training", "tiny.state")
        with open(script, "w") as file:
            file.write("#!/bin/sh\n"
                       "minutes=0.1\n"
                       'if [ "$TORCHELASTIC_RESTART_COUNT" = 0 ]; then\n'
                       "  minutes=20\n"
                       '  if [ "$RANK" = 1 ]; then\n'
                       f"    (while [ ! -s {state} ]; do sleep 0.1;"
                       " kill -0 $$ || exit; done; kill -9 $$) &\n"
                       "  fi\n"
                       "fi\n"
                       'exec "$@" --minutes $minutes\n')
        os.chmod(script, 0o755)
        # -r 1 -t 1: Debian's torchrun fails without, under Python 3.11. With
        # --standalone process 0 keeps the store, without torchrun does.
        for where in (["--standalone"],
                      ["--master_addr", "127.0.0.1", "--master_port",
                       str(free_port())]):
            shutil.rmtree(os.path.join(self.folder, "t"), ignore_errors=True)
            done = subprocess.run(
                [ARGUMENTS.torchrun, *where, "-r", "1", "-t", "1", "--log_dir",
                 os.path.join(self.folder, "logs"), "--max_restarts", "1",
                 "--nproc_per_node", "2", "--no_python", script,
                 ARGUMENTS.train, "--spec", endless, "--repository",
                 os.path.join(self.folder, "t"), "--model", "tiny"],
                timeout=600, capture_output=True, text=True)
            self.assertEqual(done.returncode, 0, done.stderr)
            self.assertIn("2 processes with 1 threads each", done.stderr)
            self.assertRegex(done.stderr, r"(?m)^resuming at step \d+ of")
            self.assertIn("stopped, state saved", done.stderr)

    def test_studies_and_references_are_of_one_process(self):
        environment = {**os.environ, "RANK": "0", "WORLD_SIZE": "2",
                       "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "1"}
        for command in (["study", "table1"], ["reference"]):
            done = subprocess.run([ARGUMENTS.train, *command], timeout=240,
                                  env=environment, capture_output=True,
                                  text=True)
            self.assertEqual(done.returncode, 1)
            self.assertIn("is the work of one process", done.stderr)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    for name in ("train", "torchrun"):
        parser.add_argument(f"--{name}", required=True)
    ARGUMENTS, rest = parser.parse_known_args()
    unittest.main(argv=[sys.argv[0]] + rest)
