"""Jobs on a Slurm cluster: ask, submit once, watch, judge, cancel. Knows neither NeMo-Run nor submitit nor Prefect."""
