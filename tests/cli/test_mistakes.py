"""Wrong command lines: each gives one line with the rule, status 2, and loads nothing.

The wrong values are generated from what each argument declares, so an argument without
a type, or a type without wrong values, fails.
"""

import argparse
import os
import re
import shlex
import signal
import subprocess
import sys

import pytest

import keras_qkformer.cli.main as main_module
from keras_qkformer.cli.argument_types import (
    FIGURE_SUFFIXES,
    AutoOrWhole,
    InputFile,
    InputFolder,
    Number,
    OutputFile,
    OutputFolder,
    RecipeFile,
    SensorSize,
    Text,
    Whole,
    WholeNumbers,
)
from keras_qkformer.cli.main import main, make_parser
from keras_qkformer.mistakes import is_mistake
from keras_qkformer.models import QKFormerBackbone, QKFormerClassifier
from keras_qkformer.presets.arguments import parameters_of
from keras_qkformer.training.recipe import fields, load_recipe, override, parse_value

pytestmark = pytest.mark.backend_independent

NO_NUMBER = (
    "",
    " ",
    "x",
    "true",
    "None",
    "1_0",
    " 1",
    "1 ",
    "0x1",
    "\uff11",
    "\u0663",
    "1\n",
)
NO_WHOLE = (*NO_NUMBER, "1.0", "1e1", "nan", "inf", "9" * 5000)
NO_TEXT = ("", " ", "a\nb", "a\x1b[2J", "a\0", "\ud800", "a\u202eb")
NO_PATH = ("", " ", "a\0b", "a" * 5000, "\ud800", "file.py/inside")
RECIPE = """\
from keras_qkformer.training.recipe import Data, Optimizer, Recipe

recipe = Recipe(
    preset="qkformer_tiny",
    data=Data(name="digits", train="a", validation="b", test="c", batch_size=8),
    optimizer=Optimizer(epochs=3, learning_rate=1e-3),
)
variants = {"long": ["optimizer.epochs=9"]}
"""
SMALL = {"embed_dim": 16, "num_heads": 2, "time_steps": 1}
GOOD = {
    "recipe": "file.py",
    "--recipe": "file.py",
    "--config": "events",
    "--mesh": "data=2",
    "--hosts": "auto",
    "--data-service": "grpc://h:1",
    "--url": "http://h/v1/models/m",
    "--worker": "grpc://h:1",
    "--set": "seed=1",
}


def wrong_values(kind):
    """Values that a type must refuse."""
    match kind:
        case Whole():
            yield from (*NO_WHOLE, str(kind.least - 1), str(kind.most + 1), "-9" * 9)
        case Number():
            yield from (*NO_NUMBER, "nan", "inf", "-inf", "1e999", "-1")
            yield from (str(kind.least / 10 - 1e-9), str(kind.most * 1.01))
        case AutoOrWhole():
            yield from (*NO_WHOLE, "0", "-1", "Auto", str(kind.most + 1))
        case WholeNumbers():
            yield from (*NO_WHOLE[1:], "", "0,1", "2,1", "1,1", "1,,2", ",", "1,-2")
            yield str(kind.most + 1)
        case SensorSize():
            yield from ("", "9", "x", "0x5", "5x0", "5x", "5x5x5", "-1x5", "1.5x5")
            yield from ("99999x99999", f"{kind.most + 1}x1", "\u0663x\u0663", "nanxnan")
        case RecipeFile():
            yield from (*NO_PATH, "missing.py", "folder", "pipe", "/dev/null")
            yield from ("missing.py:long", "folder:long")
        case InputFile():
            yield from (*NO_PATH, "missing", "folder", "pipe", "/dev/null", "folder/")
        case InputFolder():
            yield from (*NO_PATH, "missing", "file.py", "pipe", "/dev/null")
        case OutputFile():
            yield from (*NO_PATH, "folder", "file.py/a/b.png")
            yield from ("a.xyz", "a.png.exe") if kind.suffixes else ()
        case OutputFolder():
            yield from (*NO_PATH, "file.py", "pipe", "/dev/null", "file.py/a/b")
        case Text():
            yield from NO_TEXT
            if kind.pattern != Text.pattern:
                yield from ("x y", "=", ":", "http://", "grpc://h", "-", "ä")
        case _:
            raise AssertionError(f"NO wrong values are known for {kind!r}")


