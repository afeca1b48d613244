#!/bin/bash

# Parameters
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1

# setup
ulimit -n 65536

# command
export SUBMITIT_EXECUTOR=slurm
exec srun --unbuffered --kill-on-bad-exit=1 --chdir=/@job-dir@/code /venv/bin/python -m nemo_runspec.launch torchrun --nproc-per-node 2 -- /venv/bin/python /@job-dir@/code/train.py --config /@job-dir@/train.yaml
