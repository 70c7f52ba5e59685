"""What a family says of its published code, so that checkpoints come in and go out."""

from types import MappingProxyType

from keras_qkformer.models.arguments import parameters_of
from keras_qkformer.models.preset import FAMILIES


class PublishedCode:
    """Base of what is known of the published code of a family.

    Attributes:
        family: str. The name that `register_family` knows.
        title: str. What error messages call the models.
        unseen: tuple of the arguments that shapes don't tell.
        assumed: dict from further such arguments to pairs of the value that they have
            if nobody says otherwise, and why.
        no_sizes: tuple of the arguments that shapes tell and that a model with the
            sizes of a preset may have otherwise.
    """

    family = title = ""
    unseen = ("num_heads", "time_steps", "image_size", "static")
    assumed = MappingProxyType({})
    no_sizes = ()

    def likeness(self, arrays):
        """The fraction of its names of tensors that are among those of a checkpoint.

        Args:
            arrays: dict from names to arrays.
        """
        raise NotImplementedError

    def read_sizes(self, arrays):
        """The arguments that names and shapes tell, and `num_classes`: a dict.

        Args:
            arrays: dict from names to arrays.

        Raises:
            ValueError: if an array that tells one is missing or of another rank.
        """
        raise NotImplementedError

    def is_published(self, sizes):
        """Whether a model with the sizes of a preset is that preset."""
        return True

    def complete(self, arguments):
        """The arguments of a preset with the defaults, in the form of `read_sizes`."""
        parameters = parameters_of(FAMILIES[self.family].backbone)
        return {**{k: p.default for k, p in parameters.items()}, **arguments}

    def weight_map(self, model):
        """List of `Entry`, one for each variable of a model.

        Raises:
            ValueError: if the published code has no model like this one.
        """
        raise NotImplementedError

    def metadata(self, backbone, preset):
        """Metadata of a converted folder: a dict.

        It has `preprocessing`, as the authors evaluate, if the channels are those of
        their data, and perhaps `orientation`, that of their recordings.

        Args:
            backbone: the converted backbone.
            preset: name of the preset of its sizes and classes, or `None`.
        """
        raise NotImplementedError

    def twin_logits(self, arrays, arguments, inputs):
        """Logits by PyTorch alone, in float64, to check converted weights against.

        Args:
            arrays: dict from the authors' names to arrays.
            arguments: dict of all arguments of the backbone.
            inputs: array as our models take it.

        Raises:
            ImportError: without PyTorch.
        """
        raise NotImplementedError


CODES = {}


def register_published_code(code):
    """Make a `PublishedCode` known, so that checkpoints of its family are converted."""
    CODES[code.family] = code
