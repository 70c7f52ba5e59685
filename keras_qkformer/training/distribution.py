"""The devices that a training uses, and how a batch is split among them."""

import contextlib
import dataclasses
import itertools
import re

import keras


@dataclasses.dataclass(frozen=True)
class Devices:
    """Devices that train one model together.

    Attributes:
        data: int > 0. Number of equal parts into which each batch is split.
        model: int > 0. Number of devices over which the wide layers are split; together
            they compute one part of the batch.
        hosts: int > 0. Number of processes, each with the same number of devices.
    """

    data: int = 1
    model: int = 1
    hosts: int = 1

    @property
    def count(self):
        """Number of devices."""
        return self.data * self.model

    @contextlib.contextmanager
    def scope(self, layout):
        """Context in which a model must be made and used; yields these `Devices`.

        JAX splits every batch but computes on it as on one array, so statistics are
        those of the whole batch. TensorFlow runs a replica on every device, and
        `BatchNorm` averages its statistics over the replicas.

        Args:
            layout: dict from patterns of variables' paths to axes of the mesh, the
                `layout` of the backbone's class.
        """
        if self.count == 1:
            yield self
        elif keras.backend.backend() == "tensorflow":
            import tensorflow as tf

            names = [device.name for device in _tensorflow_devices()[: self.count]]
            with tf.distribute.MirroredStrategy(names).scope():
                yield self
        else:
            with self._keras_distribution(layout).scope():
                yield self

    def local_scope(self):
        """Context in which each host computes independently, on its own devices."""
        if self.hosts == 1:
            return contextlib.nullcontext()
        import jax

        distribution = keras.distribution.DataParallel(
            devices=_names(jax.local_devices()[: self.count // self.hosts]),
            auto_shard_dataset=False,
        )
        return distribution.scope()

    def _keras_distribution(self, layout):
        distribution = keras.distribution
        if self.hosts > 1:
            each = self.count // self.hosts
            devices = [
                name for own in _devices_by_host() for name in _names(own[:each])
            ]
        else:
            devices = distribution.list_devices()[: self.count]
        if self.model == 1:
            # Keras must not split batches: every host already reads its own part.
            return distribution.DataParallel(devices=devices, auto_shard_dataset=False)
        mesh = distribution.DeviceMesh(
            (self.data, self.model), ("batch", "model"), devices
        )
        return distribution.ModelParallel(
            layout_map=layout_map(layout, mesh), batch_dim_name="batch"
        )


def layout_map(layout, mesh):
    """Return the layouts of variables as Keras takes them.

    Args:
        layout: dict from patterns of the ends of variables' paths to axes of the mesh.
        mesh: `keras.distribution.DeviceMesh`.

    Returns:
        `keras.distribution.LayoutMap`.
    """
    found = keras.distribution.LayoutMap(mesh)
    for pattern, axes in layout.items():
        found[f".*{pattern}"] = axes  # Keras 3.15 matches whole paths.
    return found


def choose_devices(devices, mesh, batch_size, hosts=1):
    """Choose the devices to train on.

    Args:
        devices: int > 0, the number of devices of all hosts together, or `"auto"` for
            the largest available number that divides the batch.
        mesh: str such as `"data=4,model=2"`, given instead of `devices`, or `None`. JAX
            only.
        batch_size: int > 0. Examples per batch, on all devices together.
        hosts: int > 0. Number of processes that train together.

    Returns:
        `Devices`.

    Raises:
        ValueError: if there are fewer devices, the backend can't use them, or they
            don't divide the batch or the hosts don't divide them.

    Example:
    >>> choose_devices(1, None, 64)
    Devices(data=1, model=1, hosts=1)
    """
    backend, there = keras.backend.backend(), _count_devices()
    if hosts > 1:  # Every host uses as many as the host with the fewest has.
        there = hosts * min(map(len, _devices_by_host()))
    if mesh is not None:
        if backend != "jax":
            raise ValueError(
                "A mesh needs JAX: set KERAS_BACKEND=jax. "
                f"Received: mesh={mesh!r} on {backend}"
            )
        if devices != "auto":
            raise ValueError(
                f"Give devices or a mesh. Received: devices={devices}, mesh={mesh!r}"
            )
        chosen = _parse_mesh(mesh)
    elif devices == "auto":
        dividing = (n for n in range(hosts, there + 1, hosts) if batch_size % n == 0)
        chosen = Devices(max(dividing, default=hosts))
    elif isinstance(devices, int) and devices > 0:
        chosen = Devices(devices)
    else:
        raise ValueError(
            f"devices must be 'auto' or a whole number above 0. Received: {devices!r}"
        )
    if hosts > 1 and (chosen.model > 1 or chosen.count % hosts):
        raise ValueError(
            f"On {hosts} hosts, the number of devices must be a multiple of {hosts}, "
            "and a mesh must have no axis model. "
            f"Received: devices={devices}, mesh={mesh!r}"
        )
    if backend == "torch" and chosen.count > 1:
        raise ValueError(
            "On PyTorch, Keras trains on one device; for more set KERAS_BACKEND=jax. "
            f"Received: devices={devices}"
        )
    if chosen.count > there:
        raise ValueError(
            "The number of devices must not exceed those that "
            f"{backend} sees, {there}. Received: {chosen.count}"
        )
    if batch_size % chosen.data:
        raise ValueError(
            "batch_size must be divisible by the number of devices that share it. "
            f"Received: batch_size={batch_size}, {chosen.data} devices"
            f"{f' on {hosts} hosts' if hosts > 1 else ''}"
        )
    return dataclasses.replace(chosen, hosts=hosts)


def data_devices():
    """Number of devices that share a batch in the current scope."""
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        return tf.distribute.get_strategy().num_replicas_in_sync
    distribution = keras.distribution.distribution()
    if distribution is None:
        return 1
    mesh = distribution.device_mesh
    return mesh.shape[mesh.axis_names.index(distribution.batch_dim_name)]


def check_model(devices, model, accumulation_steps):
    """Raise `ValueError` if a model can't be trained on these devices.

    Args:
        devices: `Devices`.
        model: a `SpikingClassifier`.
        accumulation_steps: int > 0. Batches per optimizer step.
    """
    backbone = model.backbone
    if (
        accumulation_steps > 1
        and devices.count > 1
        and keras.backend.backend() == "tensorflow"
    ):
        raise ValueError(
            "On several devices TensorFlow can't accumulate gradients: use JAX, or "
            f"one device. Received: accumulation_steps={accumulation_steps}, "
            f"{devices.count} devices"
        )
    if devices.count > 1 and backbone.membrane_state != "sample":
        raise ValueError(
            "On several devices membrane_state must be 'sample'. "
            f"Received: membrane_state={backbone.membrane_state!r}"
        )
    if any(heads % devices.model for heads in backbone.attention_heads):
        raise ValueError(
            "num_heads must be divisible by the mesh's axis model. "
            f"Received: num_heads={backbone.attention_heads}, model={devices.model}"
        )
    for variable, (pattern, axes) in itertools.product(
        model.weights, backbone.layout.items()
    ):
        if re.fullmatch(f".*{pattern}", variable.path):
            size = variable.shape[axes.index("model")]
            if size % devices.model:
                raise ValueError(
                    "The channels that a mesh splits must be divisible by its axis "
                    f"model. Received: {size} channels of {variable.path}, "
                    f"model={devices.model}"
                )


def _parse_mesh(text):
    axes = [re.fullmatch(r"(data|model)=([1-9]\d*)", part) for part in text.split(",")]
    sizes = {axis[1]: int(axis[2]) for axis in axes if axis}
    if None in axes or len(sizes) < len(axes):
        raise ValueError(f"A mesh must be like data=4,model=2. Received: mesh={text!r}")
    return Devices(**sizes)


def _count_devices():
    backend = keras.backend.backend()
    if backend == "torch":
        return 1
    if backend == "tensorflow":
        return len(_tensorflow_devices())
    return len(keras.distribution.list_devices())


def _devices_by_host():
    import jax

    devices = sorted(
        jax.devices(), key=lambda device: (device.process_index, device.id)
    )
    groups = itertools.groupby(devices, key=lambda device: device.process_index)
    return [list(own) for _, own in groups]


def _names(devices):
    return [f"{device.platform}:{device.id}" for device in devices]


def _tensorflow_devices():
    """The logical GPUs, or the logical CPUs if there is none."""
    import tensorflow as tf

    for kind in ("GPU", "CPU"):
        found = tf.config.list_logical_devices(kind)
        if found:
            return found
    return []