def parsers(parser, *names):
    """All commands with their parsers."""
    groups = [
        action
        for action in parser._actions
        if isinstance(action, argparse._SubParsersAction)
    ]
    if not groups:
        yield names, parser
    for group in groups:
        for name, below in group.choices.items():
            yield from parsers(below, *names, name)


def good_value(action):
    """A value that parses, so that another argument is the one that is wrong."""
    name = action.option_strings[0] if action.option_strings else action.dest
    match action.type:
        case InputFolder():
            good = "folder"
        case InputFile():
            good = "file.py"
        case Whole():
            good = str(action.type.least)
        case _:
            good = "new"
    return GOOD.get(name, action.choices[0] if action.choices else good)


def wrong_lines():
    """Every argument of every command with every value that its type must refuse."""
    for names, parser in parsers(make_parser()):
        actions = [a for a in parser._actions if a.dest not in ("help", "debug")]
        actions = [a for a in actions if a.nargs != 0]  # Flags take no value.
        for action in actions:
            assert action.choices or action.type, (names, action.dest)
            values = ("", "x", "ä\n", "None") if action.choices else None
            for value in values or wrong_values(action.type):
                line = [*names]
                for other in actions:
                    required = other.required or not other.option_strings
                    required = required and not is_excluded(parser, other, action)
                    if other is action or required:
                        given = value if other is action else good_value(other)
                        flag = other.option_strings[:1]
                        line += [f"{flag[0]}={given}"] if flag else [given]
                yield line


def is_excluded(parser, one, other):
    return any(
        one in group._group_actions and other in group._group_actions
        for group in parser._mutually_exclusive_groups
    )


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("mistakes")
    (folder / "folder" / "best").mkdir(parents=True)
    (folder / "file.py").write_text(RECIPE)
    os.mkfifo(folder / "pipe")
    return folder


@pytest.fixture
def said(place, monkeypatch, capsys):
    """Runs a command in the folder; returns its status and the one line it gives."""
    monkeypatch.chdir(place)

    def load():
        raise AssertionError("libraries must not load for a mistake in the arguments")

    for name, module in list(sys.modules.items()):
        if name.startswith("keras_qkformer.cli.") and hasattr(module, "load_libraries"):
            monkeypatch.setattr(module, "load_libraries", load)

    parser = make_parser()  # Once, to save time.
    monkeypatch.setattr(main_module, "make_parser", lambda: parser)

    def run(line):
        try:
            status = main(line)
        except SystemExit as stop:
            status = stop.code
        output, error = capsys.readouterr()
        assert output == ""
        assert len(error.splitlines()) == 1, error
        assert error[:-1].isprintable()
        assert len(error) < 3000
        return status, error

    return run


def test_every_wrong_value_of_every_argument_is_one_line(said):
    lines = list(wrong_lines())
    assert len(lines) > 800
    for line in lines:
        status, error = said(line)
        assert status == 2, (line, error)
        assert re.search(r"must be .*Received: ", error), (line, error)


def wrong_settings():
    """Every field of a recipe with every value that its type must refuse."""
    for field in fields():
        kind, values = field.kind, ["[[]]", "{}", "NaN", "-Infinity", '["x"]']
        if "null" not in kind:
            values.append("null")
        if "text" not in kind:
            values += ["x", "ä", '"5"']
        if "number" in kind and "list" not in kind:
            values += ["true", "[1]", "1e999", "-1"]
        if "whole" in kind:
            values += ["1.5", "1e3"]
        if "true or false" in kind:
            values += ["0", "1", "yes", "True"]
        if kind == "text":
            values += ["5", "true", "1.5"]
        if kind.startswith("an object"):
            values = [v for v in values if v not in ("{}", "null")]
        parent = field.name.rpartition(".")[0]
        for value in values:
            # Its settings with values, since there are none for others of `null`.
            setting = '{"flip": "none"}' if parent.endswith("event_aug") else "{}"
            lead = [f"--set={parent}={setting}"] if "augmentation" in parent else []
            yield ["lr-plot", "file.py", *lead, f"--set={field.name}={value}"]


def test_every_wrong_value_of_every_setting_is_one_line(said):
    lines = list(wrong_settings())
    assert len(lines) > 500
    for line in lines:
        status, error = said(line)
        assert status == 2, (line, error)
        assert re.search(r"Received: ", error), (line, error)


