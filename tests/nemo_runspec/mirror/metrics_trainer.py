"""A training as `MetricsLog` sees it: `FIRST LAST TOTAL PAUSE_S [HEAD]` logs the steps and says what they cost.

HEAD is code that runs before anything else. With an output name in its environment it publishes a model afterwards.
"""

import json
import os
import sys
import time

if len(sys.argv) > 5:
    exec(sys.argv[5])

from pathlib import Path

from nemo_runspec.artifacts import ModelArtifact, log_artifact, setup_artifact_tracking
from nemo_runspec.metrics_log import MetricsLog


def main() -> None:
    first, last, total = (int(word) for word in sys.argv[1:4])
    pause_s = float(sys.argv[4])
    tracking = setup_artifact_tracking({})
    begin = time.perf_counter()
    metrics = MetricsLog(total=total, config={"optimizer": {"lr": 0.25}})
    start_s = time.perf_counter() - begin
    slowest_s = 0.0
    for step in range(first, last + 1):
        begin = time.perf_counter()
        metrics.log(step, {"loss": 1 / step, "lr": 0.25, "tokens_per_s": 900.0})
        slowest_s = max(slowest_s, time.perf_counter() - begin)
        time.sleep(pause_s)
    model = Path(os.environ["NEMO_RUN_DIR"], "model")
    model.mkdir(exist_ok=True)
    (model / "weights").write_text("w")
    log_artifact(ModelArtifact(path=model, step=last), tracking)
    imported = sorted(name for name in sys.modules if name.split(".")[0] == "wandb" and sys.modules[name] is not None)
    sys.stdout.write(json.dumps({"start_s": start_s, "slowest_s": slowest_s, "wandb": imported}) + "\n")


if __name__ == "__main__":
    main()
