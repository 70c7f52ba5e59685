"""Colours of inputs in figures and reports."""

import numpy as np

# Blue and vermilion of Okabe and Ito, which colour-blind readers can tell apart.
OFF, ON = (0, 114, 178), (213, 94, 0)


def as_colours(frames):
    """Convert frames to RGB colours from 0 to 1.

    Args:
        frames: array `(time, height, width, channels)`. 2 channels are counts of
            events, OFF before ON; 3 are colours; any other number is averaged to grey.

    Returns:
        float64 array `(time, height, width, 3)`.
    """
    frames = frames.astype("float64")
    if frames.shape[-1] == 2:
        # A quantile, so that a few hot pixels don't make all others invisible.
        counts = frames[frames > 0]
        most = np.quantile(counts, 0.95) if counts.size else 1
        ink = 1 - np.array([OFF, ON]) / 255
        return 1 - np.clip(np.clip(frames / most, 0, 1) @ ink, 0, 1)
    if frames.shape[-1] != 3:
        frames = np.repeat(frames.mean(-1, keepdims=True), 3, -1)
    low, high = min(frames.min(), 0), max(frames.max(), 1)
    return (frames - low) / (high - low)
