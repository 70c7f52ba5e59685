"""The passes of a neuron as Pallas kernels for TPUs.

XLA computes each time step in an operation of its own, keeps gradients between them in
float32, and puts the steps together in one more pass. A kernel keeps potentials in
registers: it reads each input once and writes each output once.
"""

import functools

import jax
from jax import numpy as jnp
from jax.experimental import pallas as pl
from jax.sharding import PartitionSpec

# Values of `x` in a block. Inputs, outputs and potentials of all time steps of a block
# must fit into the 16 MB of a v5e's vector memory.
BLOCK_VALUES = 2**18
# 16-bit values are stored in tiles of 16 rows and 128 channels.
TILE_ROWS, TILE_CHANNELS = 16, 128
# Surrogates of users may need operations that kernels don't have.
SURROGATES = ("atan", "piecewise_quadratic", "sigmoid", "soft_sign")


def fits(neuron, tensors, return_state, examples):
    """Whether the kernels can run a neuron: the usual case of training and inference.

    Args:
        neuron: `Neuron`.
        tensors: dict of tensors as in `neuron_passes.apply_neuron`.
        return_state: bool. Whether the last potentials are wanted.
        examples: int > 0. The batch must be a multiple of it.
    """
    x = tensors["x"]
    if return_state or "state" in tensors or x.ndim < 3 or x.dtype.itemsize > 4:
        return False
    block = x.shape[1] * TILE_ROWS * max(x.shape[-1], TILE_CHANNELS)
    return (
        neuron.surrogate in SURROGATES
        and x.dtype != jnp.float16
        and 0 < x.size
        and block <= BLOCK_VALUES
        and x.shape[0] % examples == 0
    )


def run(neuron, tensors, normalized, mesh=None, axis=None, interpret=False):
    """Run a neuron at rest over axis 1, forward and backward by kernels.

    Args:
        neuron: `Neuron`.
        tensors: dict of tensors as in `neuron_passes.apply_neuron`, without `"state"`.
        normalized: `NormalizationOf`, or `None` without normalization.
        mesh: `jax.sharding.Mesh` of the devices that share each batch, or `None`.
        axis: str. Axis of the mesh along which the batch is split.
        interpret: bool. Whether to interpret the kernels, on any device.

    Returns:
        Spikes with the shape and dtype of `x`.
    """
    passes = _Passes(neuron, tuple(tensors), normalized, axis, interpret)
    forward, backward = passes.forward, passes.backward
    if mesh is not None:
        # XLA can't split kernels by itself.
        split, whole = PartitionSpec(axis), PartitionSpec()
        specs = tuple(split if name == "x" else whole for name in tensors)
        share = functools.partial(jax.shard_map, mesh=mesh, check_vma=False)
        forward = share(forward, in_specs=specs, out_specs=split)
        backward = share(backward, in_specs=(split, *specs), out_specs=specs)

    @jax.custom_vjp
    def sequence(*values):
        return forward(*values)

    sequence.defvjp(
        lambda *values: (forward(*values), values),
        lambda values, upstream: backward(upstream, *values),
    )
    return sequence(*tensors.values())


