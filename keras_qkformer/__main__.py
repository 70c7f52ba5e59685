"""`python -m keras_qkformer` is `keras-qkformer`."""

import sys

from keras_qkformer.cli.arguments import PROGRAM
from keras_qkformer.cli.main import run_script

# Trainings and evaluations record their command: record the short form.
sys.argv[0] = PROGRAM
run_script()
