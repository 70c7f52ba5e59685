"""What a family knows of its published code, to convert checkpoints both ways."""

import abc

import numpy as np

from keras_qkformer.models.preset import FAMILIES
from keras_qkformer.presets.arguments import parameters_of
from keras_qkformer.published_data import IMAGENET_PIXELS


class PublishedCode(abc.ABC):
    """Base class for the published code of a family.

    Attributes:
        family: str. Name under which the family is registered.
        title: str. Name of the models in error messages.
        unseen: tuple of str, backbone arguments that shapes don't tell, unless
            `read_sizes` returns them.
        no_sizes: tuple of str, arguments that shapes tell but that may differ from a
            preset of the same sizes.
        interpolation: str. How images of ImageNet are resized for evaluation.
    """

    family = title = ""
    unseen = ("num_heads", "time_steps", "image_size", "static")
    no_sizes = ()
    interpolation = "bicubic"

    @abc.abstractmethod
    def likeness(self, arrays):
        """Fraction of this code's tensor names that a checkpoint has, in [0, 1].

        Args:
            arrays: dict from names to arrays.
        """

    def renamed(self, arrays):
        """Return a checkpoint under the names of the published code.

        Args:
            arrays: dict from names to arrays, in the order of the file.

        Returns:
            `arrays`, or a dict of the same arrays under other names, if the file was
            written by code that had other names than the published one.
        """
        return arrays

    @abc.abstractmethod
    def read_sizes(self, arrays):
        """Read the arguments of the backbone from the names and shapes of arrays.

        Args:
            arrays: dict from names to arrays.

        Returns:
            Dict of the arguments, and `num_classes`.

        Raises:
            ValueError: if an array that an argument is read from is missing or has
                another number of axes.
        """

    def extent(self, sizes):
        """Return the blocks of a model, and how many numbers its weights have at least.

        Args:
            sizes: dict that `read_sizes` returned.
        """
        depths, embed_dim = sizes.get("depths") or (sizes["depth"],), sizes["embed_dim"]
        widths = [embed_dim / 2**i for i in reversed(range(len(depths)))]
        numbers = embed_dim * (sizes["num_classes"] or 0) + sum(
            depth * (3 + 2 * sizes["mlp_ratio"]) * width**2
            for depth, width in zip(depths, widths, strict=True)
        )
        return sum(depths), numbers

    def assumptions(self, arrays):
        """Return further arguments that shapes don't tell, with their defaults.

        Args:
            arrays: dict from names to arrays.

        Returns:
            Dict from arguments to pairs of the value and the reason for it. A preset
            of the same sizes comes before these.
        """
        return {}

    def fits(self, arrays, arguments):
        """Whether a model of these arguments has names like those of a checkpoint.

        Args:
            arrays: dict from names to arrays.
            arguments: dict of all arguments of the backbone.
        """
        return True

    def unused(self, model):
        """Return tensors of the published code that have no effect.

        Args:
            model: a `SpikingClassifier` of the family.

        Returns:
            Dict from their names to arrays with their initial values.
        """
        return {}

    def is_published(self, sizes):
        """Whether a model with the sizes of a preset is that preset."""
        return True

    def complete(self, arguments):
        """Add the defaults to the arguments of a preset, in `read_sizes`'s form."""
        parameters = parameters_of(FAMILIES[self.family].backbone)
        return {**{k: p.default for k, p in parameters.items()}, **arguments}

    @abc.abstractmethod
    def weight_map(self, model):
        """List of `Entry`, one for each variable of a model.

        Raises:
            ValueError: if the published code has no model like this one.
        """

    @abc.abstractmethod
    def pixels(self, backbone):
        """Statistics of the pixels that a backbone's published model takes.

        Args:
            backbone: backbone of the family.

        Returns:
            `IMAGENET_PIXELS`, `CIFAR_PIXELS`, or `None` for frames of counted events.
        """

    def crop(self, size):
        """Fraction of ImageNet's images that the authors' evaluation takes.

        Args:
            size: int > 0. The larger side of the model's images, in pixels.
        """
        # 224 of 256 pixels; larger images are not cropped.
        return 0.875 if size <= 224 else 1.0

    def metadata(self, backbone, preset):
        """Metadata of a converted folder.

        Args:
            backbone: the converted backbone.
            preset: str, name of the preset with its sizes and classes, or `None`.

        Returns:
            Dict with the `preprocessing` of the authors' evaluation, if the backbone
            has the channels of their data, and the `orientation` of their recordings,
            if there is one.
        """
        # So were the AEDAT 2.0 files of CIFAR10-DVS read.
        is_turned = preset is not None and preset.endswith("cifar10_dvs")
        found = {"orientation": "spikingjelly"} if is_turned else {}
        pixels, channels = self.pixels(backbone), backbone.in_channels
        values = {"mean": [0.0] * channels, "std": [1.0] * channels, "max_value": 1.0}
        if pixels is not None:
            values = {name: list(pixels[name]) for name in ("mean", "std")}
            values["max_value"] = 255.0
        if len(values["mean"]) != channels:
            return found
        if pixels is IMAGENET_PIXELS:
            values["crop"] = self.crop(max(backbone.image_size))
            values["interpolation"] = self.interpolation
        image_size = list(backbone.image_size)
        return {**found, "preprocessing": {"image_size": image_size, **values}}

    @abc.abstractmethod
    def twin_logits(self, arrays, arguments, inputs):
        """Compute logits in plain PyTorch, in float64, to verify converted weights.

        Args:
            arrays: dict from the authors' names to arrays.
            arguments: dict of all arguments of the backbone.
            inputs: array as our models take it.

        Returns:
            Array `(batch, classes)`.

        Raises:
            ImportError: without PyTorch.
        """


def kernel_shape(arrays, name, least):
    """Return the shape of a kernel, from which arguments are read.

    Args:
        arrays: dict from names to arrays.
        name: str. Name of the kernel.
        least: int. How many axes it has at least.

    Raises:
        ValueError: if it is missing, has fewer axes, or one of size 0.
    """
    if name not in arrays:
        raise ValueError(f"Every array must fit exactly one variable. missing: {name}")
    shape = np.shape(arrays[name])
    if len(shape) < least or 0 in shape:
        raise ValueError(
            f"Every array must fit exactly one variable. misshapen: {name} {shape}"
        )
    return shape


def read_ratio(arrays, name, least):
    """Return the `mlp_ratio` of the first kernel of an MLP.

    Args:
        arrays: see `kernel_shape`.
        name: see there.
        least: see there.
    """
    hidden, channels, *_ = kernel_shape(arrays, name, least)
    ratio = hidden / channels
    return int(ratio) if ratio == int(ratio) else ratio


def read_classes(arrays, head="head"):
    """Return the number of classes of a checkpoint, or `None` without a head.

    Args:
        arrays: dict from names to arrays.
        head: str. Name of the head.
    """
    names = (f"{head}.weight", f"{head}.bias")
    shapes = [np.shape(arrays[name]) for name in names if name in arrays]
    return shapes[0][0] if shapes and shapes[0] else None


CODES = {}


def register_published_code(code):
    """Register the published code of a family, so that its checkpoints are converted.

    Args:
        code: a `PublishedCode`.
    """
    CODES[code.family] = code
