"""How much a heat map costs beside a plain forward pass, and what the other libraries pay for it.

All contestants run interleaved in one process, round after round, so that a busy machine slows them alike; the figures are ratios of
medians.  Run:  OMP_NUM_THREADS=2 python benchmarks/engine.py [--rounds 15] [--batch 16] [--side 224] [--models resnet50,...]
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import time
import warnings
from collections.abc import Callable

import torch
from torch import nn

from gradaudit.capture import capture
from gradaudit.engine import explain
from gradaudit.models import Classifier, import_torchvision
from gradaudit.targets import ClassScore

torchvision = import_torchvision()
GOALS = {"resnet50": 1.10, "mobilenet_v3_large": 1.35, "efficientnet_b0": 1.35}


def plain(net: nn.Module, x: torch.Tensor) -> Callable[[], object]:
    def run() -> object:
        with torch.no_grad():
            return net(x)

    return run


def contestants(net: nn.Module, layer: str, x: torch.Tensor) -> dict[str, Callable[[], object]]:
    clf = Classifier.wrap(net, layer)
    ids = torch.arange(len(x)) % 5
    five = torch.stack([(ids + k) % 5 for k in range(5)], 1)
    runs: dict[str, Callable[[], object]] = {
        "plain forward, no_grad": plain(net, x),
        "gradaudit": lambda: explain(clf, x, ids),
        "gradaudit, five classes": lambda: explain(clf, x, five),
    }
    target = dict(net.named_modules())[layer]
    return runs | {name: build(net, target, x, ids) for name, build in PEERS.items()}


def _captum(net, target, x, ids):
    from captum.attr import LayerGradCam

    method = LayerGradCam(net, target)
    return lambda: method.attribute(x, target=ids)


def _torchcam(net, target, x, ids):
    from torchcam.methods import GradCAM

    method = GradCAM(net, target)
    method.disable_hooks()
    chosen = ids.tolist()

    def run() -> object:
        method.enable_hooks()
        try:
            return method(chosen, net(x))
        finally:
            method.disable_hooks()

    return run


def _grad_cam(net, target, x, ids):
    from pytorch_grad_cam import GradCAM
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

    targets = [ClassifierOutputTarget(int(k)) for k in ids]

    def run() -> object:
        with GradCAM(model=net, target_layers=[target]) as method:
            return method(input_tensor=x, targets=targets)

    return run


PEERS = {"captum": _captum, "torchcam": _torchcam, "grad-cam": _grad_cam}


def interleaved(runs: dict[str, Callable[[], object]], rounds: int) -> dict[str, list[float]]:
    times: dict[str, list[float]] = {name: [] for name in runs}
    for run in runs.values():
        run()
    names = list(runs)
    for n in range(rounds):
        for name in names[n % len(names) :] + names[: n % len(names)]:
            start = time.perf_counter()
            runs[name]()
            times[name].append(time.perf_counter() - start)
    return times


def saved_bytes(run: Callable[[], object]) -> int:
    total = 0

    def pack(t: torch.Tensor) -> torch.Tensor:
        nonlocal total
        total += t.numel() * t.element_size()
        return t

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
        run()
    return total


def saved_for_backward(net: nn.Module, layer: str, x: torch.Tensor) -> tuple[int, int]:
    """Bytes that autograd keeps: for one of our passes, and for a graph through the whole network."""
    ours = saved_bytes(lambda: capture(net, layer, x, ClassScore()))
    return ours, saved_bytes(lambda: net(x.clone().requires_grad_()))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--side", type=int, default=224)
    parser.add_argument("--models", default="resnet50,mobilenet_v3_large,efficientnet_b0")
    given = parser.parse_args()
    warnings.simplefilter("ignore")
    print(
        f"{platform.machine()}, torch {torch.__version__}, {torch.get_num_threads()} threads, load {os.getloadavg()[0]:.1f}, {given.rounds} rounds, batch {given.batch} at {given.side}"
    )
    for name in given.models.split(","):
        report(name, given)


def report(name: str, given: argparse.Namespace) -> None:
    torch.manual_seed(0)
    net = getattr(torchvision.models, name)(weights=None).eval()
    x = torch.randn(given.batch, 3, given.side, given.side)
    layer = explain(Classifier.wrap(net), x[:2]).layer
    times = interleaved(contestants(net, layer, x), given.rounds)
    base = statistics.median(times["plain forward, no_grad"])
    print(f"\n{name}, layer {layer}")
    for who, values in times.items():
        ratios = sorted(v / base for v in values)
        print(
            f"  {who:28s} {statistics.median(values) * 1e3:9.1f} ms   ÷ plain {statistics.median(ratios):6.3f}   (quartiles {ratios[len(ratios) // 4]:.3f} to {ratios[-1 - len(ratios) // 4]:.3f})"
        )
    ours = statistics.median(times["gradaudit"])
    five = statistics.median(times["gradaudit, five classes"])
    head, full = saved_for_backward(net, layer, x[:4])
    print(
        f"  goal ÷ plain ≤ {GOALS.get(name, 1.35):.2f}: {ours / base:.3f}    five classes ÷ one ≤ 1.3: {five / ours:.3f}    saved for backward ≤ 1 %: {100 * head / full:.3f} %"
    )


if __name__ == "__main__":
    main()
