"""All fields of a recipe with their types and meanings: what `--set` can replace."""

import inspect
import json
import re
from typing import NamedTuple

from pydantic import TypeAdapter

_TYPES = {
    "integer": "a whole number",
    "number": "a number",
    "boolean": "true or false",
    "string": "text",
    "null": "null",
    "object": "an object",
}
_BOUNDS = {
    "exclusiveMinimum": "above",
    "minimum": "from",
    "exclusiveMaximum": "below",
    "maximum": "up to",
}


class RecipeField(NamedTuple):
    """A field of a recipe.

    Attributes:
        name: str, with dots: `"optimizer.epochs"`.
        kind: str. Its type and range in words.
        meaning: str. Its entry in the docstring.
    """

    name: str
    kind: str
    meaning: str


def recipe_fields(cls):
    """Return the fields of `Recipe` and of the settings in it.

    Args:
        cls: pydantic dataclass, such as `Recipe`, whose docstring and those of the
            settings in it have a section `Attributes:`.

    Returns:
        list of `RecipeField`, in order. The arguments of the model, `model.*`, are
        those of its family and not among them.
    """
    schema = TypeAdapter(cls).json_schema()
    return list(_walk(schema, schema.get("$defs", {}), cls, ""))


def _walk(schema, definitions, cls, prefix):
    meanings = docstring_entries(cls.__doc__, "Attributes")
    for name, field in schema["properties"].items():
        options = field.get("anyOf", [field])
        inner = [o["$ref"].rpartition("/")[2] for o in options if "$ref" in o]
        kind = " or ".join("an object" if "$ref" in o else _words(o) for o in options)
        if not inner or len(options) > 1:
            yield RecipeField(f"{prefix}{name}", kind, meanings.get(name, ""))
        for definition in inner:
            below = _class_of(cls.__annotations__[name], definition)
            yield from _walk(
                definitions[definition], definitions, below, f"{prefix}{name}."
            )


def _class_of(annotation, name):
    return next(
        kind
        for kind in (annotation, *getattr(annotation, "__args__", ()))
        if getattr(kind, "__name__", "") == name
    )


def _words(schema):
    if "enum" in schema:
        return " or ".join(map(json.dumps, schema["enum"]))
    if schema["type"] == "array":
        each = schema.get("prefixItems") or [schema["items"]]
        count = f"{len(each)} values, " if "prefixItems" in schema else ""
        return f"a list ({count}each {_words(each[0])})"
    bounds = [f"{word} {schema[key]}" for key, word in _BOUNDS.items() if key in schema]
    return " ".join([_TYPES[schema["type"]], *bounds])


def docstring_entries(docstring, section):
    r"""Return the entries of a section of a docstring, such as `Args:`.

    Args:
        docstring: str.
        section: str. Its title.

    Returns:
        dict from names to texts in one line.

    Example:
    >>> docstring_entries("A.\n\nArgs:\n    x: int.\n        Its unit.", "Args")
    {'x': 'int. Its unit.'}
    """
    text = inspect.cleandoc(docstring or "")
    found = re.search(rf"^{section}:\n((?:    .*\n?|\n)+)", text, re.M)
    if found is None:
        return {}
    entries = re.findall(r"^    (\w+): (.*(?:\n {8}.*)*)", found[1], re.M)
    return {name: " ".join(meaning.split()) for name, meaning in entries}
