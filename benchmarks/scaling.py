"""Estimates the time of a training step on 8 to 1024 TPU chips, term by term.

    python -m benchmarks.scaling          # writes the tables of docs/tpu.md

Nothing here was measured on a TPU. The estimate uses the step that `tpu_aot` compiled:
FLOPs, bytes and collectives of one chip, which don't depend on the number of chips as
long as each has the same batch:

    arithmetic  = FLOPs / peak                     memory = bytes / HBM bandwidth
    gradients   = 2 (n - 1) / n * bytes of all sums / bandwidth of a ring, n chips of a
                  pod, + 2 (p - 1) / p * the same / network of a pod, p pods
    latency     = number of collectives * (hops * 1 us + 50 us between pods)
    step        = max(arithmetic, memory) + gradients + latency

This assumes that communication never overlaps with arithmetic. A ring runs along one
axis of the torus in both directions; a sum of a few numbers travels to the middle of
both axes and back. One microsecond per hop is a rule of thumb, 50 between pods a
guess.
"""

import argparse
import dataclasses
import json
from pathlib import Path

RESULTS = Path(__file__).parent / "results"
PAGE = Path(__file__).parents[1] / "docs" / "tpu.md"
BEGIN = "<!-- made by python -m benchmarks.scaling: begin -->\n"
END = "<!-- made by python -m benchmarks.scaling: end -->\n"
CHIPS = (8, 16, 32, 64, 128, 256, 512, 1024)
HOP_S = 1e-6
POD_HOP_S = 50e-6
CHIPS_PER_HOST = 8
# Measured: 224 px, decoding and augmentation, 2 cores of an AMD EPYC (VM), 2026-11-24.
IMAGES_PER_CORE_SECOND = 185


@dataclasses.dataclass(frozen=True, kw_only=True)
class Chip:
    """A TPU chip, as its maker describes it.

    Attributes:
        flops: float. Peak FLOPs per second in bfloat16.
        memory: float. Bytes of HBM.
        bandwidth: float. Bytes per second of HBM.
        ring: float. Bytes per second that a chip sends in a ring, in both directions of
            one axis: a quarter of the stated bandwidth, which counts all ports, sending
            and receiving.
        pod: int. Chips in a pod, the largest torus.
        network: float. Bytes per second that a pod sends to other pods.
        clock: float or `None`. Cycles per second, to convert the compiler's estimate.
    """

    flops: float
    memory: float
    bandwidth: float
    ring: float
    pod: int
    network: float
    clock: float | None


