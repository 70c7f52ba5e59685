"""Checks an exported model, in a process without Keras or on a running server.

`python -m keras_qkformer.serving.check VERSION EXAMPLES SECONDS` is that process.
"""

import itertools
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from keras_qkformer.child_process import module_command, module_environment
from keras_qkformer.json_files import read_json
from keras_qkformer.kept_examples import read_examples
from keras_qkformer.manifest import check_folder
from keras_qkformer.notices import hidden_notices
from keras_qkformer.printable import printable
from keras_qkformer.serving import EXAMPLES_FILE, METADATA_FILE, OPENVINO_MODEL
from keras_qkformer.serving.check_answers import Subject, check_answers
from keras_qkformer.serving.client import ServingClient

_ARRAYS = ("images", "logits")


def serve_check(
    bundle: str | os.PathLike,
    model: str | os.PathLike | None = None,
    url: str | None = None,
    seconds: float = 1.0,
) -> int:
    """Check a bundle and print a report.

    Args:
        bundle: str or path of a version, or of a model's folder, which stands for its
            newest version; or of an OpenVINO model.
        model: str or path of a workdir or preset folder to compare with, or `None` to
            compare with the logits stored in the bundle.
        url: str. Address of a running server of the same model, see `ServingClient`,
            or `None` to load the bundle itself.
        seconds: float > 0. How long to measure each signature and batch size.

    Returns:
        0 if all checks passed, else 1.

    Raises:
        ValueError: if `bundle` or `model` is not found, a file of it is damaged, or
            `model` or `url` is given for an OpenVINO model.
        OSError: if the server can't be reached.
    """
    if (Path(bundle) / OPENVINO_MODEL).is_file():
        if model is not None or url is not None:
            raise ValueError(
                "An OpenVINO model is checked by itself, without a model or an "
                f"address. Received: model={model!r}, url={url!r}"
            )
        from keras_qkformer.serving.openvino_bundle import check_subject

        return _report(check_answers(check_subject(bundle, seconds)))
    version = find_version(bundle)
    check_folder(version)
    examples = read_examples(version / EXAMPLES_FILE, _ARRAYS)
    if model is not None:
        examples["logits"] = _model_logits(model, examples["images"])
    if url is None:
        return _check_in_fresh_process(version, examples, seconds)
    # Over REST, the state of a large model's stream takes much room.
    with ServingClient(url, max_bytes=1 << 30) as client:
        subject = Subject(client.predict, _read_metadata(version), examples, seconds)
        return _report(check_answers(subject))


def find_version(bundle):
    """Return the folder of a version, or of the newest version of a model.

    Args:
        bundle: str or path of a version or of a model's folder.

    Returns:
        `Path`.

    Raises:
        ValueError: if there is no version that `export` wrote.
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
        "A bundle must be a folder that export has written for TF Serving or OpenVINO, "
        f"or a version of the former. Received: {str(bundle)!r}"
    )


def _read_metadata(version):
    from keras_qkformer.forms import BundleMetadata  # Imports pydantic.

    return read_json(version / METADATA_FILE, BundleMetadata)


def _model_logits(folder, images):
    # Imports Keras and TensorFlow, which the check of a bundle alone does not need.
    from keras_qkformer.trained import load_trained

    return load_trained(folder).logits(images, batch_size=1)


def _check_in_fresh_process(version, examples, seconds):
    """Run `main` in a process of its own; return its exit status."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "examples.npz"
        np.savez(path, **examples)
        command = module_command(__name__, version, path, seconds)
        done = subprocess.run(command, env=module_environment())
    if done.returncode not in (0, 1):
        raise OSError(f"The check ended with status {done.returncode}.")
    return done.returncode


def main(version, examples_file, seconds):
    """Check a version of a model in this process, which can't import Keras afterwards.

    Args:
        version: str or path of the version's folder.
        examples_file: str or path of an `.npz` file with the arrays of the bundle's
            `examples.npz`, perhaps with another model's logits.
        seconds: float > 0, or str. How long to measure each signature and batch size.

    Returns:
        0 if all checks passed, else 1.
    """
    sys.modules["keras"] = None  # As on a server: TensorFlow must not import it.
    with hidden_notices():
        from keras_qkformer.serving.local_model import LocalModel, check_local_model

    version = Path(version)
    examples = read_examples(examples_file, _ARRAYS)
    try:
        model = LocalModel(version)
    except (OSError, ValueError) as error:  # Nothing of it has run.
        return _report([(False, f"{error}")])
    subject = Subject(model.ask, _read_metadata(version), examples, float(seconds))
    return _report(
        itertools.chain(
            check_local_model(model, version, subject), check_answers(subject)
        )
    )


def _report(outcomes):
    """Print outcomes as they come; return 1 if one failed, else 0."""
    passed = failed = 0
    for good, text in outcomes:
        print("ok    " if good else "FAILED", printable(text, 1000), flush=True)
        passed, failed = passed + good, failed + (not good)
    print(f"{passed} passed, {failed} failed")
    return min(failed, 1)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
