"""Bundles as servers and clients meet them: the loader, the check, the stand-in.

Where a `tensorflow_model_server` is on the PATH, it is asked as well.
"""

import contextlib
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from harness import free_port
from saved_presets import save_preset

from keras_qkformer.cli.main import main
from keras_qkformer.manifest import write_manifest
from keras_qkformer.serving.check import find_version, serve_check
from keras_qkformer.serving.check_answers import frames_to_events
from keras_qkformer.serving.client import ServingClient
from keras_qkformer.serving.export import export_saved_model
from keras_qkformer.serving.graph_operations import check_operations
from keras_qkformer.serving.padded_events import padded_events_to_frames
from keras_qkformer.serving.wire import pad_events

pytestmark = pytest.mark.backend_independent
Image = pytest.importorskip("PIL.Image", reason="makes the files")
HERE = Path(__file__).parent
# More of them show more: MUTATED_FILES=10000 LOAD_CLIENTS=50 LOAD_SECONDS=60.
FILES = int(os.environ.get("MUTATED_FILES", "200"))
CLIENTS = int(os.environ.get("LOAD_CLIENTS", "16"))
SECONDS = float(os.environ.get("LOAD_SECONDS", "0.5"))


@pytest.fixture(scope="module")
def bundles(tmp_path_factory):
    """Folder with the models `images` and `events`, each with one version."""
    # Made before any test of the module sets its seed. With this one, a frame that gets
    # the events of another changes the logits.
    keras.utils.set_random_seed(1)
    folder = tmp_path_factory.mktemp("bundles")
    save_preset(folder / "presets" / "images", in_channels=3)
    save_preset(
        folder / "presets" / "events",
        static=False,
        in_channels=2,
        family="cifar",
        image_size=16,
    )
    temporary = tmp_path_factory.mktemp("temporary")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tempfile, "tempdir", str(temporary))
        for name in ("images", "events"):
            export_saved_model(
                folder / "presets" / name, folder / name, batch_sizes=(1, 4)
            )
    # AutoGraph writes functions there; a process that is killed leaves them behind.
    # TensorFlow's own `save` has one converted; ours have none.
    written = [path.read_text() for path in temporary.glob("__autograph*")]
    assert all("def tf__signature_wrapper(" in text for text in written)
    return folder


@contextlib.contextmanager
def running(command, ready, folder):
    """A server until the block ends; `ready` waits for it and gives its ports."""
    with open(folder / "server.log", "w") as log:
        process = subprocess.Popen(
            [str(part) for part in command],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        )
        try:
            yield ready(process)
        finally:
            process.kill()
            process.wait(timeout=60)
            process.stdin.close()
            process.stdout.close()


def stand_in(version, name, folder, busy=0):
    """The stand-in server: `(REST port, gRPC port)` inside the block."""
    script = HERE.parent / "stand_in_server.py"
    command = [sys.executable, script, version, name, busy]
    return running(
        command, lambda p: tuple(map(int, p.stdout.readline().split())), folder
    )


def real_server(model, name, folder):
    """The same of `tensorflow_model_server`; skips the test where there is none."""
    binary = shutil.which("tensorflow_model_server")
    if binary is None:
        pytest.skip("there is no tensorflow_model_server on the PATH")
    ports = [free_port(), free_port()]

    def ready(process):
        client = ServingClient(f"http://127.0.0.1:{ports[0]}/v1/models/{name}")
        assert client.status() == {1: "AVAILABLE"}
        return ports

    command = [
        binary,
        f"--rest_api_port={ports[0]}",
        f"--port={ports[1]}",
        f"--model_name={name}",
        f"--model_base_path={model}",
    ]
    return running(command, ready, folder)


@pytest.fixture(scope="module", params=["images", "events"])
def server(request, bundles, tmp_path_factory):
    """`(name, REST address, gRPC address)` of a stand-in for one of the bundles."""
    name = request.param
    folder = tmp_path_factory.mktemp("server")
    with stand_in(bundles / name / "1", name, folder) as (rest, rpc):
        yield (
            name,
            f"http://127.0.0.1:{rest}/v1/models/{name}",
            f"grpc://127.0.0.1:{rpc}/{name}",
        )


