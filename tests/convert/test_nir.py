"""NIR: models from its files equal its equations, and come back from `export_nir`."""

import itertools
from pathlib import Path

import keras
import numpy as np
import pytest
from harness import to_numpy
from keras import ops

from keras_qkformer.convert import export_nir, import_nir
from keras_qkformer.layers import IF, LIF, BatchNorm, ConvBNLIF, ParametricLIF
from keras_qkformer.models import SpikingClassifier

nir = pytest.importorskip("nir", reason="nir is not installed")
GOLDEN = Path(__file__).parents[1] / "golden"  # make_nir_snntorch.py
RANDOM = np.random.default_rng(0)
DT = 1e-3


def weights(*shape, scale=1.0):
    return RANDOM.normal(0.1, scale, shape)


def lif(shape, tau=4e-3, r=1.5, leak=-0.1, threshold=0.5, reset=-0.2):
    full = (np.full(shape, value) for value in (tau, r, leak, threshold, reset))
    return nir.LIF(*full)


def integrate(shape, r=800.0, threshold=1.0, reset=0.0):
    return nir.IF(*(np.full(shape, value) for value in (r, threshold, reset)))


def pads(x, padding):
    height, width = padding
    return np.pad(x, ((0, 0), (height, height), (width, width)))


def windows(x, size, stride):
    """Every window `(channels, rows, columns, height, width)` of a map."""
    view = np.lib.stride_tricks.sliding_window_view(x, size, (1, 2))
    return view[:, :: stride[0], :: stride[1]]


class Reference:
    """A graph of NIR step by step, in float64, as its equations stand in the paper."""

    def __init__(self, graph, dt):
        self.graph, self.dt, self.potentials = graph, dt, {}

    def step(self, x):
        """The output of one time step, and the state after it."""
        values = {}
        while len(values) < len(self.graph.nodes):
            for name, node in self.graph.nodes.items():
                before = [a for a, b in self.graph.edges if b == name]
                if name not in values and {*before} <= {*values}:
                    total = sum(values[b] for b in before) if before else x
                    values[name] = getattr(self, type(node).__name__)(node, total)
        return values["output"]

    def Input(self, node, x):
        return x

    Output = Input

    def Affine(self, node, x):
        return node.weight @ x + node.bias

    def Linear(self, node, x):
        return node.weight @ x

    def Scale(self, node, x):
        return node.scale * x

    def Flatten(self, node, x):
        return x.reshape(-1)

    def Conv2d(self, node, x):
        groups, out = int(node.groups), len(node.weight) // int(node.groups)
        size = node.weight.shape[2:]
        parts = []
        for i, part in enumerate(np.split(pads(x, node.padding), groups)):
            kernel = node.weight[i * out : (i + 1) * out]
            view = windows(part, size, node.stride)
            parts.append(np.einsum("chwij,ocij->ohw", view, kernel))
        return np.concatenate(parts) + node.bias[:, None, None]

    def SumPool2d(self, node, x):
        x = pads(x, node.padding)
        return windows(x, tuple(node.kernel_size), node.stride).sum((3, 4))

    def AvgPool2d(self, node, x):
        return self.SumPool2d(node, x) / np.prod(node.kernel_size)

    def LIF(self, node, x):
        v = self.potentials.get(id(node), node.v_reset)
        v = v + self.dt / node.tau * (node.v_leak - v + node.r * x)
        return self.fire(node, v)

    def IF(self, node, x):
        v = self.potentials.get(id(node), node.v_reset)
        return self.fire(node, v + self.dt * node.r * x)

    def fire(self, node, v):
        spikes = v > node.v_threshold
        self.potentials[id(node)] = np.where(spikes, node.v_reset, v)
        return spikes.astype("float64")


def dense_graph():
    return nir.NIRGraph(
        {
            "input": nir.Input(np.array([5])),
            "first": nir.Affine(weights(7, 5), weights(7)),
            "lif": lif((7,)),
            "second": nir.Linear(weights(7, 7)),
            "if": integrate((7,)),
            "double": nir.Scale(np.full(7, 2.0)),
            "output": nir.Output(np.array([7])),
        },
        [
            *(("input", "first"), ("first", "lif"), ("lif", "second")),
            # The residual is an edge more.
            *(("second", "if"), ("lif", "if"), ("if", "double"), ("double", "output")),
        ],
    )


