"""`predict`: classify image files or recordings, here or on a running server."""

import sys

from keras_qkformer.cli.arguments import local_folder, natural_number, positive_int
from keras_qkformer.cli.printing import top_classes


def add(commands):
    """Declare the command."""
    parser = commands.add(
        "predict",
        run,
        "classify image files, or a recording of an event camera frame by frame",
        "runs/digits seven.png --top 3",
    )
    parser.add_argument(
        "model",
        help="workdir of fit, or preset folder or its address; omit it with --url",
    )
    parser.add_argument("images", nargs="*", metavar="image", help="image files")
    parser.add_argument(
        "--stream",
        metavar="RECORDING",
        help="recording to classify, with an answer after every frame",
    )
    parser.add_argument(
        "--frame-ms",
        type=float,
        help="duration of a frame (default: the recording's duration divided by the "
        "model's time steps)",
    )
    parser.add_argument(
        "--orientation",
        choices=("jaer", "spikingjelly"),
        help="how to read AEDAT 2.0: upright, or transposed as for CIFAR10-DVS "
        "(default: as in the model's training)",
    )
    parser.add_argument(
        "--top",
        type=positive_int,
        default=1,
        help="number of classes to print (default: 1)",
    )
    parser.add_argument(
        "--url",
        help="ask a running TF Serving, http://HOST:8501/v1/models/NAME or "
        "grpc://HOST:8500/NAME, about image files, recordings and folders of them",
    )
    parser.add_argument(
        "--batch-size",
        type=positive_int,
        default=8,
        help="with --url: image files per request (default: 8)",
    )
    parser.add_argument(
        "--retries",
        type=natural_number,
        default=5,
        help="with --url: how often to ask a busy server again (default: 5)",
    )


def run(arguments):
    """Print the most probable classes of each file, or of each frame."""
    images, recording = arguments.images, arguments.stream
    of_recordings = arguments.frame_ms, arguments.orientation
    if arguments.url:
        if recording or any(of_recordings):
            raise ValueError("--url takes files and folders, and no --stream.")
        return _ask_server(arguments)
    if bool(images) == bool(recording) or (images and any(of_recordings)):
        raise ValueError(
            "Give image files, or --stream with a recording and perhaps --frame-ms and "
            f"--orientation. Received: images={images}, stream={recording!r}, "
            f"frame_ms={arguments.frame_ms}, orientation={arguments.orientation!r}"
        )
    return _stream(arguments) if recording else _classify(arguments)


def _classify(arguments):
    from keras_qkformer.predict import predict_images

    names, probabilities = predict_images(
        local_folder(arguments.model), arguments.images
    )
    for path, row in zip(arguments.images, probabilities, strict=True):
        print(path, *top_classes(arguments.top, names, row), sep="\t")


def _stream(arguments):
    from keras_qkformer.predict import predict_stream

    names, answers = predict_stream(
        local_folder(arguments.model),
        arguments.stream,
        arguments.frame_ms,
        arguments.orientation,
    )
    for answer in answers:
        last = top_classes(arguments.top, names, answer.probabilities)
        print(
            f"{answer.end_ms:.1f} ms",
            *last,
            f"took {answer.latency_ms:.1f} ms",
            sep="\t",
            flush=True,
        )
    print(arguments.stream, *last, sep="\t")


def _ask_server(arguments):
    import tqdm

    from keras_qkformer.serving.client import ServingClient, expand_files

    # With --url no model is named, so the first argument is a file too.
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
