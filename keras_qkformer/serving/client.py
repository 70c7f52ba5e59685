"""A client of TF Serving: REST through the standard library, gRPC through an extra.

A server is not trusted: an answer has a deadline, a largest size and a form, and its
text is made safe to print where it becomes part of an error.
"""

import base64
import math
import os
import random
import re
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np

from keras_qkformer.events.aedat2 import check_orientation
from keras_qkformer.events.recording import EXTENSIONS as RECORDINGS
from keras_qkformer.events.recording import read_recording
from keras_qkformer.printable import printable
from keras_qkformer.serving import wire
from keras_qkformer.serving.rest import Busy, Rest
from keras_qkformer.serving.wire import pad_events

IMAGES = (".jpg", ".jpeg", ".png", ".webp")
# In folders, arrays, weights and lists of labels have these names more often.
_NOT_IN_FOLDERS = (".npz", ".npy", ".h5", ".hdf5", ".mat", ".csv")
_IN_FOLDERS = (*IMAGES, *(name for name in RECORDINGS if name not in _NOT_IN_FOLDERS))
_REQUEST_BYTES = 16 << 20  # Limit of a request with more than one image file.


class FileAnswer(NamedTuple):
    """The server's answer to one file.

    Attributes:
        path: `Path`.
        labels: list of str. Class names, the most probable first.
        scores: list of float. Their probabilities.
        error: str. Why there is no answer, or empty. With it, both lists are empty.
    """

    path: Path
    labels: list
    scores: list
    error: str = ""


