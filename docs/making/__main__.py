"""Makes what the pages need from the package: pictures, tutorials. In `build/docs`.

Also runs the Python of the pages.

    python docs/making
"""

import os
from pathlib import Path

os.environ.setdefault("KERAS_BACKEND", "tensorflow")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from keras_qkformer.backend import prepare_backend

ROOT = Path(__file__).parents[2]
MAKING = Path(__file__).parent
MADE = ROOT / "build" / "docs"


def main():
    """Make everything."""
    prepare_backend()
    from blocks import write_blocks
    from drawing import write_drawing
    from hero import hero
    from house import house
    from page_blocks import blocks, run
    from tutorials import fingerprint, write_tutorials

    pictures = MADE / "pictures"
    pictures.mkdir(parents=True, exist_ok=True)
    (pictures / "hero.svg").write_text(hero(ROOT / "weights" / "digits"))
    (pictures / "house.svg").write_text(house())
    write_blocks(pictures)
    os.chdir(ROOT)
    run(blocks())
    write_drawing(MADE / "assets" / "draw", fingerprint(MAKING / "drawing.py"))
    write_tutorials(MADE / "tutorials")


if __name__ == "__main__":
    main()
