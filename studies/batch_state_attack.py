"""Can one user's image change the prediction of another's in the same batch?

    python studies/batch_state_attack.py runs/batch_state attack.json

takes the trainings of `studies/batch_state.py` on the digits. In batches of two, each
of 100 test images (the victims) follows each of 32 others (the attackers): two further
test images of every class, a black and a white image, and ten of noise. With the
published state, potentials of self-attention run on from the attacker to the victim;
with the default, every sample starts from rest. Counted are the victims that some
attacker moves to another class than the one that they get alone. The logits of a victim
behind two attackers are compared to the last bit: those of a victim alone, in a batch
of another size, may differ by rounding.
"""

import sys
from pathlib import Path

import numpy as np

from keras_qkformer.files import write_json
from keras_qkformer.models.loading import input_shape_of
from keras_qkformer.provenance import provenance
from keras_qkformer.trained import RESULTS_FILE, load_trained
from keras_qkformer.training.setup import examples_for
from keras_qkformer.training.workdir import read_recipe

VICTIMS = 100


def attackers_among(images, labels):
    """Pixels of the attackers, `(32, height, width, channels)`."""
    rest = np.arange(VICTIMS, len(labels))
    own = [i for c in np.unique(labels) for i in rest[labels[rest] == c][:2]]
    noise = np.random.default_rng(0).integers(0, 256, (10, *images.shape[1:]))
    flat = [np.full_like(images[0], value) for value in (0, 255)]
    return np.concatenate([images[own], flat, noise])


def attack(workdir, state):
    """Attack the model of a training in a membrane state, and count."""
    trained = load_trained(workdir, membrane_state=state)
    recipe = read_recipe(workdir)
    examples = examples_for(recipe, input_shape_of(trained.folder))
    images, labels = examples.held_out(recipe.data.test)
    attackers = trained.prepared(attackers_among(images, labels))
    victims = trained.prepared(images[:VICTIMS])
    alone = np.concatenate(
        [trained.model.predict_on_batch(victims[i : i + 1]) for i in range(VICTIMS)]
    )
    behind = np.array(
        [
            [
                trained.model.predict_on_batch(np.stack([attacker, victim]))[1]
                for attacker in attackers
            ]
            for victim in victims
        ]
    )
    moved = behind.argmax(-1) != alone.argmax(-1)[:, None]
    return {
        "training": str(Path(workdir).name),
        "membrane_state": state,
        "victims": VICTIMS,
        "attackers": len(attackers),
        "moved_victims": int(moved.any(1).sum()),
        "moved_pairs": int(moved.sum()),
        "largest_change_of_a_logit": float(np.abs(behind - alone[:, None]).max()),
        "largest_difference_between_attackers": float(np.ptp(behind, axis=1).max()),
    }


def finished(folder):
    """The workdirs of a variant whose training is finished."""
    return sorted(path.parent for path in folder.glob(f"*/{RESULTS_FILE}"))


if __name__ == "__main__":
    folder, out = map(Path, sys.argv[1:])
    found = [
        {"variant": variant, **attack(workdir, state)}
        for variant in ("sample_digits", "batch_digits")
        for workdir in finished(folder / variant)
        for state in ("sample", "batch")
    ]
    write_json(out, {"runs": found, **provenance()})
    for one in found:
        print(*one.values())