class ServingClient:
    """A model on a running TF Serving.

    A request is sent again, each time after a longer wait, if the server is too busy or
    can't be reached.

    Args:
        url: str. `http://host:8501/v1/models/NAME` for REST or `grpc://host:8500/NAME`
            for gRPC (needs the extra `serving`); `https://` and `grpcs://` with TLS.
            `/versions/2` or `/labels/stable` at the end selects a version; the default
            is the newest.
        timeout: float > 0. Seconds from the call to the whole answer, with all retries.
        retries: int >= 0. How often to send a request again.
        first_wait: float >= 0. Seconds before the first retry. The wait doubles with
            each retry and varies at random by up to 25 %, so that clients don't all
            come back at once.
        max_bytes: int > 0. The largest answer. Parsing one of JSON takes up to twenty
            times its size of memory.

    Raises:
        ValueError: if `url` has another form, or a number is out of range.
        ImportError: if `url` is a gRPC address and the package for it is missing.

    Example:
    >>> client = ServingClient("http://localhost:8501/v1/models/digits/labels/stable")
    >>> client.model, client.label
    ('digits', 'stable')
    """

    def __init__(
        self,
        url: str,
        timeout: float = 60.0,
        retries: int = 5,
        first_wait: float = 0.25,
        max_bytes: int = 16 << 20,
    ):
        parts = re.fullmatch(
            r"(?:(?P<rest>https?://[^/]+)/v1/models|(?P<grpc>grpcs?)://(?P<host>[^/]+))"
            r"/(?P<model>[^/:]+)(?:/versions/(?P<version>\d+)|/labels/(?P<label>\w+))?",
            url.rstrip("/"),
        )
        if parts is None:
            raise ValueError(
                "The address of a model must be http://HOST:8501/v1/models/NAME or "
                "grpc://HOST:8500/NAME, perhaps with /versions/N or /labels/LABEL. "
                f"Received: {url!r}"
            )
        if not (0 < timeout < math.inf and retries >= 0 and max_bytes > 0):
            raise ValueError(
                "timeout and max_bytes must be above 0, retries at least 0. Received: "
                f"timeout={timeout}, max_bytes={max_bytes}, retries={retries}"
            )
        self.url = url.rstrip("/")
        self.model = parts["model"]
        self.version = parts["version"] and int(parts["version"])
        self.label = parts["label"]
        self.timeout = timeout
        self.retries = retries
        self.first_wait = first_wait
        self.max_bytes = max_bytes
        self._grpc = None
        if parts["grpc"]:
            self._grpc = _Grpc(parts["host"], parts["grpc"] == "grpcs", max_bytes)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_):
        self.close()

    def close(self) -> None:
        """Close the gRPC connection."""
        if self._grpc is not None:
            self._grpc.channel.close()

    def predict(
        self, signature: str, inputs: Mapping[str, Any]
    ) -> dict[str, np.ndarray]:
        """Return the outputs of a signature.

        Args:
            signature: str. Such as `"serving_default"`.
            inputs: dict from names to arrays, or lists of bytes for image files.

        Returns:
            Dict from names to arrays; strings are arrays of str objects.

        Raises:
            ValueError: if the server refuses the request.
            OSError: if the server can't be reached or fails.
        """
        if self._grpc is None:
            body = {"signature_name": signature, "inputs": _to_json(inputs)}
            return self._rest(":predict", _outputs_from_json, body)
        arrays = {name: _as_array(values) for name, values in inputs.items()}
        request = wire.encode_predict_request(
            self.model, signature, arrays, self.version, self.label
        )

        def outputs(answer):
            found = wire.decode_predict_response(answer, self.max_bytes)
            return {name: _as_text(array) for name, array in found.items()}

        return self._call("PredictionService/Predict", request, outputs)

    def status(self) -> dict[int, str]:
        """Return the state of each version, such as `{1: "AVAILABLE"}`.

        Raises:
            ValueError: if the server does not know the model.
            OSError: if the server can't be reached or fails.
        """
        if self._grpc is None:
            return self._rest("", _status_from_json)
        spec = wire.model_spec(self.model, self.version, label=self.label)
        request = wire.field(1, spec)
        return self._call("ModelService/GetModelStatus", request, wire.decode_status)

    def signatures(self) -> dict[str, dict[str, list[str]]]:
        """Return the lists `inputs` and `outputs` of tensor names by signature.

        Raises:
            ValueError: if the server does not know the model.
            OSError: if the server can't be reached or fails.
        """
        if self._grpc is None:
            return self._rest("/metadata", _signatures_from_json)
        spec = wire.model_spec(self.model, self.version, label=self.label)
        request = wire.field(1, spec) + wire.field(2, b"signature_def")
        method = "PredictionService/GetModelMetadata"
        return self._call(method, request, wire.decode_signatures)

    def predict_files(
        self,
        paths: Iterable[str | os.PathLike],
        batch_size: int = 8,
        orientation: str = "jaer",
    ) -> Iterator[FileAnswer]:
        """Classify image files and recordings of event cameras.

        A server does not tell what its model was trained with: recordings must be of
        that sensor, as they are not scaled, and those of AEDAT 2.0 are read as
        `orientation` says. Both are in the version's `assets.extra/metadata.json`.

        Args:
            paths: list of str or path. Files, and folders to search for them; see
                `expand_files`.
            batch_size: int > 0. Image files per request. A recording is always sent
                alone.
            orientation: str, that of the training recordings, see
                `keras_qkformer.events.aedat2.read_aedat2`.

        Yields:
            `FileAnswer` for each file, in order. Its `error` says if the file can't be
            read, or the server refuses it.

        Raises:
            ValueError: if a file is missing, the model does not take its kind, or
                `orientation` is unknown.
            OSError: if the server can't be reached or fails.
        """
        check_orientation(orientation)
        files = expand_files(paths)
        known = self.signatures()
        for is_recording, signature in (
            (False, "predict_lenient"),
            (True, "predict_events_lenient"),
        ):
            such = [f for f in files if _is_recording(f) == is_recording]
            if such and signature not in known:
                kind = "recordings of event cameras" if is_recording else "image files"
                raise ValueError(
                    f"The model must take {kind} for {str(such[0])!r}. Received: "
                    f"{self.url} with the signatures {printable(str(sorted(known)))}"
                )
        for batch in _batches(files, batch_size):
            yield from self._predict_batch(batch, orientation)

    def _predict_batch(self, files, orientation):
        answers, inputs, asked = {}, [], []
        for path in files:
            try:
                if _is_recording(path):
                    inputs.append(read_recording(path, orientation=orientation))
                else:
                    inputs.append(path.read_bytes())
                asked.append(path)
            except (OSError, ValueError) as error:
                reason = str(error).removeprefix(f"{path}: ")
                answers[path] = FileAnswer(path, [], [], f"can't be read: {reason}")
        if asked and _is_recording(asked[0]):
            outputs = self.predict("predict_events_lenient", pad_events(inputs))
        elif asked:
            outputs = self.predict("predict_lenient", {"image_bytes": inputs})
        if asked:
            rows = self._checked(lambda found: _rows(found, len(asked)), outputs)
            for path, row in zip(asked, rows, strict=True):
                answers[path] = FileAnswer(path, *row)
        return [answers[path] for path in files]

    def _rest(self, path, read, body=None):
        def send(seconds):
            return Rest(seconds, self.max_bytes).ask(f"{self.url}{path}", body)

        return self._checked(read, self._again(send))

    def _call(self, method, request, read):
        def send(seconds):
            return self._grpc.call(method, request, seconds)

        return self._checked(read, self._again(send))

    def _checked(self, read, answer):
        """Return what `read` makes of an answer; its form is up to the server."""
        try:
            return read(answer)
        except (
            ValueError,
            LookupError,
            TypeError,
            AttributeError,
            OverflowError,
        ) as error:
            raise OSError(
                f"{self.url} answers something else than TF Serving: "
                f"{printable(str(error))}"
            ) from error

    def _again(self, send):
        """Return what `send(seconds)` returns; repeat it while it raises `Busy`."""
        end = time.monotonic() + self.timeout
        for sent in range(1, self.retries + 2):
            try:
                return send(end - time.monotonic())
            except Busy as error:
                wait = self.first_wait * 2 ** (sent - 1) * random.uniform(0.75, 1.25)
                if sent > self.retries or time.monotonic() + wait >= end:
                    raise OSError(f"{error} (sent {sent} times)") from error
                time.sleep(wait)


