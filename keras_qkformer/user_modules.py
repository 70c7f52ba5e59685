"""Modules of the user's that the user names: with a family, or a source of data."""

import importlib
import re
import sys
from pathlib import Path

from keras_qkformer.printable import printable

_FUNCTION = re.compile(r"([^\W\d]\w*(?:\.[^\W\d]\w*)*):[^\W\d]\w*")
_NAMED = set()


def import_user_module(name, folder):
    """Import a module that the user has named; a file must never name one.

    Args:
        name: str. Dotted name of the module.
        folder: str or path. Searched after all other places, so that nothing in it
            takes the place of a library.

    Raises:
        ValueError: if there is no such module, or it does not load.
    """
    folder = str(Path(folder).absolute())
    sys.path.append(folder)
    try:
        importlib.import_module(name)
    except (Exception, SystemExit) as error:
        reason = printable(f"{type(error).__name__}: {error}")
        raise ValueError(
            "A module to import must load without errors, from the current folder or "
            f"as installed. Received: {name!r}: {reason}"
        ) from error
    finally:
        sys.path.remove(folder)
    _NAMED.add(name)


def module_of(place):
    """Return the module that `"module:function"` names, or `None` for other texts.

    Args:
        place: str.

    Example:
    >>> module_of("birds.data:photos"), module_of("tfds/mnist")
    ('birds.data', None)
    """
    found = _FUNCTION.fullmatch(place)
    return found and found[1]


def function_of_user(place):
    """Return a function of a module that the user has named.

    Args:
        place: str, `"module:function"`. It may come from a file that the user did not
            write, so it alone imports nothing.

    Returns:
        The function.

    Raises:
        ValueError: if the user has not named the module, or it has no such function.
    """
    module, _, name = place.partition(":")
    if module not in _NAMED:
        raise ValueError(
            "A module must be named by you to run: on the command line --import "
            f"{module}, in Python import_user_module. Received: {place!r}"
        )
    function = getattr(sys.modules[module], name, None)
    if not callable(function):
        raise ValueError(f"{module} must have a function {name}. Received: {place!r}")
    return function


def user_modules(classes):
    """Return where another process finds the modules of classes.

    Args:
        classes: iterable of classes. Those of this package and those of the script that
            runs, which another process can't import, are left out.

    Returns:
        List of `(name, folder)` for `import_user_module`.
    """
    places = []
    for name in dict.fromkeys(cls.__module__ for cls in classes):
        file = getattr(sys.modules[name], "__file__", None)
        if file and name.partition(".")[0] not in ("keras_qkformer", "__main__"):
            levels = name.count(".") + (Path(file).name == "__init__.py")
            places.append((name, str(Path(file).absolute().parents[levels])))
    return places