class _Passes:
    """Forward and backward pass over the part of a batch that one device has."""

    def __init__(self, neuron, names, normalized, axis, interpret):
        self.neuron = neuron
        self.names = names
        self.normalized = normalized
        self.axis = axis
        self.interpret = interpret

    def forward(self, *tensors):
        x = tensors[0]
        _, vectors = self._vectors(tensors)
        return _from_rows(self._call(self._spikes, [_to_rows(x)], vectors), x.shape)

    def backward(self, upstream, *tensors):
        x, grads = tensors[0], {}
        norm, vectors = self._vectors(tensors)
        leak, one = vectors[0], jnp.ones_like(vectors[0])
        decay = leak if "decay" in self.names else None
        gain = self.neuron.input_gain(decay) * one
        factors = [gain, 0.0 * one, 0.0 * one]
        inputs = [_to_rows(x), _to_rows(upstream)]
        if len(tensors) > 1:
            of_blocks = 2 if decay is None else 3
            sums = self._call(self._sums, inputs, vectors, of_blocks=of_blocks)
            sums, count = list(jnp.sum(sums, 0)), x.size // x.shape[-1]
            if decay is not None:
                sums[2] = jnp.sum(sums[2])
            if self.axis is not None:
                sums = jax.lax.psum(sums, self.axis)
                count = count * jax.lax.axis_size(self.axis)
            grads["decay"] = sums[-1]  # Only where 1 / tau is learned: see the end.
        if norm is not None:
            factors, others = norm.vector_grads(sums[0], sums[1], gain, count)
            grads.update(others)
        x_grad = self._call(self._x_grad, inputs, [*vectors, *factors])
        grads["x"] = _from_rows(x_grad, x.shape)
        return tuple(
            grads[name].astype(value.dtype)
            for name, value in zip(self.names, tensors, strict=True)
        )

    def _vectors(self, tensors):
        """Return the `Normalization` or `None`, and what every kernel reads.

        That is a list of vectors of channels: 1 / tau if it is learned, the scale and
        the offset by which x becomes the input current, and the mean of x.
        """
        x, *others = tensors
        one = jnp.ones(x.shape[-1:], jnp.promote_types(x.dtype, jnp.float32))
        parts = dict(zip(self.names[1:], others, strict=True))
        parts = {name: value.astype(one.dtype) for name, value in parts.items()}
        leak = one * parts.pop("decay", 0.0)
        if not parts:
            return None, [leak, one, 0.0 * one, 0.0 * one]
        norm = self.normalized(**parts)
        return norm, [leak, *norm.affine(), norm.mean]

    def _call(self, kernel, maps, vectors, of_blocks=0):
        """Run a kernel over blocks of neurons.

        Args:
            kernel: function of references to the blocks of `maps`, to the vectors and
                to the block of the result.
            maps: list of tensors `(time, rows, channels)`.
            vectors: list of tensors `(channels,)`.
            of_blocks: int. Number of vectors in the result of a block; 0 for a map.
        """
        time, rows, channels = maps[0].shape
        size = _block_rows(time, rows, channels)
        blocks = -(-rows // size)
        block = pl.BlockSpec((time, size, channels), lambda i: (0, i, 0))
        vectors = jnp.stack(vectors)
        if of_blocks:
            result = jax.ShapeDtypeStruct((blocks, of_blocks, channels), vectors.dtype)
            result_block = pl.BlockSpec((None, *result.shape[1:]), lambda i: (i, 0, 0))
        else:
            result, result_block = (
                jax.ShapeDtypeStruct(maps[0].shape, maps[0].dtype),
                block,
            )
        moved = sum(a.size * a.dtype.itemsize for a in (*maps, vectors, result))
        return pl.pallas_call(
            functools.partial(kernel, rows),
            grid=(blocks,),
            in_specs=[block] * len(maps)
            + [pl.BlockSpec(vectors.shape, lambda i: (0, 0))],
            out_specs=result_block,
            out_shape=result,
            cost_estimate=pl.CostEstimate(
                flops=20 * maps[0].size, transcendentals=0, bytes_accessed=moved
            ),
            # The gradient of x replaces that of the spikes: one map less in memory.
            input_output_aliases={1: 0} if len(maps) == 2 and not of_blocks else {},
            interpret=self.interpret,
        )(*maps, vectors)

    def _spikes(self, rows, x_ref, vectors_ref, spikes_ref):
        for t, h, _ in self._charge(x_ref, _Vectors(vectors_ref)):
            spikes_ref[t] = self.neuron.fire(h).astype(spikes_ref.dtype)

    def _x_grad(self, rows, x_ref, upstream_ref, vectors_ref, x_grad_ref):
        vectors = _Vectors(vectors_ref)
        for t, h_grad, _ in self._charge_grads(x_ref, upstream_ref, vectors):
            x_grad = h_grad * vectors[4]
            x_grad = x_grad - (vectors.centred(x_ref[t]) * vectors[5] + vectors[6])
            x_grad_ref[t] = x_grad.astype(x_grad_ref.dtype)

    def _sums(self, rows, x_ref, upstream_ref, vectors_ref, sums_ref):
        """Sum dL/dh, its product with x - mean, and dL/d decay over a block."""
        vectors, sums = _Vectors(vectors_ref), [0.0] * sums_ref.shape[0]
        for t, h_grad, v in self._charge_grads(x_ref, upstream_ref, vectors):
            parts = [h_grad, h_grad * vectors.centred(x_ref[t])]
            if "decay" in self.names:
                leak_grad = self.neuron.leak_grad(vectors.current(x_ref[t]), v)
                parts.append(h_grad * leak_grad)
            sums = [total + part for total, part in zip(sums, parts, strict=True)]
        # The last block may end beyond the last row.
        at = jax.lax.broadcasted_iota("int32", sums[0].shape, 0)
        is_row = at < rows - pl.program_id(0) * sums[0].shape[0]
        for i, total in enumerate(sums):
            total = jnp.where(is_row, total, 0.0)
            sums_ref[i : i + 1, :] = jnp.sum(total, 0, keepdims=True)

    def _charge(self, x_ref, vectors):
        """Yield t, h[t] and v[t-1] of every step."""
        neuron, decay = self.neuron, vectors[0] if "decay" in self.names else None
        v = jnp.full(x_ref.shape[1:], neuron.rest, vectors.dtype)
        for t in range(x_ref.shape[0]):
            h = neuron.charge(v, vectors.current(x_ref[t]), decay)
            yield t, h, v
            v = neuron.reset(h)

    def _charge_grads(self, x_ref, upstream_ref, vectors):
        """Yield t, dL/dh[t] and v[t-1], from the last step to the first."""
        neuron, decay = self.neuron, vectors[0] if "decay" in self.names else None
        v_grad = jnp.zeros(x_ref.shape[1:], vectors.dtype)
        for t, h, v in reversed(list(self._charge(x_ref, vectors))):
            fire_grad = neuron.fire_grad(h)
            h_grad = upstream_ref[t].astype(vectors.dtype) * fire_grad
            h_grad = h_grad + v_grad * neuron.reset_grad(h, fire_grad)
            yield t, h_grad, v
            v_grad = neuron.state_grad(h_grad, decay)


class _Vectors:
    """The vectors of channels in a kernel, and what they make of a step of x."""

    def __init__(self, ref):
        self.ref, self.dtype = ref, ref.dtype

    def __getitem__(self, i):
        return self.ref[i : i + 1, :]

    def current(self, x):
        return x.astype(self.dtype) * self[1] + self[2]

    def centred(self, x):
        return x.astype(self.dtype) - self[3]


def _block_rows(time, rows, channels):
    """Rows of a block: whole tiles, if possible without an incomplete last block."""
    most = BLOCK_VALUES // (time * max(channels, TILE_CHANNELS))
    most = max(most // TILE_ROWS * TILE_ROWS, TILE_ROWS)
    if rows <= most:
        return rows
    sizes = range(most, most // 2, -TILE_ROWS)
    return next((size for size in sizes if rows % size == 0), most)


def _to_rows(x):
    """Reshape (batch, time, ..., channels) to (time, rows, channels).

    A place of all examples is a tile: so TPUs store maps, and nothing is moved.
    """
    x = x.reshape(*x.shape[:2], -1, x.shape[-1])
    return jnp.transpose(x, (1, 2, 0, 3)).reshape(x.shape[1], -1, x.shape[-1])


def _from_rows(x, shape):
    """Undo `_to_rows`."""
    x = x.reshape(shape[1], -1, shape[0], shape[-1])
    return jnp.transpose(x, (2, 0, 1, 3)).reshape(shape)
