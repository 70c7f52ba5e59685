"""Speed and memory of keras_qkformer beside what its users would otherwise run."""
