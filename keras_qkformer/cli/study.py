"""`study`: train variants of recipes with several seeds, and compare their scores."""

import sys
from pathlib import Path

from keras_qkformer.cli.argument_types import (
    InputFile,
    Number,
    OutputFile,
    OutputFolder,
)
from keras_qkformer.cli.arguments import PROGRAM, add_import, add_overrides
from keras_qkformer.cli.interruption import INTERRUPTED
from keras_qkformer.cli.printing import print_note
from keras_qkformer.cli.process import backend_to_come, load_libraries


def add(commands):
    """Declare the command."""
    parser = commands.add(
        "study",
        run,
        "train variants of recipes with several seeds, and compare them",
        "studies/batch_state.py --workdir runs/batch_state",
        loads=True,
    )
    parser.add_argument(
        "study", type=InputFile(), help="study file, see studies/README.md"
    )
    add_overrides(parser)
    parser.add_argument(
        "--workdir",
        type=OutputFolder(),
        help="folder of the trainings; the same command goes on with those that are "
        "not finished (default: runs/<study>)",
    )
    parser.add_argument(
        "--out",
        type=OutputFile(("json",)),
        metavar="FILE.json",
        help="file of the results, beside which a figure goes (default: "
        "<workdir>/study.json)",
    )
    parser.add_argument(
        "--minutes",
        type=Number(0, 1_000_000),
        help="start no training after this many minutes; 0 only tells what there is",
    )
    add_import(parser)


def run(arguments):
    """Train what is missing, write the results, print the tables."""
    from keras_qkformer.files import check_writable, write_json
    from keras_qkformer.training.study import declared, load_study, recipes_of

    workdir = Path(arguments.workdir or Path("runs") / Path(arguments.study).stem)
    out = Path(arguments.out or workdir / "study.json")
    study = load_study(arguments.study)
    recipes = recipes_of(study, arguments.study, arguments.set)
    check_writable(out)
    load_libraries(arguments)
    from keras_qkformer.analysis.study import markdown, summarize
    from keras_qkformer.training.callbacks import Terminated
    from keras_qkformer.training.study_runs import run_study

    runs, status = [], 0
    try:
        for one in run_study(study, recipes, workdir, arguments.minutes):
            runs.append(one)
            summary = summarize(runs, study.comparisons)
            about = declared(study, arguments.set)
            write_json(out, {"study": about, "summary": summary, "runs": runs})
    except (KeyboardInterrupt, Terminated) as error:
        print(
            f"\n{PROGRAM}: interrupted; the same command goes on in {workdir}",
            file=sys.stderr,
        )
        status = getattr(error, "code", None) or INTERRUPTED
    print_note(f"{len(runs)} of {len(recipes)} trainings are finished")
    done = {(one["variant"], one["seed"]) for one in runs}
    waiting = {study.backends.get(variant) for variant, _ in recipes.keys() - done}
    for backend in sorted(waiting - {None, backend_to_come()}):
        print_note(f"KERAS_BACKEND={backend} trains those of {backend}")
    if not runs:
        return status
    print(markdown(summary), end="")
    print(out)
    try:
        from keras_qkformer.analysis.figures.study import plot_study
    except ImportError as error:
        print_note(f"no figure: {error}")
    else:
        print(plot_study(summary, out.with_suffix(".png"), study.question))
    return status
