#!/usr/bin/env bash
# Train one model on every GPU of a machine, or of several; the arguments are those of
# `soundstorm train`. Run the same command again to resume.
#
#     examples/torchrun/train.sh tokens/ -o runs/a --model soundstorm --preset 350m
#
# On each of several machines:
#
#     NODES=4 HEAD=node0:29400 examples/torchrun/train.sh tokens/ -o runs/a ...
set -euo pipefail

nodes=${NODES:-1}
processes=${PROCESSES:-gpu} # of each machine; a number without GPUs
if [ "$nodes" = 1 ]; then
    meeting=(--standalone)
else
    meeting=(--rdzv-backend c10d --rdzv-endpoint "${HEAD:?the first machine, as node0:29400}")
fi

exec torchrun --nnodes "$nodes" --nproc-per-node "$processes" "${meeting[@]}" \
    -m soundstorm_cli train "$@"
