"""Looking into neurons during a call: states in, spikes out, scopes in each other."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from harness import to_numpy
from keras import ops

from keras_qkformer.layers import IF, LIF, ConvBNLIF
from keras_qkformer.layers.neuron_scope import is_streaming, neuron_scope

HALF = np.full((1, 1), 0.5, "float32")  # One time step: half way to the threshold.


def potential(value):
    return ops.convert_to_tensor([value], dtype="float32")


def fired(neuron, x=HALF):
    return to_numpy(neuron(x)).ravel().tolist()


def test_neurons_continue_from_their_states_and_others_rest():
    neuron, other = IF(), IF()
    states = {neuron: potential(0.25)}
    with neuron_scope(states):
        assert is_streaming()
        assert fired(neuron) == [0.0] and fired(neuron) == [1.0]
        assert fired(other) == [0.0] and fired(other) == [0.0]
    assert not is_streaming()
    assert list(states) == [neuron]
    assert to_numpy(states[neuron]).tolist() == [0.0]  # After the spike.
    assert fired(neuron) == [0.0]


def test_a_neuron_in_a_stream_returns_its_state_if_asked():
    neuron = IF()
    with neuron_scope({neuron: potential(0.25)}):
        spikes, state = neuron(HALF, return_state=True)
    assert to_numpy(spikes).tolist() == [[0.0]]
    assert to_numpy(state).tolist() == [0.75]


def test_spikes_reach_a_function_or_a_dict():
    neuron, other, seen, last = LIF(), IF(), [], {}
    x = np.full((1, 4), 1.5, "float32")
    with neuron_scope(record=lambda *call: seen.append(call)):
        assert not is_streaming()
        fired(neuron, x), fired(other, x), fired(neuron, 2 * x)
    with neuron_scope(record=last):
        fired(neuron, x), fired(other, x), fired(neuron, 2 * x)
    fired(neuron, x)
    assert [called for called, _ in seen] == [neuron, other, neuron]
    shown = [to_numpy(spikes).tolist() for _, spikes in seen]
    assert shown == [[[0.0, 1.0, 0.0, 1.0]], [[1.0] * 4], [[1.0] * 4]]
    assert {n: to_numpy(spikes).tolist() for n, spikes in last.items()} == {
        neuron: shown[2],
        other: shown[1],
    }


def test_spikes_are_shown_without_the_potentials():
    neuron, seen = IF(), {}
    with neuron_scope(record=seen):
        spikes, state = neuron(HALF, return_state=True)
    np.testing.assert_array_equal(to_numpy(seen[neuron]), to_numpy(spikes))
    assert to_numpy(state).tolist() == [0.5]


def test_the_inner_scope_holds_and_then_the_outer_again():
    neuron = IF()
    outer, inner = {neuron: potential(0.25)}, {neuron: potential(0.5)}
    outer_spikes, inner_spikes = [], []
    with neuron_scope(outer, lambda _, spikes: outer_spikes.append(spikes)):
        with neuron_scope(inner):  # Its spikes are still the outer scope's.
            assert fired(neuron) == [1.0]
        with neuron_scope(record=lambda _, spikes: inner_spikes.append(spikes)):
            assert fired(neuron) == [0.0]  # From the states of the outer scope.
        assert fired(neuron) == [1.0]
    assert [float(to_numpy(s).item()) for s in outer_spikes] == [1.0, 1.0]
    assert [float(to_numpy(s).item()) for s in inner_spikes] == [0.0]
    assert not is_streaming()


def test_a_scope_ends_with_an_error():
    neuron, seen = IF(), {}
    with pytest.raises(KeyError), neuron_scope({neuron: potential(0.5)}, seen):
        raise KeyError
    assert not is_streaming()
    assert fired(neuron) == [0.0] and not seen


def test_another_thread_sees_nothing():
    neuron, seen = IF(), {}
    with (
        neuron_scope({neuron: potential(0.5)}, seen),
        ThreadPoolExecutor(1) as pool,
    ):
        assert is_streaming()
        assert not pool.submit(is_streaming).result()
        assert pool.submit(fired, neuron).result() == [0.0]
        assert not seen
        assert fired(neuron) == [1.0]
    assert list(seen) == [neuron]
    assert not is_streaming()


def test_an_image_is_not_repeated_while_streaming():
    unit = ConvBNLIF(4, time_steps=3)
    x = np.ones((2, 1, 4, 4, 3), "float32")
    assert unit(x).shape == (2, 3, 4, 4, 4)
    with neuron_scope({}):
        assert unit(x).shape == (2, 1, 4, 4, 4)


def test_a_function_stands_in_for_the_dynamics():
    neuron, seen, shown = LIF(), [], {}
    x = np.array([[1.5, 1.5]], "float32")

    def fire(which, current):
        seen.append((which, to_numpy(current).tolist()))
        return 1.0 - current

    with neuron_scope(fire=fire, record=shown):
        assert to_numpy(neuron(x)).tolist() == [[-0.5, -0.5]]
        with pytest.raises(ValueError, match="without return_state"):
            neuron(x, return_state=True)
    assert seen == [(neuron, x.tolist())]
    assert to_numpy(shown[neuron]).tolist() == [[-0.5, -0.5]]
    assert to_numpy(neuron(x)).tolist() == [[0.0, 1.0]]
