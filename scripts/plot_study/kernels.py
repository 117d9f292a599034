"""fig3 and fig4: what kernels are made of, and what the gated flow learned."""

import numpy as np
from matplotlib.colors import SymLogNorm
from matplotlib.ticker import MaxNLocator

from plot_study.report import BLUE, VERMILLION, legend, panels, shade

PAIRS, TIMES = 4, 5  # kernels and flow times that are drawn


def lattices_by_nodes(table):
    """By how many nodes kernels have: the lattices."""
    found = {}
    for l in table.numbers("L"):
        found.setdefault(len(table.where(L=l).numbers("node")), []).append(l)
    return found


def sizes(lattices):
    return "L = " + ", ".join(f"{l:.0f}" for l in lattices)


def draw_hats(table):
    found = lattices_by_nodes(table)
    figure, axes = panels(1, len(found), width=7, height=3.6, sharey=True)
    for panel, (count, lattices) in zip(axes[0], found.items()):
        nodes = table.where(L=lattices[0]).numbers("node")
        for i, node in enumerate(nodes):
            hat = table.where(L=lattices[0], node=node)
            # With the zeros next to it, not those under other nodes' hats.
            own = np.convolve(hat["weight"] > 0, (1, 1, 1), "same") > 0
            panel.plot(hat["t"][own], hat["weight"][own],
                       color=shade(i, len(nodes)))
        panel.set(title=f"{count} nodes, {sizes(lattices)}",
                  xlabel="flow time t")
    axes[0][0].set_ylabel("weight of each node")
    return figure


