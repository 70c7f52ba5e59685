"""Runs the peers as their users do: SpikingJelly, snnTorch, spyx, plain PyTorch."""

import time

import numpy as np

from benchmarks.cases import neuron_arrays
from benchmarks.measure import from_ends, measure


def neuron(case, subject, steps, memory):
    """Yield records of a LIF neuron on `(T, batch, ...)`, the order of the peers."""
    functions = _spyx if subject.name == "spyx" else _torch_neuron
    for time_steps in case.sizes["steps"]:
        batch = case.sizes["images"] // time_steps
        arrays = neuron_arrays((time_steps, batch, *case.sizes["shape"]))
        tasks = ("forward", "forward + backward")
        steps_of = functions(subject, *arrays, memory.device)
        for task, step in zip(tasks, steps_of, strict=True):
            record = measure(step, steps, memory)
            yield {"task": f"T={time_steps} {task}", "batch": batch, **record}


def _spyx(subject, x, upstream, device):
    import jax
    from spyx import axn, nn

    def surrogate(v):
        s = jax.nn.sigmoid(4.0 * v)
        return 4.0 * s * (1.0 - s)

    node = nn.LIF(x.shape[2:], beta=0.5, activation=axn.custom(surrogate), rngs=None)
    x, upstream = jax.device_put((x, upstream))

    @jax.jit
    def forward(x):
        return nn.run(node, x)[0]

    @jax.jit
    def backward(x):
        spikes, pull = jax.vjp(forward, x)
        return spikes, pull(upstream)

    return (
        lambda: jax.block_until_ready(forward(x)),
        lambda: jax.block_until_ready(backward(x)),
    )


def _torch_neuron(subject, x, upstream, device):
    import torch

    x, upstream = (_tensor(a, device) for a in (x, upstream))
    run = _snntorch(device) if subject.name == "snntorch" else _spikingjelly(device)

    def forward():
        with torch.inference_mode():
            run(x)
        _finish(device)

    def backward():
        run(x.requires_grad_()).backward(upstream)
        x.grad = None
        _finish(device)

    return forward, backward


def _spikingjelly(device):
    from spikingjelly.activation_based import functional

    from benchmarks.peer_models import lif

    node = _to(lif(), device)

    def run(x):
        functional.reset_net(node)
        return node(x)

    return run


def _snntorch(device):
    import snntorch
    import torch

    node = snntorch.Leaky(
        beta=0.5,
        reset_mechanism="zero",
        spike_grad=snntorch.surrogate.sigmoid(slope=4),
    )
    node = _to(node, device)

    def run(x):
        potential, spikes = torch.zeros_like(x[0]), []
        for current in x:
            spike, potential = node(current, potential)
            spikes.append(spike)
        return torch.stack(spikes)

    return run


def attention(case, subject, steps, memory):
    """Yield records of the plain attention layers in inference."""
    import torch
    from spikingjelly.activation_based import functional

    from benchmarks import peer_models

    channels = case.sizes["channels"]
    for side in case.sizes["sides"]:
        x = torch.randint(0, 2, (1, 1, channels, side * side)).float()
        x = _to(x, memory.device)
        for task, cls in (
            ("token", peer_models.TokenAttention),
            ("channel", peer_models.ChannelAttention),
            ("self", peer_models.SelfAttention),
            ("dense self", peer_models.DenseSelfAttention),
        ):
            layer = _to(cls(channels, 1), memory.device).eval()

            def step(layer=layer, x=x):
                functional.reset_net(layer)
                with torch.inference_mode():
                    layer(x)
                _finish(memory.device)

            record = measure(step, steps, memory)
            yield {"task": f"{task} {side}x{side}", "batch": 1, **record}


def model(case, subject, steps, memory):
    """Yield records of inference and of a training step."""
    network, x, labels = _model(case, subject, memory.device)
    yield _inference(case, network, x, steps, memory)
    yield _training(network, x, labels, steps, memory)


def served(case, subject, steps, memory):
    """Yield the record of inference."""
    network, x, _ = _model(case, subject, memory.device)
    yield _inference(case, network, x, steps, memory)


def _inference(case, network, x, steps, memory):
    import torch

    network.eval()

    def infer():
        with torch.inference_mode():
            network(x)
        _finish(memory.device)

    batch = case.sizes["batch"]
    return {"task": "inference", "batch": batch, **measure(infer, steps, memory)}


def largest_batch(case, subject, steps, memory):
    """Yield the record of training at the batch of the case."""
    yield _training(*_model(case, subject, memory.device), steps, memory)


