"""Several processes that train one model: how they start, agree and stop."""

import contextlib
import dataclasses
import hashlib
import json
import os
import re
import time

import keras
import numpy as np

from keras_qkformer.data.images.encoded_images import EncodedImages
from keras_qkformer.data.source import OnDemand
from keras_qkformer.provenance import provenance
from keras_qkformer.training.recipe import to_dict
from keras_qkformer.training.workdir import flatten

WAIT_VARIABLE = "KERAS_QKFORMER_WAIT_S"
HEARTBEAT_VARIABLE = "KERAS_QKFORMER_HEARTBEAT_S"
_TOKEN_FILE = "partial-hosts.json"


@dataclasses.dataclass(frozen=True)
class Hosts:
    """The processes that train together, as one of them sees them.

    Every host calls the methods in the same order. A process alone returns at once.

    Attributes:
        index: int. Number of this process, from 0.
        count: int > 0. Number of processes.
    """

    index: int = 0
    count: int = 1

    @property
    def writes(self):
        """Whether this process writes to the workdir: the first one does."""
        return self.index == 0

    @property
    def shard(self):
        """`(index, count)`, as datasets take it."""
        return self.index, self.count

    def gather(self, name, value=None):
        """Wait for all hosts and collect one value from each.

        Args:
            name: str. Describes the value in errors; a name can be used once only.
            value: a value of this host that JSON can hold.

        Returns:
            List of the values, in the order of the hosts.

        Raises:
            ValueError: if another host stops with an error, or does not call within
                `$KERAS_QKFORMER_WAIT_S` seconds (300).
        """
        if self.count == 1:
            return [value]
        client = _client()
        client.key_value_set(f"keras_qkformer/{name}/{self.index}", json.dumps(value))
        end, found = time.monotonic() + _wait_s(), []
        while len(found) < self.count:
            host = len(found)
            try:
                text = client.blocking_key_value_get(
                    f"keras_qkformer/{name}/{host}", 1000
                )
                found.append(json.loads(text))
                continue
            except Exception as error:  # Its class differs between versions of JAX.
                if "DEADLINE_EXCEEDED" not in str(error):
                    raise
            for key, message in client.key_value_dir_get("keras_qkformer/failed/"):
                raise ValueError(f"host {key.rpartition('/')[2]} stopped: {message}")
            if time.monotonic() > end:
                raise ValueError(
                    f"All hosts must reach {name!r} within {_wait_s():g} s "
                    f"({WAIT_VARIABLE}). Received: nothing from host {host} of "
                    f"{self.count}"
                )
        return found

    def gather_rows(self, array):
        """Concatenate the arrays of all hosts along the first axis.

        Args:
            array: array `(rows, ...)` of less than 2^31 bytes. Hosts may differ in the
                number of rows alone.

        Returns:
            Array `(rows of all hosts, ...)`, in the order of the hosts.
        """
        if self.count == 1:
            return array
        from jax.experimental import multihost_utils

        # Send bytes: JAX would round 64-bit numbers to 32 bits.
        data = np.frombuffer(np.ascontiguousarray(array).tobytes(), "uint8")
        sizes = multihost_utils.process_allgather(np.array([data.size], "int32"))[:, 0]
        padded = np.zeros(sizes.max(), "uint8")
        padded[: data.size] = data
        rows = multihost_utils.process_allgather(padded)
        parts = [row[:size].tobytes() for row, size in zip(rows, sizes, strict=True)]
        return np.frombuffer(b"".join(parts), array.dtype).reshape(-1, *array.shape[1:])

    def agree(self, facts):
        """Raise `ValueError` unless all hosts have the same facts.

        Args:
            facts: dict from a description to a value that JSON can hold.
        """
        first, *others = self.gather("the comparison of recipe and data", facts)
        differing = [
            f"host {host}: {name} {theirs.get(name)}, host 0: {first[name]}"
            for host, theirs in enumerate(others, 1)
            for name in first
            if theirs.get(name) != first[name]
        ]
        if differing:
            raise ValueError(
                "All hosts must have the same recipe, data and versions. Received: "
                f"{'; '.join(differing)}"
            )

    def share_workdir(self, workdir):
        """Raise `ValueError` unless all hosts see the same folder.

        Args:
            workdir: path of the folder. Host 0 makes it if needed.
        """
        if self.count == 1:
            return
        self.gather("the look at the workdir")
        path, token = workdir / _TOKEN_FILE, None
        if self.writes:
            workdir.mkdir(parents=True, exist_ok=True)
            token = os.urandom(8).hex()
            path.write_text(token, "ascii")
        token = self.gather("the first file in the workdir", token)[0]
        try:
            seen = path.read_text("ascii") == token
        except OSError:
            seen = False
        seen = self.gather("the workdir", seen)
        if self.writes:
            path.unlink()
        if not all(seen):
            raise ValueError(
                "The workdir must be a folder that all hosts see, such as one on NFS. "
                f"Received: {str(workdir)!r}, which host {seen.index(False)} does not "
                "share with host 0"
            )