def test_the_check_passes_in_a_fresh_process(bundles, capfd):
    status = serve_check(bundles / "events", bundles / "presets/events", seconds=0.01)
    lines = capfd.readouterr().out.splitlines()
    assert status == 0, lines
    assert lines[-1].endswith(" passed, 0 failed")
    assert all(line.startswith("ok") for line in lines[:-1])
    for wanted in ("batch 17", "p99", "warm-up requests answered", "in reverse order"):
        assert any(wanted in line for line in lines)


def test_noise_that_stands_in_for_examples_is_frames_of_events(bundles):
    examples = np.load(bundles / "events" / "1" / "assets.extra" / "examples.npz")
    frames = examples["images"]
    assert frames.shape == (2, 2, 16, 16, 2)
    assert (frames.sum((2, 3, 4)) == 16 * 16 * 2).all()
    assert len(np.unique(frames)) > 3
    inputs = pad_events([frames_to_events(x, "number") for x in frames])
    again, reasons = padded_events_to_frames(
        **inputs, num_frames=2, sensor_size=(16, 16), split_by="number"
    )
    assert not any(reasons.numpy())
    np.testing.assert_array_equal(again, frames)


def test_the_check_fails_for_another_models_answers_and_a_damaged_warmup_file(
    bundles, tmp_path, capfd
):
    save_preset(tmp_path / "other", in_channels=3, embed_dim=32)
    version = tmp_path / "1"
    shutil.copytree(bundles / "images" / "1", version)
    path = version / "assets.extra" / "tf_serving_warmup_requests"
    with tf.io.TFRecordWriter(str(path)) as file:
        file.write(b"no request")
    write_manifest(version)
    assert serve_check(version, tmp_path / "other", seconds=0.01) == 1
    told = capfd.readouterr().out
    assert "FAILED serving_default, batch 1: largest difference" in told
    assert "FAILED warm-up: A message must be whole" in told


def _without_inputs(path):
    metadata = json.loads(path.read_text())
    changed = {"other": metadata["signatures"]["serving_default"]}
    path.write_text(json.dumps({**metadata, "signatures": changed}))


@pytest.mark.parametrize(
    ("file", "damage", "message"),
    [
        (
            "assets.extra/tf_serving_warmup_requests",
            lambda path: path.write_bytes(bytes(300)),
            "FAILED warm-up: .*corrupted record at 0",
        ),
        (
            "assets.extra/tf_serving_warmup_requests",
            Path.unlink,
            "FAILED warm-up: there is no file assets.extra/tf_serving_warmup_requests",
        ),
        (
            "assets.extra/metadata.json",
            _without_inputs,
            "FAILED other: first answer: other has the inputs",
        ),
        (
            "variables/variables.data-00000-of-00001",
            lambda path: path.write_bytes(bytes(300)),
            "FAILED A SavedModel must be one that TensorFlow can load",
        ),
        (
            "saved_model.pb",
            lambda path: path.write_bytes(b""),
            "FAILED A SavedModel must be one that TensorFlow can load",
        ),
        ("saved_model.pb", Path.unlink, "FAILED .*No such file"),
    ],
)
def test_a_damaged_bundle_fails_the_check_in_one_line(
    bundles, tmp_path, capfd, file, damage, message
):
    version = shutil.copytree(find_version(bundles / "images"), tmp_path / "1")
    damage(version / file)
    write_manifest(version)
    assert serve_check(version, seconds=0.001) == 1
    said, errors = capfd.readouterr()
    assert re.search(message, said)
    assert re.search(r"\d+ passed, \d+ failed\n$", said)
    assert "Traceback" not in errors


def test_a_server_passes_the_check(server, bundles, capsys):
    name, rest, rpc = server
    # One way for each: other tests compare the two.
    url = rest if name == "images" else rpc
    status = serve_check(bundles / name, url=url, seconds=0.01)
    assert status == 0, capsys.readouterr().out


@pytest.mark.parametrize("name", ["images", "events"])
def test_the_real_server_passes_the_check(bundles, name, tmp_path, capsys):
    with real_server(bundles / name, name, tmp_path) as (rest, rpc):
        for url in (
            f"http://127.0.0.1:{rest}/v1/models/{name}",
            f"grpc://127.0.0.1:{rpc}/{name}",
        ):
            status = serve_check(bundles / name, url=url, seconds=0.01)
            assert status == 0, capsys.readouterr().out


