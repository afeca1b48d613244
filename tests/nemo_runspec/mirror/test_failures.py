"""What a failure in the helper process is called."""

import pytest
from wandb_server.server import WandbServerProcess

from nemo_runspec.mirror.failures import explain


@pytest.fixture(autouse=True)
def helper(wandb_double: WandbServerProcess, monkeypatch: pytest.MonkeyPatch) -> None:
    """The environment of the helper process."""
    monkeypatch.setenv("WANDB_BASE_URL", wandb_double.url)
    monkeypatch.setenv("WANDB_API_KEY", wandb_double.key)


@pytest.mark.parametrize(
    "error",
    [
        PermissionError(13, "Permission denied", "/lustre/store/mirrors/wandb.lock"),
        RuntimeError("[Errno 13] Permission denied: '/lustre/store/mirrors/wandb.lock'"),
        RuntimeError("open /lustre/store/mirrors/wandb.lock: permission denied"),
        OSError(28, "No space left on device", "/lustre/store/mirrors/wandb.lock"),
    ],
)
def test_a_file_that_cannot_be_used_is_not_laid_to_the_server(error: Exception) -> None:
    told = str(explain(error))
    assert "/lustre/store/mirrors/wandb.lock" in told
    assert told.endswith("; correct that on this machine, then run nemotron artifacts sync")
    assert "W&B" not in told


@pytest.mark.parametrize("text", ["returned error 403: permission denied", "PUT https://w.example/x: 403 Forbidden"])
def test_a_refusal_of_the_server_is_told_as_such(text: str) -> None:
    assert "denied permission" in str(explain(RuntimeError(text)))
