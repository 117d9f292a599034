#!/usr/bin/python3
"""docs/operations.md does what it says. Its blocks `sh` and `sh long` are run in
order, as they stand, where /etc, /var, /srv and the network are this test's own;
what the others name is there. `sh container`: tests/containers."""

import argparse
import ast
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import unittest
import urllib.error
import urllib.request

import documents

ARGUMENTS = None  # of the command line
ROOT = documents.ROOT
DOCUMENT = "docs/operations.md"
KINDS = ("sh", "sh long", "sh container", "sh elsewhere", "text", "yaml")
COPIED = ("deploy", "models/phi4-l6", "models/phi4-l8", "proto", "scripts",
          "trainer/specs")
INSIDE = "LATTICED_OPERATIONS_TEST_INSIDE"
SKIPPED = 77
# Seconds for one block, and for a program to be up: sanitizers and busy cores.
BLOCK_MAX = 900
# Each has flags of its own.
COMMANDS = {
    "latticectl": ("models", "sample", "chain", "measure", "score", "verify",
                   "health", "admin"),
    "latticed-train": ("reference", "study")}


def in_a_machine_of_its_own():
    """Starts this test again where what it installs is seen by nobody else.
    Returns if there is no such place."""
    os.environ[INSIDE] = tempfile.mkdtemp(prefix="latticed-operations-test-")
    prepare = "\n".join(
        ["set -e", "mount --make-rprivate /",
         'mount -t tmpfs none "$' + INSIDE + '"', "ip link set lo up"] +
        [f'mkdir -p "${INSIDE}"/{d}/upper "${INSIDE}"/{d}/work\n'
         f"mount -t overlay none -o lowerdir=/{d},upperdir="
         f'"${INSIDE}"/{d}/upper,workdir="${INSIDE}"/{d}/work /{d}'
         for d in ("etc", "var")] +
        ["mount -t tmpfs none /srv", "mount -t tmpfs none /run"])
    own = ["unshare", "--mount", "--net", "--", "bash", "-c"]
    trial = subprocess.run([*own, prepare], capture_output=True, text=True)
    if trial.returncode != 0:
        os.rmdir(os.environ.pop(INSIDE))
        print("no file systems and network of its own here: " + trial.stderr)
        return
    code = subprocess.run([*own, prepare + '\nexec "$0" "$@"',
                           sys.executable, *sys.argv]).returncode
    os.rmdir(os.environ[INSIDE])
    sys.exit(code)


def known_flags(program):
    """Names by command, "" without one."""
    name = os.path.basename(program)

    def said(*arguments):
        return subprocess.run([program, *arguments], capture_output=True,
                              text=True, timeout=BLOCK_MAX).stdout
    if name == "latticectl":
        flags = {command: set(re.findall(r"^ +--(\w+)", said(
            command, "--help"), re.MULTILINE)) for command in COMMANDS[name]}
        flags[""] = set()
    else:
        flags = {command: set() for command in ("", *COMMANDS.get(name, ()))}
        # A flag's help begins with the commands that it is of, or with none.
        for flag, only in re.findall(
                r"^ +--(\w+) \((?:((?:reference|study|, )+): )?",
                said("--helpfull"), re.MULTILINE):
            for command in only.split(", ") if only else flags:
                flags[command].add(flag)
    for command, names in flags.items():
        assert len(names) > 10 or (name, command) == ("latticectl", ""), flags
        names |= {"help", "helpfull", "version"}
    return flags


def command_of(name, words):
    """Of a program, in the words after its name."""
    return next((word for word in words if word in COMMANDS.get(name, ())), "")


def commands(text):
    """Command lines, with what was continued joined."""
    joined = re.sub(r"\\\n\s*", " ", text)
    return [line for line in joined.split("\n")
            if line.strip() and not line.lstrip().startswith("#")]


