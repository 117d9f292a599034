#!/usr/bin/python3
"""docs/reliability.md from the results of a test run.

  scripts/reliability_table.py [BUILD] [--write]

BUILD (default build/dev) is a build folder whose tests ctest has run; without
--write the table goes to standard output. A row is "passed" if every test that
tests/faults/faults.txt names for it ran and passed, and shows the figures that
the tests measured (gtest properties, or "figure: F9 ..." lines).
"""

import datetime
import json
import os
import re
import subprocess
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
BEGIN, END = "<!-- reliability_table.py -->", "<!-- end -->"


def faults():
    with open(os.path.join(ROOT, "tests/faults/faults.txt")) as file:
        for line in file:
            if not line.startswith("#") and line.strip():
                number, event, holds, tests = [
                    part.strip() for part in line.split("|")]
                yield number, event, holds, [
                    test.strip() for test in tests.split(";")]


def ctest_log(build):
    """Status by entry, and the figures that scripts printed."""
    status, figures = {}, {}
    path = os.path.join(build, "ctest.log")
    with open(path, errors="replace") as file:
        for line in file:
            match = re.match(r"\s*\d+/\d+ Test\s+#\d+: (\S+) \.*\s*(\**)(\w+)",
                             line)
            if match:
                status[match[1]] = match[3] == "Passed"
    folder = os.path.join(build, "Testing/Temporary")
    log = os.path.join(folder, "LastTest.log")
    if os.path.exists(log):
        with open(log, errors="replace") as file:
            for line in file:
                match = re.search(r"figure: (F\d+)[ :]+(.*)", line)
                if match:
                    figures.setdefault(match[1], []).append(match[2].strip())
    return status, figures


def gtest_results(build, entry):
    path = os.path.join(build, "results", entry + ".json")
    if not os.path.exists(path):
        return {}
    with open(path) as file:
        report = json.load(file)
    results = {}
    for suite in report["testsuites"]:
        for case in suite["testsuite"]:
            known = {"name", "file", "line", "status", "result", "timestamp",
                     "time", "classname", "failures", "value_param",
                     "type_param"}
            properties = {k: v for k, v in case.items() if k not in known}
            results[f"{suite['name']}.{case['name']}"] = (
                case["result"] == "COMPLETED" and "failures" not in case,
                properties)
    return results


def thread_sanitizer(build):
    """F31, of the tsan preset's own run beside this one."""
    path = os.path.join(os.path.dirname(os.path.abspath(build)),
                        "tsan/ctest.log")
    result, measured = "not run", "-"
    if os.path.exists(path):
        with open(path, errors="replace") as file:
            closing = re.findall(r"\d+% tests passed, (\d+) tests failed out "
                                 r"of (\d+)", file.read())
        if closing:
            failed, tests = map(int, closing[-1])
            result = "**failed**" if failed else "passed"
            day = datetime.date.fromtimestamp(os.path.getmtime(path))
            measured = f"{tests - failed} of {tests} tests, {day}"
    row = ("| F31 | every thread of ours | no data race; only frames of third "
           "parties are suppressed (`tests/tsan.supp`) | "
           f"{result} | {measured} | `scripts/test --tsan` |")
    return row, "failed" not in result


def table(build):
    status, printed = ctest_log(build)
    rows, all_passed = [], True
    for number, event, holds, tests in faults():
        passed, figures = True, list(printed.get(number, []))
        for test in tests:
            entry, _, cases = test.partition(":")
            entry = entry.strip()
            results = gtest_results(build, entry)
            if not cases:
                passed = passed and status.get(entry, False)
            for case in cases.split() or results:
                ok, properties = results.get(case, (False, {}))
                if cases:
                    passed = passed and ok
                for name, value in properties.items():
                    figures.append(value if name == "figure" else
                                   f"{name.replace('_', ' ')} {value}")
        all_passed = all_passed and passed
        names = "; ".join(test.replace(":", "").split(" ")[0]
                          for test in tests)
        rows.append(f"| {number} | {event} | {holds} | "
                    f"{'passed' if passed else '**failed or not run**'} | "
                    f"{'; '.join(figures) or '-'} | {names} |")
    row, clean = thread_sanitizer(build)
    rows.append(row)
    all_passed = all_passed and clean
    head = ["| fault | what happens | what must hold | result | measured "
            "| ctest entries |", "|---|---|---|---|---|---|"]
    return "\n".join(head + rows) + "\n", all_passed


def main():
    arguments = [a for a in sys.argv[1:] if not a.startswith("--")]
    build = arguments[0] if arguments else os.path.join(ROOT, "build/dev")
    text, all_passed = table(build)
    if "--write" in sys.argv:
        form = "long" if os.path.basename(build.rstrip("/")) == "long" else "short"
        commit = subprocess.run(
            ["git", "-C", ROOT, "describe", "--always", "--dirty"],
            capture_output=True, text=True, check=True).stdout.strip()
        stamp = (f"{datetime.date.today()}, {form} form, {commit}, "
                 f"preset {os.path.basename(build)}\n\n")
        path = os.path.join(ROOT, "docs/reliability.md")
        with open(path) as file:
            old = file.read()
        new = re.sub(re.escape(BEGIN) + ".*?" + re.escape(END),
                     lambda _: BEGIN + "\n" + stamp + text + END, old,
                     flags=re.S)
        with open(path, "w") as file:
            file.write(new)
    else:
        print(text, end="")
    if not all_passed:
        sys.exit("some faults failed or were not run: see the table")


if __name__ == "__main__":
    main()
