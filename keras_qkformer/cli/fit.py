"""`fit`: train a recipe, or resume its training."""

import sys
from pathlib import Path

from keras_qkformer.cli.argument_types import AutoOrWhole, OutputFolder, Text
from keras_qkformer.cli.arguments import (
    PROGRAM,
    SERVICE,
    add_import,
    add_recipe,
    load_checked_recipe,
    refuse_given,
)
from keras_qkformer.cli.interruption import INTERRUPTED
from keras_qkformer.cli.printing import print_damaged, print_scores
from keras_qkformer.cli.process import load_libraries


def add(commands):
    """Declare the command."""
    parser = commands.add(
        "fit",
        run,
        "train a recipe, or resume its training",
        "recipes/digits.py --workdir runs/digits --set optimizer.epochs=5",
        loads=True,
    )
    add_recipe(parser)
    parser.add_argument(
        "--workdir",
        type=OutputFolder(),
        help="folder of the results (default: runs/<recipe>)",
    )
    parser.add_argument(
        "--devices",
        type=AutoOrWhole(999_999),
        default="auto",
        metavar="auto|N",
        help="number of devices that each batch is split over (default: auto, the "
        "largest number present that divides it)",
    )
    parser.add_argument(
        "--mesh",
        type=Text(
            "data=N,model=M with whole numbers above 0",
            r"(data|model)=[1-9][0-9]{0,5}(,(?!\1)(data|model)=[1-9][0-9]{0,5})?",
        ),
        metavar="data=N,model=M",
        help="on JAX: split the wide layers over M devices, and each batch over N "
        "groups of M devices",
    )
    parser.add_argument(
        "--hosts",
        type=Text(
            "auto, or ADDRESS:PORT,COUNT,INDEX of host 0, such as 10.0.0.1:8476,2,0",
            r"auto|\S+:[0-9]{1,5},[1-9][0-9]{0,5},[0-9]{1,6}",
        ),
        metavar="auto|ADDRESS:PORT,COUNT,INDEX",
        help="on JAX: train on several hosts, found through Slurm, Kubernetes, a TPU "
        "pod or Keras's environment variables (auto), or given by the address of host "
        "0; all hosts must see the workdir",
    )
    parser.add_argument(
        "--data-service",
        type=SERVICE,
        metavar="grpc://HOST:PORT",
        help="tf.data service that makes the training batches; see data serve",
    )
    parser.add_argument(
        "--smoke",
        action="store_true",
        help="train two epochs of two batches each, as a check",
    )
    parser.add_argument(
        "--find-lr",
        action="store_true",
        help="instead of training: draw the loss of 100 batches against a growing "
        "learning rate, beside the workdir, and suggest a rate",
    )
    add_import(parser)


def run(arguments):
    """Train, print the scores and draw figures."""
    from keras_qkformer.training.recipe import recipe_name, smoke

    if arguments.mesh and arguments.devices != "auto":
        raise ValueError(
            "There must be --devices or --mesh. "
            f"Received: --devices {arguments.devices} --mesh {arguments.mesh}"
        )
    recipe = load_checked_recipe(arguments)
    if arguments.smoke:
        recipe = smoke(recipe)
    name = recipe_name(arguments.recipe) + "_smoke" * arguments.smoke
    workdir = Path(arguments.workdir or Path("runs") / name)
    if arguments.find_lr:
        return _find_rate(arguments, recipe, workdir)
    load_libraries(arguments)
    from keras_qkformer.training.callbacks import Terminated
    from keras_qkformer.training.fit import fit_and_load
    from keras_qkformer.training.tensorboard import log_results
    from keras_qkformer.training.workdir import read_damaged

    plots = _plots()  # Before training: it may take long.
    try:
        results, trained = fit_and_load(
            recipe,
            workdir,
            devices=arguments.devices,
            mesh=arguments.mesh,
            hosts=arguments.hosts,
            data_service=arguments.data_service,
        )
    except (KeyboardInterrupt, Terminated) as error:
        how, status = ("interrupted", INTERRUPTED)
        if isinstance(error, Terminated):
            how, status = "terminated", error.code
        print(
            f"\n{PROGRAM}: {how}; the same command goes on after the last whole epoch "
            f"in {workdir}",
            file=sys.stderr,
        )
        return status
    best = results["best"]
    print(
        f"best epoch {best['epoch']} by validation accuracy {best['val_accuracy']:.4f}"
    )
    print_scores(results["test"], results["test_split"])
    if arguments.hosts and _host_index():
        return 0  # Host 0 draws.
    if results["damaged_images"]:
        print_damaged(read_damaged(workdir))
    figures = []
    if plots is not None:
        for path in _write_figures(workdir, results, trained, *plots):
            print(path)
            figures.append(path)
    log_results(workdir, recipe, results, figures)
    return 0


def _find_rate(arguments, recipe, workdir):
    """Draw a sweep of the learning rate beside a workdir, and suggest a rate."""
    from keras_qkformer.files import check_writable

    several = ["mesh", "hosts", "data_service"]
    if arguments.devices != "auto":
        several.append("devices")
    refuse_given(arguments, several, "a training", "--find-lr")
    out = workdir.with_name(f"{workdir.name}_find_lr.png")
    check_writable(out)
    load_libraries(arguments)
    from keras_qkformer.analysis.figures.training import plot_rate_sweep
    from keras_qkformer.training.rate_finder import find_rate

    rates, losses, suggestion = find_rate(recipe)
    print(plot_rate_sweep(rates, losses, suggestion, out))
    print(
        f"try --set optimizer.learning_rate={suggestion:.2g} "
        f"(the recipe has {recipe.optimizer.learning_rate:.2g})"
    )


def _host_index():
    import jax

    return jax.process_index()


def _plots():
    """Return the functions that draw; without matplotlib, `None` after a notice."""
    try:
        from keras_qkformer.analysis.figures.confusion import plot_confusion_matrix
        from keras_qkformer.analysis.figures.spikes import plot_spikes
        from keras_qkformer.analysis.figures.training import plot_training
    except ImportError as error:
        print(f"no figures: {error}", file=sys.stderr)
        return None
    return plot_training, plot_confusion_matrix, plot_spikes


def _write_figures(
    workdir, results, trained, plot_training, plot_confusion_matrix, plot_spikes
):
    """Draw the figures of a finished training and yield their paths."""
    import numpy as np

    from keras_qkformer.kept_examples import read_examples
    from keras_qkformer.trained import EXAMPLES_FILE

    folder = workdir / "figures"
    yield plot_training(results["history"], folder / "training.png")
    names = trained.class_names
    pairs = [
        (names.index(true), names.index(taken_for), count)
        for true, row in results["test"]["confusion"].items()
        for taken_for, count in row.items()
    ]
    labels, predictions, counts = np.transpose(pairs)
    yield plot_confusion_matrix(
        np.repeat(labels, counts),
        np.repeat(predictions, counts),
        names,
        folder / "confusion_matrix.png",
    )
    examples = read_examples(workdir / EXAMPLES_FILE, ("images", "labels"))
    image, label = examples["images"][:1], int(examples["labels"][0])
    image = trained.preprocessing(image).numpy()[0]
    yield plot_spikes(
        trained.model, image, folder / "spikes.png", class_names=names, label=label
    )
