"""Play pages as a stranger would: every command and block, in order, in a new folder.

    python tests/first_minutes.py README.md docs/start.md > transcript.txt

What an earlier page has played is not played again. Commands run in a terminal of
80 columns, and those of `TWICE` without one too. `fit` gets `--smoke`. What is not
there to run with is left out, and said. The status is 1 if a command fails, or prints
what a stranger would not understand.
"""

import fcntl
import os
import pty
import re
import struct
import subprocess
import sys
import tempfile
import termios
import time
from pathlib import Path

LEFT_OUT = {
    r"pip install|make ": "set-up, which is done",
    r"--url http://localhost": "needs TF Serving",
    r"data prepare": "needs a download of gigabytes",
    r"--hosts auto": "needs a cluster",
    r"(predict|evaluate) (hf|kaggle)://": "needs a model at a hub",
    r"convert checkpoint-199.pth|weights/10-768": "needs a checkpoint of the authors",
}
TWICE = ("fit recipes/digits.py --workdir", "export", "data benchmark")
STRANGE = re.compile(
    r"Traceback|Warning|oneDNN|absl|cuda|dynamo|XLA|AutoGraph|MLIR|tf\.function"
    r"|site-packages|0x[0-9a-f]{6}|\x1b(?!\[A|\[K|\[\?25)",
    re.IGNORECASE,
)
# `serve-check` says that XLA's compiler is not needed.
NOT_STRANGE = re.compile(r"without XLA's compiler")
# What a reader of the Python blocks has: arrays of the shapes that they name.
STAND_INS = """\
import numpy as np
images = np.random.default_rng(0).normal(size=(8, 32, 32, 3)).astype("float32")
labels = np.arange(8)
pixels = np.zeros((2, 8, 8, 1))
current = more = np.ones((2, 3, 4), "float32")
"""
MAKES = {"model.keras": "model.save('model.keras')\n"}
COLUMNS, LIMIT_S = 80, 600


def steps(text):
    """Commands and Python blocks of a Markdown page, in order: `(kind, text)`."""
    python, shell = r"^```python\n(?P<python>.*?)^```$", r"^ {4}(?P<shell>\S[^\n]*)$"
    for found in re.finditer(f"{python}|{shell}", text, re.MULTILINE | re.DOTALL):
        yield found.lastgroup, found[found.lastgroup]


def in_terminal(command, folder):
    """Status and text of a shell command in a terminal of 80 columns."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, COLUMNS, 0, 0))
    process = subprocess.Popen(
        command, shell=True, cwd=folder, stdin=theirs, stdout=theirs, stderr=theirs
    )
    os.close(theirs)
    end, text = time.monotonic() + LIMIT_S, b""
    try:
        while time.monotonic() < end:
            try:
                text += os.read(ours, 1 << 16)
            except OSError:  # The last process has closed the terminal.
                break
        return process.wait(10), text.decode(errors="replace").replace("\r\n", "\n")
    finally:
        process.kill()
        os.close(ours)


def in_pipe(command, folder):
    """Status and text of a shell command whose output is no terminal."""
    done = subprocess.run(
        command,
        shell=True,
        cwd=folder,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=LIMIT_S,
    )
    return done.returncode, done.stdout


def last_frames(text):
    """What stays on the screen of lines that are drawn over with carriage returns."""
    return "\n".join(line.rstrip("\r").rpartition("\r")[2] for line in text.split("\n"))


def steps_of(pages):
    """The steps of several pages, in order; of equal ones the first."""
    found = {}
    for page in pages:
        for kind, text in steps(Path(page).read_text()):
            what = text.partition("#")[0].strip() if kind == "shell" else text
            found.setdefault((kind, what), text)
    return [(kind, text) for (kind, _), text in found.items()]


def play(pages, folder):
    """Run everything; print a transcript; return what went wrong, a list of str."""
    wrong, python = [], STAND_INS
    for kind, text in steps_of(pages):
        if kind == "python":
            made = "".join(line for name, line in MAKES.items() if name in text)
            python += made + text + "\n"
            continue
        why = [reason for rule, reason in LEFT_OUT.items() if re.search(rule, text)]
        if why:
            print(f"$ {text}\n[left out: {why[0]}]\n", flush=True)
            continue
        command = text.partition("#")[0].strip()
        if " fit " in command and "--find-lr" not in command:
            command += " --smoke"
        ways = [("terminal", in_terminal)]
        ways += [("no terminal", in_pipe)] * any(part in command for part in TWICE)
        for way, run in ways:
            again = command
            if way == "no terminal":
                again = command.replace("runs/digits", "runs/again", " fit " in command)
                again = again.replace("saved_models/digits", "saved_models/again")
            begin = time.monotonic()
            status, told = run(again, folder)
            seconds = time.monotonic() - begin
            shown = last_frames(told)
            print(f"$ {again}  [{way}, {seconds:.0f} s]\n{shown}", flush=True)
            wrong += problems(again, status, told, shown if way == "terminal" else "")
    (folder / "blocks.py").write_text(python)
    # On PyTorch nothing is compiled, which takes a minute for the first model.
    environment = "KERAS_BACKEND=torch TF_CPP_MIN_LOG_LEVEL=3"
    status, told = in_pipe(f"{environment} {sys.executable} blocks.py", folder)
    print(f"$ python blocks.py  [the Python blocks]\n{told}", flush=True)
    if status or "Traceback" in told or "Warning" in told:
        wrong.append(f"the Python blocks: status {status}: {told[-500:]}")
    return wrong


def problems(command, status, told, screen):
    """What is wrong with what a command has printed, a list of str."""
    wrong = [] if status == 0 else [f"{command}: status {status}"]
    told = NOT_STRANGE.sub("", told)
    wrong += [f"{command}: {match[0]!r}" for match in STRANGE.finditer(told)]
    # Bars, which a narrow terminal would break.
    return wrong + [
        f"{command}: a bar of {len(line)} columns: {line}"
        for line in screen.split("\n")
        if len(line) > COLUMNS and "%|" in line
    ]


def main(*pages):
    """Play pages in a temporary folder; the status is 1 if anything is wrong."""
    with tempfile.TemporaryDirectory() as folder:
        wrong = play(pages, Path(folder))
    print(*(f"WRONG: {line}" for line in wrong), sep="\n")
    return bool(wrong)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
