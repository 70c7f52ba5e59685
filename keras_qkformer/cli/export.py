"""`export`: write a trained model for TF Serving or another runtime."""

import shlex
from pathlib import Path

from keras_qkformer.cli.argument_types import (
    Number,
    OutputFolder,
    Text,
    Whole,
    WholeNumbers,
)
from keras_qkformer.cli.arguments import (
    PROGRAM,
    add_import,
    check_model,
    check_new,
    local_folder,
    refuse_given,
)
from keras_qkformer.cli.printing import print_note
from keras_qkformer.cli.process import load_libraries
from keras_qkformer.serving import OUTPUTS, PORTABLE_WEIGHTS, openvino_hint
from keras_qkformer.stages import heard_by

_DEFAULTS = {
    "weights": "float32",
    "batch_sizes": (1, 2, 4, 8),
    "top": 5,
    "max_megapixels": 25.0,
}


def add(commands):
    """Declare the command."""
    parser = commands.add(
        "export",
        run,
        "write a SavedModel for TF Serving, or a model for another runtime",
        "runs/digits --out saved_models/digits",
        loads=True,
    )
    parser.add_argument(
        "model",
        type=Text(),
        help="workdir of fit, preset folder or its address, or name of weights",
    )
    parser.add_argument(
        "--out",
        type=OutputFolder(),
        help="folder to write (default: saved_models/<model>)",
    )
    parser.add_argument(
        "--format",
        choices=("saved_model", *PORTABLE_WEIGHTS),
        default="saved_model",
        help="format to write (default: saved_model)",
    )
    parser.add_argument(
        "--weights",
        choices=("float32", "bfloat16", "int8"),
        help="type in which to store the convolutions' weights (default: float32); "
        "with openvino int8, they are multiplied in 8 bits too; onnx and litert have "
        "float32 alone",
    )
    parser.add_argument(
        "--outputs",
        choices=OUTPUTS,
        default="logits",
        help="with onnx: return logits alone (default), or also the spikes of every "
        "stage and the masks of attention, step by step",
    )
    parser.add_argument(
        "--batch-sizes",
        type=WholeNumbers(4096),
        help="with saved_model: batch sizes allowed for server-side batching "
        "(default: 1,2,4,8)",
    )
    parser.add_argument(
        "--top",
        type=Whole(1, 100_000),
        help="with saved_model: number of classes in an answer (default: 5)",
    )
    parser.add_argument(
        "--max-megapixels",
        type=Number(0.001, 1000),
        help="with saved_model: refuse larger image files before decoding "
        "(default: 25)",
    )
    add_import(parser)


def run(arguments):
    """Write the model and print its path."""
    check_model(arguments.model)
    if arguments.outputs == "spikes" and arguments.format != "onnx":
        raise ValueError(
            "--outputs spikes must come with --format onnx. "
            f"Received: --outputs spikes with --format {arguments.format}"
        )
    portable = arguments.format != "saved_model"
    if portable:
        of_bundles = [name for name in _DEFAULTS if name != "weights"]
        format = f"--format {arguments.format}"
        refuse_given(arguments, of_bundles, "--format saved_model", format)
        offered = PORTABLE_WEIGHTS[arguments.format]
        if arguments.weights not in (None, *offered):
            raise ValueError(
                f"--weights must be one of {list(offered)} with {format}"
                f"{openvino_hint(arguments.weights)}. Received: {arguments.weights!r}"
            )
        if arguments.out:
            check_new(arguments.out)
    load_libraries(arguments)
    folder = Path(local_folder(arguments.model))
    out = arguments.out or Path("saved_models") / folder.resolve().name
    with heard_by(print_note):
        if portable:
            _export_portable(arguments, folder, out)
        else:
            _export_saved_model(arguments, folder, out)


def _export_portable(arguments, folder, out):
    from keras_qkformer.serving.export import export_portable

    out = arguments.out or f"{out}.{arguments.format}"
    weights = arguments.weights or "float32"
    agreement = export_portable(
        folder, out, arguments.format, weights, arguments.outputs
    )
    for name, found in agreement.items():
        print(
            f"{name}: {found['neurons']:,} spikes compared with float64, "
            f"{found['flips']} flipped by rounding; given the same spikes, logits "
            f"differ by {found['largest_difference']:.1e}; first class of "
            f"{found['same_top1']} of {found['examples']} the same"
        )
    print(out)
    print_note(f"next: run it; {Path(out) / 'metadata.json'} names its classes")


def _export_saved_model(arguments, folder, out):
    from keras_qkformer.serving.export import export_saved_model

    given = {key: getattr(arguments, key) for key in _DEFAULTS}
    options = {k: _DEFAULTS[k] if v is None else v for k, v in given.items()}
    print(export_saved_model(folder, out, **options))
    print_note("next:", PROGRAM, "serve-check", shlex.quote(str(out)))
