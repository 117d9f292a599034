#!/usr/bin/python3
"""deploy/systemd: systemd's own tools accept the units, rate how little they
may do and make their users and folders; the programs know every flag, and the
server reads its secrets as the unit would run it. No systemd has started them.
"""

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import unittest

ARGUMENTS = None  # of the command line
UNITS = os.path.join(os.path.dirname(os.path.dirname(os.path.dirname(
    os.path.abspath(__file__)))), "deploy", "systemd")
NAMES = ("latticed.service", "latticed-train@.service")


def known_flags(program):
    text = subprocess.run([program, "--helpfull"], capture_output=True,
                          text=True, timeout=60).stdout
    return set(re.findall(r"^\s+--(\w+) \(", text, re.MULTILINE))


class Systemd(unittest.TestCase):
    def setUp(self):
        self.root = tempfile.mkdtemp(prefix="latticed-systemd-test-")
        self.addCleanup(shutil.rmtree, self.root)
        for folder in ("etc/systemd/system", "usr/bin"):
            os.makedirs(os.path.join(self.root, folder))
        for program in (ARGUMENTS.latticed, ARGUMENTS.train):
            os.symlink(program, os.path.join(self.root, "usr/bin",
                                             os.path.basename(program)))

    def read(self, name):
        with open(os.path.join(UNITS, name)) as file:
            return file.read()

    def verify(self, name, text):
        """What systemd-analyze says of a unit."""
        folder = os.path.join(self.root, "etc/systemd/system")
        # A template is looked at through an instance.
        path = os.path.join(folder, name.replace("@.", "@phi4-l8."))
        with open(path, "w") as file:
            # The programs are where they were built.
            for program in (ARGUMENTS.latticed, ARGUMENTS.train):
                text = text.replace(
                    f"=/usr/bin/{os.path.basename(program)} ", f"={program} ")
            file.write(text)
        done = subprocess.run(
            ["systemd-analyze", "verify", "--man=no", "--recursive-errors=no",
             path], capture_output=True, text=True, timeout=60)
        return done.returncode, done.stdout + done.stderr

    def test_systemd_accepts_them_and_would_not_accept_others(self):
        for name in NAMES:
            text = self.read(name)
            self.assertEqual(self.verify(name, text), (0, ""))
            code, said = self.verify(name, text.replace("Restart=", "Retsart="))
            self.assertIn("Retsart", said)
            code, said = self.verify(
                name, text.replace("=/usr/bin/", "=/usr/nowhere/"))
            self.assertNotEqual((code, said), (0, ""))

    def test_they_may_do_little(self):
        for name in NAMES:
            with open(os.path.join(self.root, "etc/systemd/system", name),
                      "w") as file:
                file.write(self.read(name))
            done = subprocess.run(
                ["systemd-analyze", "security", "--offline=yes",
                 f"--root={self.root}", "--json=short", "--threshold=20",
                 name], capture_output=True, text=True, timeout=60)
            # 0 is nothing, 10 (the threshold is in tenths) everything.
            self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
            self.assertGreater(len(json.loads(done.stdout)), 50)

    def test_flags_and_exit_codes_are_those_of_the_programs(self):
        for name, program in zip(NAMES, (ARGUMENTS.latticed, ARGUMENTS.train)):
            text = self.read(name)
            [line] = re.findall(r"^ExecStart=.*$", text, re.MULTILINE)
            used = set(re.findall(r"--(\w+)", line))
            self.assertTrue(used)
            self.assertLessEqual(used, known_flags(program))
            self.assertIn("\nRestart=on-failure\n", text)
            self.assertIn("\nRestartPreventExitStatus=1\n", text)
            done = subprocess.run([program, "--no_such_flag"],
                                  capture_output=True, timeout=60)
            self.assertEqual(done.returncode, 1)

    def setting(self, name, key):
        """The values of a key of a unit."""
        return re.findall(rf"^{key}=(.*)$", self.read(name), re.MULTILINE)

    def test_the_server_is_tried_for_ever_a_training_is_not(self):
        self.assertEqual(self.setting(NAMES[0], "StartLimitIntervalSec"), ["0"])
        self.assertEqual(self.setting(NAMES[0], "StartLimitBurst"), [])
        # Twenty failures and the pauses between them are within the interval.
        interval, burst, pause = (
            int(self.setting(NAMES[1], key)[0]) for key in (
                "StartLimitIntervalSec", "StartLimitBurst", "RestartSec"))
        self.assertLess(burst * (pause + 5), interval)

    def accounts(self):
        """Users and groups of latticed.sysusers, and the folders of
        latticed.tmpfiles with owner, group and mode."""
        for tool, *rest in (("systemd-sysusers", "latticed.sysusers"),
                            ("systemd-tmpfiles", "--create",
                             "latticed.tmpfiles")):
            done = subprocess.run(
                [tool, f"--root={self.root}", *rest[:-1],
                 os.path.join(UNITS, rest[-1])],
                capture_output=True, text=True, timeout=60)
            self.assertEqual(done.returncode, 0, done.stderr)
        ids = {}
        for name in ("passwd", "group"):
            with open(os.path.join(self.root, "etc", name)) as file:
                ids[name] = {line.split(":")[0]: int(line.split(":")[2])
                             for line in file}
        folders = {}
        for path in ("/srv/latticed/models", "/etc/latticed",
                     "/etc/latticed/secrets"):
            info = os.stat(self.root + path)
            folders[path] = (info.st_uid, info.st_gid, info.st_mode & 0o7777)
        return ids["passwd"], ids["group"], folders

    @unittest.skipIf(os.geteuid(), "only root can give files away")
    def test_users_own_what_the_units_write(self):
        users, groups, folders = self.accounts()
        self.assertEqual(list(users), ["latticed-train"])
        trainer = users["latticed-train"], groups["latticed-train"]
        self.assertEqual(folders, {
            "/srv/latticed/models": (*trainer, 0o755),
            "/etc/latticed": (0, 0, 0o755),
            "/etc/latticed/secrets": (0, groups["latticed-secrets"], 0o750)})
        # Those that the units name.
        self.assertEqual(self.setting(NAMES[1], "User"), ["latticed-train"])
        self.assertEqual(self.setting(NAMES[1], "Group"), ["latticed-train"])
        self.assertEqual(self.setting(NAMES[1], "ReadWritePaths"),
                         ["/srv/latticed/models"])
        self.assertEqual(self.setting(NAMES[0], "SupplementaryGroups"),
                         ["latticed-secrets"])
        # The server's own user must not be there before it.
        self.assertEqual(self.setting(NAMES[0], "DynamicUser"), ["yes"])
        self.assertNotIn("latticed", {**users, **groups})

    @unittest.skipIf(os.geteuid(), "only root can become somebody else")
    def test_the_server_reads_secrets_by_its_group_alone(self):
        _, groups, _ = self.accounts()
        group = groups["latticed-secrets"]
        os.chmod(self.root, 0o755)
        # Where the user, who owns nothing, can reach it.
        program = os.path.join(self.root, "latticed")
        shutil.copy(ARGUMENTS.latticed, program)
        repository = os.path.join(self.root, "srv/latticed/models")
        secrets = os.path.join(self.root, "etc/latticed/secrets")
        for name, text in (("tokens", "alice sampler " + "0" * 64 + "\n"),
                           ("chain-token.key", "k" * 32)):
            path = os.path.join(secrets, name)
            with open(path, "w") as file:
                file.write(text)
            os.chown(path, 0, group)
            os.chmod(path, 0o640)

        def said(groups):
            """As with DynamicUser=, PrivateUsers= and SupplementaryGroups=: its
            exit code, or None once it is ready."""
            self.assertEqual(self.setting(NAMES[0], "PrivateUsers"), ["yes"])
            log = os.path.join(self.root, "log")
            with open(log, "w") as file:
                process = subprocess.Popen(
                    ["setpriv", "--reuid=61184", "--regid=61184", groups,
                     "unshare", "--user", "--map-current-user", program,
                     f"--repository={repository}", "--listen=127.0.0.1:0",
                     "--http_listen=127.0.0.1:0", "--admin_listen=",
                     f"--token_file={secrets}/tokens",
                     f"--chain_token_key_file={secrets}/chain-token.key"],
                    stdout=file, stderr=subprocess.STDOUT, cwd="/")
            try:
                end = time.monotonic() + 120
                while True:
                    with open(log) as file:
                        text = file.read()
                    code = process.poll()
                    if code is not None or "latticed ready" in text:
                        return code, text
                    self.assertLess(time.monotonic(), end, text)
                    time.sleep(0.1)
            finally:
                process.kill()
                process.wait()
        if subprocess.run(["setpriv", "--reuid=61184", "--regid=61184",
                           "--clear-groups", "unshare", "--user",
                           "--map-current-user", "true"],
                          capture_output=True).returncode:
            self.skipTest("users may make no namespaces here")
        code, text = said(f"--groups={group}")
        self.assertIsNone(code, text)
        code, text = said("--clear-groups")
        self.assertEqual(code, 2, text)
        self.assertIn("Permission denied", text)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    for name in ("latticed", "train"):
        parser.add_argument(f"--{name}", required=True)
    ARGUMENTS, _ = parser.parse_known_args()
    unittest.main(argv=sys.argv[:1])
