"""A process that answers one request of its parent, and does not outlive it.

Lines of JSON on standard input and output: the request; stages, then the answer.
The parent holds the input open for as long as it waits, so its end tells the child that
the parent is gone, however it died.
"""

import _thread
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time

from keras_qkformer.stages import heard_by, stage

_GRACE = 30  # Seconds in which an interrupted answer may remove its temporary files.


def ask_process(command, environment, request):
    """Start a process, ask it, tell its stages, and return its answer.

    Args:
        command: list of str. Starts a process that calls `answer_parent`.
        environment: dict. Its environment variables.
        request: value that JSON can hold.

    Returns:
        Dict, the answer.

    Raises:
        OSError: if a signal ended the process, such as that of a system without memory.
        RuntimeError: with the process's errors, if it ended in another way.
    """
    answer = None
    with tempfile.TemporaryFile("w+") as errors:
        process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            env=environment,
            text=True,
        )
        try:
            process.stdin.write(json.dumps(request) + "\n")
            process.stdin.flush()
            for line in process.stdout:
                if not line.endswith("\n"):
                    break  # The process was killed while it wrote.
                message = json.loads(line)
                if "stage" in message:
                    stage(message["stage"])
                else:
                    answer = message
            status = process.wait()
        except BrokenPipeError:
            status = process.wait()
        finally:
            process.kill()
            process.wait()
            process.stdout.close()
            try:
                process.stdin.close()
            except BrokenPipeError:
                pass
        errors.seek(0)
        told = errors.read()
    if status < 0:
        raise OSError(
            f"The TensorFlow process of the export was killed by signal {-status}, "
            "perhaps because memory ran out. Nothing is half written: export again."
        )
    if status or answer is None:
        raise RuntimeError(
            f"The TensorFlow process of the export ended with status {status}:\n{told}"
        )
    return answer


def answer_parent(respond):
    """Answer the request of the parent, which called `ask_process`.

    Args:
        respond: function from the request to the answer, a dict. If the parent dies, it
            is interrupted as by Ctrl-C.
    """
    with os.fdopen(os.dup(1), "w") as answer:
        os.dup2(2, 1)  # Libraries that print must not disturb the answer.
        # Shells start what runs in the background with it ignored.
        signal.signal(signal.SIGINT, signal.default_int_handler)
        request = json.loads(sys.stdin.readline())
        threading.Thread(target=_end_with_parent, daemon=True).start()

        def write(message):
            answer.write(json.dumps(message) + "\n")
            answer.flush()

        with heard_by(lambda text: write({"stage": text})):
            write(respond(request))


def _end_with_parent():
    os.read(0, 1)  # Returns when the parent, which writes nothing more, is gone.
    _thread.interrupt_main()
    time.sleep(_GRACE)
    os._exit(1)
