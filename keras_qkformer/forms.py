"""What our JSON files must hold to be read back."""

from typing import Annotated, Any, Literal, NotRequired, TypeVar

from pydantic import ConfigDict, Field
from typing_extensions import TypedDict

_CLOSED = ConfigDict(strict=True, extra="forbid")
_OPEN = ConfigDict(strict=True, extra="allow")
_Item = TypeVar("_Item")
# A list of millions of wrong items has one error, not one for each.
_List = Annotated[list[_Item], Field(fail_fast=True)]
_Count = Annotated[int, Field(ge=0, lt=2**63)]
_Positive = Annotated[int, Field(gt=0, lt=2**31)]
_Size = Annotated[_List[_Positive], Field(min_length=2, max_length=2)]
_Finite = Annotated[float, Field(allow_inf_nan=False)]
# Far above any count, and sums of it stay finite.
_Amount = Annotated[float, Field(ge=0, le=1e30)]
_Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
# No part starts with a dot, so no path leaves the folder.
_FileName = Annotated[
    str,
    Field(pattern=r"^[^./\\\pC][^/\\\pC]*(/[^./\\\pC][^/\\\pC]*)*$", max_length=255),
]


class ManifestEntry(TypedDict):
    """One file: its size in bytes and its SHA-256."""

    __pydantic_config__ = _CLOSED
    size: _Count
    sha256: _Digest


class Manifest(TypedDict):
    """`manifest.json`, see `keras_qkformer.manifest`."""

    __pydantic_config__ = _CLOSED
    format: Literal[1]
    files: Annotated[dict[_FileName, ManifestEntry], Field(max_length=1000)]


class _DataOfRecipe(TypedDict, total=False):
    __pydantic_config__ = _OPEN
    sensor_size: _Size | None
    frames_by: Literal["number", "time", "voxel"] | None


class _RecipeOfMetadata(TypedDict, total=False):
    __pydantic_config__ = _OPEN
    preset: str
    data: _DataOfRecipe


class PresetMetadata(TypedDict, total=False):
    """`metadata.json` of a preset folder."""

    __pydantic_config__ = _OPEN
    manifest: bool
    sha256: dict[str, _Digest]
    preset: str | None
    parameters: _Count
    class_names: _List[str]
    preprocessing: dict[str, Any]
    orientation: Literal["jaer", "spikingjelly"]
    sensor_size: _Size
    recipe: _RecipeOfMetadata
    epoch: _Count


class _Input(TypedDict):
    __pydantic_config__ = _CLOSED
    static: bool
    image_size: _Size
    in_channels: _Positive
    time_steps: _Positive


class PortableMetadata(TypedDict):
    """`metadata.json` of a model that was exported to another runtime."""

    __pydantic_config__ = _OPEN
    class_names: _List[str]
    preprocessing: dict[str, Any]
    input: _Input
    orientation: Literal["jaer", "spikingjelly"]
    recipe: _RecipeOfMetadata | None


class _Best(TypedDict):
    __pydantic_config__ = _OPEN
    epoch: _Positive
    val_accuracy: float
    val_loss: float


class DigestsOfState(TypedDict):
    """SHA-256 of a checkpoint's weights file and of the rest of its state."""

    __pydantic_config__ = _CLOSED
    weights: _Digest
    state: _Digest


class State(TypedDict):
    """`state.json` of a checkpoint, see `training.checkpoint.Checkpoint`."""

    __pydantic_config__ = _CLOSED
    epoch: Annotated[int, Field(ge=0, lt=10**9)]
    weights: Annotated[str, Field(pattern=r"^epoch-\d{4,9}\.weights\.h5$")]
    random: _List[_List[_Count]]
    best: _Best | None
    history: dict[str, _List[float]]
    sha256: NotRequired[DigestsOfState]


class _ShortScores(TypedDict):
    __pydantic_config__ = _CLOSED
    accuracy: _Finite
    correct: _Count
    examples: _Count
    loss: _Finite