def digest(inputs, labels):
    """Describe a split so that splits with other examples get another description.

    It depends on the labels, and on the file names of `EncodedImages`, all values of an
    array, or three examples of an `OnDemand`, which has no names.

    Args:
        inputs: array, `EncodedImages` or `OnDemand`, `(examples, ...)`.
        labels: int array `(examples,)`.

    Returns:
        Str with the number of examples and a hexadecimal digest.
    """
    found = hashlib.blake2b(np.ascontiguousarray(labels).tobytes(), digest_size=8)
    if isinstance(inputs, EncodedImages):
        for number in inputs.numbers:
            # Class and file name alone: each host may have its own parent folders.
            found.update("/".join(inputs.names[number].split("/")[-2:]).encode())
    elif isinstance(inputs, OnDemand):
        for place in sorted({0, len(inputs) // 2, len(inputs) - 1}):
            found.update(np.ascontiguousarray(inputs[place]).tobytes())
    else:
        found.update(np.ascontiguousarray(inputs).tobytes())
    return f"of {len(labels)} examples ({found.hexdigest()})"


def agree_on_data(hosts, recipe, examples, held_out, first_epoch):
    """Check that all hosts have the same recipe and data, with an example for each.

    Args:
        hosts: `Hosts`, several.
        recipe: a `Recipe`.
        examples: the `Examples` of its data.
        held_out: `(inputs, labels)` of the validation split.
        first_epoch: int >= 0. Number of finished epochs.

    Raises:
        ValueError: if a split has fewer examples than there are hosts, or the hosts
            differ in recipe, data, checkpoint or versions.
    """
    tested = examples.load(recipe.data.test)
    for split, labels in (("validation", held_out[1]), ("test", tested[1])):
        if len(labels) < hosts.count:
            raise ValueError(
                f"data.{split} must have an example for each of {hosts.count} hosts. "
                f"Received: {len(labels)}"
            )
    hosts.agree(
        {
            **flatten(to_dict(recipe)),
            "the classes": list(examples.class_names),
            "the examples of data.train": digest(*examples.train),
            "the examples of data.validation": digest(*held_out),
            "the examples of data.test": digest(*tested),
            "the finished epochs": first_epoch,
            "the versions": provenance()["versions"],
        }
    )


@contextlib.contextmanager
def joined(where):
    """Context in which this process is one of several; enter it before JAX computes.

    Args:
        where: `None` for a process alone. `"auto"` reads the environment variables of
            `keras.distribution.initialize`, or has JAX detect Slurm, Open MPI,
            Kubernetes or a TPU pod. `"ADDRESS:PORT,COUNT,INDEX"` gives the address of
            host 0, the number of hosts and the number of this one, from 0.

    Yields:
        `Hosts`.

    Raises:
        ValueError: if the backend is not JAX, `where` has another form, or the hosts
            can't be found.
    """
    if where is None:
        yield Hosts()
        return
    hosts = _join(where)
    import jax

    try:
        yield hosts
    except BaseException as error:
        if "Gloo" in str(error) or isinstance(error, jax.errors.JaxRuntimeError):
            # Another host is lost. Wait for JAX to end this process and name the host.
            time.sleep(_heartbeat_s() + 15)
        _part(hosts, error)
        raise
    hosts.gather("the end")
    jax.distributed.shutdown()


def _join(where):
    backend = keras.backend.backend()
    if backend != "jax":
        raise ValueError(
            "Several hosts train together on JAX alone: set KERAS_BACKEND=jax. "
            f"Received: hosts={where!r} on {backend}"
        )
    import jax

    given = re.fullmatch(r"(.+:\d+),([1-9]\d*),(\d+)", where)
    if given is None and where != "auto":
        raise ValueError(
            "hosts must be auto, or ADDRESS:PORT,COUNT,INDEX with the address of host "
            f"0, such as 10.0.0.1:8476,2,0. Received: hosts={where!r}"
        )
    names = ("JOB_ADDRESSES", "NUM_PROCESSES", "PROCESS_ID")
    told = [os.environ.get(f"KERAS_DISTRIBUTION_{name}") for name in names]
    address, count, index = given.groups() if given else told
    try:
        jax.distributed.initialize(
            address and address.split(",")[0],
            count and int(count),
            index and int(index),
            cluster_detection_method="deactivate" if given else None,
            initialization_timeout=_wait_s(),
            heartbeat_timeout_seconds=_heartbeat_s(),
            shutdown_timeout_seconds=_heartbeat_s(),
        )
    except (ValueError, RuntimeError) as error:
        raise ValueError(
            "hosts=auto needs Slurm, Open MPI, Kubernetes with jax[k8s], a TPU pod, or "
            f"the three variables KERAS_DISTRIBUTION_({'|'.join(names)}); or give "
            f"ADDRESS:PORT,COUNT,INDEX. Received: hosts={where!r}: {error}"
        ) from error
    return Hosts(jax.process_index(), jax.process_count())


def _part(hosts, error):
    """Tell the other hosts why this one stops, and give them time to stop too."""
    with contextlib.suppress(Exception):
        client = _client()
        client.key_value_set(f"keras_qkformer/failed/{hosts.index}", str(error))
        client.wait_at_barrier("keras_qkformer/stopped", 5000)
    if hosts.writes:  # JAX ends the others with host 0: let them print the error first.
        time.sleep(2)


def lost_host(text):
    """Explain why JAX ended a process: which host was lost, and what to do.

    Args:
        text: str. The end of what the process wrote to standard error.

    Returns:
        Str, one line.
    """
    beats = re.search(r"stopped sending heartbeats\):\s*([\d,\s]+)", text)
    tasks = re.findall(r"\d+", beats[1]) if beats else []
    if tasks:
        which = f"host {', '.join(tasks)} is"
    elif "RegisterTask" in text:
        return (
            f"the hosts did not find each other within {_wait_s():g} s "
            f"({WAIT_VARIABLE}): the address must be that of host 0, and all must start"
        )
    elif "Failed to send RPC to coordination service" in text:
        which = "host 0 is"
    else:
        which = "another host is"
    return f"{which} lost; the same command on all hosts goes on from the last epoch"


def _client():
    # Private: JAX has no public barrier with a timeout.
    from jax._src import distributed

    return distributed.global_state.client


def _wait_s():
    return int(os.environ.get(WAIT_VARIABLE, 300))


def _heartbeat_s():
    return int(os.environ.get(HEARTBEAT_VARIABLE, 30))


ALONE = Hosts()
