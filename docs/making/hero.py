"""The picture of the first page: a digit and the spikes that it causes."""

import numpy as np

from keras_qkformer.analysis.attention import stage_activity, token_masks
from keras_qkformer.data.images.digits import digits
from keras_qkformer.trained import load_trained

PIXEL, APART = 30, 112  # Of a pixel's side and between two planes.
PLANE = (0.42, -0.2, 0, 1)  # A plane seen from the side: x to the right and up.


def hero(weights, example=45):
    """Return the picture as SVG that takes its colours from the page.

    Args:
        weights: str or path of the preset folder of a model of digits.
        example: int. Number of the image in the test split.
    """
    trained = load_trained(weights)
    images, labels = digits().load("test", lambda count: (example, example + 1))
    inputs = trained.prepared(images)
    spikes = stage_activity(trained.model, inputs)["stage1"][0].mean(-1)
    passes = token_masks(trained.model, inputs)["stage1_block1"][0].mean(-1) >= 0.5
    answer = trained.class_names[int(trained.logits(images)[0].argmax())]
    size = len(spikes[0])
    planes = [_ink(images[0, ..., 0] / 255)]
    planes += [_dots(s / spikes.max(), p) for s, p in zip(spikes, passes, strict=True)]
    a, b, c, d = PLANE
    side = size * PIXEL
    parts = []
    for number, plane in enumerate(planes):
        x, y = 6 + number * APART, 8 - b * side
        label = "input" if number == 0 else f"t = {number}"
        parts.append(
            f'<g transform="matrix({a} {b} {c} {d} {x} {y:.0f})">'
            f'<rect class="plane" width="{side}" height="{side}"/>{plane}</g>'
            f'<text x="{x}" y="{y + side + 22:.0f}">{label}</text>'
        )
    width, height = 12 + (len(planes) - 1) * APART + a * side, 8 - b * side + side + 30
    title = (
        f"A handwritten {labels[0]}, which the model takes for a {answer}, and the "
        "spikes of its first stage in four time steps"
    )
    return (
        f'<svg class="hero-spikes" viewBox="0 0 {width:.0f} {height:.0f}" role="img" '
        f'aria-label="{title}">{"".join(parts)}</svg>'
    )


def _ink(image):
    return "".join(
        f'<rect class="ink" x="{x * PIXEL}" y="{y * PIXEL}" width="{PIXEL}" '
        f'height="{PIXEL}" fill-opacity="{image[y, x]:.2f}"/>'
        for y, x in np.argwhere(image > 0)
    )


def _dots(rates, passes):
    return "".join(
        f'<circle class="{"on" if passes[y, x] else "off"}" cx="{(x + 0.5) * PIXEL:g}" '
        f'cy="{(y + 0.5) * PIXEL:g}" r="{0.47 * PIXEL * rates[y, x] ** 0.5:.1f}"/>'
        for y, x in np.argwhere(rates > 0.005)
    )