class _Grpc:
    """A gRPC channel that sends and receives bytes."""

    def __init__(self, host, secure, max_bytes):
        try:
            import grpc
        except ImportError as error:
            raise ImportError(
                "gRPC needs its package: pip install 'keras_qkformer[serving]'"
            ) from error
        self._module = grpc
        options = [
            ("grpc.max_receive_message_length", max_bytes),
            ("grpc.max_send_message_length", -1),
        ]
        if secure:
            credentials = grpc.ssl_channel_credentials()
            self.channel = grpc.secure_channel(host, credentials, options)
        else:
            self.channel = grpc.insecure_channel(host, options)

    def call(self, method, request, timeout):
        send = self.channel.unary_unary(f"/tensorflow.serving.{method}")
        try:
            return send(request, timeout=timeout)
        except self._module.RpcError as error:
            code = error.code()
            details = printable(error.details() or "")
            message = f"the server answers {code.name}: {details}"
            codes = self._module.StatusCode
            is_too_large = "larger than max" in details
            if code == codes.UNAVAILABLE or (
                code == codes.RESOURCE_EXHAUSTED and not is_too_large
            ):
                raise Busy(message) from error
            refusals = (
                codes.INVALID_ARGUMENT,
                codes.NOT_FOUND,
                codes.FAILED_PRECONDITION,
                codes.OUT_OF_RANGE,
            )
            raise (ValueError if code in refusals else OSError)(message) from error


def expand_files(paths: Iterable[str | os.PathLike]) -> list[Path]:
    """Replace folders by the image files and recordings in them, at any depth.

    Args:
        paths: list of str or path. A file may have any name; in folders, the suffix
            decides.

    Returns:
        List of `Path`, in the given order, with the files of a folder sorted.

    Raises:
        ValueError: if a file does not exist, or a folder has no image or recording.
    """
    files = []
    for path in map(Path, paths):
        found = [path]
        if path.is_dir():
            found = sorted(
                f for f in path.rglob("*") if f.suffix.lower() in _IN_FOLDERS
            )
        if not found or not all(file.is_file() for file in found):
            raise ValueError(
                "There must be such a file, or a folder with files named "
                f"{', '.join(_IN_FOLDERS)}. Received: {str(path)!r}"
            )
        files += found
    return files


