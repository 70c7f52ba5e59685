"""Preset folders from addresses: whole, checked, cached, or not there at all."""

import contextlib
import functools
import gc
import http.server
import json
import os
import shutil
import ssl
import subprocess
import sys
import threading
import time
import types
from pathlib import Path

import numpy as np
import pytest
from harness import to_numpy
from saved_presets import save_preset

from keras_qkformer.cli.main import main
from keras_qkformer.files import file_digest
from keras_qkformer.manifest import MANIFEST_FILE, IntegrityWarning, write_manifest
from keras_qkformer.models import PRESETS, QKFormerClassifier
from keras_qkformer.presets import addresses
from keras_qkformer.presets.addresses import cached_presets, fetch, is_address
from keras_qkformer.presets.folders import (
    FILES,
    WEIGHTS_FILE,
    check_preset,
    find_weights,
    kept_weights,
    weights_folder,
)
from keras_qkformer.trained import load_trained

pytestmark = pytest.mark.backend_independent

ZEROS = "0" * 64
SMALL = {"embed_dim": 16, "num_heads": 2, "time_steps": 2}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder `presets/small` to serve, made once."""
    path = tmp_path_factory.mktemp("served") / "presets" / "small"
    model = QKFormerClassifier.from_preset("qkformer_tiny", **SMALL)
    preprocessing = {"image_size": [8, 8], "mean": [0.3], "std": [0.4]}
    metadata = {
        "preset": "qkformer_tiny",
        "class_names": list("0123456789"),
        "preprocessing": preprocessing,
    }
    model.save_to_preset(path, metadata)
    return path


def older(folder):
    """Make a preset folder like those of versions without manifests."""
    metadata = json.loads((folder / "metadata.json").read_text())
    del metadata["manifest"]
    names = ("config.json", WEIGHTS_FILE)
    metadata["sha256"] = {name: file_digest(folder / name) for name in names}
    (folder / "metadata.json").write_text(json.dumps(metadata))
    (folder / MANIFEST_FILE).unlink()
    return folder


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("KERAS_QKFORMER_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


class Handler(http.server.SimpleHTTPRequestHandler):
    def do_GET(self):
        self.server.requests.append(self.path)
        if self.path.startswith("/elsewhere/"):
            self.send_response(302)
            self.send_header(
                "Location", self.path.replace("/elsewhere", self.server.to)
            )
            self.end_headers()
        elif self.path.startswith("/short/"):
            self.send_response(200)
            self.send_header("Content-Length", "1000")
            self.end_headers()
            self.wfile.write(b"{}")
        elif self.path.startswith(("/endless/", "/slow/")):
            self.send_response(200)
            self.end_headers()
            slow = self.path.startswith("/slow/")
            with contextlib.suppress(OSError):
                while not self.server.stopped.wait(0.1 if slow else 0):
                    self.wfile.write(b" " if slow else bytes(1 << 16))
        else:
            super().do_GET()

    def log_message(self, *_):
        pass


@pytest.fixture
def serve(folder):
    """Function that serves the parent of `folder` on loopback, perhaps by TLS."""
    servers = []

    def start(root=folder.parents[1], context=None):
        handler = functools.partial(Handler, directory=root)
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
        server.requests, server.to = [], ""
        server.stopped = threading.Event()
        if context is not None:
            server.socket = context.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        servers.append((server, thread))
        scheme = "http" if context is None else "https"
        return server, f"{scheme}://127.0.0.1:{server.server_port}"

    yield start
    for server, thread in servers:
        server.stopped.set()
        server.shutdown()
        thread.join(10)
        server.server_close()


@pytest.fixture
def tls(tmp_path, monkeypatch):
    """A server's context with a certificate that this process trusts."""
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("openssl, which makes the certificate, is not on this machine")
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    command = (
        f"{openssl} req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost "
        f"-addext subjectAltName=IP:127.0.0.1 -keyout {key} -out {certificate}"
    )
    subprocess.run(command.split(), check=True, capture_output=True, timeout=60)
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    return context


