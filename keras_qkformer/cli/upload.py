"""`upload`: publish a trained model on a hub."""

from pathlib import Path

from keras_qkformer.cli.argument_types import InputFile, InputFolder, Text
from keras_qkformer.cli.arguments import PROGRAM
from keras_qkformer.cli.printing import line, print_note


def add(commands):
    """Declare the command."""
    parser = commands.add(
        "upload",
        run,
        "publish a trained model, with a model card, on Hugging Face or Kaggle",
        "runs/digits hf://someone/digits --licence apache-2.0 --private",
    )
    parser.add_argument(
        "folder", type=InputFolder(), help="workdir of fit, or preset folder"
    )
    parser.add_argument(
        "address",
        type=Text(
            "hf://OWNER/NAME or kaggle://OWNER/MODEL/FRAMEWORK/VARIATION",
            r"(hf|kaggle)://\S+",
        ),
        help="where to, hf://OWNER/NAME or kaggle://OWNER/MODEL/FRAMEWORK/VARIATION",
    )
    parser.add_argument(
        "--licence",
        type=Text(),
        help="licence of the weights, such as apache-2.0 (default: the one that the "
        "folder's metadata or edited README.md name)",
    )
    parser.add_argument(
        "--private",
        action="store_true",
        help="make the repository private, and refuse one that is public",
    )
    parser.add_argument(
        "--report",
        type=InputFile(),
        metavar="FILE",
        help="report.json of analyze, for the card (default: report/report.json of a "
        "workdir, if it is newer than the weights)",
    )
    parser.add_argument(
        "--dry-run",
        action="store_true",
        help="tell what would be sent, and send nothing",
    )


def run(arguments):
    """Tell what is sent, send it, and print its page."""
    from keras_qkformer.presets.folders import METADATA_FILE
    from keras_qkformer.presets.upload import prepare_upload, send

    upload = prepare_upload(
        arguments.address, arguments.folder, arguments.licence, arguments.report
    )
    for name, size in upload.sizes.items():
        print_note(f"{size:>13,}", Path(name).as_posix())
    seen = "private" if arguments.private else "public unless it is private already"
    if upload.address.startswith("kaggle://"):
        seen = "private until you publish it on its page"
    total = f"{sum(upload.sizes.values()):>13,} bytes to {upload.address}"
    print_note(f"{total}, licence {upload.licence}, {seen}")
    print_note(f"{METADATA_FILE} tells the recipe, with local paths, and the machine")
    if arguments.dry_run:
        print_note("nothing was sent; the card:")
        for text in upload.card.splitlines():
            print(line(text))
        return
    print(line(send(upload, arguments.private)))
    print_note("next:", PROGRAM, "predict", upload.address, "FILE")
