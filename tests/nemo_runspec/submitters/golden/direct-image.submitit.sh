#!/bin/bash

# Parameters
#SBATCH --account=llm
#SBATCH --exclusive
#SBATCH --gpus-per-node=8
#SBATCH --nodes=4
#SBATCH --ntasks-per-node=1

# command
export SUBMITIT_EXECUTOR=slurm
exec srun --unbuffered --kill-on-bad-exit=1 '--container-image=nvcr.io#nvidia/nemo:25.11' '--container-mounts=/lustre/data:/data:ro,/home/me/my models:/models,/@job-dir@:/@job-dir@,/@job-dir@:/nemo_run' --container-workdir=/nemo_run/code /venv/bin/python -m nemo_runspec.launch direct --nproc-per-node 8 -- /venv/bin/python /@job-dir@/code/train.py --config /@job-dir@/train.yaml
