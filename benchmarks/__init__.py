"""Measures speed and memory of keras_qkformer and of the libraries it competes with."""
