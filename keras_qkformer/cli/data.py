"""`data`: the group of commands for data sets and recordings."""

from keras_qkformer.cli import (
    data_benchmark,
    data_digits,
    data_prepare,
    data_preview,
    data_serve,
    data_show,
)

COMMANDS = (
    *(data_prepare, data_digits, data_serve, data_preview, data_benchmark),
    data_show,
)


def add(commands):
    """Declare the group and its commands."""
    group = commands.add_group("data", "prepare, draw, serve and time data")
    for command in COMMANDS:
        command.add(group)
