"""`python -m keras_qkformer` is `keras-qkformer`."""

import sys

from keras_qkformer_cli import main

sys.exit(main())
