"""`python -m keras_qkformer` is `keras-qkformer`."""

import sys

from keras_qkformer.cli.arguments import PROGRAM
from keras_qkformer.cli.main import main

# What a training or an evaluation writes down as its command is the shorter one.
sys.argv[0] = PROGRAM
sys.exit(main())
