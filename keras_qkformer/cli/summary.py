"""`summary`: what each layer of a model holds, computes and moves, and its time."""

import json
import textwrap
from pathlib import Path

from keras_qkformer.cli.argument_types import Text, Whole, neighbours
from keras_qkformer.cli.arguments import (
    PROGRAM,
    add_import,
    check_model,
    local_folder,
    refuse_given,
)
from keras_qkformer.cli.printing import line, print_note
from keras_qkformer.cli.process import load_libraries
from keras_qkformer.mistakes import did_you_mean
from keras_qkformer.presets.published import PRESETS


def add(commands):
    """Declare the command."""
    parser = commands.add(
        "summary",
        run,
        "list parameters, operations and memory of each layer, and its time",
        "qkformer_4_384_cifar10 --profile",
        loads=True,
    )
    parser.add_argument(
        "model",
        type=Text(),
        help="name of a preset or of weights, workdir of fit, or preset folder or its "
        "address",
    )
    parser.add_argument(
        "--profile",
        action="store_true",
        help="measure the time of each layer alone, and of the whole, on this machine",
    )
    parser.add_argument(
        "--batch-size",
        type=Whole(1, 65_536),
        help="with --profile: examples that pass a layer together (default: 8)",
    )
    parser.add_argument(
        "--repeats",
        type=Whole(1, 10_000),
        help="with --profile: timed calls of each layer (default: 5)",
    )
    parser.add_argument(
        "--json", action="store_true", help="print one JSON object instead of a table"
    )
    add_import(parser)


def run(arguments):
    """Print a table, or an object with `--json`."""
    if not arguments.profile:
        refuse_given(arguments, ("batch_size", "repeats"), "--profile", "no --profile")
    _check_model(arguments)
    load_libraries(arguments)
    from keras_qkformer.analysis.profile import profile, summarize, told
    from keras_qkformer.backend import prepare_backend
    from keras_qkformer.models import SpikingClassifier, count_parameters
    from keras_qkformer.models.preset import PRESETS as registered
    from keras_qkformer.trained import find_trained

    prepare_backend()
    place = arguments.model
    if place not in registered:
        place = find_trained(local_folder(place))
    model = SpikingClassifier.from_preset(place)
    layers = summarize(model)
    found = {
        "model": arguments.model,
        "parameters": count_parameters(model),
        "input_shape": list(model.input_shape[1:]),
        "time_steps": model.backbone.time_steps,
        "layers": [told(layer) for layer in layers],
    }
    if arguments.profile:
        print_note(f"compiling and timing {len(layers)} layers, each alone")
        found |= profile(model, arguments.batch_size or 8, arguments.repeats or 5)
    if arguments.json:
        from keras_qkformer.provenance import provenance

        print(json.dumps({**found, **provenance()}))
        return
    _print_table(found)
    if arguments.profile:
        _print_times(found)


def _check_model(arguments):
    """Raise `ValueError` unless there is such a preset or folder, or may be."""
    model = arguments.model
    if Path(model).is_dir() or "://" in model:
        check_model(model)
        return
    from keras_qkformer.presets.folders import kept_weights

    known = [*PRESETS, *kept_weights()]
    if model not in known and not getattr(arguments, "import"):
        near = "" if Path(model).exists() else neighbours(Path(model))
        raise ValueError(
            f"The model must be one of `{PROGRAM} presets`, a workdir of `fit`, or a "
            "preset folder or its address. Received: "
            f"{model!r}{did_you_mean(model, known) or near}"
        )


def _print_table(found):
    layers = found["layers"]
    chain = [each for each in layers if not each["depth"]]
    rows = [(_name(each), [each], each) for each in layers]
    rows.append(("layers together", chain, found.get("together")))
    if "whole" in found:
        rows.append(("whole model", [], found["whole"]))
    width = max(len(name) for name, _, _ in rows)
    heads = ["parameters", "MACs, M", "moved, KB"]
    heads += ["ms", "roofline"] if "whole" in found else []
    print(f"{'layer':<{width}}", *(f"{head:>11}" for head in heads))
    for name, parts, timed in rows:
        cells = [*_counts(parts), *_times(timed)]
        print(line(f"{name:<{width}}", *(f"{x:>11}" for x in cells), sep=" ").rstrip())
    print("\nOf one example; moved: what convolutions and products read and write.")


def _name(layer):
    """The path of a layer, but for that of the layer around it, which is above."""
    path, depth = layer["path"], layer["depth"]
    return "  " * depth + (path.rpartition("/")[2] if depth else path)


def _counts(layers):
    if not layers:
        return "", "", ""
    parameters, macs, moved = (
        sum(each[name] for each in layers)
        for name in ("parameters", "macs", "activation_bytes")
    )
    return f"{parameters:,}", f"{macs / 1e6:,.3f}", f"{moved / 1e3:,.1f}"


def _times(timed):
    if not timed or "seconds" not in timed:
        return ()
    share = timed.get("roofline_share")
    milliseconds = f"{1e3 * timed['seconds']:,.3f}"
    return milliseconds, "" if share is None else f"{share:.1%}"


def _print_times(found):
    """Tell how the times were measured, and how far they can be trusted."""
    alone, whole = found["together"]["seconds"], found["whole"]["seconds"]
    machine, repeats = found["machine"], found["repeats"]
    text = (
        f"Times are those of a batch of {found['batch_size']} on {found['backend']} in "
        f"{found['precision']}, median of {repeats} call{'s'[: repeats > 1]} in turns. "
        "Each layer was compiled and called alone: their sum differs from the whole by "
        f"{alone / whole - 1:+.0%}. Roofline: the least time over that measured, by "
        f"this machine's {machine['macs_per_s'] / 1e9:,.1f} G MACs/s ({machine['by']}) "
        f"and {machine['bytes_per_s'] / 1e9:,.1f} GB/s (copy). Above 100 %: data that "
        "stay in the cache."
    )
    print(textwrap.fill(text, 80))
