"""What a client and a check need: neither Keras nor TensorFlow, and little time."""

import subprocess
import sys

import pytest

pytestmark = pytest.mark.backend_independent
LIGHT = """
import sys, time
sys.modules["keras"] = sys.modules["tensorflow"] = None
start = time.process_time()
import keras_qkformer.serving.{name}
print(time.process_time() - start)
"""


@pytest.mark.parametrize("name", ["client", "wire", "check", "server_files"])
def test_imports_without_keras_and_tensorflow_in_half_a_second(name):
    done = subprocess.run(
        [sys.executable, "-c", LIGHT.format(name=name)],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert float(done.stdout) < 0.5
