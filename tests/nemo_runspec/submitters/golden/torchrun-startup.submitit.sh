#!/bin/bash

# Parameters
#SBATCH --nodes=1
#SBATCH --ntasks-per-node=1

# command
export SUBMITIT_EXECUTOR=slurm
exec srun --unbuffered --kill-on-bad-exit=1 --chdir=/@job-dir@/code bash -c $'set -e\x0apip install \'x y\'\x0acd /src\x0aexec /venv/bin/python -m nemo_runspec.launch torchrun --nproc-per-node 2 -- /venv/bin/python /@job-dir@/code/train.py --config /@job-dir@/train.yaml'
