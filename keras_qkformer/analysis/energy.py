"""Energy of one example, by named conventions and tables of unit costs.

Papers differ tenfold in what they count for the same model, so an energy is always told
with its convention. A `Convention` is data: the answer to each of the questions in
`RULES`, with its source. A `Device` is a table of costs per operation.

    energy = MACs * cost of a MAC + accumulates * cost of an accumulate

BatchNorm (folded into the convolution), pooling, neurons and residual additions are in
no convention. Memory and updates of neurons are told apart, never in a total.
"""

import dataclasses

MJ_PER_PJ = 1e-9

RULES = {
    "whole_numbers": {
        "value": "an input of n costs n accumulates (its mean is the rate)",
        "dense": "an input other than 0 and 1 makes dense MACs of the whole operation",
    },
    "attention": {
        "rate": "rate of the first factor (K in K^T V, Q in Q (K^T V)) x dense",
        "smaller rate": "min(rate of K, rate of V) + rate of Q, x dense of one product",
        "pairs": "pairs of two spikes in K^T V; spikes of Q x channels of a head",
        "strict": "pairs of two spikes in K^T V; dense MACs in Q (K^T V) if K^T V has "
        "numbers above 1",
    },
    "first_layer": {
        "once": "dense MACs, once for an image, of every frame for events",
        "each step": "dense MACs at every time step that the published code computes",
        "any": "as any other layer: dense MACs unless its input is 0 and 1",
    },
    "head": {
        "rate": "accumulates: mean of its input x dense x time steps; of potentials, "
        "dense MACs, once",
        "any": "as any other layer: dense MACs, once",
    },
    "biases": {
        True: "counted, one operation per output",
        False: "not counted",
    },
    "padding": {
        "counted": "rate x dense: zeros around the map count",
        "left out": "every spike counts the weights that it meets, fewer at borders",
    },
}
"""Question -> possible answers of a `Convention` -> what each does."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Convention:
    """How operations are counted; `RULES` says what each answer does.

    Attributes:
        name: str.
        source: str. Who counts so.
        whole_numbers: `"value"` or `"dense"`. Inputs that are sums of spikes.
        attention: `"rate"`, `"smaller rate"`, `"pairs"` or `"strict"`. Products.
        first_layer: `"once"`, `"each step"` or `"any"`.
        head: `"rate"` or `"any"`.
        biases: bool.
        padding: `"counted"` or `"left out"`.

    Raises:
        ValueError: if an answer is none of `RULES`.
    """

    name: str
    source: str
    whole_numbers: str
    attention: str
    first_layer: str
    head: str
    biases: bool
    padding: str

    def __post_init__(self):
        for question, answers in RULES.items():
            given = getattr(self, question)
            if given not in answers:
                raise ValueError(
                    f"{question} must be one of {tuple(answers)}. "
                    f"Received: {question}={given!r}"
                )

    def rules(self):
        """Return what the convention does: a dict from each question to a sentence."""
        return {
            question: answers[getattr(self, question)]
            for question, answers in RULES.items()
        }


CONVENTIONS = {
    convention.name: convention
    for convention in (
        Convention(
            name="qkformer",
            source="Zhou et al., 2024, https://arxiv.org/abs/2403.16552: its equation "
            "of energy, as in Zhou et al., 2023 (Spikformer)",
            whole_numbers="value",
            attention="rate",
            first_layer="once",
            head="rate",
            biases=False,
            padding="counted",
        ),
        Convention(
            name="spikingformer",
            source="Zhou et al., 2023, https://arxiv.org/abs/2304.11954: the counter "
            "in the authors' code, which counts layers as syops does",
            whole_numbers="dense",
            attention="smaller rate",
            first_layer="each step",
            head="any",
            biases=True,
            padding="counted",
        ),
        Convention(
            name="strict",
            source="this library: nothing but spikes is cheap; every operand of an "
            "operation must be 0 or 1, also in attention",
            whole_numbers="dense",
            attention="strict",
            first_layer="any",
            head="any",
            biases=False,
            padding="left out",
        ),
        Convention(
            name="spikingjelly",
            source="SpikingJelly 2.0, activation_based.op_counter: SynOpCounter, and "
            "MACCounter without BatchNorm",
            whole_numbers="dense",
            attention="pairs",
            first_layer="any",
            head="any",
            biases=False,
            padding="left out",
        ),
    )
}
"""Name -> `Convention`."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Device:
    """Costs of the operations of a device.

    Attributes:
        name: str.
        source: str. Who measured or estimated them.
        mac_pj: float > 0. Picojoules of a multiply-accumulate.
        accumulate_pj: float > 0. Picojoules of an accumulate: a synaptic operation.
        itemsize: int > 0. Bytes of a value.
        byte_pj: float, or `None` if unknown. Picojoules to read or write a byte.
        neuron_update_pj: float, or `None` if unknown. Picojoules to update a neuron in
            a time step.

    Raises:
        ValueError: if a cost is not above 0.
    """

    name: str
    source: str
    mac_pj: float
    accumulate_pj: float
    itemsize: int = 4
    byte_pj: float | None = None
    neuron_update_pj: float | None = None

    def __post_init__(self):
        fields = ["mac_pj", "accumulate_pj", "itemsize"]
        fields += ["byte_pj"] * (self.byte_pj is not None)
        fields += ["neuron_update_pj"] * (self.neuron_update_pj is not None)
        for field in fields:
            if not getattr(self, field) > 0:
                raise ValueError(
                    f"{field} must be above 0. Received: {getattr(self, field)}"
                )

    def unit_costs(self):
        """Return the costs in picojoules as a dict that JSON can hold."""
        return {
            "mac": self.mac_pj,
            "accumulate": self.accumulate_pj,
            "byte": self.byte_pj,
            "neuron_update": self.neuron_update_pj,
        }


