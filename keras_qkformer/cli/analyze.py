"""`analyze`: rates, operations, energy and attention of models, as a report."""

import datetime
import time
from pathlib import Path

from keras_qkformer.analysis.report import RECORD_FILE
from keras_qkformer.cli.argument_types import (
    InputFile,
    OutputFolder,
    RecipeFile,
    Text,
    check,
    neighbours,
)
from keras_qkformer.cli.arguments import (
    PRESET_FILES,
    add_import,
    add_overrides,
    check_data,
    check_model,
    check_new,
    local_folder,
    refuse_given,
)
from keras_qkformer.cli.printing import (
    line,
    print_damaged,
    print_note,
    sensor_told_once,
)
from keras_qkformer.cli.process import load_libraries
from keras_qkformer.printable import printable

EXAMPLES = 6
"""Examples that the report looks into: of the first batch, one of each class."""


def add(commands):
    """Declare the command."""
    parser = commands.add(
        "analyze",
        run,
        "measure rates, operations and energy of a model on data, and write a report",
        "runs/digits --data recipes/digits.py --out runs/digits/report",
        loads=True,
    )
    parser.add_argument(
        "model",
        type=Text(),
        nargs="?",
        help="workdir of fit, preset folder or its address, or name of weights",
    )
    parser.add_argument(
        "--compare",
        type=Text(),
        nargs="+",
        metavar="MODEL",
        help="instead of one model: put several side by side; a folder with the "
        "report.json of an earlier analysis stands for its model",
    )
    parser.add_argument(
        "--data",
        type=Text(),
        metavar="SOURCE",
        help="recipe file that names the data, or a folder or zip of images, or a "
        "folder of recordings; a folder of nothing but files has no labels (default: "
        "the data of the model's own recipe)",
    )
    parser.add_argument(
        "--split",
        type=Text(),
        help="such as test[:1000] (default: the recipe's test split, or test)",
    )
    add_overrides(parser)
    parser.add_argument(
        "--out",
        type=OutputFolder(),
        metavar="FOLDER",
        help="new folder for report.html, report.json and CSV",
    )
    parser.add_argument(
        "--table",
        choices=("paper",),
        help="print the row of a paper's table in Markdown",
    )
    add_import(parser)


def run(arguments):
    """Write the report, print its path, and the row of a table with `--table`."""
    models = _models(arguments)
    if not arguments.out and not arguments.table:
        raise ValueError("There must be --out or --table. Received: neither")
    _check_data(arguments)
    from keras_qkformer.files import check_writable

    if arguments.out:
        check_new(arguments.out)
        check_writable(arguments.out)
    kept = {model: _kept_record(model) for model in models}
    if all(kept.values()):
        given = ("data", "split", "set")
        refuse_given(arguments, given, "a model to analyse", "reports of models")
    else:
        load_libraries(arguments)
    from keras_qkformer.analysis.report import tables, write

    examples, records = None, []
    for model in models:
        record = kept[model]
        if record is None:
            with sensor_told_once():
                record, inside = _analyze(model, arguments)
            if arguments.out and not arguments.compare:
                from keras_qkformer.analysis.report.gallery import gallery

                examples = gallery(inside, record["model"]["class_names"])
        records.append(record)
    if arguments.table:
        print(tables.paper_table(records), end="")
    if not arguments.out:
        return
    if arguments.compare:
        page, *others = write.write_comparison(arguments.out, records)
    else:
        page, *others = write.write_report(arguments.out, records[0], examples)
    print(line(page))
    for path in others:
        print_note(path)


def _models(arguments):
    """The models that are named, each checked."""
    if (arguments.model is None) == (arguments.compare is None):
        both = "neither" if arguments.model is None else "both"
        raise ValueError(f"There must be MODEL or --compare. Received: {both}")
    if arguments.compare is None:
        check_model(arguments.model)
        return [arguments.model]
    if len(arguments.compare) < 2:
        raise ValueError(
            "--compare must name two models or more. "
            f"Received: {arguments.compare[0]!r} alone"
        )
    for model in arguments.compare:
        names = (RECORD_FILE, *PRESET_FILES)
        if "://" not in model and not any((Path(model) / x).exists() for x in names):
            raise ValueError(
                "--compare must name models (workdirs of `fit`, preset folders or "
                f"addresses) or folders with the {RECORD_FILE} of an analysis. "
                f"Received: {model!r}{neighbours(Path(model))}"
            )
    return arguments.compare


