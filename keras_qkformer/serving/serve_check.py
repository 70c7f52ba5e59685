"""`keras-qkformer serve-check`: a bundle, in a fresh process or on a running server."""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from keras_qkformer.serving import EXAMPLES_FILE, METADATA_FILE, check

# As on a server, where there is no Keras.
_FRESH = """
import sys
sys.modules["keras"] = None
from keras_qkformer.serving.check import main
sys.exit(main(*sys.argv[1:]))
"""


def serve_check(bundle, model=None, url=None, seconds=1.0):
    """Check a bundle and print a report.

    Args:
        bundle: str or path of a version of a model, or of the model's folder for its
            newest version.
        model: str or path of a workdir or preset folder whose answers to compare with,
            or `None` for those that the bundle brings along.
        url: address of a server of the same model, see `ServingClient`, which is then
            asked in the bundle's place.
        seconds: float > 0. How long to measure each signature.

    Returns:
        0, or 1 if a check failed.

    Raises:
        ValueError: if there is no bundle or no model.
        OSError: if the server can't be reached.
    """
    version = find_version(bundle)
    metadata = json.loads((version / METADATA_FILE).read_text())
    with np.load(version / EXAMPLES_FILE) as file:
        examples = {name: file[name] for name in file.files}
    if model is not None:
        examples["logits"] = _model_logits(model, examples["images"])
    if url is not None:
        from keras_qkformer.serving.client import ServingClient

        with ServingClient(url) as client:
            subject = check.Subject(client.predict, metadata, examples, seconds)
            return check.report(check.run_checks(subject))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "examples.npz"
        np.savez(path, **examples)
        command = [sys.executable, "-c", _FRESH, version, path, seconds]
        done = subprocess.run([str(part) for part in command])
    if done.returncode not in (0, 1):
        raise OSError(f"The check ended with status {done.returncode}.")
    return done.returncode


def find_version(bundle):
    """The folder of a version, from that or from the model's folder.

    Raises:
        ValueError: if there is none of this library.
    """
    bundle = Path(bundle)
    versions = [bundle]
    if bundle.is_dir():
        numbers = [int(p.name) for p in bundle.iterdir() if p.name.isdecimal()]
        versions += [bundle / str(number) for number in sorted(numbers)]
    for version in reversed(versions):
        if (version / METADATA_FILE).is_file():
            return version
    raise ValueError(
        "A bundle must be a folder that export has written, or one of its versions. "
        f"Received: {str(bundle)!r}"
    )


def _model_logits(folder, images):
    from keras_qkformer.trained import load_trained

    return load_trained(folder).logits(images, batch_size=1)
