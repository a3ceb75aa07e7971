"""One pass, the module exactly as it was: also frozen, under no_grad or inference_mode, and after injected failures."""

from __future__ import annotations

import copy

import pytest
import torch
from tiny_models import (
    ChannelsLastNet,
    DeepHead,
    GapNet,
    PlantedPatch,
    SharedRelu,
    TinyViT,
    VolumeNet,
    images,
    seeded,
)
from torch import nn
from torch.utils.checkpoint import checkpoint

from gradaudit.attribution.capture import capture, capture_scores, head_gradients
from gradaudit.attribution.layer_choice import choose_layer
from gradaudit.attribution.layer_layout import Layout, layout_of
from gradaudit.attribution.scores import ClassScore, FunctionScore
from gradaudit.errors import ForwardError, LayerError, TargetError
from gradaudit.models.borrowing import borrowed
from gradaudit.models.inputs_outputs import first_tensor

PREDICTED = ClassScore()


def gradients_by_hook(module, layer, x, score):
    """The textbook way, with a graph through the whole network."""
    kept = {}

    def hook(m, args, out):
        out.retain_grad()
        kept["out"] = out
        kept["before"] = out.detach().clone()

    handle = dict(module.named_modules())[layer].register_forward_hook(hook)
    with torch.enable_grad():
        out = module(x.clone().requires_grad_())
        score(out).sum().backward()
    handle.remove()
    module.zero_grad(set_to_none=True)
    return kept["before"], kept["out"].grad


def snapshot(module: nn.Module):
    hooks = {
        n: (len(m._forward_hooks), len(m._forward_pre_hooks), len(m._backward_hooks))
        for n, m in module.named_modules()
    }
    return (
        {n: m.training for n, m in module.named_modules()}, hooks, {n: sorted(m.__dict__) for n, m in module.named_modules()},
        {n: (p.requires_grad, None if p.grad is None else p.grad.clone()) for n, p in module.named_parameters()},
        {n: t.clone() for n, t in module.state_dict().items()}, torch.is_grad_enabled(), torch.get_rng_state(), torch.is_autocast_enabled("cpu"),
    )  # fmt: skip


def assert_same(before, after):
    assert before[:3] == after[:3]
    for name, (requires, gradient) in before[3].items():
        assert after[3][name][0] == requires
        assert (gradient is None) == (after[3][name][1] is None)
        assert gradient is None or torch.equal(gradient, after[3][name][1])
    assert all(torch.equal(t, after[4][n]) for n, t in before[4].items())
    assert before[5] == after[5]
    assert torch.equal(before[6], after[6])
    assert before[7] == after[7]


@pytest.fixture
def untidy():
    """A module in a state worth keeping: partly training, one frozen parameter, a gradient already there, a hook of the user's."""
    net = seeded(DeepHead, 3)
    net.train()
    net.body[1].eval()
    net.tail.weight.requires_grad_(False)
    net.head[0].weight.grad = torch.full_like(net.head[0].weight, 7.0)
    net.body.register_forward_hook(lambda m, a, o: None)
    return net


@pytest.mark.parametrize(
    ("build", "layer"), [(GapNet, "conv2"), (DeepHead, "body"), (SharedRelu, "conv2")]
)
def test_activations_and_gradients_equal_a_full_graph(build, layer):
    net, x = seeded(build), images()
    # SharedRelu changes conv1's output in place; conv2's own output is what both record
    activations, gradients = gradients_by_hook(net, layer, x, PREDICTED)
    got = capture(net, layer, x, PREDICTED)
    torch.testing.assert_close(got.activations, activations.flatten(2), rtol=1e-6, atol=1e-7)
    torch.testing.assert_close(got.gradients[:, 0], gradients.flatten(2), rtol=1e-6, atol=1e-7)