class Document(unittest.TestCase):
    def setUp(self):
        self.text = documents.read(DOCUMENT)
        self.blocks = documents.blocks(self.text)

    def test_every_block_says_what_it_is(self):
        for block in self.blocks:
            self.assertIn(block.info, KINDS, f"{DOCUMENT}:{block.line}")
        self.assertEqual({b.info for b in self.blocks}, set(KINDS))

    def test_links_lead_somewhere(self):
        for name in (DOCUMENT, "docs/latticectl.md"):
            self.assertEqual(documents.broken_links(name), [])
        # Those of others into it.
        for name in ("README.md", "docs/scaling.md", "docs/architecture.md",
                     "docs/security.md"):
            self.assertEqual(documents.broken_links(name), [])

    def test_files_and_flags_that_are_named_exist(self):
        folders = "|".join(re.escape(name) for name in os.listdir(ROOT)
                           if os.path.isdir(os.path.join(ROOT, name))
                           and name not in ("build", ".git"))
        flags = {os.path.basename(program): known_flags(program)
                 for program in (ARGUMENTS.latticed, ARGUMENTS.train,
                                 ARGUMENTS.latticectl)}
        seen_paths, seen_flags = 0, 0
        for block in self.blocks:
            if not block.info.startswith("sh"):
                continue
            where = f"{DOCUMENT}:{block.line}"
            for path in re.findall(rf"(?<![\w./:-])((?:{folders})/[\w./@-]+)",
                                   block.text):
                seen_paths += 1
                self.assertTrue(os.path.exists(os.path.join(ROOT, path)),
                                f"{where}: {path}")
            for line in commands(block.text):
                # Flags belong to the last program of ours before them; an
                # image's entry point is the server. kubectl's words are names
                # up to a command of its own.
                owner = before = None
                names = False
                words = re.split(r"[\s'\"]+", line)
                for i, word in enumerate(words):
                    if word.startswith("LATTICED_FLAGS=") or (
                            word in ("latticed:cpu", "latticed:cuda")
                            and before != "-t"):
                        owner = flags["latticed"][""]
                    elif word in flags and not names and \
                            before not in ("--name", "-n"):
                        owner = flags[word][command_of(word, words[i + 1:])]
                    elif word in ("kubectl", "|", "&&", ";", "--"):
                        owner, names = None, word == "kubectl"
                    before = word
                    flag = re.match(r"(?:LATTICED_FLAGS=)?--(\w+)", word)
                    if flag and owner is not None:
                        seen_flags += 1
                        self.assertIn(flag[1], owner, f"{where}: {line}")
        self.assertGreater(seen_paths, 20)
        self.assertGreater(seen_flags, 40)

    def test_commands_in_the_text_have_flags_that_exist(self):
        programs = {os.path.basename(program): program
                    for program in (ARGUMENTS.latticed, ARGUMENTS.train,
                                    ARGUMENTS.latticectl)}
        seen = 0
        for name, program in programs.items():
            flags = known_flags(program)
            for span in re.findall(rf"`({re.escape(name)} [^`]+)`",
                                   documents.prose(self.text)):
                seen += 1
                self.assertLessEqual(
                    set(re.findall(r"--(\w+)", span)),
                    flags[command_of(name, span.split())], span)
        self.assertGreater(seen, 20)

    def test_the_table_of_settings_has_every_flag_of_the_server(self):
        said = subprocess.run([ARGUMENTS.latticed, "--help"],
                              capture_output=True, text=True,
                              timeout=60).stdout
        flags = set(re.findall(r"^\s+--(\w+) \(", said, re.MULTILINE))
        self.assertGreater(len(flags), 30)
        [table] = re.findall(r"^## Settings of `latticed`\n(.*?)^## ",
                             self.text, re.MULTILINE | re.DOTALL)
        listed = {flag for row in re.findall(r"^\|([^|]*)\|", table,
                                             re.MULTILINE)
                  for flag in re.findall(r"--(\w+)", row)}
        self.assertEqual(listed, flags)

    def test_the_table_of_alerts_has_every_alert(self):
        alerts = re.findall(r"- alert: (\w+)", documents.read(
            "deploy/prometheus/latticed.rules.yml"))
        self.assertGreater(len(alerts), 20)
        self.assertEqual(sorted(re.findall(
            r"^\| (Latticed\w+) \| (?:page|ticket) \| [^|]+ \| [^|]+ \|$",
            self.text, re.MULTILINE)), sorted(alerts))

    def test_container_blocks_have_a_test(self):
        """It is not run here: at least it is there, is not skipped, and takes
        these blocks."""
        self.assertRegex(documents.read("scripts/container-test"),
                         r"tests=\(.*\bdeployment_test\b.*\)")
        module = ast.parse(documents.read("tests/containers/deployment_test.py"))
        [case] = [node for node in module.body
                  if getattr(node, "name", "") == "Operations"]
        self.assertEqual([ast.unparse(base) for base in case.bases],
                         ["unittest.TestCase"])
        self.assertEqual(case.decorator_list, [])
        named = set()
        for method in case.body:
            if getattr(method, "name", "").startswith("test_"):
                self.assertEqual(method.decorator_list, [])
                named |= {node.value for node in ast.walk(method)
                          if isinstance(node, ast.Constant)}
        self.assertLessEqual({DOCUMENT, "sh container"}, named)


class Long:
    """A block that was started: a server that stays, or a training."""

    def __init__(self, test, block, number):
        self.test, self.block = test, block
        self.log = os.path.join(test.folder, f"{number}.log")
        with open(self.log, "w") as log:
            self.process = subprocess.Popen(
                test.shell(block), cwd=test.work, stdin=subprocess.DEVNULL,
                stdout=log, stderr=subprocess.STDOUT, start_new_session=True)

    def said(self):
        with open(self.log) as file:
            return file.read()

    def kill(self):
        try:
            os.killpg(self.process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        self.process.wait()

    def interrupt(self):
        """As Ctrl-C does; its exit code."""
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGINT)
        return self.process.wait(timeout=BLOCK_MAX)

    def until(self, what):
        end = time.monotonic() + BLOCK_MAX
        while not what():
            self.test.assertIsNone(self.process.poll(), self.said())
            self.test.assertLess(time.monotonic(), end, self.said())
            time.sleep(0.1)

    def is_up(self):
        [program] = {name for line in commands(self.block.text)
                     for name in line.split()[:1]}
        if program == "latticed":
            self.until(lambda: "latticed ready " in self.said())
        elif program == "latticed-train":
            self.until(lambda: re.search(r"^step \d+/", self.said(),
                                         re.MULTILINE))
        elif program == "prometheus":
            self.until(lambda: answers("http://127.0.0.1:9090/-/ready"))
        else:
            self.test.fail(f"how is it seen that {program} is up?")
        return program