def _batches(files, batch_size):
    """Yield lists of files, one per request; a recording is alone in its list."""
    batch, size = [], 0
    for file in files:
        bytes_of_file = file.stat().st_size
        full = len(batch) == batch_size or size + bytes_of_file > _REQUEST_BYTES
        if batch and (full or _is_recording(file) or _is_recording(batch[0])):
            yield batch
            batch, size = [], 0
        batch.append(file)
        size += bytes_of_file
    if batch:
        yield batch


def _is_recording(path):
    return path.suffix.lower() in RECORDINGS


def _to_json(inputs):
    values = {}
    for name, array in inputs.items():
        array = _as_array(array)
        if array.dtype == object:
            encoded = [base64.b64encode(item).decode() for item in array]
            values[name] = [{"b64": text} for text in encoded]
        else:
            values[name] = array.tolist()
    return values


def _outputs_from_json(answer):
    outputs = answer["outputs"]
    if not isinstance(outputs, dict):
        raise ValueError("outputs without names")
    return {name: _from_json(values) for name, values in outputs.items()}


def _from_json(values):
    """Convert nested lists to an array; NumPy would guess, and make room for guesses.

    Raises:
        ValueError: if they are ragged or deep, or not all numbers, or texts.
    """
    shape, level = [], [values]
    while isinstance(level[0], list):
        length = len(level[0])
        if any(type(part) is not list or len(part) != length for part in level):
            raise ValueError("lists of different lengths")
        shape.append(length)
        level = [item for part in level for item in part]
        if not level or len(shape) > wire.MOST_AXES:
            break
    kinds = {type(item) for item in level}
    for wanted, dtype in (({str}, object), ({bool}, bool), ({int}, "int64")):
        if kinds and kinds <= wanted:
            array = np.empty(len(level), dtype)
            if dtype == "int64" and not all(-(2**63) <= x < 2**63 for x in level):
                raise ValueError("a number of more than 64 bits")
            array[:] = level
            return array.reshape(shape)
    if not kinds <= {int, float}:
        raise ValueError("a tensor of something else than numbers or texts")
    return np.array([float(item) for item in level]).reshape(shape)


def _status_from_json(answer):
    states = {
        int(entry["version"]): entry["state"]
        for entry in answer["model_version_status"]
    }
    if not all(isinstance(state, str) for state in states.values()):
        raise ValueError("a state that is no text")
    return states


def _signatures_from_json(answer):
    found = answer["metadata"]["signature_def"]["signature_def"]
    return {
        name: {kind: sorted(entry.get(kind, ())) for kind in ("inputs", "outputs")}
        for name, entry in found.items()
        if not name.startswith("__")
    }


def _rows(outputs, count):
    """Return labels, scores and status of each row of a lenient signature's outputs.

    Raises:
        ValueError: if they are not such outputs.
    """
    status, labels, scores = (outputs[name] for name in ("status", "labels", "scores"))
    is_text = status.dtype == labels.dtype == object
    if not is_text or scores.dtype.kind not in "fiu":
        raise ValueError("labels or status that are no texts, or scores no numbers")
    is_one_row_each = len(status) == count and status.ndim == 1
    if not is_one_row_each or labels.shape != scores.shape or labels.ndim != 2:
        raise ValueError(
            f"status {status.shape}, labels {labels.shape} and scores {scores.shape} "
            f"for {count} files"
        )
    rows = []
    for error, names, values in zip(status, labels, scores, strict=True):
        if error:
            rows.append(([], [], error))
            continue
        # NaN fails every comparison.
        if not (len(names) and all(-1e-3 <= value <= 1.001 for value in values)):
            raise ValueError(f"scores that are no probabilities: {values[:5].tolist()}")
        rows.append((list(names), [float(value) for value in values], ""))
    return rows


def _as_array(values):
    """Convert to an array; bytes become objects, or NumPy would strip zero bytes."""
    if isinstance(values, np.ndarray):
        return values
    if values and isinstance(values[0], bytes):
        array = np.empty(len(values), object)
        array[:] = values
        return array
    return np.asarray(values)


def _as_text(array):
    if array.dtype != object:
        return array
    out = np.empty(array.shape, object)
    out.flat = [item.decode() for item in array.flat]
    return out
