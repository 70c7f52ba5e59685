"""`samples`: write the files that README uses, which the package brings along."""

import os
import shutil
from pathlib import Path

from keras_qkformer.cli.argument_types import OutputFolder
from keras_qkformer.cli.arguments import PROGRAM

SHIPPED = Path(__file__).parents[1] / "shipped"


def add(commands):
    """Declare the command."""
    parser = commands.add(
        "samples",
        run,
        "write the recipes, small weights, and an image and a recording to try",
        "--out trial",
    )
    parser.add_argument(
        "--out",
        type=OutputFolder(),
        default=".",
        help="folder to write to (default: this one); files that are there stay",
    )


def run(arguments):
    """Copy what is not there yet."""
    from keras_qkformer.files import whole_file

    out = Path(arguments.out)
    for folder, folders, files in os.walk(SHIPPED, followlinks=True):
        folders[:] = sorted({*folders} - {"__pycache__"})
        place = out / Path(folder).relative_to(SHIPPED)
        written = 0
        for name in sorted(files):
            if not (place / name).exists():
                with whole_file(place / name) as new:
                    shutil.copyfile(Path(folder) / name, new)
                written += 1
        if files:
            print(f"{place}: {written} of {len(files)} files written")
    print(f"try: {PROGRAM} predict {out / 'weights' / 'digits'} {out / 'seven.png'}")
