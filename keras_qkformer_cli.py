"""The command line `keras-qkformer`: each command calls a function of the library.

It stands outside the package because importing anything of the package imports Keras:
the backend is chosen before that, and TensorFlow's start-up notices are kept out of
what a command says.
"""

import argparse
import contextlib
import functools
import os
import re
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

BACKENDS = ("tensorflow", "jax", "torch")
_SUPERVISED = "KERAS_QKFORMER_SUPERVISED"


def main(arguments=None):
    """Run one command.

    Args:
        arguments: list of str, or `None` for those of the process.

    Returns:
        Exit status: 0, 1 for damaged recordings, 2 for a mistake of the user's (one
        line on standard error), or 130 after Ctrl-C.
    """
    given = sys.argv[1:] if arguments is None else arguments
    arguments = _make_parser().parse_args(given)
    if arguments.backend:
        os.environ["KERAS_BACKEND"] = arguments.backend
    if getattr(arguments, "hosts", None):
        if _SUPERVISED not in os.environ:
            return _supervise(given)
        status = _run(arguments)
        if status:  # At an ordinary end JAX would wait for hosts that don't come.
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(status)
        return status
    return _run(arguments)


def _run(arguments):
    try:
        with _hidden_notices():
            import tensorflow as tf

            import keras_qkformer  # noqa: F401

            tf.config.list_physical_devices("GPU")
        return arguments.command(arguments) or 0
    except (ValueError, OSError, ImportError) as error:
        if arguments.debug:
            raise
        # Keras puts its errors in bold, and on several lines.
        message = " ".join(re.sub(r"\x1b\[[0-9;]*m", "", str(error)).split())
        print(f"keras-qkformer: error: {message}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\nkeras-qkformer: interrupted", file=sys.stderr)
        return 130


def _supervise(arguments):
    """Run the command in another process, and say why if JAX ends that.

    When a host is lost, JAX ends all others at once, from outside of Python.
    """
    process = subprocess.Popen(
        [sys.executable, __file__, *arguments],
        env={**os.environ, _SUPERVISED: "1"},
        stderr=subprocess.PIPE,
    )
    # Ctrl-C reaches both.
    signal.signal(signal.SIGINT, lambda *_: None)
    signal.signal(signal.SIGTERM, lambda number, _: process.send_signal(number))
    last = b""
    while text := os.read(process.stderr.fileno(), 1 << 16):
        sys.stderr.buffer.write(text)
        sys.stderr.flush()
        last = (last + text)[-(1 << 16) :]
    status = process.wait()
    if status != -signal.SIGABRT:
        return 128 - status if status < 0 else status
    from keras_qkformer.training.hosts import lost_host

    message = lost_host(last.decode(errors="replace"))
    print(f"keras-qkformer: error: {message}", file=sys.stderr)
    return 2


