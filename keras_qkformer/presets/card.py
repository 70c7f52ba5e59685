"""Write the model card of a preset folder, with front matter as the hubs read it."""

import json
import math
import re

from keras_qkformer.files import write_text
from keras_qkformer.forms import AnalysisRecord, PresetMetadata
from keras_qkformer.json_files import LARGE_LIMIT, read_json
from keras_qkformer.manifest import CARD_FILE
from keras_qkformer.presets.declared import is_unchanged
from keras_qkformer.presets.folders import (
    CONFIG_FILE,
    METADATA_FILE,
    read_config_file,
)
from keras_qkformer.presets.published import PRESETS
from keras_qkformer.presets.ranges import file_kind, pair
from keras_qkformer.printable import printable

GENERATED = (
    "<!-- Written by keras_qkformer. Without this line, it stays as you edit it. -->"
)
LICENCE = re.compile(r"[A-Za-z0-9][\w.+-]{0,63}", re.ASCII)
"""What the identifier of a licence is, such as `apache-2.0`."""
_NAMES = 30  # Classes that are named.


def write_card(folder, **known):
    """Write or renew the `README.md` of a preset folder, unless its owner edited it.

    Args:
        folder: path of the folder.
        **known: see `make_card`.
    """
    if not is_edited(folder):
        write_text(folder / CARD_FILE, make_card(folder, **known))


def is_edited(folder):
    """Return whether a folder has a model card that is no longer the generated one.

    Args:
        folder: path.
    """
    path = folder / CARD_FILE
    return path.is_file() and GENERATED not in path.read_text("utf-8", "replace")


def make_card(folder, address=None, licence=None, results=None, report=None):
    """Make the model card of a preset folder from the files in it.

    It says what the model is, its data and classes, its accuracy as measured and,
    apart, as reported, and how to load it. Its front matter is that of the Hugging Face
    Hub. A model of event frames gets no `pipeline_tag`, because the hub has no task for
    them.

    Args:
        folder: path.
        address: str. Where the folder will be, or `None` if that is not known.
        licence: str. Identifier of the weights' licence, such as `"apache-2.0"`, or
            `None` for the `"licence"` in the folder's metadata. It is never guessed.
        results: dict. `results.json` of the training, or `None`.
        report: path of the `report.json` of an analysis of this model, or `None`.

    Returns:
        str: Markdown.

    Raises:
        ValueError: if a file can't be read, or the report is of another model.
    """
    family, config = read_config_file(folder / CONFIG_FILE)
    metadata = read_json(folder / METADATA_FILE, PresetMetadata)
    record = report and read_report(report, metadata)
    preset = _preset(metadata)
    name = address.partition("://")[2] if address else preset or printable(family)
    licence = licence or metadata.get("licence")
    measured = _measured(metadata, results, record)
    static = config.get("static", True)
    front = {
        "library_name": "keras",
        "license": licence,
        "pipeline_tag": "image-classification" if static else None,
        "tags": [
            "keras",
            "keras_qkformer",
            "spiking-neural-network",
            printable(family),
        ],
        "model-index": _model_index(name, static, metadata, measured),
    }
    lines = [f"{key}: {_yaml(value)}" for key, value in front.items() if value]
    parts = [
        "\n".join(["---", *lines, "---", GENERATED]),
        f"# {_text(name)}",
        _what(family, preset, config, metadata),
        _data(metadata),
        _accuracy(preset, config, metadata, measured),
        *([_energy(record)] if record else []),
        f"## Licence\n\n{_text(licence) if licence else 'Not stated.'}",
        _loading(address, config, metadata),
    ]
    return "\n\n".join(parts) + "\n"


def licence_of(text):
    """Return the licence that the front matter of a model card names, or `None`.

    Args:
        text: str. The card.
    """
    front = re.match(r"---\n(.*?)\n---\n", text.replace("\r\n", "\n"), re.DOTALL)
    found = front and re.search(r"^license:[ \t]*(\S+)", front[1], re.MULTILINE)
    return found and found[1].strip("\"'")


