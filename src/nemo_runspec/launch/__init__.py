"""Starts a script on the nodes of a Slurm allocation: `python -m nemo_runspec.launch`, once on each node."""
