"""The client and servers that lie, stall or flood: one clear line, within its deadline.

The servers are sockets on loopback that answer as a test says, whatever was asked.
"""

import contextlib
import gzip
import json
import socket
import threading
import time

import fuzzing
import grpc
import numpy as np
import pytest
from fuzz import answers

from keras_qkformer.cli.main import main
from keras_qkformer.events import make_events
from keras_qkformer.events.aedat2 import write_aedat2
from keras_qkformer.serving import wire
from keras_qkformer.serving.client import ServingClient

pytestmark = pytest.mark.backend_independent


@contextlib.contextmanager
def server(answer):
    """The address of a model whose server calls `answer(socket)` per request."""
    listening = socket.create_server(("127.0.0.1", 0))
    listening.settimeout(0.05)
    over = threading.Event()

    def talk(connection):
        with connection, contextlib.suppress(OSError):
            connection.settimeout(5)
            connection.recv(1 << 16)
            answer(connection)

    def serve():
        while not over.is_set():
            with contextlib.suppress(TimeoutError):
                connection, _ = listening.accept()
                threading.Thread(target=talk, args=(connection,), daemon=True).start()

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}/v1/models/digits"
    finally:
        over.set()
        thread.join(timeout=10)
        listening.close()


def http(body, head="", status="200 OK"):
    """The bytes of an answer."""
    head = head or f"Content-Length: {len(body)}\r\n"
    return f"HTTP/1.1 {status}\r\n{head}\r\n".encode() + body


def of_json(value):
    return http(json.dumps(value).encode())


def trickle(start, part=b" ", seconds=0.01):
    """An answer that never ends, a part at a time."""

    def answer(connection):
        connection.sendall(start)
        for _ in range(2000):
            time.sleep(seconds)
            connection.sendall(part)

    return answer


def flood(start, part):
    def answer(connection):
        connection.sendall(start)
        for _ in range(200):
            connection.sendall(part)

    return answer


MB = bytes(1 << 20)
LATE = "has not answered in time"
LARGE = "answers more than 1048576 bytes"
STALLING = {
    "silence": (lambda connection: time.sleep(2), LATE),
    "a body byte by byte": (trickle(http(b"", "Content-Length: 999999\r\n")), LATE),
    "a header byte by byte": (trickle(b"HTTP/1.1 200 OK\r\nX: ", b"x"), LATE),
    "headers one by one": (trickle(b"HTTP/1.1 200 OK\r\n", b"X: y\r\n", 0.02), LATE),
    "chunks byte by byte": (
        trickle(http(b"", "Transfer-Encoding: chunked\r\n"), b"1\r\n \r\n"),
        LATE,
    ),
    "continue for ever": (trickle(b"", b"HTTP/1.1 100 Continue\r\n\r\n"), LATE),
    "an error byte by byte": (
        trickle(http(b"", "Content-Length: 999999\r\n", "400 Bad")),
        LATE,
    ),
    "an endless body": (flood(http(b"", "Content-Length: 99999999999\r\n"), MB), LARGE),
    "an endless body of unknown length": (flood(http(b"", "X: y\r\n"), MB), LARGE),
    "endless chunks": (
        flood(
            http(b"", "Transfer-Encoding: chunked\r\n"), b"100000\r\n" + MB + b"\r\n"
        ),
        LARGE,
    ),
}


@pytest.mark.parametrize("name", STALLING)
def test_no_server_holds_the_client_beyond_its_deadline(name):
    answer, told = STALLING[name]
    with server(answer) as url:
        client = ServingClient(url, timeout=0.5, first_wait=0.01, max_bytes=1 << 20)
        start = time.monotonic()
        with pytest.raises(OSError, match=told):
            client.status()
        assert time.monotonic() - start < 3


def test_the_deadline_holds_for_all_retries_together():
    with server(lambda connection: connection.sendall(http(b"", "", "503 x"))) as url:
        client = ServingClient(url, timeout=0.5, retries=1000, first_wait=0.01)
        start = time.monotonic()
        with pytest.raises(OSError, match=r"answers 503: x \(sent \d times\)"):
            client.status()
        assert time.monotonic() - start < 3


