#!/usr/bin/python3
"""The jobs of deploy/slurm under a real Slurm of one node: munged, slurmctld and
slurmd of this test's own, in a network of its own."""

import argparse
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import unittest

import numpy

from python_server import Server, long_spec

ARGUMENTS = None  # of the command line
JOBS = os.path.join(os.path.dirname(os.path.dirname(os.path.dirname(
    os.path.abspath(__file__)))), "deploy", "slurm")
INSIDE = "LATTICED_SLURM_TEST_INSIDE"
SKIPPED = 77
CONFIG = """
ClusterName=latticed
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort=6817
SlurmdPort=6818
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
CredType=cred/munge
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
MpiDefault=none
SwitchType=switch/none
AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/none
SchedulerParameters=batch_sched_delay=1,sched_interval=2
ReturnToService=2
# More than there are: the test's jobs may share cores.
SlurmdParameters=config_overrides
NodeName={host} NodeAddr=127.0.0.1 CPUs=4 RealMemory=16000 State=UNKNOWN
PartitionName=all Nodes={host} Default=YES MaxTime=INFINITE State=UP OverSubscribe=YES
"""


def in_a_network_of_its_own():
    """So that Slurm's ports are nobody else's."""
    if os.geteuid() != 0 or subprocess.run(
            ["unshare", "--net", "true"], capture_output=True).returncode:
        print("skipped, Slurm's daemons want root and a network of their own")
        sys.exit(SKIPPED)
    os.environ[INSIDE] = "1"
    os.execvp("unshare", ["unshare", "--net", "--", sys.executable, *sys.argv])