def conv_graph():
    nodes = [
        nir.Conv2d((6, 5), weights(4, 1, 3, 3), (2, 1), (1, 1), 1, 2, weights(4)),
        integrate((4, 3, 5)),
        nir.SumPool2d(np.array([2, 2]), np.array([1, 2]), np.array([0, 1])),
        lif((4, 2, 3), r=4.0, leak=-0.2),
        nir.AvgPool2d(np.array([2, 1]), np.array([2, 1]), np.array([0, 0])),
        nir.Flatten(np.array([4, 1, 3]), 0, 2),
        nir.Affine(weights(3, 12), weights(3)),
        lif((3,), tau=3e-3, r=3.0),
    ]
    names = [str(i) for i in range(len(nodes))]
    path = ["input", *names, "output"]
    ends = {"input": nir.Input(np.array([2, 6, 5])), "output": nir.Output([3])}
    nodes = {**dict(zip(names, nodes, strict=True)), **ends}
    edges = [*itertools.pairwise(path)]
    return nir.NIRGraph(nodes, edges, type_check=False)


GRAPHS = {"dense": dense_graph, "conv": conv_graph}


def expected(graph, x, dt=DT):
    """Outputs `(batch, time, features)` of the reference; x is channels last."""
    outputs = []
    for sample in np.moveaxis(x, -1, 2):
        reference = Reference(graph, dt)
        outputs.append([reference.step(frame) for frame in sample])
    return np.array(outputs)


def inputs_of(model, batch=3):
    return RANDOM.normal(0.5, 1.5, (batch, *model.input_shape[1:]))


@pytest.mark.parametrize("name", GRAPHS)
def test_an_imported_network_equals_the_equations(tmp_path, float64, name):
    graph = GRAPHS[name]()
    nir.write(tmp_path / "net.nir", graph)
    model = import_nir(tmp_path / "net.nir", time_steps=12, dt=DT)
    x = inputs_of(model)
    wanted = expected(graph, x)
    assert 0.1 < np.mean(wanted > 0) < 0.9
    np.testing.assert_allclose(to_numpy(model(x)), wanted, atol=1e-12)


def test_a_file_of_snntorch_fires_as_it_does_there():
    model = import_nir(GOLDEN / "nir_snntorch.nir", time_steps=12, dt=1e-4)
    with np.load(GOLDEN / "nir_snntorch.npz") as arrays:
        x, spikes = (np.swapaxes(arrays[name], 0, 1) for name in ("x", "spikes"))
    assert 0.05 < spikes.mean() < 0.95
    np.testing.assert_array_equal(to_numpy(model(x)), spikes)


@pytest.mark.parametrize("name", GRAPHS)
def test_what_is_exported_comes_back_equal(tmp_path, float64, name):
    graph = GRAPHS[name]()
    nir.write(tmp_path / "first.nir", graph)
    model = import_nir(tmp_path / "first.nir", time_steps=6, dt=DT)
    export_nir(model, tmp_path / "second.nir", dt=DT)
    again = import_nir(tmp_path / "second.nir", time_steps=6)  # It knows its dt.
    x = inputs_of(model)
    np.testing.assert_allclose(to_numpy(again(x)), to_numpy(model(x)), atol=1e-12)
    second = nir.read(tmp_path / "second.nir", type_check=False)
    np.testing.assert_allclose(expected(second, x), expected(graph, x), atol=1e-12)


def made_by_hand():
    """A model of everything that is exported and not imported as it was."""
    each = keras.layers.TimeDistributed
    x = inputs = keras.Input((5, 8, 6, 2))
    x = ConvBNLIF(4, strides=2, neuron=LIF(tau=3.0, v_reset=-0.5))(x)
    y = each(keras.layers.Conv2D(4, 3, padding="same", use_bias=False))(x)
    y = ParametricLIF(init_tau=2.5)(BatchNorm()(y))
    x = keras.layers.Add()([x, y])
    x = each(keras.layers.AveragePooling2D((2, 1)))(x)
    x = IF(v_threshold=0.3)(x)
    x = each(keras.layers.Flatten())(x)
    x = keras.layers.Rescaling(0.5)(LIF(decay_input=False)(x))
    x = keras.layers.Dense(5)(x)
    x = keras.layers.BatchNormalization()(x)
    x = keras.layers.Dropout(0.5)(x)
    model = keras.Model(inputs, LIF(tau=1.5)(x))
    values = [RANDOM.uniform(0.2, 1.2, w.shape) for w in model.weights]
    model.set_weights(values)
    return model