def _model(case, subject, device):
    """Return a network that resets itself, a batch and its labels."""
    import torch
    from spikingjelly.activation_based import functional

    torch.manual_seed(0)
    arguments = dict(case.sizes["arguments"])
    if case.sizes["image_size"]:
        arguments["image_size"] = case.sizes["image_size"]
    if subject.name == "spikingjelly":
        network = _SPIKINGJELLY[case.sizes["preset"]](arguments)
        network.register_forward_pre_hook(lambda net, _: functional.reset_net(net))
        # `Spikformer` alone leaves the mean over time to its caller.
        network.register_forward_hook(
            lambda net, _, y: y.mean(0) if y.dim() == 3 else y
        )
    else:
        network = plain_model(case.sizes["preset"], arguments)
    network = _to(network, device)
    if case.precision == "bfloat16":
        network.forward = torch.autocast("cuda", torch.bfloat16)(network.forward)
    batch, size = case.sizes["batch"], arguments["image_size"]
    shape = (batch, arguments.get("in_channels", 3), size, size)
    if not arguments.get("static", True):
        shape = (arguments["time_steps"], *shape)
    random = np.random.default_rng(0)
    x = _tensor(random.random(shape, "float32"), device)
    return (
        network,
        x,
        _tensor(random.integers(0, arguments["num_classes"], batch), device),
    )


def plain_model(preset, arguments):
    """Return a preset in plain PyTorch.

    Args:
        preset: str. Name of the preset, which begins with its family.
        arguments: dict. Its arguments.
    """
    from benchmarks import peer_models, peer_relatives

    classes = {
        "qkformer": peer_models.PlainQKFormer,
        "spikformer": peer_relatives.PlainSpikformer,
        "spikingformer": peer_relatives.PlainSpikingformer,
        "spike_driven_transformer": peer_relatives.PlainSpikeDrivenTransformer,
    }
    (cls,) = (cls for name, cls in classes.items() if preset.startswith(f"{name}_"))
    return cls(arguments)


def _qkformer(arguments):
    from spikingjelly.activation_based.model.qkformer import qkformer_10_384

    return qkformer_10_384()


def _spikformer(arguments):
    # `spikformer_s` with as many blocks as ours.
    from spikingjelly.activation_based.model.spikformer import Spikformer

    return Spikformer(embed_dims=384, num_heads=12, depths=arguments.get("depth", 8))


def _spike_driven_transformer(arguments):
    from spikingjelly.activation_based.model.spike_driven_transformer import sdt_8_384

    return sdt_8_384()


# SpikingJelly's own models of the size of a preset.
_SPIKINGJELLY = {
    "qkformer_10_384_imagenet": _qkformer,
    "spikformer_8_384_imagenet": _spikformer,
    "spike_driven_transformer_8_384_imagenet": _spike_driven_transformer,
}


def _training(network, x, labels, steps, memory):
    import torch

    from benchmarks.peer_models import training_step

    network.train()
    optimizer = torch.optim.AdamW(network.parameters(), 1e-4)
    ends = []
    memory.start()
    ends.append(time.perf_counter())
    for _ in range(steps + 2):
        training_step(network, x, labels, optimizer).item()
        _finish(memory.device)
        ends.append(time.perf_counter())
    record = from_ends(ends, memory)
    return {"task": "training step", "batch": len(labels), **record}


def machine(case, subject, steps, memory):
    """Yield records of a large matrix product, convolution and copy.

    Product and convolution are both measured, because their kernels come from two
    libraries: on an AMD processor, products reach less than half the rate of
    convolutions.
    """
    import torch

    dtype = getattr(torch, case.precision)
    n = case.sizes["matrix"]
    a, b = (_to(torch.rand(n, n), memory.device).to(dtype) for _ in range(2))
    c = torch.empty_like(a)

    def multiply():
        torch.mm(a, b, out=c)
        _finish(memory.device)

    record = measure(multiply, max(steps, 5), memory)
    yield {"task": "matrix product", "batch": 1, "macs": n**3, **record}
    images, side, channels = case.sizes["convolution"]
    layout = {"memory_format": torch.channels_last}
    x = _to(torch.rand(images, channels, side, side), memory.device)
    x = x.to(dtype, **layout)
    kernel = _to(torch.rand(channels, channels, 3, 3), memory.device)
    kernel = kernel.to(dtype, **layout)

    def convolve():
        torch.nn.functional.conv2d(x, kernel, padding=1)
        _finish(memory.device)

    record = measure(convolve, max(steps, 5), memory)
    macs = images * side**2 * channels**2 * 9
    yield {"task": "convolution", "batch": images, "macs": macs, **record}
    source = _to(torch.rand(int(case.sizes["copy_mb"] * 1e6 / 4)), memory.device)
    target = torch.empty_like(source)

    def copy():
        target.copy_(source)
        _finish(memory.device)

    record = measure(copy, max(steps, 5), memory)
    # Each byte is read once and written once.
    yield {"task": "copy", "batch": 1, "bytes": 2 * source.nbytes, **record}


def _tensor(array, device):
    import torch

    return _to(torch.from_numpy(array), device)


def _to(value, device):
    return value.to("cuda") if device == "gpu" else value


def _finish(device):
    """Return once the device is done."""
    if device == "gpu":
        import torch

        torch.cuda.synchronize()