def read_report(path, metadata):
    """Read the `report.json` of an analysis.

    Args:
        path: path of the file.
        metadata: dict. Metadata of the model's preset folder.

    Returns:
        Dict.

    Raises:
        ValueError: if it is of another model.
    """
    record = read_json(path, AnalysisRecord, LARGE_LIMIT)
    ours = metadata.get("parameters"), metadata.get("class_names")
    theirs = record["model"]["parameters"], record["model"]["class_names"]
    if ours != theirs:
        raise ValueError(
            "A report must be of the model itself, with as many parameters and the "
            f"same classes. Received: {printable(str(path))} of {theirs[0]:,} "
            f"parameters and {len(theirs[1])} classes"
        )
    return record


def _preset(metadata):
    """The name of the model's preset, if it is one of this package."""
    name = metadata.get("preset") or _dict(metadata, "recipe").get("preset")
    return name if name in PRESETS else None


def _what(family, preset, config, metadata):
    height, width = map(_text, _size(config))
    channels, steps = (_text(config.get(k, "?")) for k in ("in_channels", "time_steps"))
    if config.get("static", True):
        shape = f"images, (height, width, channels) = ({height}, {width}, {channels})"
    else:
        shape = (
            "event frames, (time, height, width, polarity) = "
            f"({steps}, {height}, {width}, {channels})"
        )
    made = [_text(metadata.get(k, "?")) for k in ("keras_qkformer", "keras", "date")]
    rows = {
        "family": _text(family),
        "preset": _text(preset) if preset else "none of the published ones",
        "parameters": f"{metadata.get('parameters', 0):,}",
        "time steps T": steps,
        "input": shape,
        "weights": _text(metadata.get("precision", "float32")),
        "written by": "keras_qkformer {}, Keras {}, {}".format(*made),
    }
    about = PRESETS[preset] if preset else None
    text = "A spiking neural network that classifies, for Keras on any backend."
    if about:
        made = f"{_code(preset)}: {about.description} ({about.source})"
        text += f" Made from the preset {made}."
    return "\n".join([text, "", "| | |", "|---|---|", *_rows(rows.items())])


def _size(config):
    """Height and width in a config that no model was made of, and may hold anything."""
    size = config.get("image_size")
    if isinstance(size, int):
        return pair(size)
    return size if isinstance(size, list) and len(size) == 2 else ("?", "?")


def _data(metadata):
    data = _dict(metadata, "recipe", "data")
    names = metadata.get("class_names") or []
    lines = ["## Data and classes", ""]
    if data:
        used = [f"{key} {_code(data[key])}" for key in _SPLITS if data.get(key)]
        lines.append(f"Trained on {_code(data.get('name'))}: {', '.join(used)}.")
    else:
        lines.append("The folder does not say what the model was trained on.")
    if names:
        shown = ", ".join(map(_code, names[:_NAMES]))
        more = f" and {len(names) - _NAMES} more" if len(names) > _NAMES else ""
        lines += ["", f"{len(names)} classes: {shown}{more}."]
    return "\n".join(lines)


_SPLITS = ("train", "validation", "test")


def _measured(metadata, results, record):
    """Accuracies that were measured: lists of split, value in [0, 1], and how."""
    results, found = results or {}, []
    test = _dict(metadata, "test") or _dict(results, "test")
    if _is_number(test.get("accuracy")):
        split = test.get("split") or results.get("test_split") or "test"
        count = test.get("examples")
        how = f"{count:,} examples" if _is_number(count) else ""
        found.append((str(split), test["accuracy"], how))
    elif record and record["data"]["accuracy"] is not None:
        data = record["data"]
        how = f"{data['examples']:,} examples, by `analyze`, {_text(record['date'])}"
        found.append((data["split"], data["accuracy"], how))
    if _is_number(metadata.get("val_accuracy")):
        split = _dict(metadata, "recipe", "data").get("validation") or "validation"
        how = f"chose epoch {metadata.get('epoch', '?')}"
        found.append((str(split), metadata["val_accuracy"], how))
    return found


