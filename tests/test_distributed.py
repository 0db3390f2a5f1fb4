"""cnnext.distributed: two and three processes on this machine beside one."""

from __future__ import annotations

import sys
from pathlib import Path

import cnnext as cx
import numpy as np
import pytest
from cnnext import distributed, nn

sys.path.insert(0, str(Path(__file__).parent))
import distributed_worker as worker
from processes import HAS, launch

WORKER = str(Path(worker.__file__))
LAUNCHERS = [
    pytest.param("torch", marks=pytest.mark.skipif(not HAS["torch"], reason="torch is not installed")),
    pytest.param("mpi", marks=pytest.mark.skipif(not HAS["mpi"], reason="no mpi4py, or no mpirun")),
]


def run(launcher: str, size: int, folder: Path, scenario: str = "results") -> list[dict[str, np.ndarray]]:
    for status, output in launch(launcher, size, [WORKER, str(folder), scenario]):
        assert status == 0, output
    return [dict(np.load(folder / f"{scenario}-{rank}.npz")) for rank in range(size)]


def alone() -> dict[str, np.ndarray]:
    """What one process gets from whole batches."""
    images, labels = worker.data()
    found = {}
    for name, norm in (("plain", nn.Identity()), ("sync", nn.BatchNorm2d(4))):
        for key, value in worker.train(worker.make(norm, 1), images, labels).items():
            found[f"{name}.{key}"] = value
    return found


@pytest.mark.parametrize("launcher", LAUNCHERS)
@pytest.mark.parametrize("size", [2, 3])
def test_shares_of_a_batch_are_the_whole(launcher: str, size: int, tmp_path: Path) -> None:
    found, want = run(launcher, size, tmp_path), alone()
    for other in found[1:]:
        assert other.keys() == found[0].keys()
        for name, value in found[0].items():
            assert value.tobytes() == other[name].tobytes(), name
    for name, value in want.items():
        np.testing.assert_allclose(found[0][name], value, rtol=2e-5, atol=2e-6, err_msg=name)
    whole = want["plain.grad.conv1.weight"]
    np.testing.assert_allclose(found[0]["accumulated.conv1"], whole, rtol=2e-5, atol=2e-6)
    # One process's gradient, over all of them.
    images, labels = worker.data()
    model, share = worker.make(nn.Identity(), 1), worker.BATCH // size
    logits = model(cx.Tensor(images[:share]), branch=True)
    nn.functional.cross_entropy(logits, labels[:share]).backward()
    np.testing.assert_allclose(
        found[0]["branch.sometimes"], model.sometimes.weight.grad.numpy() / size, rtol=2e-5, atol=2e-6
    )


@pytest.mark.parametrize("launcher", LAUNCHERS)
def test_the_same_bits_run_after_run(launcher: str, tmp_path: Path) -> None:
    first = run(launcher, 2, tmp_path, "first")[0]
    second = run(launcher, 2, tmp_path, "second")[0]
    for name, value in first.items():
        assert value.tobytes() == second[name].tobytes(), name


@pytest.mark.parametrize("launcher", LAUNCHERS)
def test_a_killed_process_ends_the_others(launcher: str, tmp_path: Path) -> None:
    ended = launch(launcher, 2, [WORKER, str(tmp_path), "die"])
    assert ended[0][0] != 0
    if launcher == "torch":
        assert ended[0][0] == 3, ended[0][1]
        assert "DistributedError: rank 0 of 2" in ended[0][1]
        assert "another process has ended or does not answer" in ended[0][1]
    saved = cx.load(tmp_path / "saved.safetensors")
    worker.make(nn.Identity(), 2).load_state_dict(saved)