LINES = {
    # Names that are nearly right.
    "fti file.py": "did you mean 'fit'?",
    "data shwo r.aedat": "did you mean 'show'?",
    "fit fiel.py": "did you mean 'file.py'?",
    "fit other.py": "(there: 'file.py')",
    "fit file.py:lnog": "did you mean 'long'?",
    "fit file.py --wrokdir w": "did you mean '--workdir'?",
    "predict folder --top 3 file.py": "'file.py' (files come before options)",
    "fit file.py --work w": "There must be no other arguments",
    "fit file.py --set optimizer.epoch=3": "did you mean 'optimizer.epochs'?",
    "fit file.py --set optimiser.epochs=3": "did you mean 'optimizer.epochs'?",
    "fit file.py --set sede=3": "did you mean 'seed'?",
    "fit file.py --set epochs=3": "did you mean 'optimizer.epochs'?",
    "fit file.py --set optimizer.lr=1": "did you mean 'optimizer.learning_rate'?",
    "fit file.py --epochs 3": "did you mean '--set optimizer.epochs=VALUE'?",
    "fit file.py --batch-size=3": "did you mean '--set data.batch_size=VALUE'?",
    "fit folder/../fiel.py": "did you mean 'folder/../file.py'?",
    "fit other.py:long": "(there: 'file.py')",
    "-v": "did you mean '--version'?",
    "fit file.py --set model.tau.x=3": "must be field=value with a field",
    "evaluate foldre": "did you mean 'folder'?",
    "predict foldre file.py": "did you mean 'folder'?",
    "export foldre": "did you mean 'folder'?",
    "data prepare dvs128 --manual-dir folder": "did you mean 'dvs128_gesture'?",
    "presets all": "There must be no other arguments. Received: 'all'",
    # What is missing.
    "fit": "required: recipe. Received: nothing",
    "keep folder": "required: --out",
    "fit file.py --workdir": "expected one argument",
    # What does not belong together would be ignored.
    "export folder --format onnx --top 3": "--top must come with --format saved_model",
    "export folder --format litert --top 3 --max-megapixels 2": (
        "--top and --max-megapixels must come with --format saved_model. "
        "Received: --top and --max-megapixels with --format litert"
    ),
    "export folder --format litert --weights int8": (
        "--weights must be one of ['float32'] with --format litert; --format openvino "
        "--weights int8 multiplies in 8 bits. Received: 'int8'"
    ),
    "export folder --format onnx --batch-sizes 1,2,4,8": "--batch-sizes must come with",
    "export folder --format onnx --out folder": "must not exist yet",
    "predict folder file.py --retries 5": "--retries must come with --url",
    "predict folder file.py --timeout 5": "--timeout must come with --url",
    "predict folder file.py --batch-size 8": "--batch-size must come with --url",
    "predict --url http://h/v1/models/m file.py --stream file.py": (
        "--stream must come with a model. Received: --stream with --url"
    ),
    "predict --url http://h/v1/models/m file.py --frame-ms 1": "--frame-ms must come",
    "predict folder file.py --frame-ms 1": (
        "--frame-ms must come with --stream RECORDING. Received: --frame-ms with files"
    ),
    "predict folder file.py --stream file.py": (
        "Received: folder with files and --stream file.py"
    ),
    "predict folder file.py --json --csv": "not allowed with argument --json",
    "predict folder": (
        "Give a model and files, or a model and --stream with a recording. "
        "Received: folder with neither"
    ),
    "predict folder none.png": "An image must be a file that exists",
    "predict folder 'none*.png'": "An image must be a file that exists",
    "predict folder pipe": "An image must be a regular file",
    "predict folder folder": "files named .jpg",
    "predict file.py file.py": "A trained model must be a folder, not a file",
    "predict . file.py": "A trained model must be a workdir",
    "data serve --dispatcher 5050 --address h": "--address must come with --worker",
    "data serve --worker grpc://h:1 --work-dir w": "must come with --dispatcher",
    "data serve --dispatcher 1 --worker grpc://h:1": "not allowed with argument",
    "data serve": "--dispatcher --worker is required",
    "data show file.py --out a.png --kind cloud --frames 3": (
        "--frames must come with frames. Received: --frames with --kind cloud"
    ),
    "data show file.py --out a.gif --kind cloud --split-by time": (
        "--split-by must come with frames"
    ),
    "data show file.py --out a.png --kind gif": "named .gif",
    "data show file.py --out a.png": "At byte 0",
    "data prepare dvs128_gesture --manual-dir folder --config events_clean": (
        "_clean belongs to cifar10_dvs. Received: 'events_clean'"
    ),
    "evaluate folder": "--recipe FILE must name the data of a folder that is no",
    "evaluate folder --set seed=1": "--set must come with --recipe",
    "evaluate . --recipe file.py": "A trained model must be a workdir",
    "evaluate folder --recipe file.py --set seed=x": "seed: Input should be a valid",
    "fit file.py --devices 2 --mesh data=2": "There must be --devices or --mesh",
    "convert folder": "The source must be a file, not a folder",
    "convert none.pth": "The source must be a file that exists",
    "convert pipe": "The source must be a regular file",
    "convert file.py --to pytorch": "The source must be a folder, not a file",
    "convert folder --to pytorch --out folder": "--out must be a file to write",
    "convert folder --to pytorch --set a=1": "--set must come with --to keras",
    "convert folder --to pytorch --preset a --entry b": (
        "--preset and --entry must come with --to keras"
    ),
    "convert file.py --out file.py": "--out must be a folder to write, not a file",
    "serve-check folder": "A bundle must be a folder that export has written",
    "serve-check folder --model .": "A trained model must be a workdir",
    "keras_qkformer": "must be one of fit,",
    "--backend jax": "must be one of fit,",
}