DEVICES = {}
"""Name -> `Device`."""


def register_device(device):
    """Add a device, or replace that of the same name.

    Args:
        device: `Device`.

    Example:
    >>> register_device(
    ...     Device(name="mine", source="measured", mac_pj=2.0, accumulate_pj=0.5)
    ... )
    >>> DEVICES.pop("mine").unit_costs()["mac"]
    2.0
    """
    DEVICES[device.name] = device


_HOROWITZ = (
    "Horowitz, ISSCC 2014, 45 nm, {}; memory 3.12 pJ per bit, STEP, "
    "https://arxiv.org/abs/2505.11151"
)
_KERAS_SPIKING = "{}, as in the table of keras-spiking; a MAC costs a synaptic event"
for _device in (
    Device(
        name="45nm_float32",
        source=_HOROWITZ.format("float32: 3.7 pJ multiply + 0.9 pJ add"),
        mac_pj=4.6,
        accumulate_pj=0.9,
        itemsize=4,
        byte_pj=24.96,
    ),
    Device(
        name="45nm_float16",
        source=_HOROWITZ.format("float16: 1.1 pJ multiply + 0.4 pJ add"),
        mac_pj=1.5,
        accumulate_pj=0.4,
        itemsize=2,
        byte_pj=24.96,
    ),
    Device(
        name="45nm_int8",
        source=_HOROWITZ.format("int8: 0.2 pJ multiply + 0.03 pJ add"),
        mac_pj=0.23,
        accumulate_pj=0.03,
        itemsize=1,
        byte_pj=24.96,
    ),
    Device(
        name="loihi",
        source=_KERAS_SPIKING.format("Davies et al., 2018, IEEE Micro 38(1)"),
        mac_pj=27.1,
        accumulate_pj=27.1,
        itemsize=1,
        neuron_update_pj=81.0,
    ),
    Device(
        name="spinnaker",
        source=_KERAS_SPIKING.format("https://arxiv.org/abs/1903.08941"),
        mac_pj=13_300.0,
        accumulate_pj=13_300.0,
        neuron_update_pj=26_000.0,
    ),
    Device(
        name="spinnaker2",
        source=_KERAS_SPIKING.format("https://arxiv.org/abs/1903.08941"),
        mac_pj=450.0,
        accumulate_pj=450.0,
        neuron_update_pj=2_190.0,
    ),
):
    register_device(_device)


def get_convention(convention):
    """Return a convention by its name.

    Args:
        convention: str, or a `Convention`, which is returned.

    Raises:
        ValueError: if there is none of that name.
    """
    if isinstance(convention, Convention):
        return convention
    if convention not in CONVENTIONS:
        raise ValueError(
            f"A convention must be one of {tuple(CONVENTIONS)}. "
            f"Received: {convention!r}"
        )
    return CONVENTIONS[convention]


def get_device(device):
    """Return a device by its name.

    Args:
        device: str, or a `Device`, which is returned.

    Raises:
        ValueError: if there is none of that name.
    """
    if isinstance(device, Device):
        return device
    if device not in DEVICES:
        raise ValueError(
            f"A device must be one of {tuple(DEVICES)}. Received: {device!r}"
        )
    return DEVICES[device]


