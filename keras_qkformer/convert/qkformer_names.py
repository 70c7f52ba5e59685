"""The names of the authors' tensors for the parts of our models (data only).

There are two published code bases: the authors' own, whose residuals add spikes, and
MS-QKFormer of bic-L/MaxFormer, whose residuals add potentials. A unit is a convolution
and a BatchNorm; `{}` in its name stands for `CONV` or `NORM`.
"""

# (residual, family) -> names of the units of the first patch embedding, in order.
STEM_UNITS = {
    ("add", "imagenet"): ("proj_{}", "proj1_{}", "proj2_{}"),
    ("add", "cifar"): ("proj_{}", "proj1_{}"),
    ("add", "dvs"): ("proj_{}", "proj1_{}", "proj2_{}", "proj3_{}"),
    ("pre_activation", "imagenet"): ("proj_{}", "proj_{}1", "proj_{}2"),
}
STEM_SHORTCUT = {
    ("add", "imagenet"): "proj_res_{}",
    ("add", "cifar"): "proj_res_{}",
    ("add", "dvs"): "proj_res_{}",
    ("pre_activation", "imagenet"): "rpe_{}",
}
# (residual, family) -> names of the units of the later patch embeddings, in order.
STAGE_UNITS = {
    ("add", "imagenet"): ("proj3_{}", "proj4_{}"),
    ("add", "cifar"): ("proj3_{}", "proj4_{}"),
    ("add", "dvs"): ("proj_{}", "proj4_{}"),
    ("pre_activation", "imagenet"): ("proj3_{}", "proj4_{}"),
}
STAGE_SHORTCUT = "proj_res_{}"
# (residual, family) -> name of each kind of attention, and of the MLP's units.
ATTENTION = {
    ("add", "imagenet"): {"token": "tssa", "self": "attn"},
    ("add", "cifar"): {"token": "tssa", "self": "ssa"},
    ("add", "dvs"): {"token": "tssa", "self": "ssa"},
    ("pre_activation", "imagenet"): {"token": "attn", "self": "attn"},
}
ATTENTION_UNITS = {"query": "q_{}", "key": "k_{}", "value": "v_{}", "proj": "proj_{}"}
MLP_UNITS = {
    ("add", "imagenet"): ("fc1_{}", "fc2_{}"),
    ("add", "cifar"): ("mlp1_{}", "mlp2_{}"),
    ("add", "dvs"): ("mlp1_{}", "mlp2_{}"),
    ("pre_activation", "imagenet"): ("fc1_{}", "fc2_{}"),
}
# Names of the two halves of a unit.
CONV, NORM = "conv", "bn"
HEAD = "head"
# The linear units of attention are Conv1d there, with kernels (out, in, 1).
ATTENTION_NDIM = 3
