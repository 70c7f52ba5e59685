"""The names that neurons had in files written before they were renamed."""

# Names of neurons, as attributes of their layers and as layers.
_FORMER = {
    "input_neuron": "first",
    "attention_neuron": "attend",
    "hidden_neuron": "middle",
    "output_neuron": "last",
    "head_neuron": "last_neuron",
}


def former_path(path):
    """Return the path that a neuron had before the renaming.

    Args:
        path: str. Path of a neuron, in a weights file or of its layer, such as
            `"stage1_block1/attention/attention_neuron"`.

    Returns:
        str, such as `"stage1_block1/attention/attend"`. `path` itself for other names.
    """
    owner, separator, name = path.rpartition("/")
    return f"{owner}{separator}{_FORMER.get(name, name)}"
