#!/usr/bin/python3
"""F9 and F10: the repository, the state directory and the log fail under a
running server, or the repository's mount hangs."""

import os
import time

import python_faults
from python_faults import (LONG, Disk, FaultTest, Traffic, deliver, digest,
                           figure, live_digest, metrics, total,
                           train_versions, until)
from python_server import Server

POLL_SECONDS = 0.2
EIO, ENOENT, ENOSPC, EROFS = 5, 2, 28, 30


class MisbehavingDisk(FaultTest):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.trained = os.path.join(cls.folder, "trained")
        train_versions(cls.arguments.train, cls.trained, cls.folder)

    def serve(self, faulty, flags=(), **keywords):
        """A server on version 1; its directory `faulty` goes by the shim."""
        self.repository = self.path(f"models-{self.id().split('.')[-1]}")
        deliver(self.trained, self.repository, 1)
        control = self.path(f"control-{self.id().split('.')[-1]}")
        self.disk = Disk(self.arguments.shim, self.repository, control)
        server = Server(
            self.arguments.latticed, repository=self.repository,
            environment=self.disk.environment,
            flags=("--poll_seconds", str(POLL_SECONDS), "--gate_draws", "8192",
                   "--smoke_draws", "64", *flags), **keywords)
        self.addCleanup(server.stop)
        return server

    def errors(self, server, kind):
        return total(metrics(server), "latticed_repository_errors_total",
                     kind=kind)

    def last_success(self, server):
        return metrics(server)[
            "latticed_repository_last_success_timestamp_seconds"]

    def recovers(self, server, kind, condition, what):
        """Polls from now, when the fault has ended, to the one that finds it
        so. Counted, for time on a busy machine says little: every poll that
        still fails is an error more."""
        before = self.errors(server, kind)
        until(condition, what)
        polls = self.errors(server, kind) - before + 1
        # One may have been under way.
        self.assertLessEqual(polls, 2)
        return int(polls)

    def test_repository_fails(self):
        server = self.serve("repository")
        traffic = Traffic(server.address)
        worst = 0
        faults = [("EIO", f"error {EIO} all"),
                  ("ENOENT", f"error {ENOENT} all"),
                  ("EIO when files are read", f"error {EIO} read"),
                  ("EIO when directories are listed", f"error {EIO} readdir")]
        for number, (name, how) in enumerate(faults):
            kind = "version" if how.endswith(" read") else "repository"
            before = self.errors(server, kind)
            with self.disk.misbehaves(how):
                if kind == "version":
                    # Files are opened only for a version that is new.
                    deliver(self.trained, self.repository, 2)
                until(lambda: self.errors(server, kind) >= before + 2,
                      f"{name} is counted")
                if kind == "version":
                    self.assertEqual(live_digest(server),
                                     digest(self.trained, 1)[:12])
                last = self.last_success(server)
            if kind == "version":
                # The next poll takes it to the gate.
                until(lambda: live_digest(server) ==
                      digest(self.trained, 2)[:12], "version 2 is live")
                continue
            worst = max(worst, self.recovers(
                server, kind, lambda: self.last_success(server) > last,
                f"the repository is read after {name}"))
        draws = traffic.end()
        self.assertGreater(draws, 0)
        figure(f"F9 repository: {len(faults)} faults, {draws} draws meanwhile, "
               f"none failed; read again by poll {worst} after the fault")

    def test_repository_vanishes(self):
        server = self.serve("repository")
        traffic = Traffic(server.address)
        os.rename(self.repository, self.repository + "-gone")
        until(lambda: self.errors(server, "repository") >= 2, "it is counted")
        os.rename(self.repository + "-gone", self.repository)
        last = self.last_success(server)
        self.recovers(server, "repository",
                      lambda: self.last_success(server) > last,
                      "it is read again")
        deliver(self.trained, self.repository, 2)
        until(lambda: live_digest(server) == digest(self.trained, 2)[:12],
              "version 2 is live")
        self.assertGreater(traffic.end(), 0)

    def test_state_directory_is_full_or_read_only(self):
        server = self.serve("repository")
        # The first judgement, of version 1, is written before the disk fills.
        state = os.path.join(server.state, "versions.json")

        def judged(version):
            with open(state) as file:
                return digest(self.trained, version) in file.read()

        server.end()
        self.disk = Disk(self.arguments.shim, server.state,
                         self.path("control-state"))
        server.environment = self.disk.environment
        server.start()
        traffic = Traffic(server.address)
        until(lambda: os.path.exists(state) and judged(1), "version 1 is known")
        for version, number in ((2, ENOSPC), (3, EROFS)):
            before = self.errors(server, "state")
            with self.disk.misbehaves(f"error {number} write"):
                deliver(self.trained, self.repository, version)
                until(lambda: live_digest(server) ==
                      digest(self.trained, version)[:12],
                      f"version {version} is live")
                self.assertGreater(self.errors(server, "state"), before)
                self.assertFalse(judged(version))
                with open(state) as file:
                    self.assertTrue(file.read().endswith("}\n"), "damaged")
        polls = self.recovers(server, "state", lambda: judged(2) and judged(3),
                              "the judgements are written")
        draws = traffic.end()
        figure("F9 state directory full, then read-only: versions 2 and 3 "
               f"went live, {draws} draws meanwhile, none failed; judgements "
               f"on disk by poll {polls} after the fault")

    def test_log_is_full(self):
        with open("/dev/full", "w") as full:
            server = self.serve("repository", stderr=full)
            traffic = Traffic(server.address)
            deliver(self.trained, self.repository, 2)
            until(lambda: live_digest(server) == digest(self.trained, 2)[:12],
                  "version 2 is live")
            draws = traffic.end()
            self.assertEqual(server.end(), 0)
        self.assertGreater(draws, 0)
        figure(f"F9 log on a full disk: version 2 went live, {draws} draws, "
               "exit 0")

    def test_mount_hangs(self):
        # So long that a busy machine's stalls are short beside it.
        seconds = 60 if LONG else 20
        server = self.serve("repository")
        self.assertEqual(live_digest(server), digest(self.trained, 1)[:12])
        traffic = Traffic(server.address)
        with self.disk.misbehaves("hang all"):
            start = time.monotonic()
            time.sleep(2 * POLL_SECONDS)
            hung = self.last_success(server)
            deliver(self.trained, self.repository, 2)
            time.sleep(seconds)
            # A poll that hangs: the control, without which this shows nothing.
            self.assertEqual(self.last_success(server), hung)
            self.assertEqual(live_digest(server), digest(self.trained, 1)[:12])
            held = time.monotonic() - start
        until(lambda: live_digest(server) == digest(self.trained, 2)[:12],
              "version 2 is live")
        draws = traffic.end()
        # No reply waited for the disk.
        self.assertLess(traffic.longest, seconds / 2)
        figure(f"F10 served {draws} draws while the mount hung for {held:.1f} "
               f"s, longest wait for a reply {traffic.longest:.2f} s")

    def test_sigterm_while_the_mount_hangs(self):
        server = self.serve("repository")
        traffic = Traffic(server.address)
        with self.disk.misbehaves("hang all"):
            time.sleep(2 * POLL_SECONDS)
            self.assertGreater(traffic.end(), 0)
            start = time.monotonic()
            self.assertEqual(server.end(), 0)
            seconds = time.monotonic() - start
        self.assertLess(seconds, 25)
        figure(f"F10 SIGTERM while the mount hung: exit 0 in {seconds:.1f} s")


if __name__ == "__main__":
    python_faults.main()
