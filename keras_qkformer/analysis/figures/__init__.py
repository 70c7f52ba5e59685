"""Figures, one file per subject. They need matplotlib."""

try:
    import matplotlib  # noqa: F401
except ImportError as error:
    raise ImportError(
        "Figures need matplotlib: pip install 'keras_qkformer[plots]'"
    ) from error
