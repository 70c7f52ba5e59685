"""`predict`: classify images or recordings, here or on a running server."""

import glob
import os
import sys
from pathlib import Path

from keras_qkformer.cli import predict_live
from keras_qkformer.cli.answers import Answers, ranked_classes
from keras_qkformer.cli.argument_types import (
    InputFile,
    Number,
    RecordingSource,
    SensorSize,
    Text,
    Whole,
    check,
    is_live_source,
)
from keras_qkformer.cli.arguments import (
    MODEL_URL,
    add_import,
    add_table,
    check_model,
    files_of_model,
    local_folder,
    refuse_given,
)
from keras_qkformer.cli.printing import sensor_told_once
from keras_qkformer.cli.process import load_libraries
from keras_qkformer.printable import printable
from keras_qkformer.serving import OPENVINO_MODEL

_OF_RECORDINGS = "orientation", "sensor_size", "time_unit", "columns"


def add(commands):
    """Declare the command."""
    parser = commands.add(
        "predict",
        run,
        "classify images or recordings, or one recording frame by frame",
        "runs/digits seven.png --top 3",
        loads=True,
    )
    parser.add_argument(
        "model",
        type=Text(),
        help="workdir of fit, preset folder or its address, name of weights, or folder "
        "of an OpenVINO model; omit it with --url",
    )
    parser.add_argument(
        "images",
        type=Text(),
        nargs="*",
        metavar="file",
        help="image files, or recordings for a model of event frames; folders of them, "
        "or patterns such as '*.png'",
    )
    parser.add_argument(
        "--stream",
        type=RecordingSource(),
        metavar="RECORDING",
        help="recording to classify, with an answer after every frame: a file; or, "
        "while it is written, - for standard input or tcp://HOST:PORT",
    )
    predict_live.add(parser)
    _add_recording(parser)
    parser.add_argument(
        "--top",
        type=Whole(1, 100_000),
        default=1,
        help="number of classes to print (default: 1)",
    )
    form = parser.add_mutually_exclusive_group()
    form.add_argument(
        "--json",
        dest="form",
        action="store_const",
        const="json",
        default="text",
        help="print one JSON object per line",
    )
    form.add_argument(
        "--csv",
        dest="form",
        action="store_const",
        const="csv",
        help="print CSV, one line per class",
    )
    _add_server(parser)
    add_import(parser)


def _add_recording(parser):
    parser.add_argument(
        "--frame-ms",
        type=Number(0.001, 3_600_000),
        help="duration of a frame (default: the recording's duration divided by the "
        "model's time steps; a live stream needs it)",
    )
    parser.add_argument(
        "--orientation",
        choices=("jaer", "spikingjelly"),
        help="how to read AEDAT 2.0: upright, or transposed as for CIFAR10-DVS "
        "(default: as in the model's training; with --url jaer, as no server tells)",
    )
    parser.add_argument(
        "--sensor-size",
        type=SensorSize(16384),
        metavar="HEIGHTxWIDTH",
        help="the recording's sensor, in pixels (default: as the recording states, or "
        "else as in the model's training)",
    )
    add_table(parser)


def _add_server(parser):
    parser.add_argument(
        "--url",
        type=MODEL_URL,
        help="ask a running TF Serving, http://HOST:8501/v1/models/NAME or "
        "grpc://HOST:8500/NAME, about image files, recordings and folders of them",
    )
    parser.add_argument(
        "--batch-size",
        type=Whole(1, 4096),
        help="with --url: image files per request (default: 8)",
    )
    parser.add_argument(
        "--retries",
        type=Whole(0, 20),
        help="with --url: how often to ask a busy server again (default: 5)",
    )
    parser.add_argument(
        "--timeout",
        type=Number(0.1, 86_400),
        help="with --url: seconds for a request, with its retries (default: 60)",
    )


def run(arguments):
    """Print the most probable classes of each file, or of each frame.

    Return 1 if some files have no answer, which standard error names, and 2 if none
    has one.
    """
    images, recording = arguments.images, arguments.stream
    if arguments.url:
        of_models = (
            "stream",
            "frame_ms",
            *(name for name in _OF_RECORDINGS if name != "orientation"),
            *predict_live.OPTIONS,
            "import",
        )
        refuse_given(arguments, of_models, "a model", "--url")
        return _ask_server(arguments)
    refuse_given(arguments, ("batch_size", "retries", "timeout"), "--url", "a model")
    if images and not recording:
        refuse_given(arguments, ("frame_ms",), "--stream RECORDING", "files")
    if bool(images) == bool(recording):
        raise ValueError(
            "Give a model and files, or a model and --stream with a recording. "
            f"Received: {arguments.model} with "
            + (f"files and --stream {recording}" if recording else "neither")
        )
    is_live = bool(recording and (arguments.follow or is_live_source(recording)))
    if is_live:
        predict_live.check(arguments)
    else:
        refuse_given(
            arguments, predict_live.OPTIONS, "a live stream", recording or "files"
        )
    check_model(arguments.model, also=[OPENVINO_MODEL])
    if not recording:
        return _classify(arguments)
    kind = _kind(Path(recording)) or "recordings"
    _check_kind(arguments.model, [recording], [kind])
    return predict_live.run(arguments) if is_live else _stream(arguments)