# https://cloud.google.com/tpu/docs/v5e and /v6e; the clock:
# https://jax-ml.github.io/scaling-book/tpus (and 4 x 128 x 128 x 2 x 1.5e9 = 197e12).
KINDS = {
    "v5e": Chip(
        flops=197e12,
        memory=16e9,
        bandwidth=819e9,
        ring=400e9 / 4,
        pod=256,
        network=6.4e12 / 8,
        clock=1.5e9,
    ),
    "v6e": Chip(
        flops=918e12,
        memory=32e9,
        bandwidth=1638e9,
        ring=800e9 / 4,
        pod=256,
        network=25.6e12 / 8,
        clock=None,
    ),
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Step:
    """The terms of a step's time, in seconds."""

    arithmetic: float
    memory: float
    gradients: float
    latency: float

    @property
    def total(self):
        """Seconds of the step."""
        return max(self.arithmetic, self.memory) + self.gradients + self.latency


def torus(chips):
    """Return the sides of the torus: 8 chips are 2 x 4, 16 are 4 x 4.

    Args:
        chips: int. A power of two.
    """
    side = 1
    while (2 * side) ** 2 <= chips:
        side *= 2
    return side, chips // side


def estimate(chip, chips, flops, size, collectives, sent):
    """Estimate the time of a training step.

    Args:
        chip: a `Chip`.
        chips: int. A power of two.
        flops: float. FLOPs of one chip.
        size: float. Bytes that one chip reads and writes in its memory.
        collectives: int. Number of sums over all chips.
        sent: float. Bytes of the summed arrays.

    Returns:
        `Step`.
    """
    inside = min(chips, chip.pod)
    pods = chips // inside
    hops = sum(torus(inside))  # Half of each side, there and back.
    return Step(
        arithmetic=flops / chip.flops,
        memory=size / chip.bandwidth,
        gradients=2 * (inside - 1) / inside * sent / chip.ring
        + 2 * (pods - 1) / pods * sent / chip.network,
        latency=collectives * (hops * HOP_S + (POD_HOP_S if pods > 1 else 0)),
    )


def estimate_result(result, chips):
    """Estimate the time of a step that `tpu_aot` compiled, on another number of chips.

    Args:
        result: dict from `tpu_aot.report`.
        chips: int. A power of two.
    """
    kind = result["topology"].split(":")[0]
    sums = result["collectives"]["all-reduce"]
    return estimate(
        KINDS[kind],
        chips,
        result["cost"]["flops"],
        result["cost"]["bytes accessed"],
        sums["count"],
        sums["bytes"],
    )


def load_results(folder=RESULTS):
    """Load the results of `tpu_aot`, sorted by preset, topology, chips and batch.

    Args:
        folder: `Path`.
    """
    found = [json.loads(path.read_text()) for path in folder.glob("*-tpu-*.json")]
    return sorted(
        found,
        key=lambda r: (r["preset"], r["topology"], r["chips"], r["batch_per_chip"]),
    )


def compiled_table(results):
    """Return the compiler's numbers for each step as Markdown, per chip.

    Args:
        results: list from `load_results`.
    """
    lines = [
        "| preset | chips | batch | memory, GB | counted, GB | GFLOP per image "
        "| GB read and written per image | sums: number, MB | others | time by the "
        "compiler, ms | compiled |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for result in results:
        memory, image = result["memory_per_chip"], result["per_image"]
        sums = result["collectives"]["all-reduce"]
        clock = KINDS[result["topology"].split(":")[0]].clock
        cells = (
            f"`{result['preset']}`",
            result["topology"],
            result["batch_per_chip"],
            f"{(memory['peak_bytes'] or memory['held_bytes']) / 1e9:.1f}",
            f"{memory['analytic_bytes'] / 1e9:.1f}",
            f"{image['flops'] / 1e9:.0f}",
            f"{image['bytes_accessed'] / 1e9:.2f}",
            f"{sums['count']}, {sums['bytes'] / 1e6:.1f}",
            len(result["collectives"]["others"]),
            f"{result['estimated_cycles'] / clock * 1e3:.0f}" if clock else "-",
            result["environment"]["date"][:10],
        )
        lines.append("| " + " | ".join(map(str, cells)) + " |")
    return "\n".join(lines) + "\n"


def scaling_table(result):
    """Return the estimates for each number of chips as Markdown.

    Args:
        result: dict from `tpu_aot.report`.
    """
    batch = result["batch_per_chip"]
    lines = [
        f"`{result['preset']}`, {result['topology'].split(':')[0]}, {batch} images per "
        "chip (times in ms):",
        "",
        "| chips | batch | arithmetic | memory | gradients | latency | step | images/s "
        "| efficiency | images/s per host | cores per host |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for chips in CHIPS:
        step = estimate_result(result, chips)
        alone = max(step.arithmetic, step.memory)
        rate = batch / step.total  # Of one chip.
        times = (step.arithmetic, step.memory, step.gradients, step.latency, step.total)
        cells = (
            chips,
            chips * batch,
            *(f"{1e3 * t:.2f}" for t in times),
            f"{rate * chips:.0f}",
            f"{100 * alone / step.total:.0f} %",
            f"{rate * CHIPS_PER_HOST:.0f}",
            # Smaller images cost less; how much was not measured.
            f"{rate * CHIPS_PER_HOST / IMAGES_PER_CORE_SECOND:.0f}"
            if result["image_size"] == 224
            else "-",
        )
        lines.append("| " + " | ".join(map(str, cells)) + " |")
    return "\n".join(lines) + "\n"


def tables(results):
    """Return the generated part of `docs/tpu.md`.

    Args:
        results: list from `load_results`.
    """
    dates = {}
    for environment in (r["environment"] for r in results):
        versions = environment["versions"]
        compiler = f"jax {versions['jax']} and libtpu {versions['libtpu']}"
        dates.setdefault(compiler, set()).add(environment["date"][:10])
    compilers = [f"{each} on {', '.join(sorted(dates[each]))}" for each in dates]
    smallest = [r for r in results if r["chips"] == 4]
    parts = [
        f"Compiled with {'; '.join(sorted(compilers))}.\n",
        compiled_table(results),
        *map(scaling_table, smallest),
    ]
    return "\n".join(parts)


def page(text, results):
    """Return the page with new tables.

    Args:
        text: str. The page, with `BEGIN` and `END`.
        results: list from `load_results`.

    Raises:
        ValueError: if `BEGIN` or `END` is missing.
    """
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError("The page must have the marks of its tables: " + BEGIN + END)
    return f"{before}{BEGIN}\n{tables(results)}\n{END}{after}"


def main(arguments=None):
    """Write the tables of `docs/tpu.md`."""
    argparse.ArgumentParser(prog="python -m benchmarks.scaling").parse_args(arguments)
    PAGE.write_text(page(PAGE.read_text(), load_results()))


if __name__ == "__main__":
    main()
