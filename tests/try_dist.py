"""Try what `make dist` has built: the files of the archive, the wheel elsewhere.

    python tests/try_dist.py dist

The wheel is installed into an empty environment and answers a digit. Each extra is then
added there and imported; those without modules in `EXTRAS`, which are gigabytes, are
resolved by pip and not installed. The status is 1 if anything is wrong.
"""

import email
import os
import subprocess
import sys
import tarfile
import tempfile
import venv
import zipfile
from pathlib import Path

# Extra -> modules that it brings. `None`: resolved alone.
EXTRAS = {
    "plots": ["matplotlib"],
    "demo": ["sklearn", "PIL"],
    "events": ["aedat"],
    "serving": ["grpc"],
    "onnx": ["tf2onnx", "onnx", "onnxruntime"],
    "litert": ["ai_edge_litert"],
    "openvino": ["openvino"],
    "hub": ["huggingface_hub", "kagglehub"],
    "nir": ["nir"],
    "completion": ["shtab"],
    "jax": ["jax"],
    "torch": None,
    "docs": None,
    "dev": None,
}
# Tracked, and of no use without the checkout.
NOT_IN_SOURCE = (".ci/", ".github/", ".gitignore", "weights/cifar10/")
# Links in the checkout, whose files are in the archive; and what setuptools writes.
ONLY_IN_SOURCE = (
    *("keras_qkformer/shipped/", "keras_qkformer.egg-info/", "PKG-INFO", "setup.cfg"),
)
ROOT = Path(__file__).resolve().parents[1]


def source_differences(archive):
    """What an archive lacks of the tracked files, and has beside them: list of str."""
    with tarfile.open(archive) as file:
        members = [member.name for member in file if not member.isdir()]
    inside = {name.partition("/")[2] for name in members}
    listed = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True, text=True
    )
    tracked = {*listed.stdout.split("\0")} - {""}
    wanted = {name for name in tracked if not name.startswith(NOT_IN_SOURCE)}
    links = {name for name in wanted if (ROOT / name).is_symlink()}
    lost = sorted(wanted - links - inside)
    more = {name for name in inside - tracked if not name.startswith(ONLY_IN_SOURCE)}
    return [
        *(f"{archive.name} lacks {name}" for name in lost),
        *(f"{archive.name} has {name}, which is not tracked" for name in sorted(more)),
    ]


def run(*command, folder):
    """Run a command elsewhere; return `(status, text)` of both its outputs."""
    done = subprocess.run(
        [str(part) for part in command],
        cwd=folder,
        env={k: v for k, v in os.environ.items() if k != "PYTHONPATH"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    return done.returncode, done.stdout


def try_wheel(wheel, folder):
    """Install a wheel with each extra, and yield what is wrong, as str."""
    with zipfile.ZipFile(wheel) as file:
        (name,) = (n for n in file.namelist() if n.endswith(".dist-info/METADATA"))
        metadata = email.message_from_bytes(file.read(name))
    if {*metadata.get_all("Provides-Extra")} != {*EXTRAS}:
        yield f"extras of the wheel: {metadata.get_all('Provides-Extra')}"
    place = folder / "environment"
    venv.create(place, with_pip=True)
    python, command = place / "bin" / "python", place / "bin" / "keras-qkformer"
    pip = [python, "-m", "pip", "--quiet", "--disable-pip-version-check"]

    def tried(what, *line, expected=""):
        status, told = run(*line, folder=folder)
        right = status == 0 and expected in told
        print(f"{what}: {'right' if right else told}", flush=True)
        return [] if right else [f"{what}: status {status}"]

    yield from tried("install", *pip, "install", wheel)
    version = metadata["Version"]
    shown = f"keras-qkformer {version}\n"
    yield from tried("version", command, "--version", expected=shown)
    yield from tried("import", python, "-c", "import keras_qkformer.models, keras")
    yield from tried("samples", command, "samples")
    asked = command, "predict", "weights/digits", "seven.png"
    yield from tried("predict", *asked, expected="\t7:")
    for extra, modules in EXTRAS.items():
        target = f"{wheel}[{extra}]"
        if modules is None:
            line = *pip, "install", "--dry-run", target
            yield from tried(f"{extra}, resolved alone", *line)
            continue
        yield from tried(f"{extra}, installed", *pip, "install", target)
        line = python, "-c", f"import {', '.join(modules)}"
        yield from tried(f"{extra}, imported", *line)
    yield from tried("predict on JAX", *asked, "--backend", "jax", expected="\t7:")
    yield from tried("pip check", *pip, "check")


def main(folder):
    """Try the archive and the wheel of a folder; the status is 1 if one is wrong."""
    (archive,) = Path(folder).glob("*.tar.gz")
    (wheel,) = Path(folder).glob("*.whl")
    wrong = source_differences(archive)
    with tempfile.TemporaryDirectory() as empty:
        wrong += try_wheel(wheel.absolute(), Path(empty))
    print(*(f"WRONG: {line}" for line in wrong), sep="\n")
    return bool(wrong)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
