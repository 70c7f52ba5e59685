"""`export`: write a trained model for TF Serving or another runtime."""

from pathlib import Path

from keras_qkformer.cli.arguments import growing_sizes, local_folder, positive_int


def add(commands):
    """Declare the command."""
    parser = commands.add(
        "export",
        run,
        "write a SavedModel for TF Serving, or a model for another runtime",
        "runs/digits --out saved_models/digits",
    )
    parser.add_argument("model", help="workdir of fit, or preset folder or its address")
    parser.add_argument("--out", help="folder to write (default: saved_models/<model>)")
    parser.add_argument(
        "--format",
        choices=("saved_model", "onnx", "litert"),
        default="saved_model",
        help="format to write (default: saved_model); the options below apply to "
        "saved_model only",
    )
    parser.add_argument(
        "--weights",
        choices=("float32", "bfloat16", "int8"),
        default="float32",
        help="type in which to store the convolutions' weights (default: float32)",
    )
    parser.add_argument(
        "--batch-sizes",
        type=growing_sizes,
        default=(1, 2, 4, 8),
        help="batch sizes allowed for server-side batching (default: 1,2,4,8)",
    )
    parser.add_argument(
        "--top",
        type=positive_int,
        default=5,
        help="number of classes in an answer (default: 5)",
    )
    parser.add_argument(
        "--max-megapixels",
        type=float,
        default=25.0,
        help="refuse larger image files before decoding (default: 25)",
    )


def run(arguments):
    """Write the model and print its path."""
    from keras_qkformer.serving.export import export_portable, export_saved_model

    folder = Path(local_folder(arguments.model))
    out = arguments.out or Path("saved_models") / folder.resolve().name
    if arguments.format != "saved_model":
        out = arguments.out or f"{out}.{arguments.format}"
        for name, difference in export_portable(folder, out, arguments.format).items():
            print(f"{name}: largest difference of logits {difference:.1e}")
        print(out)
        return
    print(
        export_saved_model(
            folder,
            out,
            weights=arguments.weights,
            batch_sizes=arguments.batch_sizes,
            top=arguments.top,
            max_megapixels=arguments.max_megapixels,
        )
    )
