"""How much a heat map costs beside a plain forward pass, and what the other libraries pay for it.

All contestants run interleaved in one process, round after round, so that a busy machine slows them alike; the figures are ratios
of medians, of wall time and of the process's CPU time (which other programs on the machine hardly move).

Run:  OMP_NUM_THREADS=2 python benchmarks/engine.py [--rounds 15] [--batch 16] [--side 224] [--models resnet50,...]
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import nn

from gradaudit.attribution.capture import capture
from gradaudit.attribution.explanation import explain
from gradaudit.attribution.methods import first_component
from gradaudit.attribution.scores import ClassScore
from gradaudit.measurement.acceleration import accelerated
from gradaudit.models.classifier import Classifier
from gradaudit.models.torchvision_compat import import_torchvision

torchvision = import_torchvision()
PLAIN = "plain forward, no_grad"
GOALS = {"resnet50": 1.10, "mobilenet_v3_large": 1.35, "efficientnet_b0": 1.35}


def plain(net: nn.Module, x: torch.Tensor) -> Callable[[], object]:
    def run() -> object:
        with torch.no_grad():
            return net(x)

    return run


def contestants(net: nn.Module, layer: str, x: torch.Tensor) -> dict[str, Callable[[], object]]:
    clf = Classifier(net, layer)
    ids = torch.arange(len(x)) % 5
    five = torch.stack([(ids + k) % 5 for k in range(5)], 1)
    runs: dict[str, Callable[[], object]] = {
        PLAIN: plain(net, x),
        "gradaudit": lambda: explain(clf, x, ids),
        "gradaudit, five classes": lambda: explain(clf, x, five),
    }
    faster = accelerated(clf, x[:2])
    if faster.kept:  # what an audit measures with
        runs["gradaudit, accelerated"] = lambda: explain(faster.classifier, x, ids)
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


@dataclass(frozen=True)
class Times:
    wall: list[float] = field(default_factory=list)
    cpu: list[float] = field(
        default_factory=list
    )  # of the whole process: moves little when others use the machine


def interleaved(runs: dict[str, Callable[[], object]], rounds: int) -> dict[str, Times]:
    times = {name: Times() for name in runs}
    for run in runs.values():
        run()
    names = list(runs)
    for n in range(rounds):
        for name in names[n % len(names) :] + names[: n % len(names)]:
            wall, cpu = time.perf_counter(), time.process_time()
            runs[name]()
            times[name].wall.append(time.perf_counter() - wall)
            times[name].cpu.append(time.process_time() - cpu)
    return times


def saved_bytes(net: nn.Module, run: Callable[[], object]) -> int:
    """Bytes that autograd keeps alive for the backward pass: every storage once, the network's own weights left out."""
    weights = {t.untyped_storage().data_ptr() for t in (*net.parameters(), *net.buffers())}
    kept: dict[
        int, torch.UntypedStorage
    ] = {}  # the storages themselves, so that no address is used twice

    def pack(t: torch.Tensor) -> torch.Tensor:
        if t.untyped_storage().data_ptr() not in weights:
            kept[t.untyped_storage().data_ptr()] = t.untyped_storage()
        return t

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
        run()
    return sum(storage.nbytes() for storage in kept.values())


def saved_for_backward(net: nn.Module, layer: str, x: torch.Tensor) -> tuple[int, int]:
    """Bytes that autograd keeps: for one of our passes, and for a graph through the whole network."""
    ours = saved_bytes(net, lambda: capture(net, layer, x, ClassScore()))
    return ours, saved_bytes(net, lambda: net(x.clone().requires_grad_()))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--side", type=int, default=224)
    parser.add_argument("--models", default="resnet50,mobilenet_v3_large,efficientnet_b0")
    given = parser.parse_args()
    warnings.simplefilter("ignore")
    print(
        f"{platform.machine()}, torch {torch.__version__}, {torch.get_num_threads()} threads, load {os.getloadavg()[0]:.1f}, "
        f"{given.rounds} rounds, batch {given.batch} at {given.side}"
    )
    for name in filter(None, given.models.split(",")):
        report(name, given)
    report_eigencam(224)


def report(name: str, given: argparse.Namespace) -> None:
    torch.manual_seed(0)
    net = getattr(torchvision.models, name)(weights=None).eval()
    x = torch.randn(given.batch, 3, given.side, given.side)
    layer = explain(Classifier(net), x[:2]).layer
    times = interleaved(contestants(net, layer, x), given.rounds)
    wall, cpu = (
        {who: statistics.median(getattr(t, kind)) for who, t in times.items()}
        for kind in ("wall", "cpu")
    )
    print(
        f"\n{name}, layer {layer}\n{'':28s}{'median':>11s}{'÷ plain':>10s}{'CPU time':>13s}{'÷ plain':>10s}"
    )
    for who in times:
        print(
            f"  {who:26s}{wall[who] * 1e3:8.0f} ms{wall[who] / wall[PLAIN]:10.3f}{cpu[who] * 1e3:10.0f} ms{cpu[who] / cpu[PLAIN]:10.3f}"
        )
    head, full = saved_for_backward(net, layer, x[:4])
    for kind, median in (("wall", wall), ("CPU", cpu)):
        one, five = median["gradaudit"], median["gradaudit, five classes"]
        print(
            f"  {kind}: ÷ plain {one / median[PLAIN]:.3f} (goal ≤ {GOALS.get(name, 1.35):.2f}); five classes ÷ one {five / one:.3f} (goal ≤ 1.3)"
        )
    print(
        f"  saved for backward: {100 * head / full:.3f} % of a full graph (goal ≤ 1 %): {head / 1e6:.2f} of {full / 1e6:.0f} MB"
    )


def report_eigencam(side: int) -> None:
    """One Eigen-CAM map from the activations of ResNet-50's last stage: the Gram matrix against grad-cam's full SVD."""
    from pytorch_grad_cam.utils.svd_on_activations import get_2d_projection

    net = torchvision.models.resnet50(weights=None).eval()
    activations = capture(net, "layer4", torch.randn(1, 3, side, side), ClassScore()).activations
    theirs = activations.reshape(1, 2048, 7, 7).numpy()
    ours, peer = [], []
    for _ in range(3):
        start = time.process_time()
        for _ in range(20):
            first_component(activations)
        ours.append((time.process_time() - start) / 20)
        start = time.process_time()
        get_2d_projection(theirs)
        peer.append(time.process_time() - start)
    a, b = statistics.median(ours), statistics.median(peer)
    print(
        f"\nEigen-CAM, one map of 2048 x 7 x 7: {a * 1e3:.2f} ms CPU; grad-cam {b * 1e3:.0f} ms; 1/{b / a:.0f} (goal ≤ 1/1000)"
    )


if __name__ == "__main__":
    main()
