"""Presets at hubs: fetched through the hubs' own packages, checked, and uploaded."""

import json
import shutil
import sys
import time
import types
from pathlib import Path

import pytest
from saved_presets import save_preset
from stand_in_hub import TOKEN, Repository, stand_in_hub

from keras_qkformer import load_trained, upload_preset
from keras_qkformer.cli.main import main
from keras_qkformer.manifest import MANIFEST_FILE, write_manifest
from keras_qkformer.models import SpikingClassifier
from keras_qkformer.presets import addresses
from keras_qkformer.presets.addresses import fetch
from keras_qkformer.presets.folders import FILES, WEIGHTS_FILE
from keras_qkformer.presets.hubs import parse

pytestmark = pytest.mark.backend_independent
NAME = "someone/digits"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("made") / "preset"
    save_preset(path)
    return path


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("KERAS_QKFORMER_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def files_of(folder):
    return {name: (folder / name).read_bytes() for name in FILES}


@pytest.fixture
def hub(tmp_path, monkeypatch, folder, cache):
    """A stand-in of the Hugging Face Hub that has the preset at `NAME`."""
    reason = "huggingface_hub is not installed"
    constants = pytest.importorskip("huggingface_hub.constants", reason=reason)
    with stand_in_hub() as server:
        # These are read from the environment once, when the package is imported.
        monkeypatch.setattr(constants, "ENDPOINT", server.address)
        template = server.address + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hf"))
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        server.repositories[NAME] = Repository(files_of(folder))
        yield server


def test_a_model_comes_from_the_hub_at_its_revision(hub, folder, cache):
    hub.repositories[NAME].revisions["refs/pr/1"] = files_of(folder)
    newest = SpikingClassifier.from_preset(f"hf://{NAME}")
    assert newest.num_classes == 10
    trained = load_trained(f"hf://{NAME}", revision="refs/pr/1")
    assert trained.class_names == [str(i) for i in range(10)]
    assert f"HEAD /{NAME}/resolve/refs/pr/1/{WEIGHTS_FILE}" in hub.asked
    assert {p.name for p in trained.folder.iterdir()} == set(FILES)
    before = len(hub.asked)
    SpikingClassifier.from_preset(f"hf://{NAME}@refs%2Fpr%2F1")
    assert len(hub.asked) == before  # It is the same address, kept by now.


def change(folder, repository):
    data = bytearray((folder / WEIGHTS_FILE).read_bytes())
    data[100] ^= 1
    repository.revisions["main"][WEIGHTS_FILE] = bytes(data)


def set_manifest(**files):
    def apply(folder, repository):
        manifest = json.loads((folder / MANIFEST_FILE).read_text())
        manifest["files"] |= {
            name: {"size": size, "sha256": "0" * 64} for name, size in files.items()
        }
        repository.revisions["main"][MANIFEST_FILE] = json.dumps(manifest).encode()

    return apply


def drop(*names):
    def apply(folder, repository):
        for name in names:
            del repository.revisions["main"][name]

    return apply


@pytest.mark.parametrize(
    ("address", "damage", "message"),
    [
        (f"hf://{NAME}@v9", None, "'hf://.*@v9', manifest.json: the repository has no"),
        ("hf://someone/other", None, "manifest.json: there is no such repository, or"),
        (f"hf://{NAME}", drop(WEIGHTS_FILE), "h5: the repository has no such file"),
        (f"hf://{NAME}", drop(MANIFEST_FILE), r"must have its manifest\.json"),
        (f"hf://{NAME}", change, r"The SHA-256 of model\.weights\.h5 must be"),
        (f"hf://{NAME}", set_manifest(**{"../a": 1}), "files"),
        (f"hf://{NAME}", set_manifest(**{"a/b": 1}), "and no folders"),
        (f"hf://{NAME}", set_manifest(**{"a.bin": 2**32 + 1}), "at most 4,294,967,296"),
        (f"hf://{NAME}", set_manifest(**{"model.safetensors": 9}), "either model.weig"),
        ("hf://someone", None, "must be hf://owner/repository"),
        (f"hf://{NAME}/../a", None, "must be hf://owner/repository"),
        (f"hf://{NAME}@", None, "must be hf://owner/repository"),
    ],
)
def test_what_a_repository_does_wrong_is_one_line(
    hub, folder, cache, address, damage, message
):
    if damage:
        damage(folder, hub.repositories[NAME])
    with pytest.raises((ValueError, OSError), match=message) as caught:
        fetch(address)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 800
    assert not cache.exists() or not [*cache.iterdir()]


@pytest.mark.parametrize(
    ("status", "message"),
    [
        (401, "refuses this machine's token|is no such repository"),
        (403, "does not allow it"),
        (500, "500"),
    ],
)
def test_a_hub_that_refuses_is_one_line(hub, cache, status, message):
    hub.status = status
    with pytest.raises(OSError, match=message) as caught:
        fetch(f"hf://{NAME}")
    assert "\n" not in str(caught.value)
    assert not [*cache.iterdir()]


def test_a_file_larger_than_the_manifest_says_is_not_fetched(hub, cache):
    hub.claims["config.json"] = 1 << 40
    with pytest.raises(OSError, match=r"config\.json: 1099511627776 bytes, at most"):
        fetch(f"hf://{NAME}")
    assert f"GET /{NAME}/resolve/main/config.json" not in hub.asked


def test_a_hub_that_does_not_end_is_left(hub, cache, monkeypatch):
    monkeypatch.setattr(addresses, "_seconds", lambda size: 0.5)
    hub.is_slow = True
    with pytest.raises(OSError, match=r"must come within 0 s\. Received: a part"):
        fetch(f"hf://{NAME}")
    assert not [*cache.iterdir()]


def test_without_a_connection_the_caches_do(hub, cache, folder):
    first = fetch(f"hf://{NAME}")
    hub.shutdown()
    hub.server_close()
    assert fetch(f"hf://{NAME}") == first
    shutil.rmtree(first)
    assert files_of(fetch(f"hf://{NAME}")) == files_of(folder)  # By that of the hub.
    with pytest.raises(OSError, match="and the cache of huggingface_hub does not have"):
        fetch("hf://someone/other")


def test_a_revision_belongs_to_a_repository(folder):
    for place in (str(folder), "qkformer_tiny", "https://host/a", f"hf://{NAME}@v1"):
        with pytest.raises(ValueError, match="revision belongs to an address of hf://"):
            SpikingClassifier.from_preset(place, revision="v2")


def test_what_is_uploaded_comes_back(hub, folder, tmp_path, capsys):
    other = shutil.copytree(folder, tmp_path / "other")
    (other / ".secret").write_text("token")
    hub.repositories["me/new"] = Repository({"model.safetensors": b"1", "a.txt": b"2"})
    hub.repositories["me/new"].private = True
    upload = ["upload", str(other), "hf://me/new", "--licence", "cc-by-4.0"]
    assert main([*upload, "--dry-run"]) == 0
    assert hub.commits == 0
    assert 'license: "cc-by-4.0"' in capsys.readouterr().out
    assert main([*upload, "--private"]) == 0
    said = capsys.readouterr()
    assert said.out == f"{hub.address}/me/new/commit/{'0123456789abcdef' * 2}01234567\n"
    assert "model.weights.h5" in said.err
    assert "licence cc-by-4.0, private" in said.err
    held = hub.repositories["me/new"].revisions["main"]
    assert {*held} == {*FILES, "README.md", "a.txt"}
    assert 'load_trained("hf://me/new")' in held["README.md"].decode()
    assert hub.cards == [held["README.md"].decode()]
    assert files_of(fetch("hf://me/new")) == files_of(folder)
    assert load_trained("hf://me/new").model.num_classes == 10


def test_a_public_repository_gets_nothing_private(hub, folder):
    with pytest.raises(OSError, match="the repository is public, and must be private"):
        upload_preset(f"hf://{NAME}", folder, licence="mit", private=True)
    assert hub.commits == 0
    upload_preset("hf://me/mine", folder, licence="mit", private=True)
    assert hub.repositories["me/mine"].private


def test_an_upload_without_a_token_is_one_line(hub, folder, monkeypatch, capsys):
    monkeypatch.setenv("HF_TOKEN", "hf_wrong")
    assert main(["upload", str(folder), "hf://me/new", "--licence", "mit"]) == 2
    *_, last = capsys.readouterr().err.splitlines()
    assert (
        "could be uploaded to hf://me/new: the hub refuses this machine's tok" in last
    )


@pytest.mark.parametrize(
    ("address", "licence", "damage", "message"),
    [
        (
            "https://host/a",
            "mit",
            None,
            "An upload goes to hf://owner/repository or to",
        ),
        ("hf://me", "mit", None, "must be hf://owner/repository"),
        ("kaggle://a/b/keras/c/3", "mit", None, "so the address has none"),
        ("hf://me/new", None, None, "needs the licence of its weights"),
        ("hf://me/new", "my own, see below", None, "needs the licence of its weights"),
        (
            "hf://me/new",
            "mit",
            lambda f: (f / "config.json").write_text("{}"),
            "The size of",
        ),
        (
            "hf://me/new",
            "mit",
            lambda f: (f / MANIFEST_FILE).unlink(),
            "with its manif",
        ),
        (
            "hf://me/new",
            "mit",
            lambda f: (f / "README.md").write_text("# Mine"),
            "its f",
        ),
    ],
)
def test_what_can_not_be_uploaded_is_told_before(
    folder, tmp_path, address, licence, damage, message
):
    other = shutil.copytree(folder, tmp_path / "other")
    if damage:
        damage(other)
    with pytest.raises(ValueError, match=message):
        upload_preset(address, other, licence=licence)


class NotFoundError(Exception):
    response = types.SimpleNamespace(status_code=404)


class Kaggle(types.ModuleType):
    """A stand-in of kagglehub that has one folder."""

    def __init__(self, folder=None):
        super().__init__("kagglehub")
        self.folder, self.asked, self.sent = folder, [], {}

    def model_download(self, handle, path, output_dir):
        self.asked.append((handle, path))
        if not (self.folder / path).exists():
            raise NotFoundError("404 Client Error.\n\nResource not found at URL: a")
        target = Path(output_dir) / path
        target.parent.mkdir(parents=True)
        return shutil.copyfile(self.folder / path, target)

    def model_upload(self, handle, local_model_dir, license_name):
        files = {p.name: p.read_bytes() for p in Path(local_model_dir).iterdir()}
        self.sent[handle, license_name] = files


def test_kaggle_is_asked_by_its_own_package(cache, folder, monkeypatch):
    kaggle = Kaggle(folder)
    monkeypatch.setitem(sys.modules, "kagglehub", kaggle)
    path = fetch("kaggle://a/qkformer/keras/digits/3")
    assert files_of(path) == files_of(folder)
    assert {p.name for p in path.iterdir()} == set(FILES)
    assert kaggle.asked == [("a/qkformer/keras/digits/3", file) for file in FILES]
    upload_preset("kaggle://a/qkformer/keras/digits", folder, licence="Apache 2.0")
    (sent,) = kaggle.sent.items()
    assert sent[0] == ("a/qkformer/keras/digits", "Apache 2.0")
    assert {*sent[1]} == {*FILES, "README.md"}
    assert b'load_trained("kaggle://a/qkformer/keras/digits")' in sent[1]["README.md"]


def test_what_kaggle_does_wrong_is_one_line(cache, folder, monkeypatch, tmp_path):
    kaggle = Kaggle(shutil.copytree(folder, tmp_path / "other"))
    monkeypatch.setitem(sys.modules, "kagglehub", kaggle)
    for address in ("kaggle://a/b", "kaggle://a/b/keras/c/new", "kaggle://a/b/../c/d"):
        with pytest.raises(ValueError, match="must be kaggle://owner/model/framework"):
            fetch(address)
    (kaggle.folder / "config.json").unlink()
    with pytest.raises(OSError, match=r"config\.json: 404 Client Error\. Resource not"):
        fetch("kaggle://a/b/keras/c")
    (kaggle.folder / MANIFEST_FILE).write_text(" " * (1 << 21))
    with pytest.raises(OSError, match=r"2,097,152 bytes, at most 1,048,576 are read"):
        fetch("kaggle://a/b/keras/c")
    monkeypatch.setitem(sys.modules, "kagglehub", None)
    with pytest.raises(ImportError, match="pip install kagglehub"):
        fetch("kaggle://a/b/keras/c")
    assert not [*cache.iterdir()]


def test_a_file_of_kaggle_that_grows_too_large_is_left(cache, folder, monkeypatch):
    class Endless(Kaggle):
        def model_download(self, handle, path, output_dir):
            Path(output_dir).mkdir()
            with open(Path(output_dir) / path, "wb") as file:
                for _ in range(100):
                    file.write(bytes(1 << 20))
                    file.flush()
                    time.sleep(0.05)
            return str(Path(output_dir) / path)

    monkeypatch.setitem(sys.modules, "kagglehub", Endless(folder))
    with pytest.raises(OSError, match=r"manifest\.json: more than 1,048,576 bytes"):
        fetch("kaggle://a/b/keras/c")
    assert not [*cache.iterdir()]


def test_nothing_of_a_fetched_folder_runs(hub, folder, tmp_path):
    """A family that nobody imported is refused, and no file of the folder is code."""
    other = shutil.copytree(folder, tmp_path / "other")
    config = json.loads((other / "config.json").read_text())
    (other / "config.json").write_text(json.dumps({**config, "model_family": "os"}))
    (other / "modeling.py").write_text("raise SystemExit('it ran')")
    write_manifest(other)
    files = {p.name: p.read_bytes() for p in other.iterdir()}
    hub.repositories["evil/model"] = Repository(files)
    with pytest.raises(ValueError, match=r"The family of .* must be one of"):
        load_trained("hf://evil/model")


@pytest.mark.parametrize("inside", ["%2e%2e/other", "a/%2E/b", "a%2F..%2Fb", ".."])
def test_no_folder_of_an_address_leads_out_of_its_repository(inside):
    with pytest.raises(ValueError, match="must be hf://owner/repository"):
        parse(f"hf://{NAME}/{inside}")
    assert parse(f"hf://{NAME}@refs%2Fpr%2F1/a/b.c") == (NAME, "refs/pr/1", "a/b.c")


def test_a_card_of_others_does_not_act_on_the_terminal(hub, folder, tmp_path, capsys):
    other = shutil.copytree(folder, tmp_path / "other")
    (other / "README.md").write_text("---\nlicense: mit\n---\n# \x1b[2J Mine\n")
    assert main(["upload", str(other), "hf://me/new", "--dry-run"]) == 0
    said = capsys.readouterr().out
    assert said == "---\nlicense: mit\n---\n# \\x1b[2J Mine\n"