def _check_data(arguments):
    """Raise `ValueError` unless `--data` is a recipe file, a folder or a zip."""
    source = arguments.data
    is_recipe = source is not None and ".py" in Path(source).name
    if is_recipe:
        from keras_qkformer.training.recipe import load_recipe

        check(RecipeFile(), "--data", source)
        check_data(load_recipe(source, arguments.set).data, arguments)
    elif source is not None and not Path(source).is_dir():
        if not Path(source).exists():
            raise ValueError(
                "--data must be a recipe file, a folder or a zip that exists. "
                f"Received: {source!r}{neighbours(Path(source))}"
            )
        check(InputFile(), "--data", source)
        if Path(source).suffix.lower() != ".zip":
            raise ValueError(
                f"--data must be a recipe file, a folder or a zip. Received: {source!r}"
            )
    if not is_recipe:
        instead = "no --data" if source is None else f"--data {source}"
        refuse_given(arguments, ("set",), "--data RECIPE.py", instead)


def _kept_record(model):
    """The record of an earlier analysis that a folder holds, or `None`."""
    path = Path(model) / RECORD_FILE
    if not path.is_file():
        return None
    from keras_qkformer.forms import AnalysisRecord
    from keras_qkformer.json_files import LARGE_LIMIT, read_json

    record = read_json(path, AnalysisRecord, LARGE_LIMIT)
    count = len(record["operations"])
    for name, found in record["energy"]["conventions"].items():
        if len(found["by_operation_mj"]) != count:
            raise ValueError(
                f"{path} must have an energy for each of the {count} operations. "
                f"Received: {len(found['by_operation_mj'])} in {printable(repr(name))}"
            )
    return record


def _told(batches):
    """Yield batches, and say now and then how many examples are done."""
    from keras_qkformer.training.report import SILENCE_S

    done, last = 0, time.monotonic()
    for batch in batches:
        yield batch
        done += len(batch)
        if time.monotonic() - last >= SILENCE_S:
            print_note(f"{done:,} examples done")
            last = time.monotonic()


def _analyze(model, arguments):
    """Measure a model: its record, and a look inside a few examples."""
    import numpy as np

    from keras_qkformer.analysis.analyze import analyze
    from keras_qkformer.analysis.report.inside import look_inside
    from keras_qkformer.provenance import provenance
    from keras_qkformer.trained import RESULTS_FILE, load_trained, read_results
    from keras_qkformer.training.model_data import model_data

    workdir = Path(local_folder(model))
    trained = load_trained(workdir)
    data = model_data(trained, workdir, arguments.data, arguments.split, arguments.set)
    count = "" if data.labels is None else f" {len(data.labels):,}"
    print_note(f"analysing{count} examples of {data.source} with {model}")
    record = analyze(
        trained,
        _told(data.batches()),
        labels=data.labels,
        source=data.source,
        split=data.split,
    )
    print_damaged(data.damaged)
    has_results = (workdir / RESULTS_FILE).is_file()
    record["model"]["name"] = workdir.resolve().name
    record |= {
        "curves": read_results(workdir)["history"] if has_results else None,
        "settings": data.settings,
        "date": datetime.datetime.now().isoformat(" ", "minutes"),
        **provenance(),
    }
    inputs = next(data.batches())
    if data.labels is None:
        return record, look_inside(trained, inputs[:EXAMPLES])
    labels = data.labels[: len(inputs)]
    # The first of each class, in the order in which they come.
    first = np.sort(np.unique(labels, return_index=True)[1])[:EXAMPLES]
    return record, look_inside(trained, inputs[first], labels[first])
