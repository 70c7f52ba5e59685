"""Make `nir_snntorch.nir` and `.npz`: a network as snnTorch writes and runs it.

    python tests/golden/make_nir_snntorch.py

Made once with snntorch 1.0.0, nir 1.0.8, nirtorch 2.6 and torch 2.13.0. Its neurons are
reset in the step of their spike (`reset_delay=False`), as in NIR; by default snnTorch
resets one step later, which is another model than its file says.
"""

from pathlib import Path

import numpy as np
import snntorch
import torch
from snntorch.export_nir import export_to_nir

HERE = Path(__file__).parent
OPTIONS = {"reset_mechanism": "zero", "reset_delay": False, "init_hidden": True}


def leaky(count, beta, threshold):
    """Neurons with constants that snnTorch writes in the shape of the layer."""
    beta, threshold = (torch.full((count,), value) for value in (beta, threshold))
    return snntorch.Leaky(beta=beta, threshold=threshold, **OPTIONS)


def main():
    """Write the network, its input and its spikes."""
    import nir

    torch.manual_seed(0)
    network = torch.nn.Sequential(
        torch.nn.Linear(16, 6),
        leaky(6, 0.6, 0.25),
        torch.nn.Linear(6, 5, bias=False),
        leaky(5, 0.9, 0.5),
    )
    with torch.no_grad():
        network[2].weight *= 5  # So that the last neurons fire often.
    x = torch.randn(12, 3, 16) * 2 + 0.5
    with torch.no_grad():
        graph = export_to_nir(network, x[0, 0])
        for module in network:
            if isinstance(module, snntorch.Leaky):
                module.reset_hidden()
        spikes = torch.stack([network(frame) for frame in x])
    nir.write(HERE / "nir_snntorch.nir", graph)
    print(graph.edges, spikes.mean((0, 1)))
    arrays = {"x": x, "spikes": spikes}  # (time, batch, features)
    arrays = {name: np.asarray(array, "float32") for name, array in arrays.items()}
    np.savez_compressed(HERE / "nir_snntorch.npz", **arrays)


if __name__ == "__main__":
    main()
