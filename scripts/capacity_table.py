#!/usr/bin/env python3
"""The tables of docs/scaling.md, from what was measured and a model of each
side. `--check` compares them with the document, `--write` puts them there.

The models are upper bounds of a plan, not measurements: nothing of this project
has run on more than two cores and one machine.
"""

import argparse
import math
import os
import re
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
DOCUMENT = os.path.join(ROOT, "docs", "scaling.md")

# Draws a second that a client received over loopback gRPC from a server on two
# cores (docs/performance.md, fused kernels).
SERVED = {8: 79462, 32: 2142}
# Path gradients a second of one such machine, and bytes of a step's one sum
# (docs/performance.md; docs/operations.md, Several processes).
GRADIENTS = {8: 175, 32: 14}
SUM_BYTES = {8: 39000, 32: 396696}
# Resident memory of a server with the bundled flows, and of an idle connection
# (docs/scaling.md says how the second was measured).
SERVER_MIB, CONNECTION_KIB = 204, 24
# Open files of a process: deploy/systemd. A connection is one.
CONNECTIONS_MAX = 60000
# Share of a replica's speed that is planned with: above it queues grow.
LOAD = 0.7

# Networks: bytes a second, and seconds of a message one way. Of data sheets.
NETWORKS = {"10 Gbit/s Ethernet, TCP": (1.25e9, 25e-6),
            "100 Gbit/s InfiniBand": (12.5e9, 3e-6),
            "NVLink within 8 GPUs": (4.5e11, 5e-6)}


def table(head, rows):
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    return lines + ["| " + " | ".join(row) + " |" for row in rows]


def number(value):
    return f"{value:,.0f}".replace(",", " ")


def size(value):
    for unit in ("B", "kB", "MB", "GB", "TB", "PB"):
        if value < 1000:
            return f"{value:.3g} {unit}"
        value /= 1000
    return f"{value:.3g} EB"


def exchange_seconds(total, bandwidth, latency, n):
    """A ring: every process sends 2 (n - 1) / n of the sum in 2 (n - 1) turns."""
    return 2 * (n - 1) / n * total / bandwidth + 2 * (n - 1) * latency


def exchange():
    rows = []
    for length, total in SUM_BYTES.items():
        for name, (bandwidth, latency) in NETWORKS.items():
            cells = [str(length), name]
            for n in (2, 8, 64):
                if name.startswith("NVLink") and n > 8:
                    cells.append("-")
                    continue
                seconds = exchange_seconds(total, bandwidth, latency, n)
                # Of a step with 90 % of its time in draws: nine times that.
                cells.append(f"{seconds * 1e3:.2f} / {seconds * 9e3:.1f} ms")
            rows.append(cells)
    return table(["L", "network", "2", "8", "64 processes"], rows)


def training():
    rows = []
    bandwidth, latency = NETWORKS["10 Gbit/s Ethernet, TCP"]
    for length, rate in GRADIENTS.items():
        for batch in (64, 1024, 16384):
            cells = [str(length), number(batch)]
            for n in (1, 8, 64):
                groups = math.ceil(batch / 16)
                busiest = math.ceil(groups / n) * 16
                seconds = busiest / rate + (
                    exchange_seconds(SUM_BYTES[length], bandwidth, latency, n)
                    if n > 1 else 0)
                alone = batch / rate
                cells.append(f"{seconds:.3g} s, {alone / seconds / n:.0%}")
            rows.append(cells)
    return table(["L", "batch", "1", "8", "64 machines"], rows)


def serving():
    rows = []
    for length, rate in SERVED.items():
        draw = 4 * length**2 + 16  # phi, log q and the action
        for clients in (10**3, 10**4, 10**5, 10**6):
            wanted = clients * 1e5 / 86400
            by_draws = wanted / (LOAD * rate)
            by_connections = clients / CONNECTIONS_MAX
            replicas = max(1, math.ceil(max(by_draws, by_connections)))
            memory = SERVER_MIB + clients / replicas * CONNECTION_KIB / 1024
            rows.append([str(length), number(clients), number(wanted),
                         number(replicas),
                         f"{size(wanted * draw / replicas)}/s",
                         f"{number(memory)} MiB",
                         f"{size(wanted * draw * 86400)}/day"])
    return table(["L", "clients", "draws/s", "replicas", "network of one",
                  "memory of one", "if clients keep it all"], rows)


TABLES = {"exchange": exchange, "training": training, "serving": serving}


def with_tables(text):
    for name, make in TABLES.items():
        pattern = rf"(<!-- {name} -->\n).*?(<!-- end -->)"
        text, n = re.subn(pattern,
                          lambda m: m[1] + "\n".join(make()) + "\n" + m[2],
                          text, flags=re.DOTALL)
        assert n == 1, name
    return text


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--write", action="store_true")
    arguments = parser.parse_args()
    if not (arguments.check or arguments.write):
        for make in TABLES.values():
            print("\n".join(make()) + "\n")
        return 0
    with open(DOCUMENT) as file:
        text = file.read()
    new = with_tables(text)
    if arguments.write:
        with open(DOCUMENT, "w") as file:
            file.write(new)
    elif new != text:
        print("docs/scaling.md has other tables than scripts/capacity_table.py; "
              "run it with --write")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