def test_layers_of_keras_and_ours_are_said(tmp_path):
    model = made_by_hand()
    export_nir(model, tmp_path / "net.nir")
    graph = nir.read(tmp_path / "net.nir")
    x = RANDOM.normal(0, 0.4, (2, 5, 8, 6, 2)).astype("float32")
    ours = to_numpy(model(x))
    assert 0.1 < ours.mean() < 0.9
    np.testing.assert_array_equal(ours, expected(graph, x.astype("f8"), 1e-4))
    again = import_nir(tmp_path / "net.nir", time_steps=5)
    np.testing.assert_array_equal(to_numpy(again(x)), ours)


@pytest.mark.parametrize("kind", [LIF, IF])
def test_a_potential_at_the_threshold_decides_alike(tmp_path, kind):
    """NIR fires above the threshold, this library at it."""
    inputs = keras.Input((4, 1))
    model = keras.Model(inputs, kind()(inputs))
    export_nir(model, tmp_path / "net.nir")
    graph = nir.read(tmp_path / "net.nir")
    (node,) = (n for n in graph.nodes.values() if isinstance(n, nir.LIF | nir.IF))
    assert node.v_threshold[0] == np.nextafter(np.float32(1), np.float32(0))
    again = import_nir(tmp_path / "net.nir", time_steps=4)
    assert again.layers[-1].v_threshold == 1.0
    x = np.full((1, 4, 1), 2.0 if kind is LIF else 0.5, "float32")
    wanted = [1, 1, 1, 1] if kind is LIF else [0, 1, 0, 1]
    assert to_numpy(again(x)).ravel().tolist() == wanted
    node.v_threshold = np.ones(1, "f4")
    nir.write(tmp_path / "above.nir", graph)
    above = import_nir(tmp_path / "above.nir", time_steps=4)
    wanted = [0, 1, 0, 1] if kind is LIF else [0, 0, 1, 0]
    assert to_numpy(above(x)).ravel().tolist() == wanted


def test_an_imported_network_trains(tmp_path):
    nir.write(tmp_path / "net.nir", dense_graph())
    model = import_nir(tmp_path / "net.nir", 4, DT, surrogate="atan", alpha=2.0)
    (neuron,) = (layer for layer in model.layers if layer.name == "lif")
    assert (neuron.surrogate, neuron.alpha) == ("atan", 2.0)
    before = model.get_weights()[0]
    model.compile("sgd", "mse")
    x = inputs_of(model).astype("float32")
    model.fit(x, np.ones((3, 4, 7), "float32"), verbose=0)
    assert np.abs(model.get_weights()[0] - before).max() > 0


def dense(node, size=3):
    return nir.NIRGraph(
        {
            "input": nir.Input(np.array([size])),
            "node": node,
            "output": nir.Output(np.array([size])),
        },
        [("input", "node"), ("node", "output")],
        type_check=False,
    )


ONES = np.ones(3)


@pytest.mark.backend_independent
@pytest.mark.parametrize(
    ("graph", "message"),
    [
        (lambda: dense(nir.CubaLIF(*[ONES] * 5)), "'node', a CubaLIF"),
        (lambda: dense(nir.LI(*[ONES] * 3)), "'node', a LI"),
        (lambda: dense(nir.Threshold(ONES)), "'node', a Threshold"),
        (lambda: dense(nir.Delay(ONES)), "'node', a Delay"),
        (
            lambda: dense(nir.IF(ONES, np.array([1.0, 1.0, 2.0]))),
            "Node 'node' .*its v_threshold must be the same for all .* from 1 to 2",
        ),
        (lambda: dense(lif((3,), tau=DT)), "its tau must be greater than dt=0.001"),
        (lambda: dense(lif((3,), r=np.nan)), "its r must be finite"),
        (lambda: dense(lif((3,), reset=2.0)), "v_reset must be less than v_threshold"),
        (
            lambda: nir.NIRGraph(
                {**dense(integrate(3)).nodes, "back": nir.Linear(np.eye(3))},
                [
                    *(("input", "node"), ("node", "output")),
                    *(("node", "back"), ("back", "node")),
                ],
                type_check=False,
            ),
            "must have no loops",
        ),
    ],
)
def test_what_can_not_become_a_layer_is_named(tmp_path, graph, message):
    nir.write(tmp_path / "net.nir", graph())
    with pytest.raises(ValueError, match=message):
        import_nir(tmp_path / "net.nir", time_steps=2, dt=DT)