def test_status_and_signatures_are_the_same_over_both(server, bundles):
    name, *addresses = server
    path = bundles / name / "1" / "assets.extra" / "metadata.json"
    wanted = {
        signature: {kind: sorted(entry[kind]) for kind in ("inputs", "outputs")}
        for signature, entry in json.loads(path.read_text())["signatures"].items()
    }
    for url in addresses:
        for place in ("", "/versions/1", "/labels/stable"):
            with ServingClient(url + place) as client:
                assert client.status() == {1: "AVAILABLE"}
                assert client.signatures() == wanted


def test_requests_that_can_not_be_answered_are_refused(server):
    name, *addresses = server
    wrong = {
        "images": {
            "predict_pixels": [
                {"images": np.zeros((1, 8, 8), "float32")},
                {"images": np.zeros((1, 8, 8, 1), "float32")},
                {"images": np.zeros((0, 8, 8, 3), "float32")},
                {"frames": np.zeros((1, 8, 8, 3), "float32")},
                *[
                    {"images": np.full((2, 8, 8, 3), value, "float32")}
                    for value in (-0.1, 255.1, np.nan, np.inf)
                ],
                {},
            ],
            "serving_default": [{"image_bytes": np.zeros((1, 3))}],
            "unknown": [{"images": np.zeros((1, 8, 8, 3), "float32")}],
        },
        "events": {
            "predict_frames": [
                {"frames": np.zeros((1, 3, 16, 16, 2), "float32")},
                {"frames": np.zeros((0, 2, 16, 16, 2), "float32")},
                *[
                    {"frames": np.full((2, 2, 16, 16, 2), value, "float32")}
                    for value in (-1, np.nan)
                ],
            ],
            "predict_events": [
                {k: np.zeros((2, 3), "int32") for k in ("t", "x", "y", "p")},
                {
                    **{
                        k: np.zeros((2, 3), "int64" if k == "t" else "int32")
                        for k in "txyp"
                    },
                    "num_events": np.ones(3, "int32"),
                },
            ],
        },
    }
    for url in addresses:
        with ServingClient(url) as client:
            for signature, many in wrong[name].items():
                for inputs in many:
                    with pytest.raises(ValueError, match="answers"):
                        client.predict(signature, inputs)
            good = _good_inputs(name)
            assert client.predict("serving_default", good)["logits"].shape == (2, 10)
        with ServingClient(f"{url}/versions/9") as client:
            with pytest.raises(ValueError, match="Servable not found"):
                client.predict("serving_default", good)


def test_a_stream_refuses_frames_that_are_no_counts(bundles):
    step = tf.saved_model.load(bundles / "events" / "1").signatures["stream"]
    inputs = {
        name: tf.zeros((2, *spec.shape[1:]), spec.dtype)
        for name, spec in step.structured_input_signature[1].items()
        if name != "frame"
    }
    inputs["frame"] = np.zeros((2, 16, 16, 2), "float32")
    step(**inputs)
    for value, told in ((-1, "not from 0"), (np.nan, "not finite")):
        inputs["frame"][1, 3, 4, 0] = value
        with pytest.raises(tf.errors.InvalidArgumentError) as error:
            step(**inputs)
        assert f"frame[1] is with values that are {told}" in error.value.message


def _good_inputs(name):
    if name == "events":
        return {"frames": np.ones((2, 2, 16, 16, 2), "float32")}
    image = tf.io.encode_png(np.zeros((8, 8, 3), "uint8")).numpy()
    return {"image_bytes": [image, image]}


def test_a_busy_server_is_asked_again(bundles, tmp_path):
    with stand_in(bundles / "images" / "1", "images", tmp_path, busy=3) as (rest, rpc):
        for url in (
            f"http://127.0.0.1:{rest}/v1/models/images",
            f"grpc://127.0.0.1:{rpc}/images",
        ):
            with ServingClient(url, retries=1, first_wait=0.01) as client:
                with pytest.raises(OSError, match=r"queue is full \(sent 2 times\)"):
                    client.predict("serving_default", _good_inputs("images"))
                client.predict("serving_default", _good_inputs("images"))


