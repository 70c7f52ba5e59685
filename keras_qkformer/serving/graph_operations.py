"""The operations of a SavedModel: none of those that run may reach beyond the model.

A SavedModel is a program, and TensorFlow has operations that read and write files or
call Python. Those of our exports compute, and read their variables.
"""

import re
from pathlib import Path

from google.protobuf.message import DecodeError
from tensorflow.core.protobuf.saved_model_pb2 import SavedModel
from tensorflow.python.framework import op_def_registry

from keras_qkformer.printable import printable

_INITIALIZERS = ("saved_model_main_op", "legacy_init_op", "__saved_model_init_op")
# Variables, calls of functions, and the pipeline that decodes images.
_ALLOWED = {
    *("VarHandleOp", "ReadVariableOp", "AssignVariableOp", "RestoreV2"),
    *("StatefulPartitionedCall", "If", "Case", "While", "Assert"),
    *("TensorDataset", "TensorSliceDataset", "RangeDataset", "ConcatenateDataset"),
    *("ParallelMapDatasetV2", "BatchDatasetV2", "IgnoreErrorsDataset"),
    *("OptionsDataset", "DatasetToSingleElement"),
}
# TensorFlow marks most others that reach beyond their inputs as stateful. These it does
# not, though they read or write files, or call Python.
_REFUSED = re.compile(
    "Debug|PyFunc|ReadFile|MatchingFiles|DecodeProto|LoadAnd|.*Dataset"
)


def check_operations(version):
    """Raise `ValueError` if a SavedModel would do anything but compute.

    Saving, of which every SavedModel has operations, is never asked for.

    Args:
        version: str or path of its folder.
    """
    path = Path(version) / "saved_model.pb"
    chunked = path.with_suffix(".cpb")
    if chunked.exists():  # TensorFlow would load it instead.
        raise ValueError(f"A SavedModel must be in one file. Received: {chunked}")
    try:
        graphs = SavedModel.FromString(path.read_bytes()).meta_graphs
    except DecodeError as error:
        raise ValueError(f"{path} must be a SavedModel: {error}") from error
    for name in sorted({name for graph in graphs for name in _reached(graph)}):
        known = op_def_registry.get(name)
        computes = known is not None and not known.is_stateful
        computes = computes and not _REFUSED.match(name)
        if not computes and name not in _ALLOWED:
            raise ValueError(
                "A SavedModel must have operations that compute alone. "
                f"Received: {printable(name)} in {str(path)!r}"
            )


def _reached(graph):
    """Yield the names of the operations that run when a graph is loaded and asked."""
    nodes = {node.name: node for node in graph.graph_def.node}
    functions = {f.signature.name: f for f in graph.graph_def.library.function}
    infos = [info for s in graph.signature_def.values() for info in s.outputs.values()]
    to_do = [info.name for info in infos] + [graph.saver_def.restore_op_name]
    for key in _INITIALIZERS:
        to_do += graph.collection_def[key].node_list.value
    done = set()
    while to_do:
        name = to_do.pop().removeprefix("^").partition(":")[0]
        if name in done or name not in nodes.keys() | functions.keys():
            continue
        done.add(name)
        inside = [*functions[name].node_def] if name in functions else []
        if name in nodes:
            inside.append(nodes[name])
            to_do += nodes[name].input
        for node in inside:
            yield node.op
            to_do.append(node.op)  # It may be the name of a function.
            for value in node.attr.values():
                to_do += [value.func.name, *(f.name for f in value.list.func)]
