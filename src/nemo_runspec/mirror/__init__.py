"""The mirror of the artifact store on a W&B server: artifacts, lineage and metrics under the same names.

The store is the truth and never needs the mirror. `wandb` is imported in a helper process only, so that nothing of it
can take down or delay the process that trains or drives a run.
"""
