"""Makes what the page "Draw a digit" runs: models, pictures, recordings, and a runtime.

A page that is opened from a disk may not fetch files, so each is a script that hands a
text to `spiking.keep`: JSON, or compressed bytes in base64.
"""

import base64
import gzip
import hashlib
import json
import shutil
import subprocess
import tarfile
import tempfile
from pathlib import Path

import numpy as np

from keras_qkformer.analysis.activity import InputStatistics, OperationActivity
from keras_qkformer.analysis.energy import (
    CONVENTIONS,
    DEVICES,
    count,
    twin_mj,
)
from keras_qkformer.analysis.operations import operations
from keras_qkformer.data.images.digits import digits
from keras_qkformer.data.recordings.moving_digits import write_moving_digits
from keras_qkformer.serving.export import export_portable
from keras_qkformer.trained import load_trained

ROOT = Path(__file__).parents[2]
DOWNLOADS = ROOT / "build" / "npm"
RUNTIME = "onnxruntime-web"
VERSION = "1.30.0"
SHA512 = (
    "q0y+JrrtukXSzsBWEMccVfqX25LRmosXHF+CaRJmg8pZClzcV7svNc4rKY3jL02Vb7QmRMDs1SigqR4C"
    "XAfKYQ=="
)
# Of the runtime: the functions, what loads WebAssembly, and that itself.
FILES = {
    "runtime": "ort.wasm.min.js",
    "loader": "ort-wasm-simd-threaded.mjs",
    "wasm": "ort-wasm-simd-threaded.wasm",
}
CONVENTION, DEVICE = "qkformer", "45nm_float32"


class NotFetched(Exception):
    """The runtime can't be fetched; the message says why."""


def write_drawing(folder, fingerprint):
    """Write the scripts, unless they are there and what they come from is unchanged.

    Without npm, or without a connection, nothing is written, and the page says so.

    Args:
        folder: `Path`. Made if needed.
        fingerprint: str. Changes with this module and the package.
    """
    weights = [ROOT / "weights" / name for name in ("digits", "dvs_digits")]
    fingerprint += "".join((x / "manifest.json").read_text() for x in weights)
    stamp = folder / ".stamp"
    if stamp.is_file() and stamp.read_text() == fingerprint:
        return
    shutil.rmtree(folder, ignore_errors=True)
    try:
        package = fetched()
    except NotFetched as error:
        print(f"The page 'Draw a digit' is left out: {error}", flush=True)
        return
    print("exporting the models of the page 'Draw a digit'", flush=True)
    folder.mkdir(parents=True)
    for name, content in runtime(package).items():
        keep(folder, name, content)
    facts = {}
    with tempfile.TemporaryDirectory() as place:
        for source, name in zip(weights, ("model", "stream"), strict=True):
            out = Path(place) / name
            export_portable(source, out, "onnx", outputs="spikes")
            keep(folder, name, (out / f"{name}.onnx").read_bytes())
            told = json.loads((out / "metadata.json").read_text())
            facts[name] = facts_of(load_trained(source), told)
        facts["model"]["examples"] = examples()
        facts["stream"]["recordings"] = record(Path(place) / "moving", weights[1])
    (folder / "facts.js").write_text(f"spiking.facts = {json.dumps(facts)};\n")
    stamp.write_text(fingerprint)


def fetched():
    """Return the path of the runtime's package, fetched by npm if it is not here yet.

    Raises:
        NotFetched: if npm or the registry can't be reached.
        ValueError: if the package is not the one whose hash stands here.
    """
    path = DOWNLOADS / f"{RUNTIME}-{VERSION}.tgz"
    if not path.is_file():
        DOWNLOADS.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=DOWNLOADS) as place:
            command = ["npm", "pack", f"{RUNTIME}@{VERSION}", "--silent"]
            command += ["--pack-destination", place]
            try:
                subprocess.run(
                    command, check=True, capture_output=True, text=True, timeout=300
                )
            except OSError as error:
                raise NotFetched("it needs npm") from error
            except subprocess.TimeoutExpired as error:
                raise NotFetched(f"npm gave no {RUNTIME} in 300 s") from error
            except subprocess.CalledProcessError as error:
                why = (error.stderr or error.stdout).strip().partition("\n")[0]
                raise NotFetched(f"npm gave no {RUNTIME} {VERSION}: {why}") from error
            (Path(place) / path.name).replace(path)
    found = base64.b64encode(hashlib.sha512(path.read_bytes()).digest()).decode()
    if found != SHA512:
        raise ValueError(
            f"{path} must have the SHA-512 of {RUNTIME} {VERSION}, {SHA512}. "
            f"Received: {found}"
        )
    return path


