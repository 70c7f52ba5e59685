"""Keras layers on `(batch, time, height, width, channels)`: neurons to blocks."""

from keras_qkformer.layers.batch_norm import BatchNorm
from keras_qkformer.layers.channel_qk_attention import ChannelQKAttention
from keras_qkformer.layers.conv_bn_lif import ConvBNLIF
from keras_qkformer.layers.depthwise_mixer import DepthwiseMixer
from keras_qkformer.layers.lif import IF, LIF, ParametricLIF
from keras_qkformer.layers.patch_embedding import PatchEmbedding
from keras_qkformer.layers.preprocessor import Preprocessor
from keras_qkformer.layers.qkformer_block import QKFormerBlock
from keras_qkformer.layers.sew_block import SEWBlock
from keras_qkformer.layers.spike_driven_attention import SpikeDrivenAttention
from keras_qkformer.layers.spike_max_pool import SpikeMaxPool
from keras_qkformer.layers.spiking_block import SpikingBlock
from keras_qkformer.layers.spiking_mlp import SpikingMLP
from keras_qkformer.layers.spiking_patch_splitting import SpikingPatchSplitting
from keras_qkformer.layers.spiking_self_attention import SpikingSelfAttention
from keras_qkformer.layers.token_qk_attention import TokenQKAttention

__all__ = [
    "IF",
    "LIF",
    "BatchNorm",
    "ChannelQKAttention",
    "ConvBNLIF",
    "DepthwiseMixer",
    "ParametricLIF",
    "PatchEmbedding",
    "Preprocessor",
    "QKFormerBlock",
    "SEWBlock",
    "SpikeDrivenAttention",
    "SpikeMaxPool",
    "SpikingBlock",
    "SpikingMLP",
    "SpikingPatchSplitting",
    "SpikingSelfAttention",
    "TokenQKAttention",
]
