"""A client of TF Serving: REST with the standard library, gRPC with the extra."""

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
_REQUEST_BYTES = 16 << 20  # Of image files in one request, if there is more than one.


class FileAnswer(NamedTuple):
    """What the server says to one file.

    Attributes:
        path: `Path`.
        labels: list of str, the most probable class first.
        scores: list of float, their probabilities.
        error: str. Why there is no answer, or empty.
    """

    path: Path
    labels: list
    scores: list
    error: str = ""


class ServingClient:
    """A model on a running TF Serving.

    A request that the server is too busy for, that runs out of time, or finds no server
    is sent again after a while, each time a longer one.

    Args:
        url: str. `http://host:8501/v1/models/NAME` for REST or `grpc://host:8500/NAME`
            (needs the extra `serving`); `https://` and `grpcs://` with TLS. Perhaps
            with `/versions/2` or `/labels/stable` behind it: else the newest version.
        timeout: float > 0. Seconds for one request.
        retries: int >= 0. How often to send a request again.
        first_wait: float >= 0. Seconds before the first time; they double, and vary by
            half so that clients don't come back all at once.

    Raises:
        ValueError: if the address has another form.
        ImportError: for gRPC without its package.

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
        """Close the connection of gRPC."""
        if self._grpc is not None:
            self._grpc.channel.close()

    def predict(self, signature, inputs):
        """Outputs of a signature.

        Args:
            signature: str. Such as `"serving_default"`.
            inputs: dict from names to arrays, or lists of bytes for image files.

        Returns:
            Dict from names to arrays; texts as arrays of str objects.

        Raises:
            ValueError: if the server refuses the request.
            OSError: if it can't be reached or fails.
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
        """Dict from versions to their states, such as `{1: "AVAILABLE"}`."""
        if self._grpc is None:
            entries = self._rest(self.url)["model_version_status"]
            return {int(entry["version"]): entry["state"] for entry in entries}
        spec = wire.model_spec(self.model, self.version, label=self.label)
        answer = self._call("ModelService/GetModelStatus", wire.field(1, spec))
        return wire.decode_status(answer)

    def signatures(self):
        """Dict from signatures to their `inputs` and `outputs`, lists of names."""
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
        """Classes of image files and recordings of event cameras.

        Args:
            paths: files, and folders with files named as such.
            batch_size: int > 0. Image files per request.

        Yields:
            `FileAnswer` for each file, in order. A file that can't be read, or that the
            server has no answer to, has an error there.

        Raises:
            ValueError: if there is no such file, or the model takes others.
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
        """What `send` returns, sent again while the server is busy."""
        for left in range(self.retries, -1, -1):
            try:
                return send()
            except _Busy as error:
                if not left:
                    raise OSError(f"{error} (sent {self.retries + 1} times)") from error
                wait = self.first_wait * 2 ** (self.retries - left)
                time.sleep(wait * random.uniform(0.75, 1.25))


class _Busy(Exception):
    """A request that may be sent again."""


class _Grpc:
    """A channel that sends and receives bytes."""

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
    """Files, and those of folders that are named as images or recordings.

    Args:
        paths: str or path of each file or folder.

    Returns:
        List of `Path`, in the order given, those of a folder sorted.

    Raises:
        ValueError: if there is no such file, or none in a folder.
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
    """Lists of files for one request each: a recording is alone."""
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
    """An array; of bytes objects as such, which NumPy would cut at zero bytes."""
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
    """The text of a server's error."""
    body = error.read()
    try:
        return json.loads(body)["error"]
    except (ValueError, KeyError, TypeError):
        return body[:200].decode(errors="replace") or error.reason
