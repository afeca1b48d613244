#!/bin/bash

# Parameters
#SBATCH --account=llm
#SBATCH --constraint='a100|h100'
#SBATCH --contiguous
#SBATCH --cpus-per-task=4
#SBATCH --exclude=node3
#SBATCH --gres=gpu:2
#SBATCH --mem=64G
#SBATCH --nice=10
#SBATCH --nodelist='node[1-2]'
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=3
#SBATCH --partition=batch
#SBATCH --qos=high
#SBATCH --reservation='r 1'
#SBATCH --time=04:00:00

# setup
module load cuda
export GREETING='a b'

# command
export SUBMITIT_EXECUTOR=slurm
exec srun --unbuffered --kill-on-bad-exit=1 --cpus-per-task=4 --chdir=/@job-dir@/code /venv/bin/python -m nemo_runspec.launch direct --nproc-per-node 1 -- /venv/bin/python /@job-dir@/code/train.py --config /@job-dir@/train.yaml
