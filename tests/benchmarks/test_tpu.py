"""What is read out of a TPU program, the step it was made from, and the estimate."""

import keras
import pytest

from benchmarks import scaling, tpu_aot
from keras_qkformer import QKFormerClassifier
from keras_qkformer.analysis import operations

PROGRAM = """\
HloModule jit_step, is_scheduled=true

%fused (p: bf16[8]) -> bf16[8] {
  ROOT %x = bf16[8]{0:T(256)} negate(%p), backend_config={"estimated_cycles":"99"}
}

ENTRY %main (p: f32[8]) -> f32[8] {
  %p = f32[8]{0:T(256)S(1)} parameter(0)
  %big = (f32[4,1,2]{2,1,0:T(8,128)}, bf16[8]{0}) fusion(%p), calls=%fused, \
metadata={op_name="jit(step)/unit0/add"}, backend_config={"estimated_cycles":"7"}
  %copy.1 = f32[2]{0} copy(%p), backend_config={"estimated_cycles":"5"}
  %all-reduce.1 = (f32[8]{0}, bf16[3,3,2]{2,1,0}, /*index=2*/f32[]) all-reduce(%p, \
%q, %r), channel_id=1, metadata={op_name="jit(step)/unit0/reduce_sum"}
  %all-reduce.2 = f32[8]{0} all-reduce-start(%p), channel_id=2
  %all-reduce.3 = f32[8]{0} all-reduce-done(%all-reduce.2)
  %all-gather.1 = (f32[2,5]{1,0}, f32[8,5]{1,0}) all-gather-start(%p), channel_id=3, \
metadata={op_name="jit(step)/unit1/select_and_scatter"}
  ROOT %r = f32[8]{0} all-gather-done(%all-gather.1)
}
"""


@pytest.mark.backend_independent
def test_collectives_are_read_with_their_bytes():
    found = tpu_aot.summarize(tpu_aot.collectives(PROGRAM), {8, 18})
    # 8 float32, 18 bfloat16 and a number; 8 float32.
    assert found["all-reduce"] == {"count": 2, "bytes": 72 + 32, "largest_bytes": 72}
    assert found["all-gather"] == {"count": 1, "bytes": 160, "largest_bytes": 160}
    (other,) = found["others"]
    assert other["source"] == "jit(step)/unit1/select_and_scatter"


@pytest.mark.backend_independent
def test_a_sum_of_what_is_no_weight_is_listed():
    found = tpu_aot.summarize(tpu_aot.collectives(PROGRAM), {8})
    assert [other["kind"] for other in found["others"]] == ["all-reduce", "all-gather"]


@pytest.mark.backend_independent
def test_cycles_and_largest_values_are_those_of_kernels():
    assert tpu_aot.estimated_cycles(PROGRAM) == 7 + 5
    largest, copied = tpu_aot.largest_values(PROGRAM)
    assert largest == {
        "bytes": 8 * 4 + 8 * 2,
        "type": "(f32[4,1,2], bf16[8])",
        "source": "jit(step)/unit0/add",
    }
    assert copied["bytes"] == 8


@pytest.mark.backend_independent
def test_kept_values_of_a_small_model_by_hand():
    model = QKFormerClassifier.from_preset(
        "qkformer_tiny", embed_dim=8, num_heads=2, time_steps=2, num_classes=3
    )
    # Entries of one image, 8x8, two steps; see the sizes in `test_run.py`.
    stem = (64 + 128) + (256 + 512 + 512)
    token_block = 6 * 512 + 512 + 2 * 2048 + 512
    second = (512 + 1024) + (1024 + 1024 + 256) + 256
    self_block = 10 * 256 + 256 + 2 * 1024 + 256
    kept = stem + token_block + second + self_block
    assert operations.kept_entries(model) == kept
    weights = sum(int(keras.ops.size(v)) for v in model.trainable_variables)
    assert operations.held_bytes(model, 5) == 16 * weights + 5 * 2 * kept


@pytest.mark.skipif(keras.backend.backend() != "jax", reason="lowers with JAX")
def test_the_step_has_fixed_shapes_bfloat16_and_nothing_for_the_host():
    import jax

    policy = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        model = QKFormerClassifier.from_preset("qkformer_tiny", time_steps=1)
        text = tpu_aot.lower_step(model, jax.devices()[:1], 4).as_text()
    finally:
        keras.config.set_dtype_policy(policy)
    convolved = [line for line in text.splitlines() if "convolution(" in line]
    assert len(convolved) > 30  # Forward, and the two gradients of each.
    assert all("bf16>" in line and "f32>" not in line for line in convolved)
    words = ("infeed", "outfeed", "send", "recv", "callback", "custom_call", "tensor<?")
    assert [word for word in words if word in text] == []


CHIP = scaling.Chip(
    flops=100.0,
    memory=1.0,
    bandwidth=10.0,
    ring=8.0,
    pod=16,
    network=4.0,
    clock=None,
)


@pytest.mark.backend_independent
def test_step_of_a_pod_by_hand():
    # A torus of 4 x 4: 8 hops for each of 3 sums; a ring of 16 sends 15/8 of 64 bytes.
    step = scaling.estimate(CHIP, 16, 200.0, 50.0, 3, 64.0)
    assert (step.arithmetic, step.memory) == (2.0, 5.0)
    assert step.gradients == pytest.approx(2 * 15 / 16 * 64 / 8)
    assert step.latency == pytest.approx(3 * 8e-6)
    assert step.total == pytest.approx(5.0 + 15.0 + 24e-6)


@pytest.mark.backend_independent
def test_step_of_four_pods_by_hand():
    step = scaling.estimate(CHIP, 64, 900.0, 50.0, 3, 64.0)
    assert step.gradients == pytest.approx(15.0 + 2 * 3 / 4 * 64 / 4)
    assert step.latency == pytest.approx(3 * 58e-6)
    assert step.total == pytest.approx(9.0 + 15.0 + 24.0 + 174e-6)


@pytest.mark.backend_independent
@pytest.mark.parametrize("chips, sides", [(8, (2, 4)), (16, (4, 4)), (128, (8, 16))])
def test_sides_of_a_torus(chips, sides):
    assert scaling.torus(chips) == sides


@pytest.mark.backend_independent
def test_page_is_that_of_the_results():
    text = scaling.PAGE.read_text()
    assert scaling.page(text, scaling.load_results()) == text, (
        "docs/tpu.md is made by: python -m benchmarks.scaling"
    )


@pytest.mark.backend_independent
def test_page_without_marks_is_an_error():
    with pytest.raises(ValueError, match="marks of its tables"):
        scaling.page("nothing", [])


@pytest.mark.backend_independent
def test_no_compiled_step_moves_activations_between_chips():
    results = scaling.load_results()
    assert results
    for result in results:
        assert result["collectives"]["others"] == [], result["preset"]
