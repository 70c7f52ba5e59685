"""Writes the files that start a server for a model, from `templates/`.

Their health checks speak HTTP through bash: the image has neither curl nor wget.
"""

import re
from pathlib import Path
from string import Template

# The newest image whose binary was known when this was written.
_IMAGE = "tensorflow/serving:2.20.0"
_TEMPLATES = Path(__file__).with_name("templates")


def write_server_files(out, name, version, batch_sizes):
    """Write the missing files of a server into `out/server/`.

    Existing files stay, because the user may have edited them. TF Serving ignores the
    folder, because its name is not a number.

    Args:
        out: str or path of the model's folder.
        name: str. The model's name.
        version: int. The version that gets the label `stable`.
        batch_sizes: increasing ints > 0. Batch sizes allowed for server-side batching.
    """
    folder = Path(out) / "server"
    folder.mkdir(exist_ok=True)
    allowed = (f"allowed_batch_sizes: {size}" for size in batch_sizes)
    values = {
        "name": name,
        # Kubernetes allows neither _ nor capitals in names.
        "dns_name": re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-") or "model",
        "version": version,
        "image": _IMAGE,
        "largest_batch": batch_sizes[-1],
        # A larger request is answered in parts.
        "largest_request": max(64, batch_sizes[-1]),
        "batch_sizes": "\n".join(allowed),
    }
    for template in _TEMPLATES.iterdir():
        path = folder / template.name
        if not path.exists():
            path.write_text(Template(template.read_text()).substitute(values))
