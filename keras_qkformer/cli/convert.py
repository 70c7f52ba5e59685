"""`convert`: PyTorch weights into a preset folder, or back."""

import re
import shlex
import sys
from pathlib import Path

from keras_qkformer.cli.argument_types import (
    InputFile,
    InputFolder,
    OutputFile,
    OutputFolder,
    Text,
    check,
)
from keras_qkformer.cli.arguments import OVERRIDE, PROGRAM, add_import, refuse_given
from keras_qkformer.cli.printing import line, print_note
from keras_qkformer.cli.process import load_libraries
from keras_qkformer.stages import heard_by


def add(commands):
    """Declare the command."""
    parser = commands.add(
        "convert",
        run,
        "convert PyTorch weights into a preset folder, or back",
        "checkpoint-199.pth --out weights/10-768 --verify",
        loads=True,
    )
    parser.add_argument(
        "source",
        type=Text(),
        help=".pth, .safetensors or .npz file; with --to pytorch, a preset folder",
    )
    parser.add_argument(
        "--to",
        choices=("keras", "pytorch"),
        default="keras",
        help="format to write (default: keras)",
    )
    parser.add_argument(
        "--out",
        type=Text(),
        help="folder or file to write (default: the source's name without its suffix; "
        "with --to pytorch, the source's name with .pth added)",
    )
    parser.add_argument(
        "--preset",
        type=Text(),
        help="preset of the weights (default: recognized from their shapes)",
    )
    parser.add_argument(
        "--set",
        type=OVERRIDE,
        action="append",
        default=[],
        metavar="FIELD=VALUE",
        help="argument that shapes don't determine, such as num_heads=8; repeatable",
    )
    parser.add_argument(
        "--entry",
        type=Text(),
        help="entry of the file with the weights (default: model, state_dict or net)",
    )
    parser.add_argument(
        "--verify",
        action="store_true",
        help="compare the logits with a plain PyTorch model, in float64",
    )
    add_import(parser)


def run(arguments):
    """Convert, and print the preset, the assumptions and the path."""
    source = Path(arguments.source)
    to_pytorch = arguments.to == "pytorch"
    with heard_by(print_note):
        out, difference, then = (_to_pytorch if to_pytorch else _to_keras)(
            arguments, source
        )
    if difference is not None:
        print(f"largest difference of a logit to PyTorch, in float64: {difference:.3g}")
    print(line(out))
    print_note("next:", then)


def _to_pytorch(arguments, source):
    refuse_given(arguments, ("preset", "set", "entry"), "--to keras", "--to pytorch")
    check(InputFolder(), "The source", arguments.source)
    out = Path(check(OutputFile(), "--out", arguments.out or f"{source}.pth"))
    load_libraries(arguments)
    from keras_qkformer import convert

    difference = convert.preset_to_checkpoint(source, out, arguments.verify)
    return out, difference, f"model.load_state_dict(torch.load({str(out)!r}))"


def _to_keras(arguments, source):
    if source.is_dir():
        raise ValueError(
            "The source must be a file, not a folder, unless --to pytorch makes a file "
            f"of a preset folder. Received: {arguments.source!r}"
        )
    check(InputFile(), "The source", arguments.source)
    out = Path(arguments.out or source.with_suffix(""))
    check(OutputFolder(), "--out", str(out))
    options = dict(_parse_option(item) for item in arguments.set)
    load_libraries(arguments)
    import tqdm

    from keras_qkformer import convert

    shape = "[{bar:40}] {n_fmt}/{total_fmt} arrays"
    # tqdm would ask the terminal itself; the command asks once for all.
    with tqdm.tqdm(
        bar_format=shape, ascii=" =", total=0, disable=not sys.stderr.isatty()
    ) as bar:

        def show(done, total):
            bar.total = total
            bar.update(done - bar.n)

        found = convert.checkpoint_to_preset(
            source,
            out,
            preset=arguments.preset,
            options=options,
            entry=arguments.entry,
            verify=arguments.verify,
            on_progress=None if bar.disable else show,
        )
    _print_conversion(found)
    static = found["arguments"].get("static", True)
    given = "IMAGE.png" if static else "--stream RECORDING.aedat --frame-ms 50"
    then = f"{PROGRAM} predict {shlex.quote(str(out))} {given}"
    return out, found.get("largest_difference"), then


def _parse_option(item):
    from keras_qkformer.training.recipe import parse_value

    key, _, text = item.partition("=")
    return key, parse_value(text)


def _print_conversion(found):
    from keras_qkformer.models.preset import PRESETS

    name, entry = found["preset"], found["entry"]
    place = f" (entry {entry})" if entry else ""
    print(line(f"{found['source']['file']}{place}: {name or 'no published preset'}"))
    for other in found["other_entries"][:9]:
        print(line(f"the file has weights in {other} too: --entry {other}"))
    print(f"{found['parameters']:,} parameters")
    seen = found["arguments"].keys() - found["assumed"].keys()
    sizes = (f"{k}={v}" for k, v in found["arguments"].items() if k in seen)
    print(line("by names and shapes:", ", ".join(sizes), sep=" "))
    for key, assumed in found["assumed"].items():
        print(line(f"assumed {key}={assumed['value']}: {assumed['because']}"))
    if found["unused"]:
        names = dict.fromkeys(re.sub(r"\.\d+\.", ".*.", n) for n in found["unused"])
        print(line(f"without effect, kept to be written back: {', '.join(names)}"))
    preset = PRESETS.get(name)
    if preset and preset.reported is not None:
        print(f"{preset.reported} % top-1 {preset.reported_note}; not measured here")
