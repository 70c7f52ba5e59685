#!/bin/bash
# One task per GPU, on two nodes of four: sbatch docs/launch/slurm.sh recipes/cifar10.py
#SBATCH --job-name=qkformer
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=4
#SBATCH --gpus-per-node=4
#SBATCH --cpus-per-task=8
#SBATCH --time=24:00:00
#SBATCH --requeue

set -euo pipefail
recipe=${1:?"a recipe file, such as recipes/cifar10.py"}
# On a file system that all nodes see.
workdir=${2:-runs/$(basename "$recipe" .py)}
export KERAS_BACKEND=jax

# JAX finds the nodes and its GPU in Slurm's variables. A task that fails ends all; a job
# that is queued again goes on from the last epoch.
srun --kill-on-bad-exit=1 \
  keras-qkformer fit "$recipe" --workdir "$workdir" --hosts auto
