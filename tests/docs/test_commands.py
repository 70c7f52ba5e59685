"""The commands of all pages are ones that the command line takes."""

import argparse
import re
import shlex
from pathlib import Path

import pytest

from keras_qkformer.cli import argument_types
from keras_qkformer.cli.main import make_parser
from keras_qkformer.training.recipe import load_recipe

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = "keras-qkformer"
pytestmark = [
    pytest.mark.backend_independent,
    pytest.mark.skipif(not (ROOT / "docs").is_dir(), reason="needs a checkout"),
]
# What stands for something of the reader's.
STAND_INS = {
    "COMMAND": "fit",
    "RECIPE": "recipes/digits.py",
    "recipes/NAME.py": "recipes/digits.py",
    "recipes/NAME.py:VARIANT": "recipes/digits.py",
    "birds_recipe.py": "recipes/digits.py",
    "NAME": "nmnist",
    "URL": "http://localhost:8501/v1/models/digits",
    "FORMAT": "onnx",
    "$HOST_0,2,0": "localhost:8476,2,0",
    "$HOST_0,2,1": "localhost:8476,2,1",
}
# Programs of others, which are named and not run.
OTHERS = {"docker", "curl", "kubectl", "sbatch"}
SHELL = {
    "cat",
    "cd",
    "echo",
    "export",
    "grep",
    "head",
    "ls",
    "printf",
    "rm",
    "set",
    "tail",
    "wait",
    "CAMERA",
}
PYTHON = {"python", ".venv/bin/python"}
JOINED = re.compile(r"\\\n *")


def pages():
    """Markdown with commands to type; those of `docs/mistakes.md` are wrong."""
    found = [
        *ROOT.glob("*.md"),
        *ROOT.glob("*/README.md"),
        ROOT / "benchmarks/NOTES.md",
    ]
    found += (ROOT / "docs").rglob("*.md")
    found += (ROOT / "keras_qkformer").rglob("README.md")
    past = {ROOT / "CHANGELOG.md", ROOT / "docs" / "mistakes.md"}
    return sorted({*found} - past)


def shell_lines(text):
    """Yield the lines of a page that are shell: indented, fenced, or in a tutorial."""
    text = re.sub(r"^```(?!bash).*?^```$", "", text, flags=re.MULTILINE | re.DOTALL)
    for block in re.findall(r"^```bash\n(.*?)^```$", text, re.MULTILINE | re.DOTALL):
        yield from JOINED.sub(" ", block).splitlines()
    # A block is behind an empty line; otherwise it goes on with a list or a term.
    for block in re.findall(r"(?:^|\n)\n((?: {4}[^\n]*\n)+)", text):
        yield from JOINED.sub(" ", block).splitlines()


def tutorial_lines(text):
    """Yield the lines of the cells with commands, and of indented text."""
    for cell in re.findall(
        r'^# %%[^\n]*language="bash"\n((?:#[^\n]*\n)+)', text, re.MULTILINE
    ):
        commands = re.sub(r"^# ?", "", cell, flags=re.MULTILINE)
        commands = re.sub(r"<<'END'.*?^END$", "", commands, flags=re.M | re.S)
        yield from JOINED.sub(" ", commands).splitlines()
    for cell in re.findall(r'^r?"""\n(.*?)^"""$', text, re.MULTILINE | re.DOTALL):
        yield from shell_lines(f"\n{cell}")


def commands(line):
    """Yield the commands of a line as lists of words, without what redirects them."""
    line = line.strip()
    if line.startswith("#") or not line:
        return
    words = shlex.shlex(line, posix=True, punctuation_chars=True)
    words.whitespace_split = True
    command, skips = [], False
    for word in words:
        if skips:
            skips = False
        elif word in ("|", ";", "&", "&&", "||", "(", ")"):
            if command:
                yield command
            command = []
        elif set(word) <= set("<>&"):
            skips = True
            if command and command[-1].isdecimal():
                command.pop()  # As of 2>&1.
        elif command or not re.fullmatch(r"[A-Z_]+=.*", word):
            command.append(word)
    if command:
        yield command


def all_commands():
    """Yield `(page, words)` of the lines of all pages."""
    for page in pages():
        for line in shell_lines(page.read_text()):
            yield from ((page, words) for words in commands(line))
    for page in sorted((ROOT / "docs" / "tutorials").glob("*.py")):
        for line in tutorial_lines(page.read_text()):
            yield from ((page, words) for words in commands(line))
    for page in sorted((ROOT / "recipes").glob("*.py")):
        text = JOINED.sub(" ", page.read_text())
        for line in re.findall(rf"^ {{4}}({PROGRAM} .*)$", text, re.MULTILINE):
            yield from ((page, words) for words in commands(line))