@contextlib.contextmanager
def _hidden_notices():
    """Keep standard error aside, unless an error ends the block.

    TensorFlow writes its notices past Python and heeds no variable while it starts.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    sys.stderr.flush()
    kept = os.dup(2)
    with tempfile.TemporaryFile() as aside:
        os.dup2(aside.fileno(), 2)
        try:
            yield
        except BaseException:
            aside.seek(0)
            os.write(kept, aside.read())
            raise
        finally:
            os.dup2(kept, 2)
            os.close(kept)


def _fit(arguments):
    from keras_qkformer.training.fit import fit
    from keras_qkformer.training.recipe import load_recipe, recipe_name, smoke

    recipe = load_recipe(arguments.recipe, arguments.set)
    if arguments.smoke:
        recipe = smoke(recipe)
    name = recipe_name(arguments.recipe) + "_smoke" * arguments.smoke
    workdir = arguments.workdir or Path("runs") / name
    try:
        results = fit(
            recipe,
            workdir,
            devices=arguments.devices,
            mesh=arguments.mesh,
            hosts=arguments.hosts,
            data_service=arguments.data_service,
        )
    except KeyboardInterrupt:
        print(
            f"\nkeras-qkformer: interrupted; the same command goes on after the last "
            f"whole epoch in {workdir}",
            file=sys.stderr,
        )
        return 130
    best = results["best"]
    print(
        f"best epoch {best['epoch']} by validation accuracy {best['val_accuracy']:.4f}"
    )
    _print_scores(results["test"], results["test_split"])
    _print_damaged()
    if arguments.hosts and _host_index():
        return  # Host 0 draws.
    for path in _write_figures(Path(workdir), results):
        print(path)


def _host_index():
    import jax

    return jax.process_index()


def _write_figures(workdir, results):
    """Figures of a finished training; none without matplotlib."""
    import numpy as np

    from keras_qkformer.analysis.figures import confusion as figures_confusion
    from keras_qkformer.analysis.figures import spikes, training
    from keras_qkformer.data.preprocessing import preprocess
    from keras_qkformer.trained import EXAMPLES_FILE, load_best

    folder = workdir / "figures"
    try:
        yield training.plot_training(results["history"], folder / "training.png")
    except ImportError as error:
        print(f"no figures: {error}", file=sys.stderr)
        return
    model, metadata = load_best(workdir)
    names = metadata["class_names"]
    confusion = results["test"]["confusion"]
    pairs = [
        (names.index(true), names.index(taken_for), count)
        for true, row in confusion.items()
        for taken_for, count in row.items()
    ]
    labels, predictions, counts = np.transpose(pairs)
    yield figures_confusion.plot_confusion_matrix(
        np.repeat(labels, counts),
        np.repeat(predictions, counts),
        names,
        folder / "confusion_matrix.png",
    )
    with np.load(workdir / EXAMPLES_FILE) as examples:
        image, label = examples["images"][:1], int(examples["labels"][0])
    image = preprocess(image, **metadata["preprocessing"]).numpy()[0]
    yield spikes.plot_spikes(
        model, image, folder / "spikes.png", class_names=names, label=label
    )


def _local(model):
    """The folder of a model, which comes into the cache if it is an address."""
    from keras_qkformer.models.preset_files import fetch, is_address

    return fetch(model) if is_address(model) else model


def _evaluate(arguments):
    from keras_qkformer.training.evaluate import evaluate
    from keras_qkformer.training.recipe import load_recipe
    from keras_qkformer.training.workdir import read_recipe, write_scores

    workdir = _local(arguments.workdir)
    if arguments.recipe:
        recipe = load_recipe(arguments.recipe, arguments.set)
    elif arguments.set:
        raise ValueError("--set belongs to --recipe.")
    else:
        recipe = read_recipe(workdir)
    split = arguments.split or recipe.data.test
    scores = evaluate(workdir, split, recipe, arguments.membrane_state)
    _print_scores(scores, split)
    _print_damaged()
    if arguments.json:
        print(write_scores(arguments.json, scores, split))


def _print_scores(scores, split):
    print(
        f"{split}: accuracy {scores['accuracy']:.4f}, loss {scores['loss']:.4f} "
        f"({scores['examples']} examples), top-5 {scores['top5_accuracy']:.4f}, "
        f"calibration error {scores['calibration_error']:.4f}"
    )


def _keep(arguments):
    from keras_qkformer.training.keep_weights import keep_weights

    scores = keep_weights(arguments.workdir, arguments.out)
    _print_scores(scores, scores["split"])
    print(arguments.out)


def _recipes(arguments):
    from keras_qkformer.training.recipe_table import recipe_table

    print(recipe_table(arguments.folder), end="")


def _lr_plot(arguments):
    import numpy as np

    from keras_qkformer.analysis.figures import training
    from keras_qkformer.training.recipe import load_recipe, recipe_name
    from keras_qkformer.training.schedules import make_schedule

    settings = load_recipe(arguments.recipe, arguments.set).optimizer
    epochs = settings.epochs + settings.cooldown_epochs
    # Enough points per epoch for any picture, whatever the size of the data.
    per_epoch = 50 * settings.accumulation_steps
    batches = np.arange(epochs * per_epoch)
    rates = np.asarray(make_schedule(settings, per_epoch)(batches))
    out = arguments.out or f"{recipe_name(arguments.recipe)}_learning_rate.png"
    print(training.plot_learning_rate(batches / per_epoch, rates, out))


def _predict(arguments):
    images, recording = arguments.images, arguments.stream
    of_recordings = arguments.frame_ms, arguments.orientation
    if arguments.url:
        if recording or any(of_recordings):
            raise ValueError("--url takes files and folders, and no --stream.")
        return _predict_url(arguments)
    if bool(images) == bool(recording) or (images and any(of_recordings)):
        raise ValueError(
            "Give image files, or --stream with a recording and perhaps --frame-ms and "
            f"--orientation. Received: images={images}, stream={recording!r}, "
            f"frame_ms={arguments.frame_ms}, orientation={arguments.orientation!r}"
        )
    if recording:
        return _predict_stream(arguments)
    from keras_qkformer.predict import predict_images

    names, probabilities = predict_images(_local(arguments.model), arguments.images)
    for path, row in zip(arguments.images, probabilities, strict=True):
        print(path, *_top(arguments.top, names, row), sep="\t")


def _predict_url(arguments):
    import tqdm

    from keras_qkformer.serving.client import ServingClient, expand_files

    # There is no model to name: every argument is a file.
    files = expand_files([arguments.model, *arguments.images])
    failed = 0
    with ServingClient(arguments.url, retries=arguments.retries) as client:
        answers = client.predict_files(files, arguments.batch_size)
        bar = tqdm.tqdm(answers, desc="files", unit="", total=len(files), disable=None)
        for path, labels, scores, error in bar:
            if error:
                failed = 1
                tqdm.tqdm.write(f"{path}: {error}", sys.stderr)
                continue
            pairs = zip(labels[: arguments.top], scores, strict=False)
            told = (f"{label}:{score:.4f}" for label, score in pairs)
            tqdm.tqdm.write("\t".join([str(path), *told]))
    return failed


def _serve_check(arguments):
    from keras_qkformer.serving.check import serve_check

    return serve_check(
        arguments.bundle,
        model=arguments.model,
        url=arguments.url,
        seconds=arguments.seconds,
    )


def _predict_stream(arguments):
    from keras_qkformer.predict import predict_stream

    names, answers = predict_stream(
        _local(arguments.model),
        arguments.stream,
        arguments.frame_ms,
        arguments.orientation,
    )
    for answer in answers:
        print(
            f"{answer.end_ms:.1f} ms",
            *_top(arguments.top, names, answer.probabilities),
            f"took {answer.latency_ms:.1f} ms",
            sep="\t",
            flush=True,
        )
    last = _top(arguments.top, names, answer.probabilities)
    print(arguments.stream, *last, sep="\t")


def _top(count, names, probabilities):
    chosen = probabilities.argsort()[::-1][:count]
    return [f"{names[i]}:{probabilities[i]:.4f}" for i in chosen]


def _export(arguments):
    from keras_qkformer.serving.export import export_portable, export_saved_model

    folder = Path(_local(arguments.model))
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


def _count(text):
    """A whole number above 0."""
    if not re.fullmatch(r"0*[1-9]\d*", text):
        raise argparse.ArgumentTypeError(
            f"must be a whole number above 0. Received: {text!r}"
        )
    return int(text)


def _sizes(text):
    """Tuple of the numbers of a text such as 1,2,4."""
    if not re.fullmatch(r"\d+(,\d+)*", text):
        raise argparse.ArgumentTypeError(
            f"must be whole numbers with commas, such as 1,2,4. Received: {text!r}"
        )
    return tuple(map(int, text.split(",")))


def _data_serve(arguments):
    from keras_qkformer.data.service import serve_dispatcher, serve_worker

    if arguments.dispatcher:
        server = serve_dispatcher(arguments.dispatcher, arguments.work_dir)
        print("dispatcher is ready", flush=True)
    else:
        server = serve_worker(arguments.worker, arguments.address)
        print("worker is ready", flush=True)
    server.join()


def _data_prepare(arguments):
    import tensorflow_datasets as tfds
    import tqdm

    from keras_qkformer.data.recordings.prepare import prepare

    bar = functools.partial(tqdm.tqdm, desc="recordings", unit="", disable=None)
    if not sys.stderr.isatty():
        tfds.disable_progress_bar()
    paths, damaged = prepare(
        arguments.name,
        arguments.manual_dir,
        data_dir=arguments.data_dir,
        configs=arguments.config,
        strict=not arguments.lenient,
        verify_files=not arguments.any_files,
        progress=bar,
    )
    for path in paths:
        print(path)
    for recording, error in damaged:
        print(f"{recording}: {error}", file=sys.stderr)
    if not damaged:
        return 0
    count = f"{len(damaged)} damaged recording{'s'[: len(damaged) > 1]}"
    if arguments.lenient:
        print(f"keras-qkformer: {count}: what is whole was kept", file=sys.stderr)
        return 0
    print(
        f"keras-qkformer: error: {count}, nothing was built: replace the files and run "
        "the same command again, or keep what is whole with --lenient",
        file=sys.stderr,
    )
    return 1


def _data_digits(arguments):
    from keras_qkformer.data.recordings.moving_digits import write_moving_digits

    written = write_moving_digits(
        arguments.out, seed=arguments.seed, most=arguments.most
    )
    print(f"{arguments.out}: {written} recordings written")


def _data_show(arguments):
    import numpy as np

    from keras_qkformer.analysis.figures import events as figures_events
    from keras_qkformer.events.event_array import check_coordinates, slice_time
    from keras_qkformer.events.frames import events_to_frames
    from keras_qkformer.events.recording import read_recording

    path, out, size = arguments.recording, arguments.out, arguments.sensor_size
    events = read_recording(path, **({"sensor_size": size} if size else {}))
    if len(events):
        start = int(events["t"][0]) + round(1000 * arguments.start_ms)
        length = arguments.duration_ms
        end = (
            int(events["t"][-1]) + 1 if length is None else start + round(1000 * length)
        )
        events = slice_time(events, start, end)
    if not len(events):
        raise ValueError(f"There must be events to show at that time of {path!r}.")
    size = size or tuple(int(events[axis].max()) + 1 for axis in "yx")
    check_coordinates(events, size)
    title = Path(path).name
    kind = arguments.kind or ("gif" if out.lower().endswith(".gif") else "frames")
    if kind == "cloud":
        print(figures_events.plot_event_cloud(events, out, size, title=title))
        return
    count, t = arguments.frames, events["t"]
    frames = events_to_frames(events, count, size, split_by=arguments.split_by)
    if arguments.split_by == "number":
        starts = t[len(t) // count * np.arange(count)]
    else:
        starts = t[0] + np.ptp(t) // count * np.arange(count)
    plot = (
        figures_events.animate_event_frames
        if kind == "gif"
        else figures_events.plot_event_frames
    )
    print(plot(frames, out, edges_us=[*starts, t[-1]], title=title))


def _data_preview(arguments):
    from keras_qkformer.analysis.figures import images as figures_images
    from keras_qkformer.training.input_pipeline import preview
    from keras_qkformer.training.recipe import load_recipe

    if arguments.count < 1:
        raise ValueError(f"--count must be above 0. Received: {arguments.count}")
    recipe = load_recipe(arguments.recipe, arguments.set)
    images, captions = preview(recipe, arguments.count)
    title = f"{Path(arguments.recipe).stem}: {recipe.data.train} after augmentation"
    print(figures_images.plot_images(images, captions, arguments.out, title=title))
    _print_damaged()


def _data_benchmark(arguments):
    from keras_qkformer.training.input_pipeline import benchmark
    from keras_qkformer.training.recipe import load_recipe

    if not arguments.seconds > 0:
        raise ValueError(f"--seconds must be above 0. Received: {arguments.seconds}")
    recipe = load_recipe(arguments.recipe, arguments.set)
    for stage, rate in benchmark(recipe, arguments.seconds).items():
        print(f"{stage:<10}{rate:>12,.0f} images/s")
    _print_damaged()


def _print_damaged():
    """Say which images could not be decoded, if any."""
    from keras_qkformer.data.images.encoded_images import DAMAGED

    if not DAMAGED:
        return
    for name, reason in sorted(DAMAGED.items())[:_FEW]:
        print(f"left out: {name}: {reason}", file=sys.stderr)
    print(
        f"keras-qkformer: {len(DAMAGED)} damaged image{'s'[: len(DAMAGED) > 1]} left "
        "out; data.strict=true makes that an error",
        file=sys.stderr,
    )


_FEW = 5  # Lines of a list that can be long.


def _sensor_size(text):
    """(height, width) of a text such as 128x128."""
    if not re.fullmatch(r"[1-9]\d{0,4}x[1-9]\d{0,4}", text):
        raise argparse.ArgumentTypeError(
            f"must be HEIGHTxWIDTH in pixels, such as 128x128. Received: {text!r}"
        )
    height, width = text.split("x")
    return int(height), int(width)


def _add_overrides(parser):
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="FIELD=VALUE",
        help="replace a value of the recipe; may be repeated",
    )


def _device_count(text):
    """`auto`, or a number of devices."""
    if text != "auto" and not re.fullmatch(r"[1-9]\d{0,5}", text):
        raise argparse.ArgumentTypeError(
            f"must be auto or a whole number above 0. Received: {text!r}"
        )
    return text if text == "auto" else int(text)


def _convert(arguments):
    from keras_qkformer import convert

    source = Path(arguments.source)
    if arguments.to == "pytorch":
        if arguments.preset or arguments.set or arguments.entry:
            raise ValueError("--preset, --set and --entry belong to --to keras.")
        out = Path(arguments.out or f"{source}.pth")
        difference = convert.preset_to_checkpoint(source, out, arguments.verify)
    else:
        out = Path(arguments.out or source.with_suffix(""))
        found = convert.checkpoint_to_preset(
            source,
            out,
            preset=arguments.preset,
            options=dict(_parse_option(item) for item in arguments.set),
            entry=arguments.entry,
            verify=arguments.verify,
            on_progress=_draw_progress if sys.stderr.isatty() else None,
        )
        difference = found.get("largest_difference")
        _print_conversion(found)
    if difference is not None:
        print(f"largest difference of a logit to PyTorch, in float64: {difference:.3g}")
    print(out)


def _parse_option(item):
    from keras_qkformer.training.recipe import parse_value

    key, equals, text = item.partition("=")
    if not equals:
        raise ValueError(f"--set wants FIELD=VALUE. Received: {item!r}")
    return key, parse_value(text)


def _draw_progress(done, total):
    filled = 40 * done // total
    bar = "=" * filled + " " * (40 - filled)
    end = "\n" if done == total else ""
    print(f"\r[{bar}] {done}/{total} arrays", end=end, file=sys.stderr, flush=True)


def _print_conversion(found):
    from keras_qkformer.models.preset import PRESETS, REPORTED_NOTE

    name, entry = found["preset"], found["entry"]
    place = f" (entry {entry})" if entry else ""
    print(f"{found['source']['file']}{place}: {name or 'no published preset'}")
    for other in found["other_entries"]:
        print(f"the file has weights in {other} too: --entry {other}")
    print(f"{found['parameters']:,} parameters")
    seen = found["arguments"].keys() - found["assumed"].keys()
    sizes = (f"{k}={v}" for k, v in found["arguments"].items() if k in seen)
    print("by names and shapes:", ", ".join(sizes))
    for key, assumed in found["assumed"].items():
        print(f"assumed {key}={assumed['value']}: {assumed['because']}")
    if name:
        print(f"{PRESETS[name].reported} % top-1 {REPORTED_NOTE}; not measured here")


def _presets(arguments):
    from keras_qkformer.files import cache_folder
    from keras_qkformer.models.preset import PRESETS, REPORTED_NOTE
    from keras_qkformer.models.preset_files import (
        cached_presets,
        kept_weights,
        weights_folder,
    )

    cached = cached_presets()
    for name, preset in PRESETS.items():
        reported = f"{preset.reported:.2f} % *" if preset.reported else "-"
        print(
            f"{name:<30}{preset.parameters:>12,}{reported:>10}  "
            f"{'weights' if name in cached else 'no weights':<12}{preset.description}"
        )
    print(f"* reported {REPORTED_NOTE}; none is measured here")
    print(f"weights trained here, in {weights_folder()}: ", end="")
    print(", ".join(kept_weights()) or "none")
    print(f"weights in {cache_folder()}:{'' if cached else ' none'}")
    for name, folders in cached.items():
        for folder in folders:
            print(f"{name}\t{folder}")


class _Parser(argparse.ArgumentParser):
    """A parser whose errors are one line, with exit status 2 as argparse has it."""

    def error(self, message):
        self.exit(2, f"{self.prog}: error: {message}\n")


def _make_parser():
    parser = _Parser(
        prog="keras-qkformer",
        description="QKFormer, a spiking transformer, from training to serving.",
    )
    common = _Parser(add_help=False)
    common.add_argument(
        "--backend",
        choices=BACKENDS,
        help="instead of KERAS_BACKEND or Keras's own setting",
    )
    common.add_argument(
        "--debug", action="store_true", help="show where an error comes from"
    )
    commands = parser.add_subparsers(required=True, metavar="command")

    def add(name, command, summary, example, to=commands):
        added = to.add_parser(
            name.split()[-1],
            parents=[common],
            help=summary,
            description=f"{summary[0].upper()}{summary[1:]}.",
            epilog=f"example: keras-qkformer {name} {example}".rstrip(),
        )
        added.set_defaults(command=command)
        return added

    fit = add(
        "fit",
        _fit,
        "train a recipe, or go on with it",
        "recipes/digits.py --workdir runs/digits --set optimizer.epochs=5",
    )
    fit.add_argument("recipe", help="a recipe file, perhaps with :VARIANT")
    fit.add_argument("--workdir", help="where results go (runs/<recipe>)")
    _add_overrides(fit)
    fit.add_argument(
        "--devices",
        type=_device_count,
        default="auto",
        metavar="auto|N",
        help="how many devices share each batch (auto: as many as there are and divide "
        "it)",
    )
    fit.add_argument(
        "--mesh",
        metavar="data=N,model=M",
        help="on JAX: M devices hold the wide layers together, N such groups share "
        "each batch",
    )
    fit.add_argument(
        "--hosts",
        metavar="auto|ADDRESS:PORT,COUNT,INDEX",
        help="on JAX: train together with other processes, as Slurm, Kubernetes, a TPU "
        "pod or Keras's variables say (auto), or with the address of host 0; the "
        "workdir must be one that all see",
    )
    fit.add_argument(
        "--data-service",
        metavar="grpc://HOST:PORT",
        help="a tf.data service that makes the training batches, see data serve",
    )
    fit.add_argument(
        "--smoke", action="store_true", help="two epochs of two steps, as a check"
    )

    evaluate = add(
        "evaluate",
        _evaluate,
        "scores of a workdir's best epoch, every example counted",
        "runs/digits --split test --json digits.json",
    )
    evaluate.add_argument(
        "workdir", help="a workdir of fit, or a preset folder or its address"
    )
    evaluate.add_argument("--split", help="such as test or train[90%%:]")
    evaluate.add_argument(
        "--recipe", help="a recipe file whose data to use, for a preset folder"
    )
    _add_overrides(evaluate)
    evaluate.add_argument(
        "--json", metavar="FILE", help="where to write all scores, with the command"
    )
    evaluate.add_argument(
        "--membrane-state",
        choices=("sample", "batch"),
        help="batch: potentials run on from sample to sample, as in the code that gave "
        "the published numbers (that of the model)",
    )

    lr_plot = add(
        "lr-plot",
        _lr_plot,
        "draw the learning rate of a recipe",
        "recipes/digits.py --out rate.png",
    )
    lr_plot.add_argument("recipe", help="a recipe file, perhaps with :VARIANT")
    lr_plot.add_argument("--out", help="file to write (<recipe>_learning_rate.png)")
    _add_overrides(lr_plot)

    recipes = add(
        "recipes",
        _recipes,
        "print the table of recipes, as Markdown",
        "> recipes/README.md",
    )
    recipes.add_argument(
        "folder", nargs="?", default="recipes", help="a folder of recipes (recipes)"
    )

    keep = add(
        "keep",
        _keep,
        "write a workdir's best weights in half precision, with how they came about",
        "runs/digits --out weights/digits",
    )
    keep.add_argument("workdir", help="a workdir of a finished fit")
    keep.add_argument("--out", required=True, help="a preset folder, replaced")

    predict = add(
        "predict",
        _predict,
        "classes of image files, or of a recording of an event camera as it goes on",
        "runs/digits seven.png --top 3",
    )
    predict.add_argument(
        "model",
        help="a workdir of fit, or a preset folder or its address; left out with --url",
    )
    predict.add_argument("images", nargs="*", metavar="image", help="image files")
    predict.add_argument(
        "--stream", metavar="RECORDING", help="a recording, frame by frame"
    )
    predict.add_argument(
        "--frame-ms",
        type=float,
        help="length of a frame of the recording (its length / the model's time steps)",
    )
    predict.add_argument(
        "--orientation",
        choices=("jaer", "spikingjelly"),
        help="of AEDAT 2.0: upright, or transposed as in CIFAR10-DVS (that of the "
        "recordings the model was trained on)",
    )
    predict.add_argument(
        "--top", type=int, default=1, help="how many classes to print (1)"
    )
    predict.add_argument(
        "--url",
        help="ask a running TF Serving, http://HOST:8501/v1/models/NAME or "
        "grpc://HOST:8500/NAME, about image files, recordings and folders of them",
    )
    predict.add_argument(
        "--batch-size", type=_count, default=8, help="image files per request (8)"
    )
    predict.add_argument(
        "--retries",
        type=int,
        default=5,
        help="how often to ask a busy server again (5)",
    )

    export = add(
        "export",
        _export,
        "write a SavedModel for TF Serving, or a model for another runtime",
        "runs/digits --out saved_models/digits",
    )
    export.add_argument(
        "model", help="a workdir of fit, or a preset folder or its address"
    )
    export.add_argument("--out", help="the model's folder (saved_models/<model>)")
    export.add_argument(
        "--format",
        choices=("saved_model", "onnx", "litert"),
        default="saved_model",
        help="what to write (saved_model); what follows is for that one alone",
    )
    export.add_argument(
        "--weights",
        choices=("float32", "bfloat16", "int8"),
        default="float32",
        help="how to keep the weights of the convolutions (float32)",
    )
    export.add_argument(
        "--batch-sizes",
        type=_sizes,
        default=(1, 2, 4, 8),
        help="what a server that makes batches may make of them (1,2,4,8)",
    )
    export.add_argument(
        "--top", type=int, default=5, help="how many classes an answer names (5)"
    )
    export.add_argument(
        "--max-megapixels",
        type=float,
        default=25.0,
        help="larger image files are refused undecoded (25)",
    )

    served = add(
        "serve-check",
        _serve_check,
        "check an exported model without Keras, or a server that has it",
        "saved_models/digits",
    )
    served.add_argument("bundle", help="what export has written")
    served.add_argument(
        "--model", help="a workdir whose answers to compare (those kept in the bundle)"
    )
    served.add_argument("--url", help="ask a running server, see predict")
    served.add_argument(
        "--seconds", type=float, default=1.0, help="of measuring each signature (1)"
    )

    data = commands.add_parser(
        "data", help="data sets and recordings", description="Data sets and recordings."
    ).add_subparsers(required=True, metavar="command")
    prepare = add(
        "data prepare",
        _data_prepare,
        "make a data set of event-camera recordings ready for tf.data",
        "dvs128_gesture --manual-dir downloads",
        to=data,
    )
    prepare.add_argument("name", help="dvs128_gesture or cifar10_dvs")
    prepare.add_argument(
        "--manual-dir", required=True, help="folder with the downloaded files"
    )
    prepare.add_argument(
        "--data-dir", help="where prepared data goes (~/tensorflow_datasets)"
    )
    prepare.add_argument(
        "--config",
        action="append",
        help="events, frames_t10, frames_t16; for cifar10_dvs also each with _clean; "
        "may be repeated (the first three)",
    )
    prepare.add_argument(
        "--lenient",
        action="store_true",
        help="keep what is whole of damaged recordings",
    )
    prepare.add_argument(
        "--any-files",
        action="store_true",
        help="accept files that are not the published ones",
    )

    digits = add(
        "data digits",
        _data_digits,
        "write handwritten digits before a simulated event camera as recordings",
        "--out runs/dvs_digits_data",
        to=data,
    )
    digits.add_argument("--out", required=True, help="a folder, new or of this command")
    digits.add_argument(
        "--seed", type=int, default=0, help="of paths, noise and thresholds (0)"
    )
    digits.add_argument(
        "--most", type=int, help="recordings per split at most (1437 and 360)"
    )

    serve = add(
        "data serve",
        _data_serve,
        "a part of a tf.data service, which makes training batches for fit",
        "--dispatcher 5050",
        to=data,
    )
    role = serve.add_mutually_exclusive_group(required=True)
    role.add_argument(
        "--dispatcher", type=_count, metavar="PORT", help="hand out work, at this port"
    )
    role.add_argument(
        "--worker", metavar="grpc://HOST:PORT", help="work for this dispatcher"
    )
    serve.add_argument(
        "--address",
        default="localhost",
        help="of this machine, as fit reaches the worker (localhost)",
    )
    serve.add_argument(
        "--work-dir", help="where a dispatcher keeps what it needs after a restart"
    )

    for name, command, summary in (
        ("preview", _data_preview, "draw what the network sees of a recipe's images"),
        ("benchmark", _data_benchmark, "how fast the input pipeline of a recipe is"),
    ):
        added = add(f"data {name}", command, summary, "recipes/digits.py", to=data)
        added.add_argument("recipe", help="a recipe file")
        _add_overrides(added)
        if name == "preview":
            added.add_argument(
                "--out", default="preview.png", help="file to write (preview.png)"
            )
            added.add_argument(
                "--count", type=int, default=32, help="how many examples (32)"
            )
        else:
            added.add_argument(
                "--seconds", type=float, default=10.0, help="for each stage (10)"
            )

    show = add(
        "data show",
        _data_show,
        "draw a recording of an event camera",
        "cup.aedat --out cup.gif --duration-ms 800",
        to=data,
    )
    show.add_argument("recording", help="AEDAT 2.0, 3.1 or 4, or N-MNIST")
    show.add_argument("--out", required=True, help="file to write: .png, .gif, .pdf")
    show.add_argument(
        "--kind",
        choices=("frames", "cloud", "gif"),
        help="frames side by side, points in space and time, or an animation "
        "(gif for a file named .gif, else frames)",
    )
    show.add_argument("--frames", type=int, default=16, help="how many frames (16)")
    show.add_argument(
        "--split-by",
        choices=("time", "number"),
        default="time",
        help="frames of equal length, or of equally many events (time)",
    )
    show.add_argument(
        "--start-ms", type=float, default=0, help="after the first event (0)"
    )
    show.add_argument("--duration-ms", type=float, help="from there (to the end)")
    show.add_argument(
        "--sensor-size",
        type=_sensor_size,
        metavar="HEIGHTxWIDTH",
        help="in pixels (as far as there are events)",
    )

    convert = add(
        "convert",
        _convert,
        "weights of PyTorch into a preset folder, or back",
        "checkpoint-199.pth --out weights/10-768 --verify",
    )
    convert.add_argument(
        "source",
        help="a .pth, .safetensors or .npz file; a preset folder with --to pytorch",
    )
    convert.add_argument(
        "--to",
        choices=("keras", "pytorch"),
        default="keras",
        help="which kind to write (keras)",
    )
    convert.add_argument(
        "--out", help="what to write (the source's name without .pth, or with it)"
    )
    convert.add_argument(
        "--preset", help="the preset that the weights must be (by their sizes)"
    )
    convert.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="FIELD=VALUE",
        help="what the shapes don't tell, such as num_heads=8; may be repeated",
    )
    convert.add_argument(
        "--entry", help="entry of the file with the weights (model or state_dict)"
    )
    convert.add_argument(
        "--verify",
        action="store_true",
        help="compare logits with a model in plain PyTorch, in float64",
    )

    add("presets", _presets, "list presets, reported numbers, and weights here", "")
    return parser


if __name__ == "__main__":
    sys.exit(main())
