"""Mean and standard deviation of the pixels of well-known sets of images."""

from keras_qkformer.published_data import CIFAR_PIXELS as CIFAR
from keras_qkformer.published_data import IMAGENET_PIXELS as IMAGENET

__all__ = ["CIFAR", "IMAGENET", "statistics_of"]


def statistics_of(channels):
    """Mean and standard deviation for images of 1 or 3 channels."""
    if channels == 3:
        return IMAGENET
    # Of the luminance of the same images, as others use them.
    return {"mean": (0.449,), "std": (0.226,)}