def test_no_server_is_an_error_of_one_line(tmp_path, capsys):
    (tmp_path / "a.png").write_bytes(b"")
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))  # And does not listen.
        url = f"http://127.0.0.1:{unused.getsockname()[1]}/v1/models/digits"
        status = main(
            ["predict", "--url", url, "--retries", "0", str(tmp_path / "a.png")]
        )
    error = capsys.readouterr().err
    assert status == 2
    assert len(error.splitlines()) == 1
    assert "can't be reached: Connection refused" in error or "Errno 111" in error


@pytest.mark.parametrize(
    "url", ["localhost:8501", "http://localhost:8501/digits", "grpc://digits", ""]
)
def test_another_form_of_address_is_refused(url):
    with pytest.raises(ValueError, match="The address of a model must be"):
        ServingClient(url)


def test_files_are_answered_and_bad_ones_named(server, tmp_path, capsys, recordings):
    name, rest, rpc = server
    folder = tmp_path / "files"
    if name == "events":
        shutil.copytree(recordings, folder)
    else:
        folder.mkdir()
        for i in range(5):
            pixels = np.random.default_rng(i).integers(0, 256, (20, 30, 3), "uint8")
            Image.fromarray(pixels).save(folder / f"{i}.png")
        (folder / "bad.jpg").write_text("text")
    outputs = []
    for url in (rest, rpc):
        status = main(["predict", "--url", url, str(folder), "--batch-size", "2"])
        outputs.append(capsys.readouterr())
        assert status == 1  # One file has no answer.
    assert outputs[0] == outputs[1]
    lines = [line.split("\t") for line in outputs[0].out.splitlines()]
    files = sorted(path for path in folder.iterdir() if "bad" not in path.name)
    assert [line[0] for line in lines] == [str(path) for path in files]
    assert all(re.fullmatch(r"\d:[01]\.\d{4}", label) for _, label in lines)
    assert outputs[0].err.startswith(str(folder / "bad."))
    assert len(outputs[0].err.splitlines()) == 1


@pytest.fixture
def recordings(tmp_path):
    """Recordings of 16x16 pixels, and one of a larger sensor."""
    from keras_qkformer.events.aedat31 import write_aedat31
    from keras_qkformer.events.event_array import make_events

    folder = tmp_path / "recordings"
    folder.mkdir()
    draw = np.random.default_rng(0)
    for name, size in (("a", 16), ("b", 16), ("bad", 40)):
        x, y = draw.integers(0, size, (2, 700))
        t = np.sort(draw.integers(0, 9000, 700))
        events = make_events(t, x, y, draw.random(700) < 0.5)
        write_aedat31(folder / f"{name}.aedat", events)
    return folder


def test_files_of_the_other_kind_are_refused(server, recordings, tmp_path):
    name, url, _ = server
    (tmp_path / "a.png").write_bytes(b"")
    path = recordings / "a.aedat" if name == "images" else tmp_path / "a.png"
    with pytest.raises(ValueError, match="The model must take"):
        list(ServingClient(url).predict_files([path]))
    with pytest.raises(ValueError, match="There must be such a file"):
        list(ServingClient(url).predict_files([tmp_path / "none.png"]))


