"""Mean and standard deviation of the pixels of well-known sets of images."""

IMAGENET = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}
CIFAR = {"mean": (0.4914, 0.4822, 0.4465), "std": (0.2470, 0.2435, 0.2616)}


def statistics_of(channels):
    """Mean and standard deviation for images of 1 or 3 channels."""
    if channels == 3:
        return IMAGENET
    # Of the luminance of the same images, as others use them.
    return {"mean": (0.449,), "std": (0.226,)}