def _classify(arguments):
    paths = _find_files(arguments.images)
    options = {name: vars(arguments)[name] for name in _OF_RECORDINGS}
    options = {name: value for name, value in options.items() if value is not None}
    _check_kind(arguments.model, paths, map(_kind, paths))
    load_libraries(arguments)
    from keras_qkformer.predict import predict_files

    names, answers = predict_files(local_folder(arguments.model), paths, **options)
    told = (
        (answer.path, *ranked_classes(names, answer.probabilities), answer.error)
        for answer in answers
    )
    with sensor_told_once():
        return _print_answers(arguments, paths, told)


def _check_kind(model, paths, kinds):
    """Raise `ValueError` if a model is known to take none of these files."""
    is_exported = (Path(model) / OPENVINO_MODEL).is_file()
    taken = None if is_exported else files_of_model(model)
    if taken and not {*kinds} & {taken, None}:
        raise ValueError(
            f"This model takes {taken}. Received: {str(paths[0])!r} for {model!r}"
        )


def _kind(path):
    from keras_qkformer.serving.client import IMAGES, RECORDINGS

    suffix = path.suffix.lower()
    named = {"images": IMAGES, "recordings": RECORDINGS}
    return next((kind for kind, suffixes in named.items() if suffix in suffixes), None)


def _stream(arguments):
    load_libraries(arguments)
    from keras_qkformer.predict import predict_stream

    with sensor_told_once():
        names, answers = predict_stream(
            local_folder(arguments.model),
            arguments.stream,
            arguments.frame_ms,
            arguments.orientation,
            arguments.sensor_size,
            arguments.time_unit,
            arguments.columns,
        )
    is_text = arguments.form == "text"
    out = Answers(arguments.form, "end_ms", arguments.top)
    for answer in answers:
        end, latency = answer.end_ms, answer.latency_ms
        ranked = ranked_classes(names, answer.probabilities)
        note = f"took {latency:.1f} ms"
        asked = f"{end:.1f} ms" if is_text else end
        out.add(asked, *ranked, note=note, latency_ms=latency)
    if is_text:
        out.add(arguments.stream, *ranked)


def _ask_server(arguments):
    # With --url no model is named, so the first argument is a file too.
    files = _find_files([arguments.model, *arguments.images])
    from keras_qkformer.serving.client import ServingClient

    # None tells "not given", so that these options are refused without --url.
    retries = 5 if arguments.retries is None else arguments.retries
    timeout = 60.0 if arguments.timeout is None else arguments.timeout
    with ServingClient(arguments.url, timeout, retries) as client:
        orientation = arguments.orientation or "jaer"
        answers = client.predict_files(files, arguments.batch_size or 8, orientation)
        return _print_answers(arguments, files, answers)


def _find_files(paths):
    """Files of paths, folders and patterns; each must exist before anything loads."""
    from keras_qkformer.serving.client import expand_files

    found = []
    for path in paths:
        is_there = os.path.exists(path)
        matches = [] if is_there else sorted(glob.glob(path, recursive=True))
        if not matches and not os.path.isdir(path):
            check(InputFile(), "An image", path)
        found += matches or [path]
    return expand_files(found)


def _print_answers(arguments, files, answers):
    """Print `(path, names, probabilities, error)` of each file; return the status."""
    import tqdm

    out = Answers(arguments.form, "file", arguments.top, tqdm.tqdm.write)
    failed = 0
    hidden = True if len(files) == 1 else None  # Without a terminal, too.
    bar = tqdm.tqdm(answers, desc="files", unit="", total=len(files), disable=hidden)
    for path, names, probabilities, error in bar:
        if error:
            failed += 1
            line = f"{printable(str(path), 4096)}: {printable(error, 1000)}"
            tqdm.tqdm.write(line, sys.stderr)
        else:
            out.add(str(path), names, probabilities)
    return 0 if not failed else 1 if failed < len(files) else 2
