"""Fuzz the client: mutated answers of a server over REST and gRPC."""

import copy
import json
import sys
from unittest import mock

import fuzzing
import numpy as np

from keras_qkformer.serving import client, wire
from keras_qkformer.serving.rest import parse_answer

OUTPUTS = {
    "labels": [["cat", "dog"], ["", ""]],
    "scores": [[0.75, 0.25], [0, 0]],
    "class_ids": [[0, 1], [-1, -1]],
    "logits": [[1.0986, 0.0], [0.0, 0.0]],
    "status": ["", "damaged"],
}
STATUS = {"model_version_status": [{"version": "1", "state": "AVAILABLE"}]}
SIGNATURES = {"predict_lenient": {"inputs": {"image_bytes": {}}, "outputs": {}}}
METADATA = {"metadata": {"signature_def": {"signature_def": SIGNATURES}}}
ODD = (
    *(None, True, -1, 0.5, 2**64, 10**400, 1e308, float("nan"), float("-inf")),
    *("", "\x1b[2J\n", "x" * 10**5, [], {}, [[]], {"": {}}, [None], ["a", 1]),
)


def message():
    """The answer `OUTPUTS` over gRPC."""
    arrays = {name: np.array(value) for name, value in OUTPUTS.items()}
    arrays["scores"] = arrays["scores"].astype("float32")
    return wire.encode_predict_response("m", 1, "predict_lenient", arrays)


def mutate_value(random, value):
    """Replace, remove, repeat or nest one part of a value of JSON."""
    parents = [(None, None)]
    open_values = [value]
    while open_values:
        part = open_values.pop()
        keys = part if isinstance(part, dict) else range(len(part))
        for key in list(keys):
            parents.append((part, key))
            if isinstance(part[key], dict | list):
                open_values.append(part[key])
    parent, key = random.choice(parents)
    odd = copy.deepcopy(random.choice(ODD))
    if parent is None:
        return odd
    match random.randrange(4):
        case 0:
            parent[key] = odd
        case 1:
            del parent[key]
        case 2 if isinstance(parent, list):
            parent.append(odd)
        case 2:
            parent[random.choice(list(parent))] = parent[key]
        case 3:
            for _ in range(random.choice((1, 9, 1000))):
                parent[key] = [parent[key]] * random.choice((1, 1, 1, 2))
                if isinstance(parent[key], list) and len(parent[key]) > 1:
                    break
    return value


def mutate_bytes(random, data):
    """Change a few bytes or parts of data."""
    data = bytearray(data)
    for _ in range(random.randrange(1, 4)):
        place = random.randrange(len(data) + 1)
        end = place + random.randrange(1, 20)
        match random.randrange(5):
            case 0:
                data[place : place + 1] = random.randbytes(1)
            case 1:
                del data[place:end]
            case 2:
                data[place:place] = data[place:end] * random.choice((1, 2, 1000))
            case 3:
                data[place:end] = random.choice((b"\xff" * 9, b"[" * 5000, b"-1e999"))
            case 4 if random.randrange(5) == 0:
                del data[place:]
    return bytes(data)


def case(random, folder):
    """One mutated answer to one question."""
    (folder / "a.png").write_bytes(b"x")
    (folder / "b.png").write_bytes(b"y")
    ask = random.choice(("predict", "predict", "predict", "status", "signatures"))
    over = random.choice(("http://h/v1/models/m", "grpc://h:1/m"))
    if ask != "predict":
        over = "http://h/v1/models/m"
    good = {"predict": {"outputs": OUTPUTS}, "status": STATUS, "signatures": METADATA}
    if over.startswith("grpc"):
        body = mutate_bytes(random, message())
    else:
        value = copy.deepcopy(good[ask])
        for _ in range(random.randrange(3)):
            if isinstance(value, dict | list):
                value = mutate_value(random, value)
        body = json.dumps(value).encode()
        if random.randrange(2):
            body = mutate_bytes(random, body)
    known = {"predict_lenient": {"inputs": [], "outputs": []}}
    with (
        mock.patch.object(
            client.Rest, "ask", lambda _, url, *rest: parse_answer(url, body)
        ),
        client.ServingClient(over) as one,
    ):
        if over.startswith("grpc"):
            one._grpc = mock.Mock(call=lambda *_: body)
        try:
            if ask != "predict":
                getattr(one, ask)()
                return "answered"
            with mock.patch.object(one, "signatures", lambda: known):
                answers = list(one.predict_files([folder / "a.png", folder / "b.png"]))
        except OSError as error:  # The server's fault, not that of the request.
            raise ValueError(str(error)) from error
    assert [answer.path.name for answer in answers] == ["a.png", "b.png"]
    for _, labels, scores, error in answers:
        assert len(labels) == len(scores) and bool(error) != bool(labels)
        assert all(isinstance(label, str) for label in [*labels, error])
        assert all(-0.01 < score < 1.01 for score in scores)
    return "answered"


def main(arguments=None):
    """Run the fuzzer; see `fuzzing.main`."""
    return fuzzing.main(case, arguments)


if __name__ == "__main__":
    sys.exit(main())