def test_without_a_launcher_there_is_one_process(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RANK", "WORLD_SIZE", "OMPI_COMM_WORLD_SIZE", "PMI_SIZE"):
        monkeypatch.delenv(name, raising=False)
    group = distributed.init()
    assert (group.rank, group.size) == (0, 1)
    group.barrier()
    images, labels = worker.data()
    model = distributed.DistributedDataParallel(worker.make(nn.BatchNorm2d(4), 1))
    found = worker.train(model, images, labels)
    for name, value in worker.train(worker.make(nn.BatchNorm2d(4), 1), images, labels).items():
        kind, _, rest = name.partition(".")
        assert found[f"{kind}.module.{rest}"].tobytes() == value.tobytes()
    sync = distributed.SyncBatchNorm2d.convert_sync_batchnorm(nn.Sequential(nn.BatchNorm2d(2)))
    assert type(sync[0]) is distributed.SyncBatchNorm2d
    assert list(sync.state_dict()) == list(nn.Sequential(nn.BatchNorm2d(2)).state_dict())


def test_bad_input() -> None:
    with pytest.raises(ValueError, match="backend='smoke' must be 'torch' or 'mpi'"):
        distributed.init("smoke")
    with pytest.raises(TypeError, match="module must be a Module, got int"):
        distributed.DistributedDataParallel(1)
    with pytest.raises(ValueError, match="bucket_cap_mb=0 must be > 0"):
        distributed.DistributedDataParallel(nn.Linear(1, 1), bucket_cap_mb=0)


class Pretended(distributed.Group):
    """Two processes of which the other has what this one has, times `factor`, behind it."""

    size = 2
    factor = 3.0

    def all_gather(self, send: np.ndarray, receive: np.ndarray) -> None:
        slices = receive.reshape(2, *send.shape)
        slices[0], slices[1] = send, send


def test_a_backward_that_failed_is_forgotten() -> None:
    from cnnext import leaf_hooks

    leaf, ends = cx.Tensor(np.ones(2, np.float32), requires_grad=True), []

    def hook(_: cx.Tensor) -> None:
        leaf_hooks.at_end(ends.append)
        if len(ends) == 1:
            raise RuntimeError("in a hook")

    handle = leaf.register_post_accumulate_grad_hook(hook)
    for fails in (False, True, False):
        if fails:
            with pytest.raises(RuntimeError, match="in a hook"):
                leaf.sum().backward()
        else:
            leaf.sum().backward()
    assert ends == [True, False, True]
    handle.remove()
    leaf.sum().backward()
    assert len(ends) == 3
    assert leaf.grad.numpy().tolist() == [4, 4]
    with pytest.raises(RuntimeError, match="only for leaves"):
        (leaf * 2).register_post_accumulate_grad_hook(hook)
    with pytest.raises(TypeError, match="hook must be callable, got int"):
        leaf.register_post_accumulate_grad_hook(1)


def test_hooks_see_complete_gradients_as_soon_as_they_are() -> None:
    a, b = (cx.Tensor(np.full(2, v, np.float32), requires_grad=True) for v in (2, 3))
    seen: list[tuple[str, list[float], bool]] = []
    for name, leaf in (("a", a), ("b", b)):
        leaf.register_post_accumulate_grad_hook(
            lambda t, name=name: seen.append((name, t.grad.numpy().tolist(), a.grad is None))
        )
    y = a * a  # reached last, by two edges
    for _ in range(3):
        y = y + b
    y.sum().backward()
    assert seen == [("b", [3, 3], True), ("a", [4, 4], False)]


def test_sync_batch_norm_of_equal_shares_is_batch_norm() -> None:
    x = np.random.default_rng(0).standard_normal((4, 3, 5, 2)).astype(np.float32)
    results = []
    for norm in (nn.BatchNorm2d(3), distributed.SyncBatchNorm2d(3, group=Pretended())):
        images = cx.Tensor(x, requires_grad=True)
        y = norm(images)
        (y * cx.Tensor(x)).sum().backward()
        results.append([y.detach().numpy(), images.grad.numpy(), norm.weight.grad.numpy()])
    for got, want in zip(results[1], results[0], strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-5)
    images = cx.Tensor(x, requires_grad=True)
    with pytest.raises(NotImplementedError, match="gradients of gradients"):
        cx.grad(norm(images).sum(), images, create_graph=True)
