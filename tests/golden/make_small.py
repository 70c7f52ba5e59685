"""Make lif_small.npz: cases of the large golden file that together use every option.

    python tests/golden/make_small.py ../shared/golden/lif.npz

The large file holds spikes, potentials and gradients of SpikingJelly 0.0.0.0.12 in
float64. Cases are taken from it unchanged, until any two options that meet in one of
its cases have met.
"""

import itertools
import json
import sys
from pathlib import Path

import numpy as np


def choose(cases):
    """Greedily, the case first that brings most pairs of options not seen yet."""
    pairs = {}
    for case in cases:
        options = sorted((k, str(v)) for k, v in case.items() if k != "key")
        pairs[case["key"]] = set(itertools.combinations(options, 2))
    chosen, seen = set(), set()
    while seen != set.union(*pairs.values()):
        key = max(pairs, key=lambda key: len(pairs[key] - seen))
        chosen.add(key)
        seen |= pairs[key]
    return [case for case in cases if case["key"] in chosen]


def main(path):
    """Write `lif_small.npz` beside this file."""
    large = np.load(path)
    cases = choose(json.loads(str(large["cases_json"])))
    keys = {case["key"] for case in cases}
    arrays = {name: large[name] for name in large if name.split("/")[0] in keys}
    target = Path(__file__).with_name("lif_small.npz")
    np.savez_compressed(
        target,
        cases_json=json.dumps(cases),
        x=large["x"],
        upstream=large["upstream"],
        **arrays,
    )
    print(f"{target}: {len(cases)} cases, {target.stat().st_size} bytes")


if __name__ == "__main__":
    main(sys.argv[1])
