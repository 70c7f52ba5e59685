"""Tables from the package's data."""

from keras_qkformer.presets.published import PRESETS


def presets_table(family):
    """Return the presets of a family as a table, with where their numbers are from.

    Args:
        family: str. Its name.

    Raises:
        ValueError: if there is no such family.
    """
    presets = {n: p for n, p in PRESETS.items() if p.family == family}
    if not presets:
        raise ValueError(f"No family has this name. Received: {family!r}")
    rows, notes = [], {}
    for name, preset in presets.items():
        reported = "-"
        if preset.reported:
            note = f"{preset.reported_note} ({preset.source.split(';')[0]})"
            number = notes.setdefault(note, len(notes) + 1)
            reported = f"{preset.reported:.2f}<sup>{number}</sup>"
        a = preset.arguments
        size = a["image_size"]
        steps = a.get("time_steps", 4)
        rows.append(
            f"| `{name}` | {preset.parameters:,} | {size} px | {steps} | {reported} |"
        )
    told = [f"{number}. Reported {note}." for note, number in notes.items()]
    head = (
        "| preset | parameters | input | T | reported top-1 % |\n|---|--:|--:|--:|--:|"
    )
    return "\n".join([head, *rows]) + "\n\n" + "\n".join(told) + "\n{ .notes }"