ROWS = {"labels": [["cat"]], "scores": [[0.9]], "status": [""]}
ODD = {
    "no HTTP": b"\x16\x03\x01",
    "HTTP/0.9": b"<html>",
    "no JSON": http(b"<html>"),
    "compressed": http(
        gzip.compress(bytes(10**6)), "Content-Encoding: gzip\r\nContent-Length: 99\r\n"
    ),
    "less than promised": http(b"{}", "Content-Length: 10\r\n"),
    "a chunk of no size": http(b"zz\r\n", "Transfer-Encoding: chunked\r\n"),
    "a chunk of negative size": http(b"-5\r\nx", "Transfer-Encoding: chunked\r\n"),
    "deep": http(b"[" * 10**5),
    "an error that is deep": http(b"[" * 10**4, "", "500 x"),
    "an error of no text": http(b'{"error": {"a": [1]}}', "", "500 x"),
    "an error with terminal escapes": http(b"\x1b[2J\nok", "", "500 x"),
    "another host": http(
        b"", "Location: http://127.0.0.1:1/\r\nContent-Length: 0\r\n", "302 Found"
    ),
    "a file": http(
        b"", "Location: file:///etc/passwd\r\nContent-Length: 0\r\n", "301 Moved"
    ),
    **{
        f"outputs {number}": of_json(value)
        for number, value in enumerate(
            [
                None,
                [],
                "text",
                {},
                {"outputs": None},
                {"outputs": []},
                {"outputs": {}},
                {"outputs": {**ROWS, "scores": [[float("nan")]]}},
                {"outputs": {**ROWS, "scores": [[float("inf")]]}},
                {"outputs": {**ROWS, "scores": [[1e308]]}},
                {"outputs": {**ROWS, "scores": [["0.9"]]}},
                {"outputs": {**ROWS, "scores": [[True]]}},
                {"outputs": {**ROWS, "scores": [[None]]}},
                {"outputs": {**ROWS, "scores": [[0.9, 0.1]]}},
                {"outputs": {**ROWS, "scores": [0.9]}},
                {"outputs": {**ROWS, "scores": [[10**400]]}},
                {"outputs": {**ROWS, "labels": [["cat"], ["cat"]]}},
                {"outputs": {**ROWS, "labels": [[3]]}},
                {"outputs": {**ROWS, "labels": "cat"}},
                {"outputs": {**ROWS, "labels": [[]], "scores": [[]]}},
                {"outputs": {**ROWS, "status": [None]}},
                {"outputs": {**ROWS, "status": ["", ""]}},
                {"outputs": {**ROWS, "status": [[""]]}},
                {"outputs": {**ROWS, "labels": [[{"cat": 1}]]}},
                {"outputs": {**ROWS, "labels": [[["cat"], []]]}},
            ]
        )
    },
}
SIGNATURES = of_json(
    {"metadata": {"signature_def": {"signature_def": {"predict_lenient": {}}}}}
)


def predictions(odd):
    """Answers that a model has `predict_lenient`, and `odd` to anything else."""
    asked = []

    def answer(connection):
        asked.append(1)
        connection.sendall(SIGNATURES if len(asked) == 1 else odd)

    return answer


def test_a_recording_is_sent_as_the_training_read_it(tmp_path, monkeypatch):
    path, asked = tmp_path / "cup.aedat", []
    events = make_events([10, 20], [3, 5], [1, 100], [1, 0])
    with open(path, "wb") as file:
        write_aedat2(file, events, orientation="spikingjelly")
    names = {"predict_events_lenient": {}}
    monkeypatch.setattr(ServingClient, "signatures", lambda client: names)

    def predict(client, signature, inputs):
        asked.append(inputs)
        texts = np.array([["cup"]], object)
        status, scores = np.array([""], object), np.array([[1.0]])
        return {"status": status, "labels": texts, "scores": scores}

    monkeypatch.setattr(ServingClient, "predict", predict)
    client = ServingClient("http://localhost:8501/v1/models/cups")
    (answer,) = client.predict_files([path], orientation="spikingjelly")
    assert answer.labels == ["cup"]
    for name in "xy":
        assert asked[0][name].tolist() == [events[name].tolist()]
    with pytest.raises(ValueError, match="orientation must be one of"):
        list(client.predict_files([path], orientation="upright"))


@pytest.mark.parametrize("name", ODD)
def test_an_odd_answer_is_one_error_and_no_traceback(name, tmp_path):
    (tmp_path / "a.png").write_bytes(b"x")
    with server(predictions(ODD[name])) as url:
        client = ServingClient(url, timeout=2, retries=0)
        with pytest.raises((OSError, ValueError)) as error:
            list(client.predict_files([tmp_path / "a.png"]))
    assert url in str(error.value)
    assert str(error.value).isprintable()
    assert len(str(error.value)) < 1200
    if name in ("another host", "a file"):  # Not followed.
        assert "answers 30" in str(error.value)


