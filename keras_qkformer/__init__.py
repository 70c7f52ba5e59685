"""QKFormer, the hierarchical spiking transformer, on Keras 3.

Axes have one order everywhere: `(batch, time, height, width, channels)`. Only
`keras_qkformer.convert` also handles the order of PyTorch checkpoints.

Importing the package takes milliseconds: names load at their first use. Keras can load
a saved model once our layers are registered. They register when a name that needs Keras
is used, or at once if Keras was imported before:

    import keras
    import keras_qkformer

    model = keras.saving.load_model("model.keras")
"""

import importlib
import sys

__version__ = "0.2.0"

_KERAS_MODULES = ("analysis", "convert", "layers", "models", "ops")
_MODULES = (*_KERAS_MODULES, "data", "events")
_PLACES = {
    "QKFormerBackbone": "models",
    "QKFormerClassifier": "models",
    "SpikingClassifier": "models",
    "load_trained": "trained",
    "upload_preset": "presets.upload",
}

__all__ = [*_PLACES, *_MODULES]


def __getattr__(name):
    if name in _KERAS_MODULES:
        importlib.import_module(f"{__name__}.models")  # Registers all layers.
    if name in _MODULES:
        return importlib.import_module(f"{__name__}.{name}")
    if name in _PLACES:
        value = getattr(importlib.import_module(f"{__name__}.{_PLACES[name]}"), name)
        globals()[name] = value
        return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__():
    return sorted({*globals(), *__all__})


if sys.modules.get("keras") is not None:
    importlib.import_module(f"{__name__}.models")
