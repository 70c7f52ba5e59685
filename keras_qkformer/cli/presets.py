"""`presets`: list presets, reported accuracies and local weights."""

import json
import textwrap

from keras_qkformer.cli.arguments import add_import
from keras_qkformer.cli.process import load_libraries


def add(commands):
    """Declare the command."""
    parser = commands.add(
        "presets", run, "list presets, reported accuracies and local weights", ""
    )
    parser.add_argument(
        "--json", action="store_true", help="print one JSON object per preset instead"
    )
    add_import(parser)


def run(arguments):
    """Print the list."""
    from keras_qkformer.cli.printing import line
    from keras_qkformer.files import cache_folder
    from keras_qkformer.presets.addresses import cached_presets
    from keras_qkformer.presets.folders import kept_weights, weights_folder
    from keras_qkformer.presets.published import PRESETS

    presets = PRESETS
    if getattr(arguments, "import"):  # Only then are there others.
        load_libraries(arguments)
        from keras_qkformer.models import PRESETS as presets
    cached = cached_presets()
    if arguments.json:
        for name, preset in presets.items():
            print(json.dumps(_described(name, preset, cached.get(name, []))))
        return
    width = max(map(len, presets))
    notes = dict.fromkeys(p.reported_note for p in presets.values() if p.reported)
    numbers = {note: f"[{number}]" for number, note in enumerate(notes, 1)}
    for family in dict.fromkeys(preset.family for preset in presets.values()):
        print(f"# {family}")
        for name, preset in presets.items():
            if preset.family == family:
                reported = note = "-"
                if preset.reported:
                    reported = f"{preset.reported:.2f} %"
                    note = numbers[preset.reported_note]
                weights = "weights" if name in cached else ""
                row = f"{name:<{width}}{preset.parameters:>11,}{reported:>8} {note:<4}"
                print(f"{row}{weights}".rstrip())
    print("\nName (FAMILY_BLOCKS_WIDTH_DATA), parameters, and top-1 accuracy as")
    for note, number in numbers.items():
        told = f"{number} reported {note}; none is measured here"
        print(textwrap.fill(told, 80, subsequent_indent=" " * 4))
    place = f"weights trained here, in {weights_folder()}:"
    print(line(place, ", ".join(kept_weights()) or "none", sep=" "))
    print(line(f"weights in {cache_folder()}:{'' if cached else ' none'}"))
    for name, folders in cached.items():
        for folder in folders:
            print(line(name, folder))


def _described(name, preset, folders):
    """What `--json` prints of a preset."""
    return {
        "name": name,
        "family": preset.family,
        "description": preset.description,
        "parameters": preset.parameters,
        "reported_top1_percent": preset.reported,
        "reported": preset.reported_note or None,
        "source": preset.source,
        "arguments": dict(preset.arguments),
        "weights": [str(folder) for folder in folders],
    }
