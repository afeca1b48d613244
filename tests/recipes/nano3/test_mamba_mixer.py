import pytest
import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812  (its usual name)

from nemotron.recipes.nano3.mamba_mixer import CHUNK, causal_conv, chunked_scan, segment_ids
from nemotron.recipes.nano3.packed_batches import build_packed_params

Inputs = tuple[Tensor, Tensor, Tensor, Tensor, Tensor]


def draw_inputs(length: int) -> Inputs:
    """x, step, decay, b, c of 2 sequences with 4 heads in 2 groups."""
    generator = torch.Generator().manual_seed(length)
    x, b, c = (torch.randn(2, length, *rest, generator=generator).double() for rest in ((4, 3), (2, 5), (2, 5)))
    step = torch.rand(2, length, 4, generator=generator).double() * 0.5
    return x, step, -torch.tensor([0.1, 0.5, 1.0, 8.0]).double(), b, c


def recur(x: Tensor, step: Tensor, decay: Tensor, b: Tensor, c: Tensor, segments: Tensor | None = None) -> Tensor:
    """The recurrence as the paper has it, token by token."""
    ids = torch.zeros(x.shape[1]).long() if segments is None else segments
    begins = F.pad(ids.diff() != 0, (1, 0), value=True)
    b, c = (each.repeat_interleave(x.shape[2] // b.shape[2], dim=2) for each in (b, c))
    state = torch.zeros(*x.shape[:1], *x.shape[2:], b.shape[3]).double()
    outputs = []
    for t in range(x.shape[1]):
        kept = state * torch.exp(step[:, t] * decay)[..., None, None] * ~begins[t]
        state = kept + step[:, t, :, None, None] * x[:, t, :, :, None] * b[:, t, :, None, :]
        outputs.append((state * c[:, t, :, None, :]).sum(-1))
    return torch.stack(outputs, dim=1)


@pytest.mark.parametrize("length", [1, 3, CHUNK - 1, CHUNK, CHUNK + 1, 2 * CHUNK, 3 * CHUNK + 7])
def test_the_chunked_scan_equals_the_recurrence(length: int) -> None:
    inputs = draw_inputs(length)
    torch.testing.assert_close(chunked_scan(*inputs), recur(*inputs), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("chunk", [1, 4, 7, 64])
def test_the_chunk_length_does_not_matter(chunk: int) -> None:
    inputs = draw_inputs(50)
    torch.testing.assert_close(chunked_scan(*inputs, chunk=chunk), recur(*inputs), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize(
    "lengths",
    [[10, 90], [5, 3, 1, 1, 90], [31, 1, 68], [32, 32, 36], [33, 62, 5], [70, 30], [1] * 100],
    ids=["early", "many in a chunk", "before a border", "at borders", "across borders", "over two chunks", "singles"],
)
def test_a_segment_starts_from_a_zero_state(lengths: list[int]) -> None:
    inputs, segments = draw_inputs(100), torch.arange(len(lengths)).repeat_interleave(torch.tensor(lengths))
    torch.testing.assert_close(chunked_scan(*inputs, segments), recur(*inputs, segments), rtol=1e-10, atol=1e-12)


def test_the_scans_gradient_equals_the_recurrences() -> None:
    inputs, segments = draw_inputs(70), torch.tensor([0] * 20 + [1] * 50)
    wanted = torch.autograd.grad(recur(*require_grad(inputs), segments).square().sum(), inputs)
    given = torch.autograd.grad(chunked_scan(*inputs, segments).square().sum(), inputs)
    torch.testing.assert_close(given, wanted, rtol=1e-9, atol=1e-11)


def test_the_scan_stays_finite_where_the_decay_is_extreme() -> None:
    x, step, decay, b, c = require_grad(draw_inputs(100))
    y = chunked_scan(x, step * 1000, decay * 1000, b, c)
    gradients = torch.autograd.grad(y.sum(), (x, step, decay, b, c))
    assert all(part.isfinite().all() for part in (y, *gradients))


def test_the_convolution_is_torchs_depthwise_one_of_the_tokens_before() -> None:
    x, weight = torch.randn(2, 20, 6).double(), torch.randn(4, 6).double()
    padded = F.pad(x.transpose(1, 2), (3, 0))
    wanted = F.conv1d(padded, weight.T[:, None], groups=6).transpose(1, 2)
    torch.testing.assert_close(causal_conv(x, weight), wanted)


@pytest.mark.parametrize("lengths", [[20], [1, 2, 3, 14], [10, 10], [19, 1]])
def test_the_convolution_of_segments_equals_that_of_separate_pieces(lengths: list[int]) -> None:
    x, weight = torch.randn(1, 20, 6).double(), torch.randn(4, 6).double()
    wanted = torch.cat([causal_conv(piece, weight) for piece in x.split(lengths, dim=1)], dim=1)
    segments = torch.arange(len(lengths)).repeat_interleave(torch.tensor(lengths))
    torch.testing.assert_close(causal_conv(x, weight, segments), wanted)


def test_tokens_are_numbered_by_the_segment_between_the_bounds() -> None:
    packed = build_packed_params(torch.tensor([0, 2, 3, 6], dtype=torch.int32))
    segments = segment_ids(packed, 6, torch.device("cpu"))
    assert segments is not None
    assert segments.tolist() == [0, 0, 1, 2, 2, 2]


def test_there_are_no_segments_where_nothing_is_packed() -> None:
    assert segment_ids(None, 6, torch.device("cpu")) is None


def require_grad(inputs: Inputs) -> Inputs:
    x, step, decay, b, c = (each.requires_grad_() for each in inputs)
    return x, step, decay, b, c