def test_many_clients_at_once_get_their_own_answers(server):
    """Good answers are bit for bit those of the request alone, beside bad requests."""
    name, rest, rpc = server
    draw = np.random.default_rng(0)
    if name == "images":
        signature = "predict_pixels"
        good = [{"images": draw.uniform(0, 255, (1, 8, 8, 3))} for _ in range(8)]
        bad = [{"images": np.full((1, 8, 8, 3), np.nan)}, {"images": [[1.0]]}, {}]
    else:
        signature = "predict_events"
        recordings = [
            {k: draw.integers(0, 2 if k == "p" else 16, 50) for k in "txyp"}
            for _ in range(8)
        ]
        good = [pad_events([events]) for events in recordings]
        bad = [
            {**good[0], "x": good[0]["x"] + 16},  # Outside of the sensor.
            {**good[0], "num_events": np.array([51], "int32")},
            {**good[0], "num_events": np.array([0], "int32")},
            {**good[0], "t": good[0]["t"][:, :9]},
        ]
    clients = [ServingClient(rest), ServingClient(rpc)]
    expected = [clients[1].predict(signature, inputs)["logits"] for inputs in good]
    problems, answered = [], [0] * CLIENTS
    refused = [0] * CLIENTS

    def ask(number):
        draw = np.random.default_rng(number)
        client = clients[number % 2]
        end = time.monotonic() + SECONDS
        try:
            while answered[number] < 5 or time.monotonic() < end:
                if draw.random() < 0.3:
                    with pytest.raises(ValueError, match="answers"):
                        client.predict(signature, bad[draw.integers(len(bad))])
                    refused[number] += 1
                which = draw.integers(len(good))
                logits = client.predict(signature, good[which])["logits"]
                answered[number] += 1
                if not np.array_equal(np.float32(logits), expected[which]):
                    problems.append(f"{which}: another answer")
        except BaseException as error:  # Also that of `pytest.raises`.
            problems.append(error)

    threads = [
        threading.Thread(target=ask, args=(number,)) for number in range(CLIENTS)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60 + SECONDS)
    clients[1].close()
    assert not problems
    assert min(answered) >= 5
    assert sum(refused) > CLIENTS
    print(
        f"{name}: {sum(answered)} answers to {CLIENTS} clients, {sum(refused)} refused"
    )