def test_https_gives_the_model_and_is_asked_once(serve, tls, cache, folder):
    server, base = serve(context=tls)
    address = f"{base}/presets/small"
    model = QKFormerClassifier.from_preset(address)
    local = QKFormerClassifier.from_preset(folder)
    for ours, theirs in zip(model.get_weights(), local.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert sorted(server.requests) == sorted(f"/presets/small/{f}" for f in FILES)
    again = QKFormerClassifier.from_preset(address, num_classes=3)
    assert to_numpy(again(np.zeros((1, 8, 8, 1), "float32"))).shape == (1, 3)
    assert len(server.requests) == len(FILES)
    (path,) = cache.iterdir()
    assert {p.name for p in path.iterdir()} == set(FILES)
    assert cached_presets() == {"qkformer_tiny": [path]}


def test_commands_take_an_address_where_they_take_a_folder(
    serve, cache, folder, tmp_path, capsys
):
    image_module = pytest.importorskip("PIL.Image", reason="makes the image")
    pytest.importorskip("sklearn", reason="the digits come with scikit-learn")
    image = str(tmp_path / "grey.png")
    image_module.new("L", (8, 8), 90).save(image)
    recipe = str(Path(__file__).parents[2] / "recipes" / "digits.py")
    _, base = serve()
    digest = file_digest(folder / MANIFEST_FILE)
    address = f"{base}/presets/small#sha256={digest}"
    said = []
    for model in (str(folder), address):
        assert main(["predict", model, image]) == 0
        options = ["--recipe", recipe, "--split", "test[:8]"]
        assert main(["evaluate", model, *options]) == 0
        said.append(capsys.readouterr().out)
    assert said[0] == said[1]
    assert "8 examples" in said[0]
    assert main(["predict", f"{base}/nothing#sha256={digest}", image]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1
    assert len(list(cache.iterdir())) == 1


def test_https_that_leads_to_http_is_refused(serve, tls, cache):
    server, base = serve(context=tls)
    _, server.to = serve()
    with pytest.raises(OSError, match="it leads to http:"):
        fetch(f"{base}/elsewhere/presets/small")
    assert list(cache.iterdir()) == []


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_redirection_to_what_is_no_address_is_one_line(serve, tls, cache):
    server, base = serve(context=tls)
    server.to = "https://["
    with pytest.raises(OSError, match="must be at its address"):
        fetch(f"{base}/elsewhere/presets/small")
    gc.collect()  # The connection, which Python leaves open.
    assert list(cache.iterdir()) == []


def test_http_needs_the_digest_and_gets_it_checked(serve, cache, folder):
    server, base = serve()
    address, digest = f"{base}/presets/small", file_digest(folder / MANIFEST_FILE)
    with pytest.raises(ValueError, match="http:// needs #sha256="):
        fetch(address)
    assert server.requests == []
    path = fetch(f"{address}#sha256={digest.upper()}")
    assert file_digest(path / MANIFEST_FILE) == digest
    wrong = "0" * 64
    with pytest.raises(ValueError, match=f"must be {wrong}. Received: {digest}"):
        fetch(f"{address}#sha256={wrong}")
    # What a pin was before: it would leave config and class names open.
    with pytest.raises(ValueError, match=r"Received: that of model\.weights\.h5"):
        fetch(f"{address}#sha256={file_digest(folder / WEIGHTS_FILE)}")
    assert list(cache.iterdir()) == [path]


@pytest.mark.parametrize(
    ("where", "message"),
    [
        ("nowhere", "'http://.*/nowhere/manifest.json': HTTP Error 404"),
        ("short", r"only 2 of 1000 bytes came"),
    ],
)
def test_what_does_not_come_whole_leaves_nothing(serve, cache, where, message):
    _, base = serve()
    with pytest.raises(OSError, match=message):
        fetch(f"{base}/{where}#sha256={'0' * 64}")
    assert list(cache.iterdir()) == []


HALF = """
import sys, time
from keras_qkformer.presets import addresses

get = addresses._get_by_http

def get_the_manifest_alone(base, file, *arguments):
    get(base, file, *arguments)
    if file != "manifest.json":
        print(file, flush=True)
        time.sleep(600)

addresses._get_by_http = get_the_manifest_alone
addresses.fetch(sys.argv[1])
"""


@pytest.mark.skipif(os.name == "nt", reason="locks as on POSIX")
def test_what_a_killed_download_has_left_goes_with_the_next(serve, cache, folder):
    _, base = serve()
    address = f"{base}/presets/small#sha256={file_digest(folder / MANIFEST_FILE)}"
    with subprocess.Popen(
        [sys.executable, "-c", HALF, address], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout.readline() == "config.json\n"
        process.kill()
    assert [path.name[:8] for path in cache.iterdir()] == ["partial-"]
    path = fetch(address)
    assert [*cache.iterdir()] == [path]


def test_nobody_listening_is_an_error(serve, cache):
    server, base = serve()
    server.shutdown()
    server.server_close()
    with pytest.raises(OSError, match="must be at its address"):
        fetch(f"{base}/presets/small#sha256={'0' * 64}")


class RemoteEntryNotFoundError(OSError):
    response = types.SimpleNamespace(status_code=404)


class Hub(types.ModuleType):
    """A stand-in of huggingface_hub that has one folder."""

    def __init__(self, folder):
        super().__init__("huggingface_hub")
        self.folder, self.asked = folder, []

    def hf_hub_url(self, repository, file, subfolder=None, revision=None):
        return self.folder / file

    def get_hf_file_metadata(self, url):
        if not url.exists():
            raise RemoteEntryNotFoundError("404 Client Error.\n\nEntry Not Found")
        return types.SimpleNamespace(size=url.stat().st_size)

    def hf_hub_download(self, repository, file, subfolder=None, revision=None):
        self.asked.append((repository, file, subfolder, revision))
        return str(self.folder / file)


def test_hub_is_asked_by_its_own_package(cache, folder, monkeypatch):
    hub = Hub(folder)
    monkeypatch.setitem(sys.modules, "huggingface_hub", hub)
    path = fetch("hf://someone/qkformer@v1/small")
    assert {p.name for p in path.iterdir()} == set(FILES)
    assert hub.asked == [("someone/qkformer", file, "small", "v1") for file in FILES]
    fetch("hf://someone/qkformer")
    assert hub.asked[-1] == ("someone/qkformer", WEIGHTS_FILE, None, None)
    with pytest.raises(ValueError, match="must be hf://owner/repository"):
        fetch("hf://someone")


def test_hub_without_its_package_says_what_to_install(cache, monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(ImportError, match="pip install huggingface_hub"):
        fetch("hf://someone/qkformer")
    assert list(cache.iterdir()) == []


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda m: m.pop("sha256"), "or the SHA-256 of its weights in its metadata"),
        (lambda m: m["sha256"].update({"config.json": ZEROS}), "SHA-256 of config.jso"),
        (lambda m: m["sha256"].update({WEIGHTS_FILE: ZEROS}), "SHA-256 of model.weig"),
        (lambda m: m.update(sha256=3), "metadata.json: sha256: .* Received: 3"),
        (lambda m: m.update(manifest=True), "must have its manifest.json"),
    ],
    ids=["none", "config", "weights", "damaged", "manifest"],
)
def test_digests_of_a_folder_of_an_older_version_are_checked(
    cache, folder, tmp_path, monkeypatch, change, message
):
    other = older(shutil.copytree(folder, tmp_path / "other"))
    metadata = json.loads((other / "metadata.json").read_text())
    change(metadata)
    (other / "metadata.json").write_text(json.dumps(metadata))
    monkeypatch.setitem(sys.modules, "huggingface_hub", Hub(other))
    with pytest.raises(ValueError, match=message):
        fetch("hf://someone/qkformer")
    assert list(cache.iterdir()) == []


def test_a_folder_of_an_older_version_is_fetched_and_loads_with_a_warning(
    cache, folder, tmp_path, monkeypatch
):
    other = older(shutil.copytree(folder, tmp_path / "other"))
    monkeypatch.setitem(sys.modules, "huggingface_hub", Hub(other))
    path = fetch("hf://someone/qkformer")
    assert {p.name for p in path.iterdir()} == set(FILES[1:])
    with pytest.warns(IntegrityWarning, match=r"config\.json and model\.weights\.h5"):
        check_preset(path)
    pin = f"#sha256={file_digest(other / WEIGHTS_FILE)}"
    with pytest.raises(FileNotFoundError, match=r"manifest\.json"):
        fetch(f"hf://someone/qkformer{pin}")


def change_names(folder):
    """Exchange two class names, as a server could that wants wrong answers."""
    path = folder / "metadata.json"
    path.write_text(path.read_text().replace('"0"', '"X"').replace('"1"', '"0"'))


def test_a_pin_covers_config_and_class_names(serve, cache, folder, tmp_path):
    _, base = serve(tmp_path)
    other = shutil.copytree(folder, tmp_path / "other")
    address = f"{base}/other#sha256={file_digest(other / MANIFEST_FILE)}"
    change_names(other)
    with pytest.raises(ValueError, match=r"SHA-256 of metadata\.json must be"):
        fetch(address)
    write_manifest(other)
    with pytest.raises(ValueError, match=r"SHA-256 of manifest\.json must be"):
        fetch(address)
    assert list(cache.iterdir()) == []


def test_a_file_that_changes_in_the_cache_is_not_loaded(serve, cache, folder):
    _, base = serve()
    pin = file_digest(folder / MANIFEST_FILE)
    path = fetch(f"{base}/presets/small#sha256={pin}")
    change_names(path)
    with pytest.raises(ValueError, match=r"SHA-256 of metadata\.json must be"):
        QKFormerClassifier.from_preset(f"{base}/presets/small#sha256={pin}")
    write_manifest(path)
    with pytest.raises(ValueError, match=r"SHA-256 of manifest\.json.*delete the fol"):
        fetch(f"{base}/presets/small#sha256={pin}")


def manifest_of(**files):
    entries = {name: {"size": 3, "sha256": ZEROS} for name in FILES[1:]}
    return json.dumps({"format": 1, "files": {**entries, **files}})


@pytest.mark.parametrize(
    ("manifest", "message"),
    [
        (manifest_of(), r"more than 3 bytes|bytes, at most 3 are read"),
        (
            manifest_of(**{"config.json": {"size": 2**20 + 1, "sha256": ZEROS}}),
            r"config\.json of a preset must have at most 1,048,576 bytes",
        ),
        (
            manifest_of(**{WEIGHTS_FILE: {"size": 2**32 + 1, "sha256": ZEROS}}),
            r"model\.weights\.h5 of a preset must have at most 4,294,967,296 bytes",
        ),
        (manifest_of(**{"../a": {"size": 1, "sha256": ZEROS}}), "files"),
        (manifest_of(**{"a/b": {"size": 1, "sha256": ZEROS}}), "and no folders"),
        (json.dumps({"format": 1, "files": {}}), "must list config.json, metadata"),
        ("[]", "must hold a JSON object"),
        (" " * (2**20 + 1), "bytes, at most 1,048,576 are read"),
    ],
    ids=lambda value: str(value)[:60].strip(),
)
def test_a_server_sends_no_more_than_the_rules_allow(
    serve, cache, tmp_path, manifest, message
):
    for name in FILES[1:]:
        (tmp_path / name).write_text("{}  ")
    (tmp_path / MANIFEST_FILE).write_text(manifest)
    _, base = serve(tmp_path)
    pin = file_digest(tmp_path / MANIFEST_FILE)
    with pytest.raises((ValueError, OSError), match=message):
        fetch(f"{base}/#sha256={pin}")
    assert list(cache.iterdir()) == []


@pytest.mark.parametrize(
    ("where", "message"),
    [
        ("endless", "more than 1,048,576 bytes"),
        ("slow", "must come within 1 s. Received: a part of manifest.json"),
    ],
)
def test_a_server_that_does_not_end_is_left(serve, cache, monkeypatch, where, message):
    server, base = serve()
    monkeypatch.setattr(addresses, "_seconds", lambda size: 1)
    start = time.monotonic()
    with pytest.raises(OSError, match=message):
        fetch(f"{base}/{where}#sha256={ZEROS}")
    assert time.monotonic() - start < 5
    assert list(cache.iterdir()) == []
    server.stopped.set()


@pytest.mark.parametrize("fragment", ["sha256=12", "md5=1", "v1"])
def test_other_fragment_is_refused(cache, fragment):
    with pytest.raises(ValueError, match="64 hexadecimal digits"):
        fetch(f"https://127.0.0.1/small#{fragment}")


def test_paths_and_names_are_no_addresses():
    assert is_address("hf://a/b")
    assert is_address("https://a/b")
    for path in ("qkformer_tiny", "weights/https", "C:/weights", "file:///weights"):
        assert not is_address(path)


@pytest.mark.skipif(not kept_weights(), reason="no checkout, so no weights in it")
def test_the_weights_of_a_checkout_are_whole_and_load_by_name():
    names = kept_weights()
    assert {"digits", "dvs_digits", "cifar10"} <= set(names)
    for name in names:
        metadata = json.loads((weights_folder() / name / "metadata.json").read_text())
        assert find_weights(name, metadata["preset"]) == weights_folder() / name
        model = QKFormerClassifier.from_preset(metadata["preset"], weights=name)
        assert model.count_params() >= metadata["parameters"]


def test_a_model_from_a_folder_knows_its_preprocessing(tmp_path):
    values = {"mean": [0.3], "std": [0.1], "max_value": 255.0, "image_size": [8, 8]}
    save_preset(tmp_path / "preset", {"preprocessing": values})
    trained = load_trained(tmp_path / "preset")
    pixels = np.random.default_rng(0).integers(0, 256, (3, 8, 8, 1)).astype("float32")
    expected = trained.logits(pixels)
    model = QKFormerClassifier.from_preset(tmp_path / "preset")
    inputs = to_numpy(model.preprocessor(pixels))
    np.testing.assert_allclose(model.predict(inputs, verbose=0), expected, atol=1e-5)
    with pytest.warns(UserWarning, match=r"from -3 to 7; .* Received: .* to 25"):
        model.predict(pixels, verbose=0)
    model.predict(pixels, verbose=0)  # Warns once.
    whole = QKFormerClassifier.from_preset(tmp_path / "preset", preprocess=True)
    np.testing.assert_allclose(whole.predict(pixels, verbose=0), expected, atol=1e-5)
    assert model.preprocessor.image_size == (8, 8)
    larger = np.zeros((1, 20, 30, 1), "uint8")
    assert model.preprocessor(larger).shape == (1, 8, 8, 1)
    # The layer is no part of the model: files and layers stay what they are.
    assert "preprocessor" not in [layer.name for layer in model.layers]


def test_preprocessing_that_nobody_told_is_an_error():
    model = QKFormerClassifier.from_preset("qkformer_tiny")
    assert model.preprocessor is None
    with pytest.raises(ValueError, match="how its inputs were normalized"):
        QKFormerClassifier.from_preset("qkformer_tiny", preprocess=True)


def test_a_named_preset_tells_the_published_normalization():
    model = QKFormerClassifier.from_preset(
        "qkformer_4_384_cifar10", embed_dim=16, num_heads=2, depths=(1, 1)
    )
    white = to_numpy(model.preprocessor(np.full((1, 32, 32, 3), 255, "uint8")))
    preset = PRESETS["qkformer_4_384_cifar10"]
    expected = (1 - np.array(preset.mean)) / np.array(preset.std)
    np.testing.assert_allclose(white[0, 0, 0], expected, atol=1e-5)
