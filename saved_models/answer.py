"""Ask an exported model with plain TensorFlow: neither Keras nor this library is used.

    python saved_models/answer.py saved_models/digits/1 runs/digits/examples.npz

Prints predictions beside the true labels, and compares the logits with those that the
model gave when it was trained; exit status 1 if they differ.
"""

import sys

# Importing these now fails, so nothing below can need them.
sys.modules["keras"] = sys.modules["keras_qkformer"] = None

import numpy as np  # noqa: E402
import tensorflow as tf  # noqa: E402

TOLERANCE = 1e-5


def main(model_folder, examples_file):
    """Answer the examples; return the exit status."""
    examples = np.load(examples_file)
    serve = tf.saved_model.load(model_folder).signatures["predict_pixels"]
    images = examples["images"].astype("float32")
    answers = {k: v.numpy() for k, v in serve(images=tf.constant(images)).items()}
    print("label  prediction  probability")
    chosen, scores = answers["class_ids"][:, 0], answers["scores"][:, 0]
    for row in list(zip(examples["labels"], chosen, scores, strict=True))[:10]:
        print("{:>5}  {:>10}  {:>11.4f}".format(*row))
    right = int(np.sum(chosen == examples["labels"]))
    print(f"{right} of {len(images)} right")
    difference = 0.0
    for batch in (1, 3, len(images)):
        part = serve(images=tf.constant(images[:batch]))["logits"].numpy()
        distance = np.abs(part - examples["logits"][:batch]).max()
        difference = max(difference, float(distance))
    print(
        f"largest difference of logits from the trained model's, alone and in batches "
        f"of 3 and {len(images)}: {difference:.1e}"
    )
    return 0 if difference <= TOLERANCE else 1


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
