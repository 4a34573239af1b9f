"""Learning: a network, its optimiser and the mean of its weights, as one thing that takes steps and can be put away and taken up again.

torch is imported when a learner is made.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import numpy as np

from cristae.errors import InvalidConfiguration
from cristae.inference.card import Card
from cristae.inference.losses import LOSSES
from cristae.inference.network import build_network, laid_out, needed
from cristae.inference.process import computing


class Learner:
    """What training holds. Tensors are named `now/`, `mean/`, `best/` (weights) and `adam/` (the optimiser's own)."""

    def __init__(
        self,
        card: Card,
        loss: str,
        rate: float,
        decay: float,
        average: float,
        frozen: Sequence[str],
        seed: int,
        device: str,
    ) -> None:
        for package in ("torch", "monai"):
            needed(package)
        import torch

        if device.startswith("cuda") and not torch.cuda.is_available():
            raise InvalidConfiguration(f"device {device} is not here; give --device cpu")
        self.torch, self.device, self.softmax = torch, torch.device(device), card.activation == "softmax"
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            fresh = build_network(card.architecture, card.hyper, card.ndim)
        self.network = laid_out(fresh, card, device)
        self.mean = {k: v.detach().clone() for k, v in self.network.state_dict().items()} if average else None
        self.average, self.taken, self.frozen = average, 0, tuple(frozen)
        self.best: dict[str, np.ndarray] = {}
        self.weights = {k: p for k, p in self.network.named_parameters() if not k.startswith(tuple(frozen))}
        if not self.weights:
            raise InvalidConfiguration(f"frozen {list(frozen)} leaves no weight that could be trained")
        for name in frozen:
            if not any(k.startswith(name) for k in dict(self.network.named_parameters())):
                raise InvalidConfiguration(
                    f"frozen: no weight begins with {name!r}; the network has {', '.join(_parts(self.network))}"
                )
        for k, p in self.network.named_parameters():
            p.requires_grad_(k in self.weights)
        self.adam = torch.optim.AdamW(self.weights.values(), lr=rate, weight_decay=decay)
        self.loss = LOSSES[loss](self.softmax)
        several = device == "cuda" and torch.cuda.device_count() > 1
        self.module = torch.nn.DataParallel(self.network) if several else self.network

    def computing(self, threads: int) -> AbstractContextManager[None]:
        """On a CPU so many threads and deterministic algorithms; afterwards what was set before."""
        return computing(threads) if self.device.type == "cpu" else nullcontext()

    def step(self, images: np.ndarray, masks: np.ndarray, rate: float) -> float:
        """One step on a batch; the loss before it."""
        torch = self.torch
        for group in self.adam.param_groups:
            group["lr"] = rate
        self.network.train()
        for name, layer in self.network.named_modules():
            if self.frozen and name.startswith(self.frozen):
                layer.eval()  # statistics of a batch change nothing there either
        x = torch.from_numpy(images).to(self.device, non_blocking=True)
        y = torch.from_numpy(masks).to(self.device, non_blocking=True).float()
        with self._fast():
            logits = self.module(x)
        loss = self.loss(logits.float(), y)
        self.adam.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(list(self.weights.values()), 12.0)
        self.adam.step()
        self._drift()
        return float(loss.detach())

    def _drift(self) -> None:
        """The mean follows the weights; soon at first, so that it forgets where they began."""
        if self.mean is None:
            return
        self.taken += 1
        keep = min(self.average, (1 + self.taken) / (10 + self.taken))
        with self.torch.no_grad():
            for name, value in self.network.state_dict().items():
                mean = self.mean[name]
                if mean.is_floating_point():
                    mean.lerp_(value, 1 - keep)
                else:
                    mean.copy_(value)

    def score(self, chunks: Sequence[tuple[np.ndarray, np.ndarray]]) -> dict[str, float]:
        """Mean IoU of class and ground, and F1, over all voxels of some examples, means over classes."""
        torch = self.torch
        counts = None
        self.network.eval()
        with self._averaged(), torch.inference_mode(), self._fast():
            for images, masks in chunks:
                for first in range(0, len(images), 16):
                    x = torch.from_numpy(images[first : first + 16]).to(self.device)
                    y = torch.from_numpy(masks[first : first + 16]).to(self.device).bool()
                    found = self._said(self.module(x).float())
                    axes = [0, *range(2, y.ndim)]
                    part = torch.stack([(found & y).sum(axes), (found & ~y).sum(axes), (~found & y).sum(axes)])
                    counts = part if counts is None else counts + part
        assert counts is not None
        hit, extra, missed = counts.cpu().numpy().astype(np.float64)[:, 1 if self.softmax else 0 :]
        everything = sum(masks[:, 0].size for _, masks in chunks)
        ground = everything - hit - extra - missed
        either = np.maximum(hit + extra + missed, 1)
        iou = 0.5 * (hit / either + ground / np.maximum(everything - hit, 1))
        return {"miou": float(iou.mean()), "f1": float((2 * hit / np.maximum(2 * hit + extra + missed, 1)).mean())}

    def _said(self, logits: Any) -> Any:
        if not self.softmax:
            return logits > 0
        return self.torch.nn.functional.one_hot(logits.argmax(1), logits.shape[1]).movedim(-1, 1).bool()

    def _fast(self) -> Any:
        """Half precision where the card has it."""
        return self.torch.autocast("cuda", self.torch.bfloat16) if self.device.type == "cuda" else nullcontext()

    @contextmanager
    def _averaged(self) -> Iterator[None]:
        """The mean weights in the network's place."""
        if self.mean is None:
            yield
            return
        now = {k: v.detach().clone() for k, v in self.network.state_dict().items()}
        self.network.load_state_dict(self.mean)
        try:
            yield
        finally:
            self.network.load_state_dict(now)

    def keep_best(self) -> None:
        """What was just scored is the best so far."""
        held = self.mean if self.mean is not None else self.network.state_dict()
        self.best = {k: v.detach().cpu().numpy().copy() for k, v in held.items()}

    def best_weights(self) -> dict[str, np.ndarray]:
        """The weights that scored best."""
        return dict(self.best)

    def begin_from(self, weights: Mapping[str, np.ndarray]) -> None:
        """The weights of a model in place of fresh ones."""
        wanted = {k: tuple(v.shape) for k, v in self.network.state_dict().items()}
        given = {k: v.shape for k, v in weights.items()}
        if wanted != given:
            name = next(n for n in sorted({*wanted, *given}) if wanted.get(n) != given.get(n))
            raise InvalidConfiguration(
                f"a training cannot begin from this model: {name} is {given.get(name, 'not there')}, and the network wants "
                f"{wanted.get(name, 'none such')}; give it the same features and classes"
            )
        self._load(weights)
        if self.mean is not None:
            self.mean = {k: v.detach().clone() for k, v in self.network.state_dict().items()}

    def tensors(self) -> dict[str, np.ndarray]:
        """All that changes."""
        out = {f"now/{k}": v.detach().cpu().numpy() for k, v in self.network.state_dict().items()}
        if self.mean is not None:
            out |= {f"mean/{k}": v.cpu().numpy() for k, v in self.mean.items()}
            out["taken"] = np.array(self.taken)
        out |= {f"best/{k}": v for k, v in self.best.items()}
        for name, p in self.weights.items():
            for word, value in self.adam.state.get(p, {}).items():
                out[f"adam/{name}/{word}"] = value.detach().cpu().numpy()
        return out

    def restore(self, tensors: Mapping[str, np.ndarray]) -> None:
        """All of it as it was."""
        torch = self.torch
        self._load({k[4:]: v for k, v in tensors.items() if k.startswith("now/")})
        if self.mean is not None:
            found = {k[5:]: v for k, v in tensors.items() if k.startswith("mean/")}
            self.mean = {k: torch.from_numpy(v.copy()).to(self.device) for k, v in found.items()}
            self.taken = int(tensors["taken"])
        self.best = {k[5:]: v for k, v in tensors.items() if k.startswith("best/")}
        for name, p in self.weights.items():
            own = {k.rpartition("/")[2]: v for k, v in tensors.items() if k.startswith(f"adam/{name}/")}
            for word, value in own.items():
                where = torch.device("cpu") if word == "step" else self.device
                self.adam.state[p][word] = torch.from_numpy(value.copy()).to(where)

    def _load(self, weights: Mapping[str, np.ndarray]) -> None:
        self.network.load_state_dict({k: self.torch.from_numpy(v.copy()) for k, v in weights.items()})


def _parts(network: Any) -> list[str]:
    """The beginnings of a network's names, each once."""
    return sorted({".".join(name.split(".")[:2]) for name, _ in network.named_parameters()})
