#!/usr/bin/python3
"""F1: a publisher killed at every call that changes a file, and at random
times, under a server that looks at its repository all the time."""

import os
import random
import shutil
import subprocess
import time

import python_faults
from python_faults import (LONG, Disk, FaultTest, digest, figure, metrics,
                           total, until, versions)
from python_server import SPEC, Server, train


class KilledPublisher(FaultTest):
    """Publishers are latticed-train, which has trained and only publishes, and
    publish_again, which is its publishing alone and a hundred times quicker."""

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.repository = cls.path("models")
        cls.trained = cls.path("trained")
        cls.disk = Disk(cls.arguments.shim, cls.repository,
                        cls.path("control"))
        train(cls.arguments.train, cls.trained,
              flags=("--state_directory", cls.path("state")))
        os.makedirs(cls.repository)
        # What is published is known to be good: no gate, and few draws, so
        # that a poll is quick.
        cls.server = Server(
            cls.arguments.latticed, repository=cls.repository,
            flags=("--poll_seconds", "0.05", "--gate_draws", "0",
                   "--smoke_draws", "64", "--models_max", "1024"))
        cls.addClassCleanup(cls.server.stop)

    def publish(self, model, trainer=False, **faults):
        """`faults`: kill and journal, of fault_shim.c."""
        command = [self.arguments.publish_again, self.trained, "tiny", "1",
                   self.repository, model]
        if trainer:
            shutil.copyfile(self.path("state", "tiny.state"),
                            self.path("state", f"{model}.state"))
            command = [self.arguments.train, "--spec", SPEC, "--repository",
                       self.repository, "--model", model, "--quiet",
                       "--state_directory", self.path("state")]
        environment = {**os.environ, **self.disk.environment}
        for name, value in faults.items():
            environment[f"LATTICED_FAULT_{name.upper()}"] = value
        return subprocess.Popen(command, env=environment)

    def refused(self):
        """Versions that the server tried and did not take."""
        samples = metrics(self.server)
        return sum(total(samples, "latticed_model_loads_total", result=result)
                   for result in ("rejected", "failed")) + total(
                       samples, "latticed_repository_errors_total")

    def live(self, model):
        """Whether the server draws from the last version published."""
        last = versions(self.repository, model)[-1]
        prefix = digest(self.repository, last, model)[:12]
        return any(series.startswith("latticed_model_info{")
                   and f'model="{model}"' in series and 'slot="live"' in series
                   and f'digest="{prefix}"' in series
                   for series in metrics(self.server))

    def recovered(self, model, trainer=False):
        """The same command publishes what the killed one did not, and finds
        what it did: `publish_again` does not look, and makes version 2."""
        whole = versions(self.repository, model)
        self.assertIn(whole, ([], [1]))
        self.assertEqual(self.publish(model, trainer).wait(), 0)
        expected = [1, 2] if whole and not trainer else [1]
        self.assertEqual(versions(self.repository, model), expected)
        return bool(whole)

    def kill_everywhere(self, name, trainer, chosen=None):
        journal = self.path(f"{name}-journal")
        self.assertEqual(self.publish(f"{name}-whole", trainer,
                                      journal=journal).wait(), 0)
        with open(journal) as file:
            calls = file.read().split()
        # Model and temporary directory, three files, one rename.
        self.assertEqual(
            [calls.count(call) for call in ("mkdirat", "open", "renameat2")],
            [2, 3, 1], calls)
        self.assertGreaterEqual(calls.count("fsync"), 6)
        kills = [str(n) for n in range(1, len(calls) + 1)]
        kills += [f"{n}+" for n, call in enumerate(calls, 1) if call == "write"]
        every = len(kills)
        if chosen is not None:
            kills = [kills[n] for n in chosen]
        complete = 0
        for number, kill in enumerate(kills):
            model = f"{name}-{number}"
            self.assertEqual(self.publish(model, trainer, kill=kill).wait(),
                             -9, f"kill {kill}")
            complete += self.recovered(model, trainer)
        for number in range(len(kills)):
            until(lambda: self.live(f"{name}-{number}"), f"{number} is live")
        self.assertEqual(self.refused(), 0)
        # Only what comes behind the rename, the last fsync, leaves a version.
        self.assertEqual(complete, 1)
        figure(f"F1 {name} killed at {len(kills)} of the {every} calls "
               f"that change a file: {complete} left a complete version, "
               f"{len(kills) - complete} none, 0 refused by the server, "
               f"{len(kills)} of {len(kills)} published by the next run")
        return kills

    def test_1_killed_everywhere(self):
        kills = self.kill_everywhere("publisher", trainer=False)
        # Directories of killed publishers go with the first publication an
        # hour later.
        orphans = [
            os.path.join(self.repository, model, name)
            for model in os.listdir(self.repository)
            for name in os.listdir(os.path.join(self.repository, model))
            if name.startswith(".tmp-")]
        # All but those killed before they made one or behind the rename.
        self.assertEqual(len(orphans), len(kills) - 4)
        old = time.time() - 3700
        for orphan in orphans:
            os.utime(orphan, (old, old))
            model = os.path.basename(os.path.dirname(orphan))
            self.assertEqual(self.publish(model).wait(), 0)
            self.assertFalse(os.path.exists(orphan))
        self.assertEqual(self.refused(), 0)

    def test_2_the_trainer_killed(self):
        # By default in a write, at the rename and at the sync behind it.
        self.kill_everywhere("latticed-train", trainer=True,
                             chosen=None if LONG else (-1, -5, -4))

    def test_3_killed_at_random_times(self):
        chance = random.Random(1)
        count = 500 if LONG else 50
        start = time.monotonic()
        for number in range(5):
            self.assertEqual(self.publish(f"timed-{number}").wait(), 0)
        duration = (time.monotonic() - start) / 5
        killed = complete = 0
        for number in range(count):
            model = f"random-{number}"
            process = self.publish(model)
            time.sleep(chance.uniform(0, duration))
            process.kill()
            killed += process.wait() == -9
            complete += self.recovered(model)
        for number in range(count):
            until(lambda: self.live(f"random-{number}"), f"{number} is live")
        self.assertEqual(self.refused(), 0)
        self.assertGreater(killed, count // 4)
        figure(f"F1 publisher killed at {killed} random times: {complete} of "
               f"{count} left a complete version, 0 refused by the server")

    def test_4_the_count_sees_an_incomplete_version(self):
        """The control: copied in place, and killed in the weights."""
        source = os.path.join(self.trained, "tiny", "1")
        target = os.path.join(self.repository, "tiny", "1")
        os.makedirs(target)
        with open(os.path.join(source, "weights.safetensors"), "rb") as file:
            weights = file.read()
        with open(os.path.join(target, "weights.safetensors"), "wb") as file:
            file.write(weights[:len(weights) // 2])
        # The manifest comes last here, which is when the server looks.
        for name in os.listdir(source):
            if name.startswith("manifest"):
                with open(os.path.join(source, name), "rb") as file:
                    text = file.read()
                with open(os.path.join(target, name), "wb") as file:
                    file.write(text)
        until(lambda: self.refused() > 0, "it is counted")


if __name__ == "__main__":
    python_faults.main()