def test_a_folder_that_is_no_model_is_not_proposed_in_its_own_place(said):
    os.mkdir("exported.onnx")
    status, error = said(["predict", "exported.onnx", "file.py"])
    os.rmdir("exported.onnx")
    assert status == 2
    assert error.endswith("or a preset folder. Received: 'exported.onnx'\n")


@pytest.mark.parametrize("line", LINES)
def test_mistake_says_what_is_wrong(line, said):
    status, error = said(shlex.split(line))
    assert (status, LINES[line] in error) == (2, True), error


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("import sys\nsys.exit(0)", "'bad.py', line 2: SystemExit: 0"),
        ("import sys\nsys.exit()", "'bad.py', line 2: SystemExit"),
        ("\n\nraise SystemExit('a\\nb')", "line 3: SystemExit: a b"),
        ("def f():\n    raise KeyboardInterrupt\nf()", "line 2: KeyboardInterrupt"),
        ("raise BaseException('b')", "line 1: BaseException: b"),
        ("x = 1\ny = (", "line 2: SyntaxError: '(' was never closed"),
        ("x = 1\n  y = 2", "line 2: IndentationError: unexpected indent"),
        ("x\0", "source code string cannot contain null bytes"),
        ("import nothing_of_that_name", "line 1: ModuleNotFoundError"),
        ("1 / 0", "line 1: ZeroDivisionError"),
        ("def f(): f()\nf()", "line 1: RecursionError"),
        ("import runpy\nrunpy.run_path('bad.py')", "line 2: RecursionError"),
        ("", "must define `recipe`, a Recipe"),
        ("recipe = 'x' * 10**7", "with a recipe of type str"),
        (f"{RECIPE}variants = 3", "must be a dict from names to lists"),
        (f"{RECIPE}variants = {{'a': 'seed=1'}}", "must be a dict from names to lists"),
        (f"{RECIPE}variants = {{'a': [1]}}", "must be a dict from names to lists"),
        (
            "from keras_qkformer.training.recipe import Optimizer\n\n"
            "recipe = Optimizer(epochs=-1, learning_rate=True)",
            "'bad.py', line 3: epochs: Input should be greater than 0. Received: -1; "
            "learning_rate: Input should be a valid number. Received: True",
        ),
    ],
)
def test_recipe_that_fails_is_named_with_its_line(text, message, said, place):
    (place / "bad.py").write_text(text)
    status, error = said(["fit", "bad.py"])
    assert (status, message in error) == (2, True), error


def test_recipe_may_print_without_harm(place, monkeypatch, capsys):
    (place / "prints").mkdir()
    (place / "prints" / "loud.py").write_text(f"print('hello')\n{RECIPE}")
    monkeypatch.chdir(place)
    assert main(["recipes", "prints"]) == 0
    output, error = capsys.readouterr()
    assert "hello" in error
    assert output.startswith("# Recipes")


def test_interrupting_a_recipe_is_no_mistake_of_it(place, monkeypatch, capsys):
    """A recipe that waits, as if for data, gets Ctrl-C from outside."""
    (place / "waits.py").write_text(
        "import os, signal, time\nos.kill(os.getpid(), signal.SIGINT)\ntime.sleep(9)"
    )
    monkeypatch.chdir(place)
    # A shell that runs the tests in the background has it ignored.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        assert main(["fit", "waits.py"]) == 130
    finally:
        signal.signal(signal.SIGINT, before)
    assert "interrupted" in capsys.readouterr().err