def _accuracy(preset, config, metadata, measured):
    lines = ["## Accuracy", ""]
    if measured:
        lines += ["| measured, top-1 | split | how |", "|---|---|---|"]
        lines += [f"| {100 * v:.2f} % | {_code(s)} | {how} |" for s, v, how in measured]
    else:
        lines.append("Not measured.")
    reported = _reported(preset, config, metadata)
    if reported:
        lines += ["", f"Reported elsewhere, not for these weights: {_text(reported)}"]
    return "\n".join(lines)


def _reported(preset, config, metadata):
    """What a source reports of the published model, or `None`."""
    given = _dict(metadata, "reported")
    if _is_number(given.get("top_1")):
        return f"{given['top_1']} % top-1 {given.get('note', '')}"
    text = _dict(metadata, "recipe", "expected").get("reported")
    if text:
        return text
    about = PRESETS[preset] if preset else None
    if about is None or about.reported is None:
        return None
    same = metadata.get("parameters") == about.parameters
    # The number of the preset says nothing of a changed model.
    note = f"{about.reported} % top-1 {about.reported_note} ({about.source})"
    return note if same and is_unchanged(about, config) else None


def _energy(record):
    energy, data = record["energy"], record["data"]
    lines = [
        "## Energy",
        "",
        f"Estimated from the operations on {data['examples']:,} examples of "
        f"{_code(data['source'])}, {_code(data['split'])}, with the unit costs "
        f"{_code(energy['device'])}. The conventions count differently; a figure means "
        "nothing without its own.",
        "",
        "| convention | mJ per example |",
        "|---|---|",
    ]
    conventions = energy["conventions"].items()
    lines += [f"| {_code(name)} | {c['total_mj']:.4g} |" for name, c in conventions]
    lines += [f"| the same model without spikes | {energy['twin_mj']:.4g} |"]
    return "\n".join(lines)


def _loading(address, config, metadata):
    where = json.dumps(address or "THIS FOLDER, OR ITS ADDRESS")
    if {"class_names", "preprocessing"} <= {*metadata}:
        file = {"images": "image.png", "recordings": "recording.aedat"}.get(
            file_kind(config.get("static", True), config.get("in_channels", 3))
        )
        inputs = f'["{file}"]' if file else "arrays"
        code = [
            "from keras_qkformer import load_trained",
            f"trained = load_trained({where})",
            f"trained.predict({inputs})  # probabilities of the classes",
        ]
    else:
        code = [
            "from keras_qkformer import SpikingClassifier",
            f"model = SpikingClassifier.from_preset({where})",
            "model.predict(inputs)  # logits",
        ]
    needs = ""
    if address and address.startswith("hf://"):
        needs = "`pip install keras_qkformer huggingface_hub`, then:\n\n"
    elif address and address.startswith("kaggle://"):
        needs = "`pip install keras_qkformer kagglehub`, then:\n\n"
    return "\n".join([f"## Use it\n\n{needs}```python", *code, "```"])


def _model_index(name, static, metadata, measured):
    if not measured:
        return None
    data = _dict(metadata, "recipe", "data")
    source = printable(str(data.get("name") or "unknown"))
    task = "image-classification" if static else "other"
    results = [
        {
            "task": {"type": task},
            "dataset": {"name": source, "type": source, "split": printable(split)},
            "metrics": [{"type": "accuracy", "value": round(value, 6)}],
        }
        for split, value, _ in measured
    ]
    return [{"name": name, "results": results}]


def _yaml(value):
    """A value as YAML of one line: JSON is YAML."""
    return json.dumps(value, ensure_ascii=False)


def _rows(items):
    return [f"| {key} | {value} |" for key, value in items]


def _text(value):
    """Text from a file as Markdown without effect, also in a table."""
    return re.sub(r"([\\`*_\[\]<>|])", r"\\\1", printable(str(value), 1000))


def _code(value):
    """Text from a file as code in Markdown, also in a table."""
    return "`" + re.sub(r"[`|]", "'", printable(str(value), 200)) + "`"


def _is_number(value):
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return is_number and math.isfinite(value)


def _dict(values, *keys):
    """A dictionary in others; empty if it is missing, or something else is there."""
    for key in keys:
        values = values.get(key)
        if not isinstance(values, dict):
            return {}
    return values
