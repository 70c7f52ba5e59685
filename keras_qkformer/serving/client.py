"""A client of TF Serving: REST through the standard library, gRPC through an extra."""

import base64
import http.client
import json
import random
import re
import time
import urllib.request
from pathlib import Path
from typing import NamedTuple

import numpy as np

from keras_qkformer.events.recording import EXTENSIONS as RECORDINGS
from keras_qkformer.events.recording import read_recording
from keras_qkformer.serving import wire
from keras_qkformer.serving.wire import pad_events

IMAGES = (".jpg", ".jpeg", ".png", ".webp")
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

    A request is sent again, each time after a longer wait, if the server is too busy,
    can't be reached or takes too long to answer.

    Args:
        url: str. `http://host:8501/v1/models/NAME` for REST or `grpc://host:8500/NAME`
            for gRPC (needs the extra `serving`); `https://` and `grpcs://` with TLS.
            `/versions/2` or `/labels/stable` at the end selects a version; the default
            is the newest.
        timeout: float > 0. Seconds for one request.
        retries: int >= 0. How often to send a request again.
        first_wait: float >= 0. Seconds before the first retry. The wait doubles with
            each retry and varies at random by up to 25 %, so that clients don't all
            come back at once.

    Raises:
        ValueError: if `url` has another form.
        ImportError: if `url` is a gRPC address and the package for it is missing.

    Example:
    >>> client = ServingClient("http://localhost:8501/v1/models/digits/labels/stable")
    >>> client.model, client.label
    ('digits', 'stable')
    """

    def __init__(self, url, timeout=60.0, retries=5, first_wait=0.25):
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
        self.url = url.rstrip("/")
        self.model = parts["model"]
        self.version = parts["version"] and int(parts["version"])
        self.label = parts["label"]
        self.timeout = timeout
        self.retries = retries
        self.first_wait = first_wait
        self._grpc = (
            _Grpc(parts["host"], parts["grpc"] == "grpcs") if parts["grpc"] else None
        )

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        """Close the gRPC connection."""
        if self._grpc is not None:
            self._grpc.channel.close()

    def predict(self, signature, inputs):
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
            answer = self._rest(f"{self.url}:predict", body)
            return _from_json(answer["outputs"])
        arrays = {name: _as_array(values) for name, values in inputs.items()}
        request = wire.encode_predict_request(
            self.model, signature, arrays, self.version, self.label
        )
        answer = self._call("PredictionService/Predict", request)
        outputs = wire.decode_predict_response(answer)
        return {name: _as_text(array) for name, array in outputs.items()}

    def status(self):
        """Return the state of each version, such as `{1: "AVAILABLE"}`."""
        if self._grpc is None:
            entries = self._rest(self.url)["model_version_status"]
            return {int(entry["version"]): entry["state"] for entry in entries}
        spec = wire.model_spec(self.model, self.version, label=self.label)
        answer = self._call("ModelService/GetModelStatus", wire.field(1, spec))
        return wire.decode_status(answer)

    def signatures(self):
        """Return the lists `inputs` and `outputs` of tensor names by signature."""
        if self._grpc is None:
            found = self._rest(f"{self.url}/metadata")["metadata"]["signature_def"]
            return {
                name: {
                    kind: sorted(entry.get(kind, ())) for kind in ("inputs", "outputs")
                }
                for name, entry in found["signature_def"].items()
                if not name.startswith("__")
            }
        spec = wire.model_spec(self.model, self.version, label=self.label)
        request = wire.field(1, spec) + wire.field(2, b"signature_def")
        answer = self._call("PredictionService/GetModelMetadata", request)
        return wire.decode_signatures(answer)

    def predict_files(self, paths, batch_size=8):
        """Classify image files and recordings of event cameras.

        Args:
            paths: list of str or path. Files, and folders to search for them; see
                `expand_files`.
            batch_size: int > 0. Image files per request. A recording is always sent
                alone.

        Yields:
            `FileAnswer` for each file, in order. Its `error` says if the file can't be
            read, or the server refuses it.

        Raises:
            ValueError: if a file is missing, or the model does not take its kind.
            OSError: if the server can't be reached or fails.
        """
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
                    f"{self.url} with the signatures {sorted(known)}"
                )
        for batch in _batches(files, batch_size):
            yield from self._predict_batch(batch)

    def _predict_batch(self, files):
        answers, inputs, asked = {}, [], []
        for path in files:
            try:
                read = read_recording if _is_recording(path) else Path.read_bytes
                inputs.append(read(path))
                asked.append(path)
            except (OSError, ValueError) as error:
                answers[path] = FileAnswer(path, [], [], f"can't be read: {error}")
        if asked and _is_recording(asked[0]):
            outputs = self.predict("predict_events_lenient", pad_events(inputs))
        elif asked:
            outputs = self.predict("predict_lenient", {"image_bytes": inputs})
        for row, path in enumerate(asked):
            status = outputs["status"][row]
            answers[path] = FileAnswer(
                path,
                [] if status else list(outputs["labels"][row]),
                [] if status else [float(score) for score in outputs["scores"][row]],
                status,
            )
        return [answers[path] for path in files]

    def _rest(self, url, body=None):
        data = None if body is None else json.dumps(body).encode()
        headers = {"Content-Type": "application/json"}

        def send():
            request = urllib.request.Request(url, data, headers)
            try:
                with urllib.request.urlopen(request, timeout=self.timeout) as response:
                    return json.load(response)
            except urllib.error.HTTPError as error:
                message = f"{url} answers {error.code}: {_message(error)}"
                if error.code in (429, 503, 504):
                    raise _Busy(message) from error
                kind = ValueError if error.code < 500 else OSError
                raise kind(message) from error
            except ValueError as error:
                raise OSError(f"{url} answers something else than JSON") from error
            except (OSError, http.client.HTTPException) as error:
                reason = getattr(error, "reason", None) or error
                raise _Busy(f"{url} can't be reached: {reason}") from error

        return self._again(send)

    def _call(self, method, request):
        return self._again(lambda: self._grpc.call(method, request, self.timeout))

    def _again(self, send):
        """Return what `send` returns; call it again while it raises `_Busy`."""
        for left in range(self.retries, -1, -1):
            try:
                return send()
            except _Busy as error:
                if not left:
                    raise OSError(f"{error} (sent {self.retries + 1} times)") from error
                wait = self.first_wait * 2 ** (self.retries - left)
                time.sleep(wait * random.uniform(0.75, 1.25))


class _Busy(Exception):
    """The request failed, and may be sent again."""


class _Grpc:
    """A gRPC channel that sends and receives bytes."""

    def __init__(self, host, secure):
        try:
            import grpc
        except ImportError as error:
            raise ImportError(
                "gRPC needs its package: pip install 'keras_qkformer[serving]'"
            ) from error
        self._module = grpc
        options = [
            ("grpc.max_receive_message_length", -1),
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
            message = f"the server answers {code.name}: {error.details()}"
            codes = self._module.StatusCode
            if code in (
                codes.UNAVAILABLE,
                codes.DEADLINE_EXCEEDED,
                codes.RESOURCE_EXHAUSTED,
            ):
                raise _Busy(message) from error
            refusals = (
                codes.INVALID_ARGUMENT,
                codes.NOT_FOUND,
                codes.FAILED_PRECONDITION,
                codes.OUT_OF_RANGE,
            )
            raise (ValueError if code in refusals else OSError)(message) from error


def expand_files(paths):
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
            known = (*IMAGES, *RECORDINGS)
            found = sorted(f for f in path.rglob("*") if f.suffix.lower() in known)
        if not found or not all(file.is_file() for file in found):
            raise ValueError(
                "There must be such a file, or a folder with files named "
                f"{', '.join((*IMAGES, *RECORDINGS))}. Received: {str(path)!r}"
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


def _from_json(outputs):
    if not isinstance(outputs, dict):
        raise OSError("The server's answer must name its outputs.")
    arrays = {name: np.array(values) for name, values in outputs.items()}
    return {
        name: array.astype(object) if array.dtype.kind == "U" else array
        for name, array in arrays.items()
    }


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


def _message(error):
    """Return the text of a server's error."""
    body = error.read()
    try:
        return json.loads(body)["error"]
    except (ValueError, KeyError, TypeError):
        return body[:200].decode(errors="replace") or error.reason