def test_frozen_no_grad_and_inference_mode_are_bit_identical():
    net, x = seeded(DeepHead), images()
    plain = capture(net, "body", x, PREDICTED)
    frozen = copy.deepcopy(net).requires_grad_(False)
    twins = [capture(frozen, "body", x, PREDICTED)]
    with torch.no_grad():
        twins.append(capture(net, "body", x, PREDICTED))
    with torch.inference_mode():
        twins.append(capture(net, "body", x.clone(), PREDICTED))  # the clone is an inference tensor
        built_inside = copy.deepcopy(frozen)
        twins.append(capture(built_inside, "body", x, PREDICTED))
    for twin in twins:
        assert torch.equal(twin.gradients, plain.gradients)
        assert torch.equal(twin.activations, plain.activations)
        assert torch.equal(twin.scores, plain.scores)
        assert not twin.gradients.requires_grad


@pytest.mark.parametrize(("build", "layer"), [(GapNet, "conv2"), (DeepHead, "body")])
def test_in_place_relu_after_the_layer_is_harmless(build, layer):
    x = images()
    plain = capture(seeded(build, inplace=False), layer, x, PREDICTED)
    inplace = capture(seeded(build, inplace=True), layer, x, PREDICTED)
    assert torch.equal(plain.activations, inplace.activations)
    assert torch.equal(plain.gradients, inplace.gradients)
    assert (plain.activations < 0).any()  # a corrupted record would be clipped at zero


