"""`presets`: list presets, reported accuracies and local weights."""

from keras_qkformer.cli.arguments import add_import
from keras_qkformer.cli.process import load_libraries


def add(commands):
    """Declare the command."""
    parser = commands.add(
        "presets", run, "list presets, reported accuracies and local weights", ""
    )
    add_import(parser)


def run(arguments):
    """Print the list."""
    load_libraries(arguments)
    from keras_qkformer.cli.printing import line
    from keras_qkformer.files import cache_folder
    from keras_qkformer.models.preset import PRESETS
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
    for note in dict.fromkeys(p.reported_note for p in PRESETS.values() if p.reported):
        print(f"* reported {note}; none is measured here")
    place = f"weights trained here, in {weights_folder()}:"
    print(line(place, ", ".join(kept_weights()) or "none", sep=" "))
    print(line(f"weights in {cache_folder()}:{'' if cached else ' none'}"))
    for name, folders in cached.items():
        for folder in folders:
            print(line(name, folder))
