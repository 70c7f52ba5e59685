"""Weights of the authors' code, and of MS-QKFormer, for our models."""

from keras_qkformer.convert.load import load_state_dict, weight_map

__all__ = ["load_state_dict", "weight_map"]