ODD = [
    *("text", np.array([b"a", b"b"]), None, np.zeros((0, 3)), 1 + 2j, 0.5, -3, 2**62),
    *(np.nan, np.ones((1,) * 5), np.zeros(2, [("a", "i4"), ("b", "f4")])),
]


@pytest.mark.backend_independent
@pytest.mark.parametrize(
    ("node", "shape", "fields"),
    [
        (nir.Affine(np.ones((3, 3)), ONES), [3], ["weight", "bias"]),
        (nir.Scale(ONES), [3], ["scale"]),
        (lif((3,)), [3], ["tau", "r", "v_leak", "v_reset", "v_threshold"]),
        (nir.Flatten(np.array([2, 3]), 0, 1), [2, 3], ["start_dim", "end_dim"]),
        (
            nir.Conv2d((4, 4), np.ones((1, 1, 2, 2)), 1, 0, 1, 1, np.ones(1)),
            [1, 4, 4],
            ["weight", "bias", "stride", "padding", "dilation", "groups"],
        ),
        (
            nir.SumPool2d(*(np.array([n, n]) for n in (2, 2, 0))),
            [1, 4, 4],
            ["kernel_size", "stride", "padding"],
        ),
    ],
)
def test_odd_fields_are_one_line(tmp_path, node, shape, fields):
    import h5py

    path = tmp_path / "net.nir"
    ends = {"input": nir.Input(np.array(shape)), "output": nir.Output([3])}
    edges = [("input", "node"), ("node", "output")]
    nir.write(path, nir.NIRGraph({"node": node, **ends}, edges, type_check=False))
    import_nir(path, time_steps=2, dt=DT)
    whole, refused = path.read_bytes(), 0
    fields = [f"nodes/node/{field}" for field in fields]
    for field in ("edges", "nodes/input/shape", *fields):
        for value in ODD:
            path.write_bytes(whole)
            with h5py.File(path, "r+") as file:
                del file["node"][field]
                file["node"][field] = h5py.Empty("f4") if value is None else value
            try:
                import_nir(path, time_steps=2, dt=DT)
            except ValueError as error:
                assert "\n" not in str(error), (field, value)
                refused += 1
    assert refused > 0.6 * len(ODD) * (2 + len(fields))


@pytest.mark.backend_independent
@pytest.mark.parametrize("dt", ["text", ONES, 1j, np.inf, -1.0])
def test_a_time_step_of_a_file_is_a_number(tmp_path, dt):
    graph = dense_graph()
    graph.metadata["dt"] = dt
    nir.write(tmp_path / "net.nir", graph)
    with pytest.raises(ValueError, match="the length of a time step, above 0"):
        import_nir(tmp_path / "net.nir", time_steps=2)


@pytest.mark.backend_independent
def test_a_time_step_is_not_guessed(tmp_path):
    nir.write(tmp_path / "net.nir", dense_graph())
    with pytest.raises(ValueError, match=r"NIR is continuous in time.*dt=None"):
        import_nir(tmp_path / "net.nir", time_steps=2)
    with pytest.raises(ValueError, match="A NIR file must exist"):
        import_nir(tmp_path / "other.nir", time_steps=2, dt=DT)


