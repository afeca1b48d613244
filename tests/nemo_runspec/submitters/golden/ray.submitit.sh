#!/bin/bash

# Parameters
#SBATCH --gpus-per-node=2
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1

# command
export SUBMITIT_EXECUTOR=slurm
exec srun --unbuffered --kill-on-bad-exit=1 --chdir=/@job-dir@/code /venv/bin/python -m nemo_runspec.launch ray --nproc-per-node 1 -- /venv/bin/python /@job-dir@/code/train.py --config /@job-dir@/train.yaml