def mentions():
    """Yield `(page, words)` of the commands within sentences, perhaps not whole."""
    for page in [*pages(), *sorted((ROOT / "docs" / "tutorials").glob("*.py"))]:
        text = re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.M | re.S)
        for found in re.findall(rf"`({PROGRAM} [^`]*)`", text):
            # One that ends in "..." is a pattern of commands.
            if not found.endswith("..."):
                yield from (
                    (page, words) for words in commands(" ".join(found.split()))
                )


@pytest.fixture
def parse(monkeypatch):
    """Function that parses the words behind the program's name, without any file."""
    monkeypatch.chdir(ROOT)
    for kind in ("InputFile", "InputFolder", "OutputFolder"):
        taken = getattr(argument_types, kind)
        monkeypatch.setattr(taken, "__call__", lambda self, text: text)
    parser = make_parser()
    return lambda words: parser.parse_args([STAND_INS.get(w, w) for w in words])


def ask_for_nothing(parser):
    """Have a parser and those of its commands take a command that is not whole."""
    for action in parser._actions:
        action.required = False
        if isinstance(action, argparse._SubParsersAction):
            for each in action.choices.values():
                ask_for_nothing(each)
    for group in parser._mutually_exclusive_groups:
        group.required = False


def problems(parse, found):
    """What the parser says of commands, or a recipe to their `--set`, as a list."""
    wrong = []
    for page, words in found:
        try:
            given = parse(words[1:])
            recipe = getattr(given, "recipe", None)
            if recipe and recipe.startswith("recipes/"):
                load_recipe(recipe, getattr(given, "set", None) or ())
        except (SystemExit, ValueError) as error:
            if getattr(error, "code", 2):  # 0 is that of --help.
                place = page.relative_to(ROOT).as_posix()
                wrong.append((place, " ".join(words), error))
    return wrong


def test_every_command_of_a_page_is_one_that_is_taken(parse, capsys):
    found = [(page, words) for page, words in all_commands() if words[0] == PROGRAM]
    assert len({page for page, _ in found}) > 30  # The search still finds them.
    assert problems(parse, found) == [], capsys.readouterr().err


def test_every_command_in_a_sentence_is_one_that_is_taken(parse, capsys, monkeypatch):
    parser = make_parser()
    ask_for_nothing(parser)
    found = [*mentions()]
    assert len(found) > 20
    wrong = problems(
        lambda words: parser.parse_args([STAND_INS.get(w, w) for w in words]), found
    )
    assert wrong == [], capsys.readouterr().err


def test_every_other_command_of_a_page_exists():
    """So a block of another language is no indented one: only fenced ones are run."""
    targets = {
        *re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    }
    extras = (
        (ROOT / "pyproject.toml").read_text().partition("optional-dependencies]")[2]
    )
    extras = {*re.findall(r"^(\w+) = \[", extras, re.MULTILINE)}
    for page, (program, *words) in all_commands():
        told = page.relative_to(ROOT), program, *words
        if program == "make":
            assert words[0] in targets, told
        elif program in ("pip", "sh") or program in PYTHON:
            first = words[0] if words else ""
            if first == "-m":
                place = ROOT / words[1].replace(".", "/")
                known = place.is_dir() or place.with_suffix(".py").is_file()
                assert known or words[1] in ("pytest", PROGRAM.replace("-", "_")), told
            elif first.endswith((".py", ".sh")):
                assert (ROOT / first).is_file(), told
            named = re.findall(r"(?:keras_qkformer|\.)\[([\w,]+)\]", " ".join(words))
            assert {*",".join(named).split(",")} - {""} <= extras, told
        else:
            assert program in {PROGRAM, *OTHERS, *SHELL}, told


def test_every_fenced_block_is_of_a_language_that_is_checked():
    for page in pages():
        kinds = re.findall(r"^```(.*)\n(?:.*\n)*?```$", page.read_text(), re.MULTILINE)
        assert {*kinds} <= {"python", "bash"}, page


@pytest.mark.parametrize(
    "line",
    [
        "keras-qkformer fit recipes/digits.py --epochs 5",
        "cat a | keras-qkformer predict runs/x --stream - --frames-ms 50",
        "(printf x; keras-qkformer evalute runs/x) > y",
        "KERAS_BACKEND=jax keras-qkformer fit recipes/digits.py --set optimizer.ep=1",
        "keras-qkformer fit recipes/digit.py  # a comment",
    ],
)
def test_a_wrong_command_is_found(parse, line, capsys):
    page = ROOT / "page.md"
    found = [(page, words) for words in commands(line) if words[0] == PROGRAM]
    assert len(problems(parse, found)) == 1
