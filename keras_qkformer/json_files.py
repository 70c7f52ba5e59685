"""Read our own JSON files back, with errors that name file, field and rule."""

import functools

from keras_qkformer.files import open_regular
from keras_qkformer.printable import printable

LIMIT = 1 << 20
"""Largest size of most JSON files, in bytes."""
LARGE_LIMIT = 1 << 26
"""Largest size of files that grow with epochs or classes, in bytes."""
_SHOWN = 5  # Problems of a file that an error tells.
_LISTED = 1000  # Of more, pydantic would need gigabytes for the list.


def read_json(path, form, limit=LIMIT):
    """Read a JSON file that holds an object of a known form.

    Args:
        path: str or path of the file.
        form: type that pydantic can check, such as one of `keras_qkformer.forms`.
        limit: int. Largest size of the file, in bytes; no more is read.

    Returns:
        The checked value; a dict for a form of `keras_qkformer.forms`.

    Raises:
        ValueError: if the file is too large, is not a JSON object, is nested more than
            200 levels deep, or does not have the form.
        OSError: if the file can't be read, or is a pipe or a device.
    """
    with open_regular(path) as file:
        text = file.read(limit + 1)
    if len(text) > limit:
        raise ValueError(f"{path} must have at most {limit:,} bytes. Received: more")
    return parse_json(text, form, path)


def parse_json(text, form, name):
    """Parse a JSON object of a known form, see `read_json`.

    Args:
        text: str or bytes.
        form: type that pydantic can check.
        name: str or path for errors: where the text is from.

    Returns:
        The checked value.

    Raises:
        ValueError: as `read_json`.
    """
    # Pydantic takes a tenth of a second to import.
    from pydantic import ValidationError
    from pydantic_core import from_json

    try:
        value = from_json(text)
    except ValueError as error:
        raise ValueError(f"{name} must be a JSON file. Received: {error}") from error
    if not isinstance(value, dict):
        raise ValueError(
            f"{name} must hold a JSON object. Received: {printable(repr(value))}"
        )
    try:
        return _adapter(form).validate_python(value)
    except ValidationError as error:
        raise ValueError(f"{name}: {explain(error)}") from error


def explain(error, describe=None):
    """Describe what pydantic found, in bounded text.

    Args:
        error: `pydantic.ValidationError`.
        describe: function that tells one of its `errors()`, or `None` for field, rule
            and value.

    Returns:
        Str: the problems, of at most five.
    """
    count = error.error_count()
    if count > _LISTED:
        return f"{count:,} values are wrong"
    problems = error.errors()
    told = [*map(describe or _describe, problems[:_SHOWN])]
    if len(problems) > _SHOWN:
        told.append(f"and {len(problems) - _SHOWN} more")
    return "; ".join(told)


def _describe(problem):
    place = printable(".".join(map(str, problem["loc"])))
    received = printable(repr(problem["input"]))
    return f"{place}: {problem['msg']}. Received: {received}"


@functools.cache
def _adapter(form):
    from pydantic import TypeAdapter

    return TypeAdapter(form)