@pytest.mark.parametrize(
    "value",
    [
        [],
        {"model_version_status": 3},
        {"model_version_status": [{"version": "x", "state": "AVAILABLE"}]},
        {"model_version_status": [{"version": 1e999, "state": "AVAILABLE"}]},
        {"model_version_status": [{"version": 1, "state": None}]},
        {"metadata": {"signature_def": {"signature_def": []}}},
        {"metadata": {"signature_def": {"signature_def": {"a": {"inputs": 3}}}}},
    ],
)
def test_an_odd_state_of_a_model_is_an_error(value):
    with server(lambda connection: connection.sendall(of_json(value))) as url:
        client = ServingClient(url, timeout=2)
        for ask in (client.status, client.signatures):
            with pytest.raises(OSError, match="something else than TF Serving"):
                ask()


def test_labels_can_not_act_on_the_terminal_or_forge_lines(tmp_path, capsys):
    path = tmp_path / "a.png"
    path.write_bytes(b"x")
    label = "cat\x1b[2J\nforged.png\tdog:1.0000\u202e"
    outputs = {**ROWS, "labels": [[label]]}
    with server(predictions(of_json({"outputs": outputs}))) as url:
        status = main(["predict", "--url", url, str(path), "--timeout", "5"])
    told = capsys.readouterr()
    assert status == 0, told.err
    shown = r"cat\x1b[2J\nforged.png\tdog:1.0000\u202e:0.9000"
    assert told.out == f"{path}\t{shown}\n"


def test_an_error_of_the_server_is_one_line_of_the_command(tmp_path, capsys):
    path = tmp_path / "a.png"
    path.write_bytes(b"x")
    odd = http(b'{"error": "\\u001b[2J\\nkeras-qkformer: all is well"}', "", "400 x")
    with server(predictions(odd)) as url:
        status = main(["predict", "--url", url, str(path)])
    told = capsys.readouterr()
    assert (status, told.out) == (2, "")
    assert len(told.err.splitlines()) == 1
    assert r"answers 400: \x1b[2J\nkeras-qkformer: all is well" in told.err


def test_arrays_of_answers_are_as_numpy_would_make_them():
    for values in (3, 1.5, [], [[]], [1, 2], [[1, 2.5]], [[True], [False]]):
        with server(
            lambda connection, v=values: connection.sendall(
                of_json({"outputs": {"a": v}})
            )
        ) as url:
            array = ServingClient(url).predict("a", {})["a"]
        np.testing.assert_array_equal(array, np.array(values))
        assert array.dtype == np.array(values).dtype


@pytest.fixture
def grpc_server():
    """`serve(answer)`: the address of a model whose server answers with these bytes."""
    servers = []

    def serve(answer):
        class Any(grpc.GenericRpcHandler):
            def service(self, _):
                return grpc.unary_unary_rpc_method_handler(lambda request, _: answer())

        from concurrent import futures

        one = grpc.server(futures.ThreadPoolExecutor(2))
        one.add_generic_rpc_handlers((Any(),))
        port = one.add_insecure_port("127.0.0.1:0")
        one.start()
        servers.append(one)
        return f"grpc://127.0.0.1:{port}/digits"

    yield serve
    for one in servers:
        one.stop(None)


def claim(*shape):
    sizes = b"".join(wire.field(2, wire.field(1, size)) for size in shape)
    tensor = wire.field(1, 1) + wire.field(2, sizes) + wire.field(5, b"\0\0\0\0")
    return wire.field(1, wire.field(1, b"scores") + wire.field(2, tensor))


@pytest.mark.parametrize(
    "answer",
    [
        b"\xff" * 20,
        wire.field(1, 3),
        wire.field(1, wire.field(1, 3) + wire.field(2, 4)),
        claim(10**6, 10**6),
        claim(2**63),
        claim(-(2**40), -(2**40)),
    ],
)
def test_an_odd_answer_over_grpc_is_an_error(grpc_server, answer):
    with ServingClient(grpc_server(lambda: answer), timeout=5) as client:
        with pytest.raises(OSError, match="something else than TF Serving"):
            client.predict("predict_lenient", {})


def test_a_large_or_late_answer_over_grpc_is_an_error(grpc_server):
    large = grpc_server(lambda: MB * 2)
    with ServingClient(large, timeout=5, max_bytes=1 << 20) as client:
        with pytest.raises(OSError, match="larger than max"):
            client.predict("predict_lenient", {})
    late = grpc_server(lambda: time.sleep(2) or b"")
    start = time.monotonic()
    with ServingClient(late, timeout=0.3) as client:
        with pytest.raises(OSError, match="DEADLINE_EXCEEDED"):
            client.predict("predict_lenient", {})
    assert time.monotonic() - start < 2


def test_mutated_answers_end_as_they_should():
    counts = fuzzing.run(answers.case, seed=0, least=300)
    assert counts["FAILED"] == 0
    assert min(counts["answered"], counts["refused"]) > 30
