"""The spiking unit: convolution, batch normalization, pooling, neuron."""

import dataclasses

import keras
from keras import ops

from keras_qkformer.layers.batch_norm import BatchNorm
from keras_qkformer.layers.computation import Convolution
from keras_qkformer.layers.lif import IF
from keras_qkformer.layers.neuron_scope import is_streaming
from keras_qkformer.layers.neurons import neuron_for, serialize_neuron
from keras_qkformer.layers.operation_scope import record_operation
from keras_qkformer.ops.normalization import wide_dtype
from keras_qkformer.ops.spatial import conv2d, max_pool2d, stack_steps


@keras.saving.register_keras_serializable(package="keras_qkformer")
class ConvBNLIF(keras.layers.Layer):
    """Convolution, BatchNorm, optional max pooling and neuron, at every time step.

    Args:
        filters: int > 0. Output channels.
        kernel_size: odd int. 1 is a linear layer over the channels. The input is padded
            with zeros, so that only `strides` change its size.
        strides: int > 0. Strides of the convolution.
        max_pool: bool. Whether a 3x3 max pooling of stride 2, padded by one row and
            column as in PyTorch, follows BatchNorm.
        use_bias: bool. Whether the convolution has a bias. BatchNorm cancels it; it
            exists for checkpoints that have one.
        depthwise: bool. Whether every channel is convolved alone; `filters` are then
            the channels of the input.
        time_steps: int or `None`. If given, the input has one time step, and the
            current is repeated `time_steps` times before the neuron, so that a static
            image passes the convolution once.
        neuron: a neuron layer used as template, its name (`"lif"`, `"if"`, `"plif"`),
            or `None` to output potentials.
        **kwargs: passed to `keras.layers.Layer`.

    Call arguments:
        inputs: spikes, or an image or frames.
        training: bool. Whether BatchNorm uses the statistics of the inputs.
        neuron: built neuron layer of the caller that follows in place of the unit's
            own, or `None`. BatchNorm and this neuron then run as one operation, too.

    Input shape:
        `(batch, time, height, width, channels)`, all but the batch known.

    Output shape:
        `(batch, time, height / reduction, width / reduction, filters)`, where the
        reduction is `strides`, times 2 with `max_pool`.

    Raises:
        ValueError: if `kernel_size` is even, the reduction does not divide height and
            width, `time_steps` is given and the input has more than one time step, or a
            depthwise convolution has other filters than channels.

    Example:
    >>> ConvBNLIF(8, max_pool=True)(np.zeros((2, 4, 6, 10, 3), "float32")).shape
    (2, 4, 3, 5, 8)
    """

    def __init__(
        self,
        filters: int,
        kernel_size: int = 3,
        strides: int = 1,
        max_pool: bool = False,
        use_bias: bool = False,
        depthwise: bool = False,
        time_steps: int | None = None,
        neuron: str | keras.layers.Layer | dict | None = "lif",
        **kwargs,
    ):
        super().__init__(**kwargs)
        check_odd(kernel_size)
        self.filters = filters
        self.kernel_size = kernel_size
        self.strides = strides
        self.max_pool = max_pool
        self.use_bias = use_bias
        self.depthwise = depthwise
        self.time_steps = time_steps
        self.neuron = None if neuron is None else serialize_neuron(neuron)
        self.conv = keras.layers.Conv2D(
            filters,
            kernel_size,
            strides,
            padding="same",
            data_format="channels_last",
            groups=filters if depthwise else 1,
            use_bias=use_bias,
            # PyTorch's default, with which the published models were trained.
            kernel_initializer=keras.initializers.VarianceScaling(
                1.0 / 3.0, "fan_in", "uniform"
            ),
            dtype=self.dtype_policy,
            name="conv",
        )
        self.norm = BatchNorm(dtype=self.dtype_policy, name="norm")
        self.fire = None if neuron is None else neuron_for(self)
        self._read_folded = None

    @property
    def reduction(self):
        """Factor by which the layer divides height and width."""
        return self.strides * (2 if self.max_pool else 1)

    def build(self, input_shape):
        check_divisible(input_shape, self.reduction)
        if self.time_steps is not None and input_shape[1] != 1:
            raise ValueError(
                "The input of a layer with time_steps must have one time step. "
                f"Received: input shape {tuple(input_shape)}, "
                f"time_steps={self.time_steps}"
            )
        if self.depthwise and input_shape[-1] != self.filters:
            raise ValueError(
                "A depthwise convolution must have as many filters as channels. "
                f"Received: filters={self.filters}, channels={input_shape[-1]}"
            )
        image_shape = (None, *input_shape[2:])
        self.conv.build(image_shape)
        self.norm.build(self.conv.compute_output_shape(image_shape))
        if self.fire is not None:
            self.fire.build(self.compute_output_shape(input_shape))

    def call(self, inputs, training=None, neuron=None):
        record_operation(self, inputs=inputs)
        fire = self.fire if neuron is None else neuron
        x = stack_steps(inputs, self.conv.kernel, self.max_pool)
        normalization = None
        is_wide = self.compute_dtype == wide_dtype(self.compute_dtype)
        if is_wide and not self.norm.is_of_batch(training):
            x = self._folded(x)
        else:
            x, sign = self._convolved(x)
            normalization = self.norm.normalization(x, training, sign)
        if self.max_pool:
            x = max_pool2d(x)
        height = inputs.shape[2] // self.reduction
        x = ops.reshape(x, (-1, inputs.shape[1], height, *x.shape[-2:]))
        if self.time_steps is not None and not is_streaming():
            x = ops.repeat(x, self.time_steps, axis=1)
        if normalization is None:
            return x if fire is None else fire(x)
        if isinstance(fire, IF):
            # The neuron also normalizes: one operation, which keeps only its input.
            is_input = not self.max_pool and self.time_steps is None
            of_input = is_input and self.norm.is_of_batch(training)
            normalization = dataclasses.replace(normalization, of_input=of_input)
            return fire(x, normalization=normalization)
        x = self.norm.normalize(x, normalization)
        return x if fire is None else fire(x)

    def _convolved(self, x):
        """Convolve; return the result and the sign of each channel, 1 or -1.

        Pooling comes before the normalization, so that no normalized map of the full
        size exists. Channels with a negative gamma are pooled with the opposite sign:
        max(gamma x) = |gamma| max(sign x), where sign is that of gamma.
        """
        kernel, bias, sign = self.conv.kernel, self.conv.bias, 1.0
        if self.max_pool:
            sign = ops.where(self.norm.gamma < 0, -1.0, 1.0)
            sign = ops.cast(sign, wide_dtype(self.compute_dtype))
            kernel = kernel * ops.cast(sign, kernel.dtype)
        y = conv2d(x, kernel, self.strides)
        if self.use_bias:
            y = y + bias * ops.cast(sign, y.dtype)
        return y, sign

    def _folded(self, x):
        """Convolve and normalize by one convolution, in inference.

        `call` does not use it in 16 bits, where the scaled kernel would be rounded once
        more.
        """
        read = self._read_folded or self._fold_weights
        kernel, offset = read()
        return conv2d(x, kernel, self.strides) + offset

    def fold(self, keep):
        """Fold BatchNorm into the convolution once and for all, for inference.

        Without it, every call in inference computes the folded kernel and offset again.
        After it, changes of the weights no longer affect inference. Training is
        unchanged.

        Args:
            keep: function `keep(kernel, offset)` that stores the folded kernel
                `(rows, columns, channels, filters)` and offset `(filters,)` in any form
                and returns a function without arguments. Each call in inference gets
                `(kernel, offset)` from that function.

        Example:
        >>> unit = ConvBNLIF(8)
        >>> unit.build((None, 4, 6, 10, 3))
        >>> unit.fold(lambda kernel, offset: lambda: (kernel, offset))
        """
        self._read_folded = keep(*self._fold_weights())

    def _fold_weights(self):
        """Return the kernel and the offset of convolution and BatchNorm in one."""
        normalization = self.norm.normalization(None, training=False)
        scale, offset = normalization.affine()
        if self.use_bias:
            offset = offset + self.conv.bias * scale
        return self.conv.kernel * scale, offset

    def computations(self):
        """List the operations of the built layer, see `layers.computation`."""
        convolution = Convolution(
            path=self.path,
            input_shape=tuple(self.get_build_config()["input_shape"][1:]),
            filters=self.filters,
            kernel_size=self.kernel_size,
            strides=self.strides,
            depthwise=self.depthwise,
            use_bias=self.use_bias,
            repeats=self.time_steps or 1,
        )
        pooled = convolution.outputs // 4 if self.max_pool else 0
        return [dataclasses.replace(convolution, pooled=pooled)]

    def compute_output_shape(self, input_shape):
        batch, time, height, width, _ = input_shape
        return (
            batch,
            self.time_steps or time,
            height // self.reduction,
            width // self.reduction,
            self.filters,
        )

    def get_config(self):
        return {
            **super().get_config(),
            "filters": self.filters,
            "kernel_size": self.kernel_size,
            "strides": self.strides,
            "max_pool": self.max_pool,
            "use_bias": self.use_bias,
            "depthwise": self.depthwise,
            "time_steps": self.time_steps,
            "neuron": self.neuron,
        }


def check_odd(kernel_size):
    """Raise `ValueError` unless a kernel has a middle.

    Args:
        kernel_size: int. Its rows and columns.
    """
    if kernel_size % 2 == 0:
        raise ValueError(
            f"kernel_size must be odd. Received: kernel_size={kernel_size}"
        )


def check_divisible(input_shape, multiple):
    """Raise `ValueError` unless height and width are multiples of `multiple`.

    Args:
        input_shape: tuple `(batch, time, height, width, channels)`. It must be known
            but for the batch.
        multiple: int > 0.
    """
    if len(input_shape) != 5 or None in input_shape[1:]:
        raise ValueError(
            "The input shape must be (batch, time, height, width, channels), with all "
            f"but the batch known. Received: {tuple(input_shape)}"
        )
    height, width = input_shape[2:4]
    if height % multiple or width % multiple:
        raise ValueError(
            f"Height and width must be multiples of {multiple}. "
            f"Received: height={height}, width={width}"
        )