def test_file_that_can_not_be_read_is_refused(said, monkeypatch):
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    for line, message in (
        (["fit", "file.py"], "must be a file that can be read"),
        (["keep", "folder", "--out", "new"], "must be in a folder that can be written"),
    ):
        status, error = said(line)
        assert (status, message in error) == (2, True), error


def test_help_is_printed_without_a_command(capsys):
    for line in ([], ["data"]):
        assert main(line) == 0
        output, error = capsys.readouterr()
        assert output.startswith("usage: keras-qkformer") and not error


def test_formats_of_figures_are_those_of_matplotlib():
    from matplotlib.backend_bases import FigureCanvasBase

    # It writes AVIF too if Pillow can.
    known = set(FigureCanvasBase.get_supported_filetypes())
    assert set(FIGURE_SUFFIXES) == known - {"avif"}


@pytest.mark.parametrize(
    "line",
    [
        "--version",
        "recipes .",
        "recipes show file.py",
        "presets",
        "presets --json",
        "fit fiel.py",
        "fit file.py --set preset=qkformer_tinny",
        "fit file.py --set model.taau=3",
        "data benchmark file.py --set model.depths=x",
        "fit file.py --set seed=x",
        "fit file.py:lnog",
        "predict folder none.png",
        "evaluate foldre",
        "convert none.pth",
        "data show none.aedat --out a.png",
        "export folder --format onnx --top 3",
    ],
)
def test_mistake_costs_no_start_of_a_library(line, place):
    script = (
        "import sys, time; from keras_qkformer.cli.main import main\n"
        f"try: main({shlex.split(line)!r})\nexcept SystemExit: pass\n"
        "print(time.process_time(), *sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=place,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert not done.returncode, done.stderr
    seconds, *loaded = done.stdout.splitlines()[-1].split()
    assert not {"keras", "tensorflow", "jax", "torch", "matplotlib"} & set(loaded)
    assert float(seconds) < 1  # Of the processor; Keras alone takes more.


def test_recipes_show_lists_what_set_can_change(place, monkeypatch, capsys):
    """The lines, given to --set, make the same recipe."""
    monkeypatch.chdir(place)
    assert main(["recipes", "show", "file.py:long"]) == 0
    output = capsys.readouterr().out
    lines = re.findall(r"^\S+?=.*", output, re.M)
    names = [line.partition("=")[0] for line in lines]
    assert {field.name for field in fields()} < {*names}
    assert {"model.tau", "model.depths", "model.num_classes"} <= {*names}
    recipe = load_recipe("file.py:long")
    own = [line for line in lines if not line.startswith(("model", "expected."))]
    own = [line for line in own if "_augmentation." not in line]
    assert len(own) > 30
    assert override(recipe, own) == recipe
    assert (
        "optimizer.epochs=9\n    a whole number above 0 up to 1000000; passes" in output
    )
    for name in names:
        assert re.search(rf"^{re.escape(name)}=.*\n    \S", output, re.M), name


MODEL_VALUES = ("null", "true", "x", "", "NaN", "Infinity", "-1", "0", "1e300", "{}")
MODEL_VALUES += ("1000000000", "[]", "[true]", "[[1]]", '["x"]', "[-1, -1]", "1" * 30)


RIGHT_VALUES = {
    "static": "true",
    "deformed_shortcut": "true",
    "attention": "null",
    "tau": "null",
    "dtype": "null",
    "num_classes": "null",
    "drop_path": "0",
}


@pytest.mark.parametrize("name", [*parameters_of(QKFormerBackbone), "num_classes"])
def test_wrong_argument_of_a_model_is_told_by_a_rule_of_ours(name):
    for text in set(MODEL_VALUES) - {RIGHT_VALUES.get(name)}:
        arguments = {**SMALL, name: parse_value(text)}
        with pytest.raises(ValueError, match=rf"must .*Received: .*{name}=") as caught:
            QKFormerClassifier.from_preset("qkformer_tiny", **arguments)
        assert is_mistake(caught.value), (text, caught.value)


@pytest.mark.parametrize("name", ["kwargs", "self", "backbone", "name", "taau"])
def test_what_is_no_argument_of_a_model_is_refused(name):
    with pytest.raises(ValueError, match=r"must be one of .*Received") as caught:
        QKFormerClassifier.from_preset("qkformer_tiny", **{name: {}})
    assert ("did you mean 'tau'?" in str(caught.value)) == (name == "taau")