def test_a_trunk_with_its_own_no_grad_still_has_a_gradient():
    class FrozenBackbone(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = seeded(GapNet)

        def forward(self, x):
            with torch.no_grad():
                x = self.net.conv2(self.net.relu1(self.net.conv1(x)))
            return self.net.fc(self.net.relu2(x).mean((2, 3)))

    net = FrozenBackbone()
    assert torch.equal(
        capture(net, "net.conv2", images(), PREDICTED).gradients,
        capture(net.net, "conv2", images(), PREDICTED).gradients,
    )


def test_module_is_given_back_after_success(untidy):
    before = snapshot(untidy)
    got = capture(untidy, "body", images(), PREDICTED)
    got.head(got.activations[:1], 0)
    got.evaluate(images(2), 1)
    choose_layer(untidy, images())
    capture_scores(untidy, images(), PREDICTED)
    assert_same(before, snapshot(untidy))
    with torch.no_grad():
        before = snapshot(untidy)
        capture(untidy, "body", images(), PREDICTED)
        assert_same(before, snapshot(untidy))


class Injected(Exception):
    pass


@pytest.mark.parametrize(
    "place", ["forward before the layer", "forward after the layer", "target", "memory", "backward"]
)
def test_module_is_given_back_after_each_injected_failure(untidy, place, monkeypatch):
    x, score = images(), PREDICTED
    error = torch.OutOfMemoryError("CUDA out of memory") if place == "memory" else Injected()

    def fail(*args, **kwargs):
        torch.rand(1)
        raise error

    if place == "forward before the layer":
        untidy.body[0].forward = fail
    elif place in ("forward after the layer", "memory"):
        untidy.head[1].forward = fail
    elif place == "target":
        score = FunctionScore(lambda out: fail())
    else:
        monkeypatch.setattr("gradaudit.attribution.capture.head_gradients", fail)
    before = snapshot(untidy)
    in_forward = place.startswith("forward")
    with (
        pytest.raises(ForwardError if in_forward else type(error)) as raised,
        torch.autocast("cpu", dtype=torch.bfloat16),
    ):
        capture(untidy, "body", x, score)
    assert (raised.value.__cause__ if in_forward else raised.value) is error
    assert_same(before, snapshot(untidy))


def test_a_target_that_calls_backward_leaves_no_gradient(untidy):
    def greedy(out):
        out.sum().backward(retain_graph=True)
        return out[:, 0]

    fresh = seeded(GapNet)
    capture(fresh, "conv2", images(), FunctionScore(greedy))
    assert all(p.grad is None for p in fresh.parameters())


def test_random_numbers_go_on_as_if_nothing_ran():
    class Noisy(GapNet):
        def forward(self, x):
            return super().forward(x + torch.randn_like(x))

    net = seeded(Noisy)
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    capture(net, "conv2", images(), PREDICTED)
    assert torch.equal(torch.rand(3), expected)


def test_a_layer_that_runs_twice_is_an_error_that_says_so():
    with pytest.raises(LayerError, match=r"'relu' runs twice"):
        capture(seeded(SharedRelu), "relu", images(), PREDICTED)


def test_errors_name_the_layer_and_what_to_do():
    net = seeded(GapNet)
    with pytest.raises(LayerError, match="no layer 'conv3'; near names: conv"):
        capture(net, "conv3", images(), PREDICTED)
    with pytest.raises(LayerError, match="no grid of positions"):
        capture(net, "fc", images(), PREDICTED)
    net.unused = nn.Conv2d(3, 3, 1)
    with pytest.raises(LayerError, match="does not run"):
        capture(net, "unused", images(), PREDICTED)
    with pytest.raises(LayerError, match="does not depend"):
        capture(net, "conv2", images(), FunctionScore(lambda out: torch.zeros(3)))
    net.aside = nn.Conv2d(12, 2, 1)
    net.relu2.register_forward_hook(lambda module, args, output: (net.aside(output), output)[1])
    with pytest.raises(
        LayerError, match=r"does not depend on the layer 'aside'\. Choose a layer on the way"
    ):
        capture(net, "aside", images(), PREDICTED)
    with pytest.raises(TargetError, match=r"expected floats \(3,\) or \(3, K\)"):
        capture(net, "conv2", images(), FunctionScore(lambda out: out.sum()))


def test_only_the_head_is_saved_for_backward():
    net, x = seeded(DeepHead), images(4)

    def saved_bytes(run):
        total = 0

        def pack(t):
            nonlocal total
            total += t.numel() * t.element_size()
            return t

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
            run()
        return total

    full = saved_bytes(lambda: net(x.clone().requires_grad_()))
    head = saved_bytes(lambda: capture(seeded(GapNet), "relu2", x, PREDICTED))
    assert head < 0.05 * full  # the tiny net's head; benchmarks/engine.py holds 1 % on ResNet-50


# ── many scores at once ─────────────────────────────────────────────────────────────────────────────────────────────


def test_scores_at_once_equal_scores_one_by_one():
    net, x = seeded(DeepHead), images()
    ids = torch.tensor([[0, 3, 1], [2, 2, 4], [1, 0, 3]])
    together = capture(net, "body", x, ClassScore(ids, squeeze=False))
    for k in range(3):
        alone = capture(net, "body", x, ClassScore(ids[:, k : k + 1]))
        torch.testing.assert_close(
            together.gradients[:, k], alone.gradients[:, 0], rtol=1e-5, atol=1e-7
        )
        torch.testing.assert_close(together.scores[:, k], alone.scores[:, 0])


def test_an_operator_that_refuses_batched_gradients_falls_back_to_a_loop():
    class Stubborn(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x * 2

        @staticmethod
        def backward(ctx, g):
            if torch._C._functorch.is_batchedtensor(g):
                raise RuntimeError("this operator takes no batched gradients")
            return g * 2

    leaf = torch.randn(2, 3, requires_grad=True)
    scores = Stubborn.apply(leaf) * torch.tensor([1.0, 2.0, 3.0])
    expected = torch.diag(torch.tensor([2.0, 4.0, 6.0])).expand(2, 3, 3)
    assert torch.equal(head_gradients(scores, leaf, "leaf"), expected)


# ── half precision ──────────────────────────────────────────────────────────────────────────────────────────────────


def test_head_is_float32_when_the_weights_are_bfloat16():
    net, x = seeded(DeepHead).to(torch.bfloat16), images().to(torch.bfloat16)
    got = capture(net, "body", x, PREDICTED)
    assert got.activations.dtype == got.gradients.dtype == got.scores.dtype == torch.float32
    assert {p.dtype for p in net.parameters()} == {torch.bfloat16}
    reference = (
        seeded(DeepHead).to(torch.bfloat16).float()
    )  # the same rounded weights, everything in float32
    with torch.no_grad():
        trunk = net.body(x).float()
    leaf = trunk.clone().requires_grad_()
    out = reference.head(torch.relu(reference.tail(reference.act(leaf.clone()))).flatten(1))
    (expected,) = torch.autograd.grad(PREDICTED(out).sum(), leaf)
    torch.testing.assert_close(got.gradients[:, 0], expected.flatten(2), rtol=1e-5, atol=1e-6)


def test_autocast_stops_at_the_cut():
    net, x = seeded(DeepHead), images()
    got = capture(net, "body", x, PREDICTED, autocast=torch.bfloat16)
    assert got.gradients.dtype == got.scores.dtype == torch.float32
    exact = capture(net, "body", x, PREDICTED)
    assert not torch.equal(got.activations, exact.activations)
    torch.testing.assert_close(got.activations, exact.activations, rtol=0.05, atol=0.05)


# ── replaying the head ──────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("build", "layer"),
    [
        (GapNet, "conv2"),
        (DeepHead, "body"),
        (SharedRelu, "conv2"),
        (TinyViT, "blocks.1.norm1"),
        (ChannelsLastNet, "mix"),
    ],
)
def test_replayed_head_equals_a_whole_pass(build, layer):
    net, x = seeded(build), images()
    got = capture(net, layer, x, PREDICTED)
    generator = torch.Generator().manual_seed(0)
    altered = torch.randn((5, *got.activations.shape[1:]), generator=generator)
    target, index = dict(net.named_modules())[layer], 1

    def put(m, args, out):
        return got.layout.output(altered, out[:1])

    handle = target.register_forward_hook(put)
    with torch.no_grad():
        expected = net(x[index : index + 1].expand(5, -1, -1, -1).clone())[
            :, PREDICTED.fixed(got.output).ids[index, 0]
        ]
    handle.remove()
    torch.testing.assert_close(got.head(altered, index)[:, 0], expected, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(
        got.head(got.activations[index : index + 1], index),
        got.scores[index : index + 1],
        rtol=1e-5,
        atol=1e-6,
    )


class Added(nn.Module):
    """The layer's output is added to its input, which a function and a module change first; in place or not."""

    def __init__(self, scaled, rectified, in_place):
        super().__init__()
        self.before, self.layer = nn.Conv2d(3, 6, 4, 4), nn.Conv2d(6, 6, 3, 1, 1)
        self.relu, self.fc = nn.ReLU(in_place), nn.Linear(6, 4)
        self.scaled, self.rectified, self.in_place = scaled, rectified, in_place

    def forward(self, x):
        x = self.before(x)
        if self.scaled:
            x = x.mul_(2) if self.in_place else x * 2
        if self.rectified:
            rectified = self.relu(x)
            x = x if self.in_place else rectified  # in place, the old name holds it too
        y = self.layer(x)
        x = x.add_(y) if self.in_place else x + y
        return self.fc(torch.tanh(x).mean((2, 3)))


@pytest.mark.parametrize("rectified", [False, True])
@pytest.mark.parametrize("scaled", [False, True])
def test_a_replay_of_a_network_that_writes_in_place_equals_its_twin_that_does_not(
    scaled, rectified
):
    """For several altered maps and for one, and however often: the record of what ran before stays as it was."""
    x, generator = images(), torch.Generator().manual_seed(0)
    twin, got = (
        capture(
            seeded(Added, scaled=scaled, rectified=rectified, in_place=in_place),
            "layer",
            x,
            PREDICTED,
        )
        for in_place in (False, True)
    )
    for count in (1, 4, 1, 1):
        altered = torch.randn((count, *got.activations.shape[1:]), generator=generator)
        torch.testing.assert_close(got.head(altered, 1), twin.head(altered, 1))
    torch.testing.assert_close(got.head(got.activations[1:2], 1), got.scores[1:2])


def test_a_replay_of_a_module_that_is_used_alone_and_in_another_one_equals_a_whole_pass():
    class Shared(nn.Module):
        def __init__(self):
            super().__init__()
            self.one, self.layer = nn.Conv2d(3, 3, 3, 1, 1), nn.Conv2d(3, 6, 4, 4)
            self.both, self.fc = nn.Sequential(self.one, nn.Tanh()), nn.Linear(9, 4)

        def forward(self, x):
            first = self.one(x)
            seen = torch.tanh(self.layer(self.one(self.both(first))))
            return self.fc(torch.cat([seen.mean((2, 3)), first.square().mean((2, 3))], 1))

    got = capture(seeded(Shared), "layer", images(), PREDICTED)
    torch.testing.assert_close(got.head(got.activations[1:2], 1), got.scores[1:2])


@pytest.mark.parametrize(("build", "layer"), [(GapNet, "conv2"), (DeepHead, "body")])
def test_a_replay_changes_neither_the_capture_nor_what_it_was_given(build, layer):
    got = capture(seeded(build, inplace=True), layer, images(), PREDICTED)
    altered, kept = torch.randn(got.activations.shape), got.activations.clone()
    given = altered.clone()
    got.head(altered, 0)
    got.head(got.activations, 0)
    got.head(got.activations[:1], 0)
    assert torch.equal(altered, given)
    assert torch.equal(got.activations, kept)


def test_a_replay_runs_nothing_before_the_layer():
    net, x = seeded(DeepHead), images()
    got = capture(net, "body", x, PREDICTED)
    got.head(got.activations[:1], 0)
    ran = []
    for name, m in net.named_modules():
        m.register_forward_pre_hook(lambda m, a, name=name: ran.append(name))
    got.head(got.activations[:1], 0)
    assert not [name for name in ran if name.startswith("body.")]
    assert "tail" in ran


def test_altered_images_are_scored_for_the_class_of_the_original():
    net, x = seeded(GapNet), images()
    got = capture_scores(net, x, PREDICTED)
    other = images(4, seed=9)
    with torch.no_grad():
        expected = net(other)[:, net(x)[2].argmax()]
    torch.testing.assert_close(got.evaluate(other, 2)[:, 0], expected)


# ── outputs, layouts ────────────────────────────────────────────────────────────────────────────────────────────────


def test_first_tensor_of_any_output():
    t, u = torch.zeros(2, 3), torch.ones(2, 4)
    assert first_tensor(t) is t
    assert first_tensor((None, u, t)) is u
    assert first_tensor({"aux": u, "logits": t}) is t
    assert first_tensor({"aux": u, "logits": t}, "aux") is u
    assert first_tensor([t, u], 1) is u
    with pytest.raises(TargetError, match="no entry 'x'; it is a mapping with keys 'aux'"):
        first_tensor({"aux": u}, "x")
    with pytest.raises(TargetError, match="holds no tensor"):
        first_tensor((1, "a"))


@pytest.mark.parametrize(
    ("shape", "size", "expected"),
    [
        ((2, 512, 7, 7), (224, 224), Layout("nchw", (7, 7), 512)), ((2, 7, 7, 768), (224, 224), Layout("nhwc", (7, 7), 768)),
        ((2, 64, 7, 5), (224, 160), Layout("nchw", (7, 5), 64)), ((2, 7, 5, 64), (224, 160), Layout("nhwc", (7, 5), 64)),
        ((2, 64, 8, 8), (33, 33), Layout("nchw", (8, 8), 64)), ((2, 20, 3, 2), (100, 60), Layout("nchw", (3, 2), 20)),
        ((2, 197, 192), (224, 224), Layout("tokens", (14, 14), 192, 1)), ((2, 198, 192), (224, 224), Layout("tokens", (14, 14), 192, 2)),
        ((2, 201, 192), (224, 224), Layout("tokens", (14, 14), 192, 5)), ((2, 196, 8), (224, 224), Layout("tokens", (14, 14), 8, 0)),
        ((2, 141, 8), (224, 160), Layout("tokens", (14, 10), 8, 1)), ((2, 50, 8), (224, 224), Layout("tokens", (7, 7), 8, 1)),
        ((2, 8, 4, 4, 4), (16, 16, 16), Layout("nchw", (4, 4, 4), 8)), ((2, 512, 1, 1), (224, 224), None), ((2, 512), (224, 224), None),
        ((2, 12, 197, 64), (224, 224), None), ((2, 3, 5), (224, 224), None),
    ],
)  # fmt: skip
def test_layout_is_read_against_the_inputs_aspect(shape, size, expected):
    assert layout_of(shape, size) == expected


def test_layout_positions_and_back():
    for layout, shape in [
        (Layout("nchw", (2, 3), 4), (5, 4, 2, 3)),
        (Layout("nhwc", (2, 3), 4), (5, 2, 3, 4)),
        (Layout("tokens", (2, 3), 4, 2), (5, 8, 4)),
    ]:
        out = torch.randn(shape)
        assert layout.positions(out).shape == (5, 4, 6)
        assert torch.equal(layout.output(layout.positions(out)[1:2], out[1:2]), out[1:2])


# ── choosing a layer ────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("build", "x", "name", "grid", "kind", "prefix"),
    [
        (GapNet, images(), "relu2", (8, 8), "nchw", 0), (DeepHead, images(), "tail", (4, 4), "nchw", 0),
        (SharedRelu, images(), "conv2", (16, 16), "nchw", 0), (TinyViT, images(), "blocks.1.norm1", (4, 4), "tokens", 1),
        (ChannelsLastNet, images(2, 64), "mix", (8, 8), "nhwc", 0), (VolumeNet, torch.randn(2, 1, 16, 16, 16), "features", (4, 4, 4), "nchw", 0),
        (PlantedPatch, 3 * images(), "relu", (4, 4), "nchw", 0),
    ],
)  # fmt: skip
def test_choice_is_the_last_layer_with_a_spatial_gradient(build, x, name, grid, kind, prefix):
    choice = choose_layer(seeded(build), x)
    assert (choice.name, choice.grid, choice.kind, choice.prefix) == (name, grid, kind, prefix)
    assert "x".join(map(str, grid)) in choice.reason


class _Wrapped(nn.Module):
    """As Hugging Face writes them: the trunk returns its last hidden state beside what it pooled from it, and the head reads the latter."""

    def __init__(self, classes: int = 4) -> None:
        super().__init__()
        self.trunk, self.head = _TrunkWithPooling(), nn.Linear(8, classes)

    def forward(self, x):
        return {"logits": self.head(self.trunk(x)["pooled"])}


class _TrunkWithPooling(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem, self.stage = (
            nn.Conv2d(3, 8, 3, 2, 1),
            nn.Sequential(nn.Conv2d(8, 8, 3, 2, 1), nn.ReLU()),
        )

    def forward(self, x):
        hidden = self.stage(self.stem(x))
        return {"hidden": hidden, "pooled": hidden.mean((2, 3))}


def test_a_tensor_that_only_rides_along_in_an_output_is_no_layer():
    net, x = seeded(_Wrapped), images()
    choice = choose_layer(net, x, "logits")
    assert (choice.name, choice.grid) == ("trunk.stage", (8, 8))
    assert "trunk" not in {c.name for c in choice.candidates}
    got = capture(net, choice.name, x, ClassScore(key="logits"))
    assert got.gradients.abs().max() > 0
    with pytest.raises(LayerError, match="does not depend on the layer 'trunk'"):
        capture(net, "trunk", x, ClassScore(key="logits"))


def test_a_block_that_runs_again_for_its_gradient_keeps_its_place():
    """Run again, its layers would count as later than the chosen one, which would then pass for a stem."""

    class Checkpointed(nn.Module):
        def __init__(self):
            super().__init__()
            self.trunk = nn.Sequential(
                nn.Conv2d(3, 8, 3, 4, 1), *(nn.Conv2d(8, 8, 3, 1, 1) for _ in range(9))
            )
            self.relu, self.fc = nn.ReLU(), nn.Linear(8, 4)

        def forward(self, x):
            return self.fc(self.relu(checkpoint(self.trunk, x, use_reentrant=False)).mean((2, 3)))

    choice = choose_layer(seeded(Checkpointed), images())
    assert [c.name for c in choice.candidates] == [
        *(f"trunk.{n}" for n in range(10)),
        "trunk",
        "relu",
    ]
    assert choice.name == "relu"


def test_an_operation_in_place_after_a_layer_leaves_the_choice_as_it_is():
    plain, inplace = (
        choose_layer(seeded(DeepHead, inplace=flag), images()) for flag in (False, True)
    )
    assert plain == inplace


def test_the_reason_of_a_layer_says_what_holds_and_nothing_else():
    choice = choose_layer(seeded(GapNet), images())
    grid = "x".join(map(str, choice.grid))
    reached = sum(c.reached for c in choice.candidates)
    size = "x".join(map(str, images().shape[2:]))
    assert choice.reason == (
        f"last of {reached} layers with a grid and a gradient: {grid} positions for an input of {size}"
    )


def test_register_tokens_are_left_out():
    choice = choose_layer(seeded(TinyViT, registers=4), images())
    assert (choice.name, choice.prefix) == ("blocks.1.norm1", 5)
    assert "5 prefix tokens" in choice.reason
    assert "exactly zero" in choice.reason


def test_a_stem_is_never_chosen_silently():
    class Stemmed(nn.Module):
        def __init__(self):
            super().__init__()
            self.stem = nn.Conv2d(3, 4, 4, 4)
            self.mlp = nn.Sequential(*(nn.Linear(256, 256) for _ in range(8)), nn.Linear(256, 3))

        def forward(self, x):
            return self.mlp(self.stem(x).flatten(1))

    net = seeded(Stemmed)
    with pytest.raises(
        LayerError,
        match=r"stem \('stem' is layer 1 of 10 with weights\).*stem \(8x8, gradient present\)",
    ):
        choose_layer(net, images())
    assert capture(net, "stem", images(), PREDICTED).grid == (8, 8)  # by name it is allowed


class Ladder(nn.Module):
    """``grids`` convolutions, then linear layers: ``weighted`` layers with weights in all."""

    def __init__(self, grids, weighted):
        super().__init__()
        self.grids = nn.Sequential(
            nn.Conv2d(3, 4, 4, 4), *(nn.Conv2d(4, 4, 1) for _ in range(grids - 1))
        )
        self.rest = nn.Sequential(
            *(nn.Linear(256, 256) for _ in range(weighted - grids - 1)), nn.Linear(256, 5)
        )

    def forward(self, x):
        return self.rest(self.grids(x).flatten(1))


@pytest.mark.parametrize(
    ("grids", "weighted", "stem"),
    [
        (1, 7, False),
        (1, 8, True),
        (2, 8, False),
        (2, 9, True),
        (3, 16, True),
        (4, 16, False),
        (4, 17, True),
    ],
)
def test_a_stem_ends_before_a_quarter_of_eight_or_more_weighted_layers(grids, weighted, stem):
    net = seeded(Ladder, grids=grids, weighted=weighted)
    if stem:
        with pytest.raises(LayerError, match=f"is layer {grids} of {weighted} with weights"):
            choose_layer(net, images())
    else:
        assert choose_layer(net, images()).name == "grids"


@pytest.mark.parametrize(("classes", "name"), [(5, "relu"), (3, "relu"), (2, "classifier")])
def test_a_map_of_class_scores_is_no_layer_to_explain(classes, name):
    """One channel per class, of which each image's score reads one; of two classes, two traced images would read both channels of any layer."""

    class Convolutional(nn.Module):
        def __init__(self):
            super().__init__()
            self.features, self.relu, self.classifier = (
                nn.Conv2d(3, 7, 4, 4),
                nn.ReLU(),
                nn.Conv2d(7, classes, 1),
            )

        def forward(self, x):
            return self.classifier(self.relu(self.features(x))).mean((2, 3))

    assert choose_layer(seeded(Convolutional), images()).name == name


def test_a_network_without_a_grid_is_refused_with_its_candidates():
    net = nn.Sequential(nn.Flatten(), nn.Linear(3 * 32 * 32, 4))
    with pytest.raises(LayerError, match="no layer gives a grid"):
        choose_layer(net, images())

    class Dead(GapNet):
        def forward(self, x):
            return super().forward(x) * 0.0

    with pytest.raises(
        LayerError, match=r"4 layers with a grid.*conv2 \(8x8, gradient exactly zero\)"
    ):
        choose_layer(seeded(Dead), images())


def test_borrowed_restores_autocast_and_grad_mode():
    net = seeded(GapNet).train()
    with torch.autocast("cpu", dtype=torch.bfloat16), torch.no_grad():
        with borrowed(net):
            assert not net.training
            torch.set_autocast_enabled("cpu", False)
            torch.set_grad_enabled(True)
        assert torch.is_autocast_enabled("cpu")
        assert not torch.is_grad_enabled()
    assert net.conv1.training
