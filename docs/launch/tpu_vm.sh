#!/bin/bash
# All hosts of a TPU pod slice: docs/launch/tpu_vm.sh NAME ZONE RECIPE WORKDIR
# The package, jax[tpu] and the data are on every host; WORKDIR is a folder that all of
# them see, such as a mounted file store.

set -euo pipefail
name=${1:?"name of the TPU VM"} zone=${2:?"its zone"} recipe=${3:?"a recipe file"}
workdir=${4:?"a folder that all hosts see"}

gcloud compute tpus tpu-vm ssh "$name" --zone="$zone" --worker=all --command="
  KERAS_BACKEND=jax keras-qkformer fit '$recipe' --workdir '$workdir' --hosts auto"