def draw_orbits(table):
    lattices = table.numbers("L")
    figure, axes = panels(1, len(lattices), width=6.5, height=6.5)
    for panel, l in zip(axes[0], lattices):
        rows, extent = table.where(L=l), int(l)
        grid = np.full((extent, extent), np.nan)
        low = -((extent - 1) // 2)  # r = 0 in the middle
        for r_0, r_1, orbit in zip(rows["r_0"], rows["r_1"], rows["orbit"]):
            a, b = ((int(r) - low) % extent for r in (r_0, r_1))
            grid[a, b] = orbit
            panel.text(b + low, a + low, f"{orbit:.0f}", ha="center",
                       va="center", size=min(13, 110 / extent),
                       color="white" if orbit < 0.6 * rows["orbit"].max()
                       else "black")
        edges = (low - 0.5, low + extent - 0.5)
        panel.imshow(grid, origin="lower", cmap="viridis",
                     extent=edges + edges)
        panel.grid(False)
        for axis in (panel.xaxis, panel.yaxis):
            axis.set_major_locator(MaxNLocator(integer=True))
        panel.set(xlabel="$r_1$", ylabel="$r_0$", title=(
            f"L = {l:.0f}: {len(rows.numbers('orbit'))} orbits of "
            f"{len(rows)} displacements"))
    return figure


def plot_basis(study, report):
    times, orbits = study.table("time_kernel"), study.table("orbits")
    if not len(times) or not len(orbits):
        report.left_out("Kernels in time and space", "no lattice is complete")
        return
    report.figure(
        "time-nodes", "Kernels in time", draw_hats(times),
        "A kernel is given at the nodes, evenly spaced in flow time, and is "
        "linear between them: at each t two neighbouring nodes have weight, "
        "which sums to 1. Ours have "
        + "; ".join(f"{count} nodes at {sizes(lattices)}" for count, lattices
                    in lattices_by_nodes(times).items()) + ".")
    counts = (f"L = {l:.0f}: {len(rows.numbers('orbit'))} numbers instead of "
              f"{len(rows)}" for l in orbits.numbers("L")
              for rows in [orbits.where(L=l)])
    report.figure(
        "orbits", "Lattice orbits", draw_orbits(orbits),
        "Displacements r of a kernel, r = 0 in the middle. Those with the same "
        "number are mapped to each other by turns and mirrors of the lattice "
        "(D4), and share one free number of the kernel; so do momenta. "
        + "; ".join(counts) + ".")


def largest_pairs(momentum):
    """The linear kernel (0, 0), then the others by rms over orbits and t."""
    size = {}
    for gate in momentum.numbers("gate"):
        for feature in momentum.where(gate=gate).numbers("feature"):
            kernel = momentum.where(gate=gate, feature=feature)["kernel"]
            size[gate, feature] = np.sqrt(np.mean(kernel**2))
    order = sorted(size, key=lambda pair: (pair != (0, 0), -size[pair]))
    return {pair: size[pair] for pair in order[:PAIRS]}


def draw_kernel(row, momentum, position):
    """One kernel: over momenta, over distances but 0, and at 0 over time."""
    nodes = momentum.numbers("t")
    chosen = np.unique(np.linspace(0, len(nodes) - 1, TIMES).round()
                       ).astype(int)
    here, away = position.where(distance=0), position.without(distance=0)
    order = np.argsort(here["t"])
    row[2].plot(here["t"][order], here["kernel"][order], ".-", color="0.4",
                linewidth=1.2)
    for i, t in enumerate(nodes[node] for node in chosen):
        look = {"color": shade(i, len(chosen)), "linewidth": 1.2}
        for panel, table, x, joined in (
                (row[0], momentum, "khat_squared", {}),
                (row[1], away, "distance", {"r_1": 0})):
            orbits = table.where(t=t)
            panel.plot(orbits[x], orbits["kernel"], "o", markersize=4,
                       label=f"t = {t:.3g}", **look)
            line = orbits.where(**joined)
            order = np.argsort(line[x], kind="stable")
            panel.plot(line[x][order], line["kernel"][order], **look)
        now = here.where(t=t)
        row[2].plot(now["t"], now["kernel"], "o", **look)
    far = np.abs(away["kernel"]).max()
    row[1].set_yscale("symlog", linthresh=10.0**np.floor(
        np.log10(max(far, 1e-9) / 3)))


def draw_kernels(momentum, position, pairs):
    figure, axes = panels(len(pairs), 3, width=5.6, height=3.6, sharex="col",
                          width_ratios=(1, 1, 0.7))
    figure.get_layout_engine().set(w_pad=0.1)
    for (gate, feature), row in zip(pairs, axes):
        where = {"gate": gate, "feature": feature}
        draw_kernel(row, momentum.where(**where), position.where(**where))
        symbol = f"{{{gate:.0f}{feature:.0f}}}"
        row[0].set_ylabel(rf"$\hat K_{symbol}(k; t)$")
        row[1].set_ylabel(rf"$K_{symbol}(r; t)$, $r \neq 0$")
        row[2].set_ylabel(rf"$K_{symbol}(0; t)$")
        for panel in row[:2]:
            panel.axhline(0, color="0.4", linewidth=1)
    axes[-1][0].set_xlabel(r"$\hat k^2$ (lattice units)")
    axes[-1][1].set_xlabel("distance |r| (lattice units)")
    axes[-1][2].set_xlabel("flow time t")
    legend(figure, columns=TIMES)
    return figure


def draw_map(position, frequencies):
    """K_00 along an axis against t, and the frequencies beside it."""
    figure, ((left, right),) = panels(1, 2, width=7, height=5)
    figure.get_layout_engine().set(w_pad=0.2)  # labels beside the colours
    axis = position.where(gate=0, feature=0, r_1=0)
    t, r = axis.numbers("t"), axis.numbers("r_0")
    kernel = np.array([[axis.where(t=a, r_0=b).value("kernel") for a in t]
                       for b in r])
    largest = np.nanmax(np.abs(kernel))
    norm = SymLogNorm(largest / 1000, vmin=-largest, vmax=largest)
    colours = left.pcolormesh(t, r, kernel, shading="nearest", cmap="PuOr",
                              norm=norm)
    left.grid(False)
    left.set(xlabel="flow time t of the node",
             ylabel="r along an axis (lattice units)")
    left.set_title(r"$K_{00}(r; t)$")
    figure.colorbar(colours, ax=left)
    for kind, symbol, colour, marker in (
            ("omega", r"$\omega_f$ of $\sin(\omega_f \phi)$", BLUE, "o"),
            ("alpha", r"$\alpha_g$ of $\cos(\alpha_g \phi)$", VERMILLION, "s")):
        rows = frequencies.where(kind=kind)
        right.plot(rows["index"], rows["frequency"], marker, color=colour,
                   label=symbol)
    right.set(xlabel="f or g", ylabel="frequency", ylim=(0, None))
    legend(figure)
    return figure


def plot_learned(study, report):
    momentum, position = study.table("momentum"), study.table("position")
    frequencies = study.table("frequencies")
    if not len(momentum) or not len(position):
        report.left_out("Learned kernels", "no lattice is complete")
        return
    for l in momentum.numbers("L"):
        own_momentum, own_position = momentum.where(L=l), position.where(L=l)
        pairs = largest_pairs(own_momentum)
        kernels = (f"K_{g:.0f}{f:.0f}: {size:.3g}"
                 for (g, f), size in pairs.items())
        report.figure(
            f"kernels-l{l:.0f}", f"Learned kernels, L = {l:.0f}",
            draw_kernels(own_momentum, own_position, pairs),
            "The kernel of the linear feature without gate, K_00, and the "
            "others with the largest rms over orbits and nodes ("
            + ", ".join(kernels) + "), in momentum space (left) and in "
            "position space, at r other than 0 (middle) and at r = 0 against "
            "flow time (right); dark to light in flow time. A point is an "
            "orbit; in the middle lines join those along a lattice axis, and "
            "the vertical axis is linear between the ticks next to 0, "
            "logarithmic beyond.")
        report.figure(
            f"kernel-map-l{l:.0f}", f"The linear kernel in time, L = {l:.0f}",
            draw_map(own_position, frequencies.where(L=l)),
            "Left: K_00 along an axis at each time node; colours are "
            "logarithmic down to a thousandth of the largest value. Right: the "
            "learned frequencies of the sine features and of the gates.")
    report.table(frequencies)
