"""A stand-in for TF Serving, where there is no such program: for tests alone.

Speaks the REST and gRPC of its public protocol files, predict, status and metadata, for
one version of one model, which TensorFlow's own loader answers with XLA's compiler off
and without Keras, as in a stock server. It makes no batches.

    python tests/stand_in_server.py saved_models/digits/1 digits [BUSY]

Prints the ports of REST and gRPC. The first BUSY requests over either get the answer
of a server that is too busy. It ends when its standard input does.
"""

import base64
import json
import re
import sys
import threading
from concurrent import futures
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import grpc
import numpy as np
from google.protobuf.json_format import MessageToDict

from keras_qkformer.serving import wire

LABEL = "stable"


class Server:
    """One version of a model, its name, and how many requests to turn away."""

    def __init__(self, version, name, busy):
        sys.modules["keras"] = None  # As on a machine without it.
        from keras_qkformer.serving.local_model import LocalModel

        self.model = LocalModel(version)
        self.version = int(Path(version).name)
        self.name = name
        self.busy = {"REST": busy, "gRPC": busy}
        self.lock = threading.Lock()

    def is_busy(self, kind):
        with self.lock:
            self.busy[kind] -= 1
            return self.busy[kind] >= 0

    def check(self, name, version=None, label=None):
        if name != self.name or version not in (None, self.version):
            raise LookupError(f"Servable not found for request: {name}, {version}")
        if label not in (None, LABEL):
            raise LookupError(f"Unrecognized servable version label: {label}")

    def signatures(self):
        return {k: v for k, v in self.model.signatures.items() if k[:2] != "__"}


def from_json(server, body):
    """`(signature, inputs, by rows?)` of the JSON of a request."""
    name = body.get("signature_name", "serving_default")
    if name not in server.model.signatures:
        raise ValueError(f"Serving signature name: {name!r} not found")
    infos = server.model.signatures[name].inputs
    if ("instances" in body) == ("inputs" in body):
        raise ValueError("Request must have one of 'instances' and 'inputs'")
    by_rows = "instances" in body
    values = body["instances" if by_rows else "inputs"]
    if by_rows and len(infos) == 1:
        (only,) = infos
        values = [
            row[only] if isinstance(row, dict) and only in row else row
            for row in values
        ]
        values = {only: values}
    elif by_rows:
        values = {key: [row[key] for row in values] for key in infos}
    elif len(infos) == 1 and not isinstance(values, dict):
        values = {next(iter(infos)): values}
    inputs = {}
    for key, value in values.items():
        if key not in infos:
            raise ValueError(f"JSON Value: no input {key!r}")
        inputs[key] = to_array(value, infos[key].dtype)
    return name, inputs, by_rows


def to_array(value, dtype):
    """An array of a value of JSON, for an input of this type."""
    import tensorflow as tf

    if dtype == 7:  # Texts.
        items = value if isinstance(value, list) else [value]
        array = np.empty(len(items), object)
        for i, item in enumerate(items):
            if isinstance(item, dict) and item.keys() == {"b64"}:
                array[i] = base64.b64decode(item["b64"])
            elif isinstance(item, str):
                array[i] = item.encode()
            else:
                raise ValueError(f"JSON Value: {str(item)[:40]} is not a string")
        return array
    return np.array(value, tf.as_dtype(dtype).as_numpy_dtype)


def to_json(outputs, by_rows):
    """The JSON of an answer, by rows or by outputs."""
    plain = {
        key: np.vectorize(bytes.decode, otypes=[object])(value)
        if value.dtype == object
        else value
        for key, value in outputs.items()
    }
    plain = {key: value.tolist() for key, value in plain.items()}
    if not by_rows:
        return {"outputs": plain}
    rows = [
        dict(zip(plain, row, strict=True)) for row in zip(*plain.values(), strict=True)
    ]
    return {"predictions": rows}