def test_a_c_process_gets_the_same_logits(bundles, tmp_path):
    version = bundles / "images" / "1"
    examples = np.load(version / "assets.extra" / "examples.npz")
    np.save(tmp_path / "images.npy", examples["images"].astype("float32"))
    names = _tensor_names(version, "predict_pixels", "images", "logits")
    done = subprocess.run(
        [
            sys.executable,
            HERE / "c_api_answer.py",
            tf.sysconfig.get_lib(),
            version,
            *names,
            tmp_path / "images.npy",
            tmp_path / "logits.npy",
        ],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    logits = np.load(tmp_path / "logits.npy")
    np.testing.assert_allclose(logits, examples["logits"], atol=1e-5)


def _tensor_names(version, signature, *names):
    from tensorflow.core.protobuf import saved_model_pb2

    saved = saved_model_pb2.SavedModel.FromString(
        (version / "saved_model.pb").read_bytes()
    )
    definition = saved.meta_graphs[0].signature_def[signature]
    infos = {**definition.inputs, **definition.outputs}
    return [infos[name].name for name in names]


def test_saved_model_cli_shows_every_signature(bundles):
    program = Path(sys.executable).with_name("saved_model_cli")
    if not program.exists():
        pytest.skip("there is no saved_model_cli beside this Python")
    done = subprocess.run(
        [program, "show", "--dir", bundles / "images" / "1", "--tag_set", "serve"],
        capture_output=True,
        text=True,
        timeout=120,
    )
    shown = set(re.findall(r'SignatureDef key: "(.*)"', done.stdout))
    assert shown >= {
        "serving_default",
        "predict_lenient",
        "predict_pixels",
        "predict_pixels_uint8",
    }


def test_mutated_files_never_disturb_their_neighbours(bundles):
    done = subprocess.run(
        [
            sys.executable,
            HERE / "hostile_images.py",
            bundles / "images" / "1",
            str(FILES),
        ],
        capture_output=True,
        text=True,
        timeout=900,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    told = json.loads(done.stdout)
    assert told["refused"] + told["answered"] == FILES
    assert told["refused"] > FILES // 10
    assert told["megabytes_after"] < told["megabytes_before"] + 500


def test_a_bundle_says_where_it_comes_from(bundles):
    version = find_version(bundles / "images")
    metadata = json.loads((version / "assets.extra" / "metadata.json").read_text())
    assert metadata["source"] == str(bundles / "presets" / "images")
    assert metadata["class_names"] == [str(i) for i in range(10)]
    assert metadata["exported_with"]["tensorflow"] == tf.__version__
    assert (version / "assets" / "labels.txt").read_text().split() == [
        str(i) for i in range(10)
    ]


def test_a_folder_without_bundle_is_refused(tmp_path):
    with pytest.raises(ValueError, match="A bundle must be a folder that export"):
        serve_check(tmp_path)


def test_files_for_a_server_can_be_read(bundles):
    yaml = pytest.importorskip("yaml", reason="reads the files")
    folder = bundles / "images" / "server"
    compose = yaml.safe_load((folder / "compose.yaml").read_text())
    assert set(compose["services"]) == {"cpu", "gpu", "prometheus"}
    assert compose["services"]["gpu"]["image"].endswith("-gpu")
    command = compose["services"]["cpu"]["command"]
    for option in command:
        if "/models/images/server/" in option:
            assert (folder / Path(option).name).is_file()
    documents = list(yaml.safe_load_all((folder / "kubernetes.yaml").read_text()))
    assert [document["kind"] for document in documents] == [
        "Deployment",
        "Service",
        "HorizontalPodAutoscaler",
    ]
    yaml.safe_load((folder / "prometheus.yml").read_text())


def test_the_health_command_tells_whether_the_model_is_there(server, bundles):
    yaml = pytest.importorskip("yaml", reason="reads the files")
    name, rest, _ = server
    path = bundles / name / "server" / "compose.yaml"
    _, *command = yaml.safe_load(path.read_text())["services"]["cpu"]["healthcheck"][
        "test"
    ]
    port = re.search(r":(\d+)/", rest)[1]
    script = command[-1].replace("8501", port)
    assert subprocess.run([*command[:-1], script], timeout=60).returncode == 0
    other = script.replace(f"models/{name}", "models/none")
    assert subprocess.run([*command[:-1], other], timeout=60).returncode != 0


def test_labels_are_configured_as_the_serving_api_wants(bundles):
    config = pytest.importorskip("tensorflow_serving.config.model_server_config_pb2")
    from google.protobuf import text_format

    path = bundles / "images" / "server" / "models.config"
    models = text_format.Parse(path.read_text(), config.ModelServerConfig())
    (model,) = models.model_config_list.config
    assert (model.name, dict(model.version_labels)) == ("images", {"stable": 1})


class Hostile(tf.Module):
    """SavedModels that do more than compute."""

    def __init__(self, marker):
        super().__init__()
        self.marker = str(marker)

    @tf.function(input_signature=[tf.TensorSpec((), "float32")])
    def write(self, x):
        return tf.cond(x > 0.0, lambda: self._write(x), lambda: x)

    def _write(self, x):
        with tf.control_dependencies([tf.io.write_file(self.marker, "taken")]):
            return tf.identity(x)

    @tf.function(input_signature=[tf.TensorSpec((), "float32")])
    def tell(self, x):
        tf.print(x, output_stream=f"file://{self.marker}")
        return x


@pytest.mark.parametrize(
    ("name", "operation"), [("write", "WriteFile"), ("tell", "PrintV2")]
)
def test_a_model_that_reaches_beyond_itself_is_not_loaded(tmp_path, name, operation):
    hostile, marker = Hostile(tmp_path / "marker"), tmp_path / "marker"
    signatures = {"serving_default": getattr(hostile, name)}
    tf.saved_model.save(hostile, str(tmp_path / "1"), signatures)
    with pytest.raises(ValueError, match=f"compute alone. Received: {operation}"):
        check_operations(tmp_path / "1")
    assert not marker.exists()
    (tmp_path / "1" / "saved_model.cpb").write_bytes(b"")
    with pytest.raises(ValueError, match=r"in one file. Received: .*saved_model\.cpb"):
        check_operations(tmp_path / "1")


def test_a_hostile_model_fails_the_check_in_one_line(bundles, tmp_path, capfd):
    version = shutil.copytree(find_version(bundles / "images"), tmp_path / "1")
    hostile = Hostile(tmp_path / "marker")
    tf.saved_model.save(hostile, str(tmp_path / "2"), {"a": hostile.write})
    shutil.copyfile(tmp_path / "2/saved_model.pb", version / "saved_model.pb")
    write_manifest(version)
    assert serve_check(version, seconds=0.01) == 1
    said, errors = capfd.readouterr()
    assert "FAILED A SavedModel must have operations that compute alone" in said
    assert "Traceback" not in errors
