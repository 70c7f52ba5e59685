"""Writes the files that start a server for a model, from `templates/`.

Their health checks speak HTTP through bash: the image has neither curl nor wget.
"""

import re
from pathlib import Path
from string import Template

from keras_qkformer.files import write_text

# The newest image whose binary was known when this was written.
_IMAGE = "tensorflow/serving:2.20.0"
_TEMPLATES = Path(__file__).with_name("templates")
_NAME = re.compile(r"\w[\w.-]*")
# What YAML 1.1 reads as something else than text.
_WORDS = ("true", "false", "yes", "no", "on", "off", "null", "y", "n")
_LONGEST_NAME = 50  # Of 63 letters, Kubernetes adds some.


def check_name(name):
    """Raise `ValueError` unless the files of a server can hold the name of a model.

    It stands in addresses, paths, YAML and a line of bash, and is often that of a
    folder that somebody else has named.

    Args:
        name: str.
    """
    if not _NAME.fullmatch(name):
        raise ValueError(
            "The name of a model, that of its folder (--out), must have only letters, "
            "digits and _ - . and not start with - or a dot. "
            f"Received: {name!r}"
        )


def _dns_name(name):
    """A name as Kubernetes takes it: no _ or capitals, and a letter first."""
    name = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")
    name = name[:_LONGEST_NAME].strip("-")
    if not name[:1].isalpha() or name in _WORDS:
        name = f"model-{name}".strip("-")
    return name


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
        "dns_name": _dns_name(name),
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
            write_text(path, Template(template.read_text("utf-8")).substitute(values))
