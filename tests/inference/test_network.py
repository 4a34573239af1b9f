"""Networks: what they see, what they cost, that a file gives the same one, and that one tile is the same bytes wherever it is computed."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from inference.models import LEARN, VOXEL_UM, identity, tiny, weights, with_card

from cristae.errors import InvalidConfiguration, InvalidInput, MissingExtra
from cristae.inference import build_network, card_of, load_model, save_model, unet
from cristae.inference.card import contents, read_card, read_tensors, written
from cristae.inference.network import counted
from cristae.inference.process import computing

torch = pytest.importorskip("torch", reason=LEARN)

NETS = [
    ((0.1, 0.1), (2, 3, 4)),
    ((0.1, 0.1, 0.1), (2, 3)),
    ((0.1, 0.1, 0.1), (2, 3, 4)),
    ((0.3, 0.1, 0.1), (2, 3, 4)),
    ((0.25, 0.11, 0.1), (3,)),
    ((0.9, 0.1, 0.1), (2, 2, 2)),
]


def positive(hyper: dict[str, Any], ndim: int) -> Any:
    """A network in which every path counts: weights above 0, and the mean of a pool in place of its largest."""
    from torch.nn import functional

    network = build_network("unet", hyper, ndim).double().eval()
    network.pool = (functional.avg_pool2d, functional.avg_pool3d)[ndim - 2]
    for name, tensor in network.state_dict().items():
        if "num_batches" not in name:
            tensor.fill_(1.0 if "running" in name else 0.1)
    return network


@pytest.mark.parametrize(("voxel_um", "features"), NETS)
def test_the_reach_is_what_gradients_see(voxel_um: tuple[float, ...], features: tuple[int, ...]) -> None:
    ndim = len(voxel_um)
    hyper = unet.hyper_of(voxel_um, features)
    stride, reach = unet.stride(hyper), unet.reach(hyper)
    network = positive(hyper, ndim)
    # One axis at a time; the others as short as they may be.
    for axis in range(ndim):
        shape = list(stride)
        middle = (reach[axis] // stride[axis] + 2) * stride[axis]
        shape[axis] = 2 * middle
        seen = 0
        for place in range(middle, middle + stride[axis]):
            x = torch.ones(1, 1, *shape, dtype=torch.float64, requires_grad=True)
            at = [0] * ndim
            at[axis] = place
            network(x)[(0, 0, *at)].backward()
            touched = np.flatnonzero(x.grad.numpy()[0, 0].any(axis=tuple(a for a in range(ndim) if a != axis)))
            seen = max(seen, place - touched[0], touched[-1] - place)
        assert seen == reach[axis], f"axis {axis}"


@pytest.mark.parametrize(("voxel_um", "features"), NETS)
def test_the_work_is_what_a_run_counts(voxel_um: tuple[float, ...], features: tuple[int, ...]) -> None:
    hyper = unet.hyper_of(voxel_um, features, outputs=2)
    card = card_of("unet", hyper, voxel_um=voxel_um, classes=("a", "b"))
    found = counted(build_network("unet", hyper, len(voxel_um)), card)
    np.testing.assert_allclose(found, (card.multiplications, card.activation_bytes), rtol=1e-12)


def test_the_weights_are_called_as_they_are_listed_and_few() -> None:
    for voxel_um, features in NETS:
        for norm in unet.NORMS:
            hyper = unet.hyper_of(voxel_um, features, norm=norm)
            found = build_network("unet", hyper, len(voxel_um)).state_dict()
            assert {n: tuple(t.shape) for n, t in found.items()} == unet.tensors(hyper)
    for voxel_um in ((0.1, 0.1), (0.3, 0.1, 0.1), (0.1, 0.1, 0.1)):
        shapes = unet.tensors(unet.hyper_of(voxel_um)).values()
        assert sum(int(np.prod(s)) for s in shapes) < 500_000


def test_thin_axes_are_pooled_and_convolved_late() -> None:
    hyper = unet.hyper_of((0.4, 0.1, 0.1), (2, 2, 2))
    assert hyper["kernels"] == [[1, 3, 3], [1, 3, 3], [3, 3, 3]] and hyper["pools"] == [[1, 2, 2], [1, 2, 2]]
    assert unet.stride(hyper) == (1, 4, 4) and unet.reach(hyper)[0] == 2


MONAI = {
    "BasicUNet": {"in_channels": 1, "out_channels": 2, "features": [4, 4, 4, 4, 4, 4], "norm": "batch"},
    "DynUNet": {
        "in_channels": 1,
        "out_channels": 2,
        "kernel_size": [3, 3, 3],
        "strides": [1, 2, 2],
        "upsample_kernel_size": [2, 2],
        "filters": [4, 4, 4],
    },
    "FlexibleUNet": {
        "in_channels": 1,
        "out_channels": 2,
        "backbone": "efficientnet-b3",
        "decoder_channels": [16, 8, 8, 8, 8],
    },
}


@pytest.mark.parametrize("name", MONAI)
def test_networks_of_monai_come_back_from_their_file(name: str, tmp_path: Path) -> None:
    pytest.importorskip("monai", reason="the extra learn is not installed: monai")
    torch.manual_seed(0)
    network = build_network(name, MONAI[name], 2).eval()
    card = card_of(name, MONAI[name], voxel_um=(0.1, 0.1), classes=("a", "b"), activation="softmax", tile=(64, 64))
    assert card.reach is None and card.stride == {"BasicUNet": (16, 16), "DynUNet": (4, 4)}.get(name, (32, 32))
    save_model(tmp_path / "m.safetensors", network, card)
    loaded = load_model(tmp_path / "m.safetensors")
    assert loaded.card.multiplications > 500 and loaded.card.activation_bytes > 16
    x = np.random.default_rng(0).normal(size=(64, 64)).astype(np.float32)
    with computing(), torch.inference_mode():
        expected = network(torch.from_numpy(x)[None, None])[0].softmax(0).numpy()
    np.testing.assert_allclose(loaded(x), expected, rtol=0, atol=1e-6)


def test_a_trained_network_comes_back(tmp_path: Path) -> None:
    torch.manual_seed(1)
    hyper = unet.hyper_of((0.3, 0.1, 0.1), (2, 4))
    network = build_network("unet", hyper, 3)
    with torch.no_grad():
        for tensor in network.parameters():
            tensor.add_(0.3 * torch.rand_like(tensor))
    network.train()(5 * torch.rand(2, 1, 4, 8, 8))  # its batch normalisation has seen something
    sha = save_model(
        tmp_path / "m.safetensors", network, card_of("unet", hyper, voxel_um=(0.3, 0.1, 0.1), classes=("mito",))
    )
    x = torch.rand(4, 8, 8)
    with computing(), torch.inference_mode():
        expected = network.eval()(x[None, None])[0].sigmoid().numpy()
    loaded = load_model(tmp_path / "m.safetensors", sha)
    np.testing.assert_allclose(loaded(x.numpy()), expected, rtol=0, atol=1e-5)
    assert np.ptp(expected) > 0.05 and not any(isinstance(m, torch.nn.BatchNorm3d) for m in loaded.module.modules())
    assert hashlib.sha256((tmp_path / "m.safetensors").read_bytes()).hexdigest() == sha
    safetensors = pytest.importorskip("safetensors.torch", reason="the extra learn is not installed: safetensors")
    assert set(safetensors.load_file(tmp_path / "m.safetensors")) == set(network.state_dict())


def test_the_identity_gives_its_input() -> None:
    for ndim in (2, 3):
        network = load_model(identity(ndim, activation="none"))
        x = np.random.default_rng(ndim).normal(size=(5,) * ndim).astype(np.float32)
        np.testing.assert_allclose(network(x)[0], x, rtol=0, atol=1e-6)


def test_a_mirrored_network_is_the_mean_over_flips() -> None:
    network = load_model(tiny())
    x = np.random.default_rng(0).normal(size=(4, 8, 6)).astype(np.float32)
    flips = [[a for a in range(3) if n >> a & 1] for n in range(8)]
    expected = np.mean([np.flip(network(np.flip(x, f)), [a + 1 for a in f]) for f in flips], axis=0)
    np.testing.assert_allclose(network(x, mirror=True), expected, atol=1e-6)
    assert np.abs(network(x, mirror=True) - network(x)).max() > 1e-3


def test_a_network_that_knows_no_left_or_right_is_not_changed_by_mirrors(tmp_path: Path) -> None:
    hyper = unet.hyper_of(VOXEL_UM[3], (2, 4))
    tensors = weights(hyper, 3)
    for name, array in tensors.items():
        if array.ndim == 5:
            every = [np.flip(array, [a + 2 for a in range(3) if n >> a & 1]) for n in range(8)]
            tensors[name] = np.mean(every, axis=0, dtype=np.float64).astype(np.float32)
    card = card_of("unet", hyper, voxel_um=VOXEL_UM[3], classes=("mito",))
    written(tmp_path / "even.safetensors", card, tensors)
    network = load_model(tmp_path / "even.safetensors")
    x = np.random.default_rng(0).normal(size=(4, 8, 6)).astype(np.float32)
    np.testing.assert_allclose(network(x, mirror=True), network(x), atol=1e-6)
    assert np.ptp(network(x)) > 0.05


def test_a_tile_is_the_same_bytes_in_every_thread_whatever_torch_was_set_to() -> None:
    network = load_model(tiny(features=(8, 16, 16)))
    x = np.random.default_rng(0).normal(size=(8, 32, 32)).astype(np.float32)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(4)
        first = network(x).tobytes()
        with ThreadPoolExecutor(3) as pool:
            assert set(pool.map(lambda _: network(x).tobytes(), range(6))) == {first}
        assert torch.get_num_threads() == 4 and not torch.are_deterministic_algorithms_enabled()
    finally:
        torch.set_num_threads(before)


def test_memory_is_not_filled_before_it_is_used_and_torch_is_left_as_it_was() -> None:
    from torch.utils import deterministic

    assert deterministic.fill_uninitialized_memory, "torch fills no longer unless asked: computing() need not say so"
    with computing():
        assert torch.are_deterministic_algorithms_enabled()
        assert not deterministic.fill_uninitialized_memory
    assert deterministic.fill_uninitialized_memory and not torch.are_deterministic_algorithms_enabled()


def test_a_model_is_loaded_once() -> None:
    path = tiny()
    sha = read_card(path)[1]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda _: load_model(path, sha), range(8)))
    assert all(f is found[0] for f in found)
    assert not found[0].module.training


def test_a_package_that_is_missing_is_named_with_the_way_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    import importlib.util

    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "monai" else object())
    with pytest.raises(MissingExtra, match=r"needs monai, which is not installed; pip install 'cristae\[learn\]'"):
        build_network("BasicUNet", MONAI["BasicUNet"], 2)


def test_weights_that_are_not_the_networks_are_refused_before_torch_is_there(tmp_path: Path) -> None:
    card, own = read_tensors(tiny(), contents(tiny()))
    name = next(n for n in own if n.endswith("weight"))
    wrong = {
        "lacks.safetensors": ({n: a for n, a in own.items() if n != name}, "and its card do not belong together"),
        "endless.safetensors": ({**own, name: np.full_like(own[name], np.nan)}, "is not finite everywhere"),
    }
    script = "import sys; from cristae.inference.network import require; require(sys.argv[1]); assert 'torch' not in sys.modules"
    for file, (tensors, said) in {**wrong, "right.safetensors": (own, "")}.items():
        written(tmp_path / file, card, tensors)
        done = subprocess.run(
            [sys.executable, "-c", script, str(tmp_path / file)],
            env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
            capture_output=True,
            text=True,
            check=False,
        )
        assert (done.returncode == 0) == (file == "right.safetensors"), done.stderr
        assert said in done.stderr
        if said:
            with pytest.raises(InvalidInput, match=said):
                load_model(tmp_path / file)


def test_another_file_than_was_planned_with_is_refused(tmp_path: Path) -> None:
    data = bytearray(Path(tiny()).read_bytes())
    path = tmp_path / "m.safetensors"
    path.write_bytes(data)
    _, sha = read_card(path)
    data[-3] ^= 1
    path.write_bytes(data)
    with pytest.raises(InvalidInput, match="is not the one this was planned with"):
        load_model(path, sha)
    load_model(path)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"architecture": "os.system"}, "there is no architecture os.system"),
        ({"architecture": "BasicUNet"}, "BasicUNet over 3 axes"),
        ({"hyper": {"inputs": 1}}, "no U-Net over 3 axes"),
        ({"hyper": {**unet.hyper_of(VOXEL_UM[3], (2, 4)), "features": [10**9, 4]}}, "no U-Net over 3 axes"),
        ({"hyper": unet.hyper_of(VOXEL_UM[3], (2, 5))}, "do not belong together"),
        ({"classes": ("mito", "er")}, "1 classes, and its card names 1 and 2"),
    ],
)
def test_a_card_of_another_network_is_refused(changes: dict[str, Any], sentence: str, tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match=sentence) as error:
        load_model(with_card(tiny(), tmp_path, **changes))
    assert "other.safetensors" in str(error.value) and "\n" not in str(error.value)


def test_weights_that_are_no_numbers_are_refused(tmp_path: Path) -> None:
    card, tensors = read_tensors("m", Path(tiny()).read_bytes())
    spoiled = {name: np.full_like(array, np.nan) if "head" in name else array for name, array in tensors.items()}
    written(tmp_path / "m.safetensors", card, spoiled)
    with pytest.raises(InvalidInput, match=r"m\.safetensors cannot be used: its layers\.head.* is not finite"):
        load_model(tmp_path / "m.safetensors")


def test_what_is_no_network_of_its_card_is_not_stored(tmp_path: Path) -> None:
    hyper = unet.hyper_of((0.1, 0.1), (2, 4))
    network = build_network("unet", hyper, 2)
    card = card_of("unet", hyper, voxel_um=(0.1, 0.1), classes=("mito",))
    with pytest.raises(InvalidConfiguration, match=r"should end in \.safetensors"):
        save_model(tmp_path / "m.pt", network, card)
    with pytest.raises(InvalidConfiguration, match="do not belong together"):
        save_model(tmp_path / "m.safetensors", network, replace(card, hyper=unet.hyper_of((0.1, 0.1), (2, 5))))
    with torch.no_grad():
        next(network.parameters()).fill_(float("nan"))
    with pytest.raises(InvalidConfiguration, match="not finite"):
        save_model(tmp_path / "m.safetensors", network, card)
    assert list(tmp_path.iterdir()) == []