def rest_handler(server):
    """The class that answers over REST."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self):
            self.answer(self.get)

        def do_POST(self):
            self.answer(self.post)

        def answer(self, respond):
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            try:
                status, value = 200, respond(body)
            except LookupError as error:
                status, value = 404, {"error": str(error)}
            except BlockingIOError as error:
                status, value = 503, {"error": str(error)}
            except (ValueError, KeyError, TypeError) as error:
                status, value = 400, {"error": str(error)}
            content = json.dumps(value).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def find(self, ending):
            parts = re.fullmatch(
                r"/v1/models/([^/:]+)(?:/versions/(\d+)|/labels/(\w+))?" + ending,
                self.path,
            )
            if parts is None:
                raise ValueError(f"Malformed request: {self.command} {self.path}")
            name, version, label = parts.groups()
            server.check(name, version and int(version), label)

        def get(self, body):
            if self.path.endswith("/metadata"):
                self.find("/metadata")
                entries = {k: MessageToDict(v) for k, v in server.signatures().items()}
                return {
                    "model_spec": {"name": server.name, "version": str(server.version)},
                    "metadata": {"signature_def": {"signature_def": entries}},
                }
            self.find("")
            entry = {"version": str(server.version), "state": "AVAILABLE"}
            return {"model_version_status": [entry]}

        def post(self, body):
            self.find(":predict")
            if server.is_busy("REST"):
                raise BlockingIOError("The batch scheduling queue is full")
            name, inputs, by_rows = from_json(server, json.loads(body))
            return to_json(server.model.ask(name, inputs), by_rows)

        def log_message(self, *_):
            pass

    return Handler


def grpc_handlers(server):
    """What answers over gRPC."""

    def wrapped(respond):
        def handle(request, context):
            try:
                return respond(request)
            except LookupError as error:
                context.abort(grpc.StatusCode.NOT_FOUND, str(error))
            except BlockingIOError as error:
                context.abort(grpc.StatusCode.UNAVAILABLE, str(error))
            except ValueError as error:
                context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(error)[:4000])

        return grpc.unary_unary_rpc_method_handler(handle)

    def spec(request):
        values = dict(wire.fields(dict(wire.fields(request))[1]))
        version = dict(wire.fields(values[2]))[1] if 2 in values else None
        label = values[4].decode() if 4 in values else None
        server.check(values[1].decode(), version, label)

    def predict(request):
        if server.is_busy("gRPC"):
            raise BlockingIOError("The batch scheduling queue is full")
        name, version, signature, inputs, label = wire.decode_predict_request(request)
        server.check(name, version, label)
        if signature not in server.model.signatures:
            raise ValueError(f"Serving signature name: {signature!r} not found")
        outputs = server.model.ask(signature, inputs)
        return wire.encode_predict_response(name, server.version, signature, outputs)

    def status(request):
        spec(request)
        state = wire.field(1, server.version) + wire.field(2, 30)
        return wire.field(1, state)

    def metadata(request):
        spec(request)
        entries = b"".join(
            wire.field(
                1, wire.field(1, k.encode()) + wire.field(2, v.SerializeToString())
            )
            for k, v in server.signatures().items()
        )
        kind = b"type.googleapis.com/tensorflow.serving.SignatureDefMap"
        packed = wire.field(1, kind) + wire.field(2, entries)
        return wire.field(2, wire.field(1, b"signature_def") + wire.field(2, packed))

    return (
        grpc.method_handlers_generic_handler(
            "tensorflow.serving.PredictionService",
            {"Predict": wrapped(predict), "GetModelMetadata": wrapped(metadata)},
        ),
        grpc.method_handlers_generic_handler(
            "tensorflow.serving.ModelService", {"GetModelStatus": wrapped(status)}
        ),
    )


def main(version, name, busy="0"):
    """Serve on loopback until standard input ends."""
    server = Server(version, name, int(busy))
    rest = ThreadingHTTPServer(("127.0.0.1", 0), rest_handler(server))
    rest.daemon_threads = True
    threading.Thread(target=rest.serve_forever, daemon=True).start()
    unlimited = [
        ("grpc.max_receive_message_length", -1),
        ("grpc.max_send_message_length", -1),
    ]
    rpc = grpc.server(futures.ThreadPoolExecutor(16), options=unlimited)
    rpc.add_generic_rpc_handlers(grpc_handlers(server))
    rpc_port = rpc.add_insecure_port("127.0.0.1:0")
    rpc.start()
    print(rest.server_address[1], rpc_port, flush=True)
    sys.stdin.read()
    rpc.stop(None)


if __name__ == "__main__":
    main(*sys.argv[1:])