def count(activity, convention):
    """Count one operation by a convention.

    Args:
        activity: `activity.OperationActivity`.
        convention: `Convention`.

    Returns:
        `(macs, accumulates)`: floats, mean per example.
    """
    operation, inputs = activity.operation, activity.inputs[0]
    dense = operation.macs + convention.biases * operation.biases
    if operation.kind == "product":
        return _count_product(activity, convention.attention)
    if operation.is_first and convention.first_layer != "any":
        once = convention.first_layer == "once"
        return float(operation.macs_once if once else dense), 0.0
    if operation.is_head and operation.has_rate and convention.head == "rate":
        return 0.0, inputs.mean * dense * operation.steps
    by_value = inputs.is_whole and convention.whole_numbers == "value"
    if not (inputs.is_binary or by_value):
        return float(dense), 0.0
    if convention.padding == "counted":
        return 0.0, inputs.mean * dense
    return 0.0, activity.events_by_value + convention.biases * operation.biases


def _count_product(activity, attention):
    dense = float(activity.operation.macs)
    first, second = activity.inputs
    if attention == "rate":
        return 0.0, first.mean * dense
    if attention == "smaller rate":
        factors = zip(activity.operation.factors, activity.inputs, strict=True)
        rates = [each.mean for name, each in factors if name != "context"]
        return 0.0, min(rates) * dense
    both = first.is_binary and second.is_binary
    one = first.is_binary or second.is_binary
    if both or (one and attention == "pairs"):
        return 0.0, activity.events
    return dense, 0.0


@dataclasses.dataclass(frozen=True, kw_only=True)
class Energy:
    """The energy of one example by one convention.

    Attributes:
        convention: `Convention`.
        device: `Device`.
        macs: list of float, one per operation.
        accumulates: list of float, one per operation.
    """

    convention: Convention
    device: Device
    macs: list
    accumulates: list

    @property
    def by_operation_mj(self):
        """Millijoules of each operation."""
        mac, accumulate = self.device.mac_pj, self.device.accumulate_pj
        return [
            (m * mac + a * accumulate) * MJ_PER_PJ
            for m, a in zip(self.macs, self.accumulates, strict=True)
        ]

    @property
    def total_mj(self):
        """Millijoules of all operations."""
        macs, accumulates = sum(self.macs), sum(self.accumulates)
        costs = macs * self.device.mac_pj + accumulates * self.device.accumulate_pj
        return costs * MJ_PER_PJ

    def __str__(self):
        return (
            f"{self.total_mj:.4g} mJ per example by convention "
            f"{self.convention.name!r} on {self.device.name}"
        )


def energy(activities, convention, device="45nm_float32"):
    """Compute the energy of one example, the mean over all that were measured.

    Args:
        activities: list of `activity.OperationActivity`.
        convention: str or `Convention`.
        device: str or `Device`.

    Returns:
        `Energy`. As text, it names its convention.

    Raises:
        ValueError: if there is no such convention or device.
    """
    convention, device = get_convention(convention), get_device(device)
    counts = [count(each, convention) for each in activities]
    return Energy(
        convention=convention,
        device=device,
        macs=[macs for macs, _ in counts],
        accumulates=[accumulates for _, accumulates in counts],
    )


def twin_mj(operations, device="45nm_float32"):
    """Compute the energy of the non-spiking twin of a model, in millijoules.

    The twin has the same layers and runs once, with dense MACs everywhere, no biases,
    and attention without softmax: the comparison that papers draw.

    Args:
        operations: list of `operations.Operation`.
        device: str or `Device`.
    """
    macs = sum(each.macs_of_one_step for each in operations)
    return macs * get_device(device).mac_pj * MJ_PER_PJ


MEMORY_ASSUMPTION = (
    "Every operation reads its weights and its input and writes its output once per "
    "example, densely, with {} bytes per value; nothing stays on the chip between two "
    "operations, and neurons, BatchNorm and pooling move nothing."
)


def memory(operations, device="45nm_float32"):
    """Count the memory traffic of one example, and its energy.

    Args:
        operations: list of `operations.Operation`.
        device: str or `Device`.

    Returns:
        Dict of `bytes`, `mj` (`None` if the device has no cost of a byte), and the
        `assumption` about reuse.
    """
    device = get_device(device)
    values = sum(each.inputs + each.outputs + each.parameters for each in operations)
    moved = values * device.itemsize
    cost = device.byte_pj
    return {
        "bytes": float(moved),
        "mj": None if cost is None else moved * cost * MJ_PER_PJ,
        "assumption": MEMORY_ASSUMPTION.format(device.itemsize),
    }
