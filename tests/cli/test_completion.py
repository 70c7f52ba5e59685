"""Completion of commands, as a shell does it."""

import subprocess

import pytest

from keras_qkformer.cli.completion import SHELLS
from keras_qkformer.cli.main import main

pytestmark = pytest.mark.backend_independent


def complete(script, *words):
    """What bash offers for the last word."""
    quoted = " ".join(words[:-1]) + f" '{words[-1]}'"
    asked = (
        f"source {script}; COMP_WORDS=({quoted}); COMP_CWORD={len(words) - 1}; "
        '_shtab_keras_qkformer; echo "${COMPREPLY[@]}"'
    )
    done = subprocess.run(
        ["bash", "-c", asked], capture_output=True, text=True, cwd=script.parent
    )
    return done.stdout.split()


def test_bash_completes_commands_options_choices_and_paths(tmp_path, capsys):
    pytest.importorskip("shtab", reason="the scripts need an extra")
    assert main(["completion", "bash"]) == 0
    script = tmp_path / "complete.sh"
    script.write_text(capsys.readouterr().out)
    (tmp_path / "recipe.py").touch()
    assert complete(script, "keras-qkformer", "ev") == ["evaluate"]
    assert complete(script, "keras-qkformer", "data", "pre") == ["prepare", "preview"]
    assert complete(script, "keras-qkformer", "fit", "--work") == ["--workdir"]
    assert "recipe.py" in complete(script, "keras-qkformer", "fit", "rec")
    formats = complete(script, "keras-qkformer", "export", "model", "--format", "")
    assert formats == ["saved_model", "onnx", "litert", "openvino"]


@pytest.mark.parametrize("shell", SHELLS)
def test_every_shell_has_a_script(shell, capsys):
    pytest.importorskip("shtab", reason="the scripts need an extra")
    assert main(["completion", shell]) == 0
    assert "serve-check" in capsys.readouterr().out