def answers(url):
    try:
        with urllib.request.urlopen(url, timeout=5):
            return True
    except (OSError, urllib.error.URLError):
        return False


class Run(unittest.TestCase):
    def setUp(self):
        self.folder = os.environ[INSIDE]
        self.state = os.path.join(self.folder, "environment")
        self.work = os.path.join(self.folder, "repository")
        for name in COPIED:
            shutil.copytree(os.path.join(ROOT, name),
                            os.path.join(self.work, name))
        # What the document takes to be there: installed programs, the folders
        # of Debian's packages, and a repository of another machine.
        programs = os.path.join(self.folder, "bin")
        os.mkdir(programs)
        for program in (ARGUMENTS.latticed, ARGUMENTS.train,
                        ARGUMENTS.latticectl):
            os.symlink(program, os.path.join(programs,
                                             os.path.basename(program)))
        for name in ("/etc/grafana/provisioning", "/var/lib/prometheus"):
            os.makedirs(name, exist_ok=True)
        shutil.copytree(f"{ROOT}/models/phi4-l8", "/srv/trained/phi4-l8")
        subprocess.run([ARGUMENTS.publish_again, "/srv/trained", "phi4-l8",
                        "1", "/srv/trained", "phi4-l8"], check=True)
        with open(self.state, "w") as file:
            file.write(f"PATH={programs}:$PATH:/usr/sbin:/sbin\n"
                       f"TMPDIR={self.folder}\n")

    def shell(self, block):
        """Variables go on from one `sh` to all that follows."""
        keep = 'export -p >"$0"' if block.info == "sh" else ""
        return ["bash", "-euo", "pipefail", "-c",
                'set -a; source "$0"; ' + block.text + keep, self.state]

    def run_block(self, block):
        with open(os.path.join(self.folder, "out"), "w+") as out:
            process = subprocess.Popen(
                self.shell(block), cwd=self.work, stdin=subprocess.DEVNULL,
                stdout=out, stderr=subprocess.STDOUT, start_new_session=True)
            try:
                code = process.wait(timeout=BLOCK_MAX)
            except subprocess.TimeoutExpired:
                code = "none in time"
            finally:
                try:
                    os.killpg(process.pid, signal.SIGKILL)
                except ProcessLookupError:
                    pass
                process.wait()
            out.seek(0)
            return code, out.read()

    def test_blocks_do_what_they_say(self):
        running = []
        for number, block in enumerate(documents.blocks(
                documents.read(DOCUMENT))):
            where = f"{DOCUMENT}:{block.line}"
            start = time.monotonic()
            if block.info == "sh":
                code, said = self.run_block(block)
                self.assertEqual(code, 0, f"{where}\n{block.text}{said}" +
                                 "".join(f"\n== {r.block.text}{r.said()}"
                                         for r in running))
            elif block.info == "sh long":
                for before in running:  # the same once more: it was drained
                    if before.block.text == block.text:
                        self.assertEqual(
                            before.process.wait(timeout=BLOCK_MAX), 0,
                            before.said())
                long = Long(self, block, number)
                self.addCleanup(long.kill)
                if long.is_up() == "latticed-train":
                    self.assertEqual(long.interrupt(), 130, long.said())
                    self.assertIn("state saved", long.said())
                else:
                    running.append(long)
            else:
                continue
            print(f"{where}: {time.monotonic() - start:.1f} s", flush=True)
            # Servers stay, but for those that were told to drain.
            for long in running:
                self.assertIn(long.process.poll(), (None, 0),
                              f"{where}\n{long.said()}")
        self.assertGreater(len(running), 3)
        for long in running:
            self.assertEqual(long.interrupt(), 0, long.said())


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    for name in ("latticed", "train", "latticectl", "publish_again"):
        parser.add_argument(f"--{name}", required=True)
    ARGUMENTS, rest = parser.parse_known_args()
    if INSIDE not in os.environ:
        in_a_machine_of_its_own()
        # The document alone, then.
        done = unittest.main(argv=[sys.argv[0], "Document"], verbosity=2,
                             exit=False)
        sys.exit(SKIPPED if done.result.wasSuccessful() else 1)
    unittest.main(argv=sys.argv[:1] + [
        word for word in rest if word.startswith(("Document", "Run"))],
        verbosity=2)