class _EvaluationOfStudy(TypedDict):
    __pydantic_config__ = _CLOSED
    evaluation: dict[str, Any]
    scores: _ShortScores


class StudyScores(TypedDict):
    """`study.json` of a workdir, see `training.study`."""

    __pydantic_config__ = _CLOSED
    scores: dict[str, _EvaluationOfStudy]


class RecipeFile(TypedDict):
    """`recipe.json` of a workdir; `training.recipe.from_dict` checks the recipe."""

    __pydantic_config__ = _OPEN
    recipe: dict[str, Any]
    versions: NotRequired[dict[str, str | None]]


class MetricsLine(TypedDict):
    """A line of `metrics.jsonl`."""

    __pydantic_config__ = _OPEN
    epoch: _Positive


class _Scores(TypedDict):
    __pydantic_config__ = _OPEN
    accuracy: _Finite
    examples: _Count
    loss: float


class Results(TypedDict):
    """`results.json` of a workdir."""

    __pydantic_config__ = _OPEN
    test: _Scores
    test_split: str
    best: _Best
    history: dict[str, _List[float]]
    parameters: _Count
    command: str
    versions: dict[str, str | None]
    machine: str
    commit: str | None


class _Reported(TypedDict):
    __pydantic_config__ = _OPEN
    accuracy_percent: NotRequired[_Finite | None]


class _ModelOfRecord(TypedDict):
    __pydantic_config__ = _OPEN
    name: str
    family: str
    preset: str | None
    parameters: _Count
    time_steps: _Positive
    input_shape: _List[_Positive]
    class_names: _List[str]
    reported: _Reported | None


class _DataOfRecord(TypedDict):
    __pydantic_config__ = _OPEN
    source: str
    split: str
    examples: _Positive
    accuracy: _Finite | None
    accuracy_by_step: _List[_Finite] | None


class _OperationOfRecord(TypedDict):
    __pydantic_config__ = _OPEN
    path: str
    stage: str
    dense_macs: _Amount
    synaptic_operations: _Amount


class _NeuronsOfRecord(TypedDict):
    __pydantic_config__ = _OPEN
    path: str
    count: _Count
    rate: _Amount


class _ConventionOfRecord(TypedDict):
    __pydantic_config__ = _OPEN
    total_mj: _Amount
    by_operation_mj: _List[_Amount]


class _EnergyOfRecord(TypedDict):
    __pydantic_config__ = _OPEN
    device: str
    conventions: dict[str, _ConventionOfRecord]
    twin_mj: _Amount


class AnalysisRecord(TypedDict):
    """`report.json` of one model, as far as a comparison reads it."""

    __pydantic_config__ = _OPEN
    format: Literal[1]
    model: _ModelOfRecord
    data: _DataOfRecord
    operations: _List[_OperationOfRecord]
    neurons: _List[_NeuronsOfRecord]
    energy: _EnergyOfRecord
    command: str
    date: str


class _Tensor(TypedDict):
    __pydantic_config__ = _OPEN
    dtype: str
    shape: _List[_Count | None]


class _Signature(TypedDict):
    __pydantic_config__ = _OPEN
    inputs: Annotated[dict[str, _Tensor], Field(min_length=1)]
    outputs: dict[str, _Tensor]


class _Frames(TypedDict):
    __pydantic_config__ = _OPEN
    sensor_size: _Size
    frames_by: Literal["number", "time", "voxel"]


class BundleMetadata(TypedDict):
    """`metadata.json` of an exported version."""

    __pydantic_config__ = _OPEN
    class_names: _List[str]
    signatures: Annotated[dict[str, _Signature], Field(min_length=1)]
    batch_sizes: Annotated[_List[_Positive], Field(min_length=1)]
    weights: Literal["float32", "bfloat16", "int8"]
    frames: _Frames | None
