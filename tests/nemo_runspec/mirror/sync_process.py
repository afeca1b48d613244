"""`python sync_process.py STORE [REF]...`: send these, or all that waits, to the server of the environment."""

import sys

from nemo_runspec.artifacts import ArtifactStore
from nemo_runspec.mirror.server import WandbServer
from nemo_runspec.mirror.sync import sync

store = ArtifactStore(sys.argv[1])
only = [store.resolve(reference) for reference in sys.argv[2:]]
report = sync(store, WandbServer.from_environment(), only=only or None, timeout_s=200)
sys.exit(str(report.failed) if report.failed else 0)