def runtime(package):
    """Return the files of the runtime that a browser needs, as bytes by name."""
    with tarfile.open(package) as archive:
        return {
            name: archive.extractfile(f"package/dist/{file}").read()
            for name, file in FILES.items()
        }


def keep(folder, name, content):
    """Write bytes as a script."""
    text = base64.b64encode(gzip.compress(content, mtime=0)).decode()
    (folder / f"{name}.js").write_text(f'spiking.keep("{name}", "{text}");\n')


def facts_of(trained, told):
    """Return what the page tells of a model, as JSON can hold it.

    Args:
        trained: `TrainedModel`.
        told: dict from `metadata.json` of the export.
    """
    found = operations(trained.model)
    if [each.path for each in found] != told["outputs"]["operations"]:
        raise ValueError("The export must list the operations as the analysis does")
    convention, device = CONVENTIONS[CONVENTION], DEVICES[DEVICE]
    is_static = trained.model.backbone.static
    facts = {
        "classes": list(trained.class_names),
        "parameters": told["parameters"],
        "steps": trained.model.backbone.time_steps,
        "size": list(trained.model.backbone.image_size),
        "energy": {
            "convention": convention.name,
            "device": device.name,
            "mac_pj": device.mac_pj,
            "accumulate_pj": device.accumulate_pj,
            "operations": [costs(each, convention, is_static) for each in found],
            "twin_mj": twin_mj(found, device),
        },
    }
    if not is_static:
        _, state = trained.stream()
        facts["state"] = {
            name: {
                "dtype": str(x.dtype),
                "shape": list(x.shape),
                "rest": float(x.max()),
            }
            for name, x in state.items()
        }
    return facts


def costs(operation, convention, is_static):
    """Return the MACs of an operation, and its accumulates for an input mean of 1.

    By a convention that charges an input by its mean, both together are linear in it.

    Args:
        operation: `Operation`.
        convention: `Convention`.
        is_static: bool. Whether the input is an image, which passes the first
            convolution in the first step alone; event frames pass it in each.

    Returns:
        Dict with `path`, `macs`, a list with one entry per time step, and
        `accumulates`, of all steps together.
    """

    def counted(mean):
        inputs = InputStatistics(
            mean=mean,
            nonzero=mean,
            largest=mean,
            is_binary=False,
            is_whole=True,
            mean_by_step=[mean] * operation.steps,
        )
        activity = OperationActivity(
            operation=operation,
            inputs=(inputs,) * len(operation.factors),
            events=0.0,
            events_by_value=0.0,
        )
        return count(activity, convention)

    (macs, nothing), (same, accumulates) = counted(0.0), counted(1.0)
    if nothing or macs != same:
        raise ValueError(f"{convention.name} must charge {operation.path} by its mean")
    steps = operation.steps
    by_step = [macs, *[0.0] * (steps - 1)] if is_static else [macs / steps] * steps
    return {"path": operation.path, "macs": by_step, "accumulates": accumulates}


def examples():
    """Return the first test image of every digit, as rows of pixels from 0 to 255."""
    images, labels = digits().load("test", lambda count: (0, count))
    return [images[np.argmax(labels == x), ..., 0].tolist() for x in range(10)]


def record(folder, weights):
    """Return the frames of the first test recording of every digit.

    Each is a list of frames; a frame is a flat list of the counts
    `(height, width, 2)`.
    """
    trained = load_trained(weights)
    write_moving_digits(folder, most=60)
    chosen = [sorted((folder / "test" / str(x)).iterdir())[0] for x in range(10)]
    frames = [np.asarray(trained.read(path)) for path in chosen]
    return [x.reshape(len(x), -1).astype("uint8").tolist() for x in frames]
