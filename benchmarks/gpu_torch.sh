#!/bin/sh
# PyTorch compiled as a whole beside JAX, SpikingJelly and PyTorch uncompiled, on a GPU:
#
#     sh benchmarks/gpu_torch.sh NAME [more options of python -m benchmarks]
#
# 10-384 at 224 pixels, batch 64, bfloat16; training step and inference. The first process
# of each library compiles, the second finds its programs. No process starts after 4
# minutes or takes more than 5.5, so a call ends within 10; --resume FILE does the rest.
set -eu
cd "$(dirname "$0")/.."
name=${1:?the end of the name of the results file, such as h200}
shift
exec "${PYTHON:-python3}" -m benchmarks --device gpu --name "$name" \
    --case machine --case qkformer_10_384_imagenet \
    --subjects machine,ours-torch,ours-jax,spikingjelly,ours-torch-eager \
    --rounds 2 --steps 10 --minutes 4 --timeout 330 "$@"