class Slurm(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        # With nothing but loopback Slurm finds no kind of address to use.
        for command in ("link set lo up", "link add eth0 type bridge",
                        "address add 10.74.1.1/24 dev eth0",
                        "link set eth0 up"):
            subprocess.run(["ip", *command.split()], check=True)
        cls.folder = tempfile.mkdtemp(prefix="latticed-slurm-test-")
        cls.addClassCleanup(shutil.rmtree, cls.folder, ignore_errors=True)
        os.chmod(cls.folder, 0o755)  # munge's socket is for everyone
        for name in ("state", "spool"):
            os.mkdir(os.path.join(cls.folder, name))
        with open(f"{cls.folder}/key", "wb") as file:
            os.chmod(file.fileno(), 0o400)
            file.write(os.urandom(128))
        host = os.uname().nodename.split(".")[0]
        with open(f"{cls.folder}/slurm.conf", "w") as file:
            file.write(CONFIG.format(host=host, folder=cls.folder))
        os.environ["SLURM_CONF"] = f"{cls.folder}/slurm.conf"
        # As on a node where the programs are installed.
        programs = os.path.join(cls.folder, "bin")
        os.mkdir(programs)
        for program in (ARGUMENTS.train, ARGUMENTS.latticectl):
            os.symlink(program, os.path.join(programs,
                                             os.path.basename(program)))
        os.environ["PATH"] = f"{programs}:{os.environ['PATH']}"
        for command in (
                ["munged", "--foreground", "--force", "--key-file",
                 f"{cls.folder}/key", "--socket", f"{cls.folder}/munge.socket",
                 "--pid-file", f"{cls.folder}/munge.pid", "--log-file",
                 f"{cls.folder}/munge.log", "--seed-file",
                 f"{cls.folder}/munge.seed"],
                ["slurmctld", "-D"], ["slurmd", "-D"]):
            process = subprocess.Popen(command, stdout=subprocess.DEVNULL,
                                       stderr=subprocess.DEVNULL)
            cls.addClassCleanup(process.wait)
            cls.addClassCleanup(process.send_signal, signal.SIGTERM)
        try:
            cls.until(lambda: "idle" in cls.said("sinfo", "-h", "-o", "%t"),
                      "the node does not come up")
        except AssertionError as error:
            raise AssertionError(f"{error}\n{cls.read('slurmctld.log')}"
                                 f"{cls.read('slurmd.log')}") from None
        cls.addClassCleanup(subprocess.run, ["scancel", "--user=root"])

    @classmethod
    def read(cls, name):
        try:
            with open(os.path.join(cls.folder, name)) as file:
                return file.read()
        except FileNotFoundError:
            return ""

    @staticmethod
    def said(*command):
        return subprocess.run(command, capture_output=True, text=True,
                              timeout=60).stdout

    @staticmethod
    def until(what, reason, seconds=240):
        end = time.monotonic() + seconds
        while not what():
            if time.monotonic() > end:
                raise AssertionError(reason)
            time.sleep(0.2)

    def submit(self, *arguments):
        done = subprocess.run(["sbatch", "--parsable", "--chdir", self.folder,
                               *arguments], capture_output=True, text=True,
                              timeout=60)
        self.assertEqual(done.returncode, 0, done.stderr)
        return done.stdout.strip()

    def state(self, job):
        return re.findall(r"JobState=(\w+)",
                          self.said("scontrol", "show", "job", job))

    def ends(self, job):
        """Exit codes of the job's tasks; requeued ones are waited for."""
        over = {"COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL"}

        def all_over():
            # After a requeue it would wait for two minutes. It needs not, but
            # in the very second of the requeue slurmd refuses it: it takes
            # the new credential for the one just revoked.
            if "Reason=BeginTime" in self.said("scontrol", "show", "job", job):
                time.sleep(2)
                self.said("scontrol", "update", f"JobId={job}",
                          "StartTime=now")
            states = self.state(job)
            return states and set(states) <= over
        self.until(all_over, self.said("scontrol", "show", "job", job))
        return {int(code) for code in re.findall(
            r"ExitCode=(\d+):0", self.said("scontrol", "show", "job", job))}

    def queued_again(self, job):
        """Until then it looks like a job that has failed."""
        self.until(lambda: "Restarts=1" in self.said(
            "scontrol", "show", "job", job), "it is not queued again")

    def test_an_array_draws_from_streams_of_its_own(self):
        server = Server(ARGUMENTS.latticed, ARGUMENTS.train,
                        stderr=subprocess.DEVNULL)
        self.addCleanup(server.stop)
        draws = os.path.join(self.folder, "draws")

        def array(address=server.address, count=2048, flags=()):
            job = self.submit("--array=0-3", "--output=array-%a.log",
                              f"{JOBS}/sample.sbatch", address, "tiny",
                              str(count), "run", draws, *flags)
            self.assertEqual(self.ends(job), {0}, self.read("array-0.log"))

        def stored():
            data = []
            for i in range(4):
                with numpy.load(f"{draws}/run-{i}.npz") as file:
                    data.append(file["phi"].tobytes())
            return data

        def about(i, field):
            with open(f"{draws}/run-{i}.npz.json") as file:
                return json.load(file)[field]
        array()
        first = stored()
        self.assertEqual(len(set(first)), 4)
        self.assertEqual(about(2, "draws"), 2048)
        # One was lost, another one is only half there.
        os.remove(f"{draws}/run-1.npz")
        os.remove(f"{draws}/run-1.npz.json")
        with open(f"{draws}/run-3.npz.json") as file:
            said = file.read()
        with open(f"{draws}/run-3.npz.json", "w") as file:
            file.write(said.replace('"complete": true', '"complete": false'))
        kept = os.stat(f"{draws}/run-0.npz").st_mtime_ns
        # From the same server, by another name.
        array(f"ipv4:{server.address}")
        self.assertEqual(stored(), first)
        self.assertEqual(os.stat(f"{draws}/run-0.npz").st_mtime_ns, kept)
        self.assertIn("is complete", self.read("array-0.log"))
        # More of them, and with a flag of latticectl's, are not what is there.
        array(count=3072, flags=("--expect_lattice", "8x8"))
        self.assertEqual([about(i, "draws") for i in range(4)], [3072] * 4)
        self.assertIn("--expect_lattice 8x8", about(0, "command"))
        self.assertEqual([more[:len(one)] for more, one
                          in zip(stored(), first)], first)

    def train(self, repository, *sbatch, spec=None, log=None):
        job = self.submit(
            *sbatch, f"--output={log or repository}.log",
            f"{JOBS}/train.sbatch",
            spec or long_spec(self.folder), f"{self.folder}/{repository}",
            "tiny")
        return job

    def weights(self, repository):
        path = f"{self.folder}/{repository}/tiny/1/weights.safetensors"
        with open(path, "rb") as file:
            return file.read()

    def trains(self, log):
        """Until it does."""
        self.until(lambda: re.search(r"step \d+/400", self.read(log)),
                   "it does not train")

    def failures(self, job, repository):
        """The file where the job counts its failures in a row."""
        return (f"{self.folder}/{repository}/.training/"
                f"slurm-{job}.failures")

    def has_failed(self, job, repository, times):
        os.makedirs(f"{self.folder}/{repository}/.training", exist_ok=True)
        with open(self.failures(job, repository), "w") as file:
            file.write("exit code 2\n" * times)

    def test_a_training_that_is_stopped_or_whose_time_is_up_goes_on(self):
        whole = self.train("whole")
        self.assertEqual(self.ends(whole), {0}, self.read("whole.log"))
        # Stopped for good.
        job = self.train("stopped", log="cancelled")
        self.trains("cancelled.log")
        self.said("scancel", job)
        self.until(lambda: self.state(job) == ["CANCELLED"],
                   "it is not cancelled")
        self.until(lambda: "state saved" in self.read("cancelled.log"),
                   self.read("cancelled.log"))
        self.assertNotIn("queue", self.read("cancelled.log"))
        # Submitted again it goes on, until its time is up: what --signal does
        # two minutes before the end.
        job = self.train("stopped")
        self.trains("stopped.log")
        self.has_failed(job, "stopped", 5)
        self.said("scancel", "--signal=TERM", job)
        self.until(lambda: "back into the queue" in self.read("stopped.log"),
                   self.read("stopped.log"))
        # That is no failure, and ends the row of those before.
        self.assertFalse(os.path.exists(self.failures(job, "stopped")))
        self.queued_again(job)
        self.assertEqual(self.ends(job), {0}, self.read("stopped.log") +
                         self.said("scontrol", "show", "job", job))
        self.assertEqual(len(re.findall(r"resuming at step \d+",
                                        self.read("stopped.log"))), 2)
        self.assertEqual(self.weights("stopped"), self.weights("whole"))

    def test_the_sixth_failure_in_a_row_is_the_last(self):
        job = self.train("fails")
        self.trains("fails.log")
        self.has_failed(job, "fails", 5)
        [victim] = self.processes("fails")
        os.kill(victim, signal.SIGKILL)
        self.assertEqual(self.ends(job), {137}, self.read("fails.log"))
        self.assertNotIn("queue", self.read("fails.log"))

    def processes(self, repository):
        """Of the trainer."""
        pids = self.said("pgrep", "-f", "latticed-train --spec .* --repository "
                         f"{self.folder}/{repository} ").split()
        return [int(pid) for pid in pids if os.readlink(f"/proc/{pid}/exe")
                == os.path.realpath(ARGUMENTS.train)]

    def test_one_training_of_several_tasks_survives_the_loss_of_one(self):
        job = self.train("shared", "--ntasks=2", "--cpus-per-task=1")
        self.trains("shared.log")
        # The second one, whichever task it is.
        victims = self.processes("shared")
        self.assertEqual(len(victims), 2)
        os.kill(victims[1], signal.SIGKILL)
        self.until(lambda: "back into the queue" in self.read("shared.log"),
                   "the loss goes unnoticed")
        with open(self.failures(job, "shared")) as file:
            self.assertRegex(file.read(), r"\Aexit code \d+\n\Z")
        self.queued_again(job)
        self.assertEqual(self.ends(job), {0}, self.read("shared.log"))
        self.assertIn("2 processes with 1 threads each",
                      self.read("shared.log"))
        self.assertTrue(self.weights("shared"))
        self.assertFalse(os.path.exists(self.failures(job, "shared")))

    def test_bad_input_is_not_tried_again(self):
        job = self.train("bad", spec=__file__)
        self.assertEqual(self.ends(job), {1}, self.read("bad.log"))
        self.assertNotIn("queue", self.read("bad.log"))


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    for name in ("latticed", "train", "latticectl"):
        parser.add_argument(f"--{name}", required=True)
    ARGUMENTS, rest = parser.parse_known_args()
    if INSIDE not in os.environ:
        in_a_network_of_its_own()
    unittest.main(argv=sys.argv[:1] +
                  [word for word in rest if word.startswith("Slurm")])