@pytest.mark.backend_independent
def test_a_hostile_file_is_one_line(tmp_path):
    import h5py

    nir.write(tmp_path / "net.nir", dense_graph())
    data = (tmp_path / "net.nir").read_bytes()
    (tmp_path / "cut.nir").write_bytes(data[: len(data) // 2])
    (tmp_path / "text.nir").write_text("NIR")
    with h5py.File(tmp_path / "bomb.nir", "w") as file:
        kind = dict(dtype="f8", compression="gzip", chunks=(1 << 16,))
        file.create_dataset("node/w", (1 << 40,), **kind)
    with h5py.File(tmp_path / "link.nir", "w") as file:
        file["node"] = h5py.ExternalLink("net.nir", "/node")
    with h5py.File(tmp_path / "empty.nir", "w") as file:
        file.create_group("node")
    for name, message in (
        ("cut", "A NIR file must be whole"),
        ("text", "A NIR file must be whole"),
        ("bomb", "its arrays have more than 67,108,864 bytes"),
        ("link", "it refers to another place"),
        ("empty", "A NIR file must be whole"),
    ):
        with pytest.raises(ValueError, match=message) as caught:
            import_nir(tmp_path / f"{name}.nir", time_steps=2, dt=DT)
        assert "\n" not in str(caught.value)


@pytest.mark.backend_independent
def test_one_text_in_many_places_takes_the_memory_of_all(tmp_path):
    import h5py

    path, text = tmp_path / "net.nir", "x" * 60_000
    with h5py.File(path, "w") as file:
        edges = file.create_dataset("node/edges", (2000,), h5py.string_dtype())
        edges[:] = [text, *[""] * 1999]
        place = edges.id.get_offset()
    data = bytearray(path.read_bytes())
    data[place : place + 2000 * 16] = data[place : place + 16] * 2000
    path.write_bytes(data)
    with h5py.File(path) as file:
        assert file["node/edges"][1999] == text.encode()
    with pytest.raises(ValueError, match="its arrays have more than 67,108,864 bytes"):
        import_nir(path, time_steps=2, dt=DT)


@pytest.mark.backend_independent
def test_every_layer_that_nir_can_not_say_is_named(tmp_path):
    inputs = keras.Input((2, 4, 4, 3))
    x = keras.layers.TimeDistributed(keras.layers.MaxPooling2D(name="m"), name="max")(
        inputs
    )
    x = LIF(v_reset=None, name="soft")(x)
    x = keras.layers.TimeDistributed(
        keras.layers.Conv2D(2, 3, activation="relu"), name="relu"
    )(keras.layers.TimeDistributed(keras.layers.ZeroPadding2D(1))(x))
    y = keras.layers.Multiply(name="product")([x, x])
    model = keras.Model(inputs, keras.layers.Flatten(name="flat")(y))
    with pytest.raises(ValueError, match="NIR must be able to say every") as caught:
        export_nir(model, tmp_path / "net.nir")
    for told in (
        "'max', a MaxPooling2D",
        "'soft', a neuron with soft reset",
        "'relu', which has an activation",
        "'product', a Multiply",
        "an output, without an axis of time",
        "'flat', which flattens time, too",
    ):
        assert told in str(caught.value)
    assert not (tmp_path / "net.nir").exists()
    with pytest.raises(ValueError, match="dt must be above 0"):
        export_nir(model, tmp_path / "net.nir", dt=0)


@pytest.mark.backend_independent
def test_a_network_of_images_has_no_time(tmp_path):
    x = inputs = keras.Input((6, 6, 2))
    for layer in (
        keras.layers.ZeroPadding2D(1, name="pad"),
        keras.layers.Conv2D(2, 3, name="conv"),
        keras.layers.AveragePooling2D(2, name="pool"),
    ):
        x = layer(x)
    with pytest.raises(ValueError, match="every layer") as caught:
        export_nir(keras.Model(inputs, x), tmp_path / "net.nir")
    for name in ("pad", "conv", "pool"):
        assert f"'{name}', which must be within TimeDistributed" in str(caught.value)


@keras.saving.register_keras_serializable(package="tests")
class Threshold(keras.layers.Layer):
    """A neuron without a potential, which NIR has not."""

    def call(self, inputs):
        return ops.cast(inputs >= 1.0, inputs.dtype)


@pytest.mark.backend_independent
def test_a_unit_with_another_neuron_is_refused(tmp_path):
    inputs = keras.Input((2, 4, 4, 3))
    unit = ConvBNLIF(2, neuron=Threshold(), name="unit")
    with pytest.raises(ValueError, match="'unit', a neuron of the kind Threshold"):
        export_nir(keras.Model(inputs, unit(inputs)), tmp_path / "net.nir")


@pytest.mark.backend_independent
def test_a_normalization_of_what_others_read_is_refused(tmp_path):
    inputs = keras.Input((2, 3))
    x = keras.layers.Dense(3)(inputs)
    total = keras.layers.Add()([x, BatchNorm(name="norm")(x)])
    with pytest.raises(
        ValueError, match="'norm', a BatchNormalization of what another"
    ):
        export_nir(keras.Model(inputs, total), tmp_path / "net.nir")


@pytest.mark.backend_independent
def test_no_family_of_ours_fits_and_the_error_says_why(tmp_path):
    small = {"embed_dim": 16, "num_heads": 2, "time_steps": 1}
    model = SpikingClassifier.from_preset("qkformer_tiny", **small)
    with pytest.raises(ValueError, match="'stage1_block1', a QKFormerBlock"):
        export_nir(model, tmp_path / "net.nir")
