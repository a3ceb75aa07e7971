"""A softmax or sigmoid at the end of a network: the audit is the one of the network without it, or it is refused; clean networks are left alone."""

from __future__ import annotations

import copy
import importlib.util
import textwrap

import pandas as pd
import pytest
import torch
from small_audits import write_audit
from tiny_models import GapNet, SharedRelu, TinyViT, images, seeded
from torch import nn
from torch.nn import functional

import gradaudit as ga
from gradaudit.attribution.layer_choice import choose_layer, resolve_layer
from gradaudit.errors import LayerError, ModelError
from gradaudit.models.classifier import Classifier
from gradaudit.models.sources import with_logits
from gradaudit.plan import find_plan
from gradaudit.workflows.explain_images import explain_images
from gradaudit.workflows.image_files import find_images
from gradaudit.workflows.layer_table import list_layers


class Warmth(nn.Module):
    """Warm or cold by the coloured square of ``small_audits``; ``outputs`` logits, of which a single one counts for "cold"."""

    def __init__(self, outputs: int = 2, key: str | None = None) -> None:
        super().__init__()
        self.features, self.head, self.key = (
            nn.Conv2d(3, 2, 4, stride=4),
            nn.Linear(2, outputs),
            key,
        )
        redder = torch.tensor([1.0, 0.0, -1.0]).view(1, 3, 1, 1).expand(1, 3, 4, 4) / 16
        with torch.no_grad():
            self.features.weight.copy_(torch.cat([redder, -redder]))
            self.features.bias.fill_(-0.1)
            self.head.weight.copy_(torch.tensor([[9.0, -30.0], [-20.0, 20.0]])[-outputs:])
            self.head.bias.copy_(torch.tensor([0.1, 0.0])[-outputs:])

    def logits(self, x):
        return self.head(torch.relu(self.features(x)).mean((2, 3)))

    def end(self, z):
        return z

    def forward(self, x):
        out = self.end(self.logits(x))
        return out if self.key is None else {"features": x, self.key: out}


class WithModule(Warmth):
    def __init__(self, activation, outputs=2, key=None) -> None:
        super().__init__(outputs, key)
        self.act = activation

    def end(self, z):
        return self.act(z)


class Squeezed(WithModule):
    def end(self, z):
        return self.act(z).squeeze(1)


class WithFunction(Warmth):
    def __init__(self, function, outputs=2) -> None:
        super().__init__(outputs)
        self.function = function

    def end(self, z):
        return self.function(z)


CUT = {
    "softmax at the end of a sequence": (lambda: nn.Sequential(Warmth(), nn.Softmax(dim=1)), 2),
    "sigmoid at the end of a sequence": (lambda: nn.Sequential(Warmth(1), nn.Sigmoid()), 1),
    "a sequence in a sequence, flattened after": (
        lambda: nn.Sequential(nn.Sequential(Warmth(1), nn.Sigmoid()), nn.Flatten(0)),
        1,
    ),
    "softmax as an attribute": (lambda: WithModule(nn.Softmax(dim=-1)), 2),
    "log-softmax as an attribute": (lambda: WithModule(nn.LogSoftmax(dim=1)), 2),
    "sigmoid as an attribute, one logit": (lambda: WithModule(nn.Sigmoid(), 1), 1),
    "sigmoid as an attribute, squeezed after": (lambda: Squeezed(nn.Sigmoid(), 1), 1),
    "sigmoid per class": (lambda: WithModule(nn.Sigmoid()), 2),
    "log-sigmoid": (lambda: WithModule(nn.LogSigmoid(), 1), 1),
}
REFUSED = {
    "softmax in a function": (lambda: WithFunction(lambda z: torch.softmax(z, 1)), "softmax"),
    "log-softmax in a function": (lambda: WithFunction(lambda z: functional.log_softmax(z, 1)), "log-softmax"),
    "sigmoid in a function": (lambda: WithFunction(torch.sigmoid, 1), "sigmoid"),
    "sigmoid in a function, squeezed after": (lambda: WithFunction(lambda z: z.sigmoid().squeeze(1), 1), "sigmoid"),
    "sigmoid in a function, per class": (lambda: WithFunction(lambda z: z.sigmoid()), "sigmoid"),
    "log-sigmoid in a function": (lambda: WithFunction(functional.logsigmoid, 1), "log-sigmoid"),
    "both probabilities of one logit": (lambda: WithFunction(lambda z: torch.cat([1 - z.sigmoid(), z.sigmoid()], 1), 1), "rows sum to one"),
    "a softmax written by hand": (lambda: WithFunction(lambda z: z.exp() / z.exp().sum(1, keepdim=True)), "rows sum to one"),
    "the logarithm of a softmax": (lambda: WithFunction(lambda z: z.softmax(1).log()), "exponentials sum to one"),
    "a sigmoid written by hand": (lambda: WithFunction(lambda z: 1 / (1 + torch.exp(-z)), 1), "single output stayed"),
    "a sigmoid written by hand, squeezed": (lambda: WithFunction(lambda z: 1 / (1 + torch.exp(-z[:, 0])), 1), "single output stayed"),
    "one probability of a softmax": (lambda: WithFunction(lambda z: z.softmax(1)[:, 1]), "softmax"),
    "softmax in a function without gradient": (lambda: WithFunction(lambda z: z.detach().softmax(1)), "rows sum to one"),
}  # fmt: skip


@pytest.fixture(scope="module")
def audit(tmp_path_factory):
    """Sixteen images with wrong labels on a quarter of them; audited by a network, with what the report is made of."""
    manifest = write_audit(tmp_path_factory.mktemp("audit"), images=16)
    table = pd.read_csv(manifest)
    table.loc[::4, "label"] = table.loc[::4, "label"].map({"warm": "cold", "cold": "warm"})
    table.to_csv(manifest, index=False)
    plan, root = find_plan(None, manifest)
    table = ga.read_manifest(manifest, plan)
    preprocess = ga.load_classifier(
        "factory:network.py:build", preprocess=plan.preprocess, root=root
    ).preprocess

    def run(module: nn.Module):
        return ga.measure(
            table,
            Classifier.wrap(module.eval(), classes=["warm", "cold"], preprocess=preprocess),
            plan,
        )

    run.folder, run.manifest, run.plan, run.preprocess = root, manifest, plan, preprocess
    return run


def assert_same_audit(found, expected) -> None:
    for name in ("predicted", "correct", "heat_status", "status"):
        assert list(found.images[name]) == list(expected.images[name])
    for name in ("probability", "score"):
        assert list(found.images[name]) == pytest.approx(list(expected.images[name]), rel=1e-5)
    pd.testing.assert_series_equal(
        found.table["heat_share"], expected.table["heat_share"], rtol=1e-5
    )
    assert found.images["correct"].mean() == 0.75
    assert found.table["heat_share"].notna().mean() > 0.4


# ── attacks ─────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("name", CUT)
def test_a_network_that_ends_in_an_activation_is_audited_as_the_one_without(audit, name):
    build, outputs = CUT[name]
    module = build()
    found = audit(module)
    assert_same_audit(found, audit(Warmth(outputs)))
    assert any(
        "was taken off, so that the logit is explained" in note for note in found.run.model.notes
    )
    with torch.no_grad():
        assert module(images(2)).max() <= 1, "the network itself is as it was"


@pytest.mark.parametrize("name", REFUSED)
def test_an_activation_that_cannot_be_taken_off_is_refused(audit, name):
    build, words = REFUSED[name]
    with pytest.raises(ModelError, match=rf"{words}(.|\n)*return the logits"):
        audit(build())
    expected, words = (
        (LayerError, "cuts the graph") if "without gradient" in name else (ModelError, words)
    )
    with pytest.raises(expected, match=words):
        ga.explain(
            Classifier.wrap(build().eval(), layer="features", classes=["warm", "cold"]), images(3)
        )


def test_the_whole_audit_of_a_factory(audit):
    code = """
        from torch import nn
        import network
        def build():
            return nn.Sequential(network.build(), nn.Softmax(dim=1))
    """
    (audit.folder / "probable.py").write_text(textwrap.dedent(code))
    found, plain = (
        ga.audit(audit.manifest, f"factory:{file}.py:build") for file in ("probable", "network")
    )
    assert any("(softmax) was taken off" in note for note in found.document.model.notes)
    assert len(found.findings) == len(plain.findings) > 0
    for one, other in zip(found.findings, plain.findings, strict=True):
        assert (one.anchor, one.state, one.n_images) == (
            other.anchor,
            other.state,
            other.n_images,
        )
        assert one.mean.estimate == pytest.approx(other.mean.estimate, rel=1e-5)


def test_single_images_and_the_list_of_layers(audit, tmp_path):
    found = find_images([str(audit.folder / "images" / "000.png")])
    records = []
    for name, module in {"plain": Warmth(), "probable": WithModule(nn.Softmax(dim=1))}.items():
        clf = Classifier.wrap(module.eval(), classes=["warm", "cold"], preprocess=audit.preprocess)
        written = explain_images(
            found, clf, audit.plan, ("gradcam", "occlusion"), tmp_path / name, names=True
        )
        records.append(
            [
                {k: row[k] for k in ("predicted", "probability", "score", "status", "highest")}
                for row in written.record["explanations"]
            ]
        )
        assert any("taken off" in note for note in written.record["model"]["notes"]) == (
            name == "probable"
        )
        assert list_layers(clf).auto == "features"
    clf = Classifier.wrap(WithModule(nn.Sigmoid()).eval(), preprocess=audit.preprocess)
    written = explain_images(found, clf, audit.plan, ("occlusion",), tmp_path / "without a layer")
    assert any("taken off" in note for note in written.record["model"]["notes"])
    assert len(records[0]) == 2
    for plain, probable in zip(*records, strict=True):
        assert {
            k: pytest.approx(v, rel=1e-5) if isinstance(v, float) else v for k, v in plain.items()
        } == probable
    with pytest.raises(ModelError, match="softmax"):
        explain_images(
            found,
            Classifier.wrap(
                WithFunction(lambda z: z.softmax(1)).eval(), preprocess=audit.preprocess
            ),
            audit.plan,
            output=tmp_path,
        )
    with pytest.raises(ModelError, match="softmax"):
        list_layers(Classifier.wrap(WithFunction(lambda z: z.softmax(1)).eval()))


# ── explain ─────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("layer", ["auto", "0.conv2", ""])
@pytest.mark.parametrize("activation", [nn.Softmax(dim=1), nn.LogSoftmax(dim=1), nn.Sigmoid()])
def test_explain_explains_the_logit_and_says_so(layer, activation):
    net, x = seeded(GapNet), images(4)
    module = nn.Sequential(net, activation).eval()
    clf = Classifier.wrap(module, layer=layer) if layer else module
    with pytest.warns(UserWarning, match="taken off, so that the logit is explained"):
        found = ga.explain(clf, x, 1)
    expected = ga.explain(Classifier(net, "conv2" if layer == "0.conv2" else "auto"), x, 1)
    torch.testing.assert_close(found.raw, expected.raw)
    torch.testing.assert_close(found.score, expected.score)
    torch.testing.assert_close(found.outputs, expected.outputs)


@pytest.mark.parametrize(
    "build",
    [
        lambda: WithModule(nn.Sigmoid(), 1),
        lambda: Squeezed(nn.Sigmoid(), 1),
        lambda: WithModule(nn.Softmax(1)),
    ],
)
def test_one_image_is_enough(build):
    net = build().eval()
    with pytest.warns(UserWarning, match="taken off"):
        found = ga.explain(net, images(1))
    torch.testing.assert_close(found.outputs, net.logits(images(1)).reshape(found.outputs.shape))


def test_a_saturated_softmax_hides_no_layer():
    """Its gradient is exactly zero in float32, so that no layer would be found."""
    net = seeded(GapNet)
    net.fc.weight.data.mul_(1e5)
    with pytest.warns(UserWarning, match="taken off"):
        assert ga.explain(nn.Sequential(net, nn.Softmax(1)), images(2)).layer == "0.relu2"


def test_a_target_that_reads_the_output_itself_gets_it_as_it_is():
    module, x = nn.Sequential(seeded(GapNet), nn.Softmax(1)).eval(), images(2)
    for target in (
        lambda p: torch.log(p[:, 1]),
        ("negated", lambda p: p[:, 1]),
        ("similarity", torch.ones(5)),
    ):
        found = ga.explain(module, x, target)
        torch.testing.assert_close(found.outputs.sum(1), torch.ones(2))


def test_logits_under_a_key():
    net = WithModule(nn.Softmax(dim=1), key="scores").eval()
    clf = with_logits(Classifier.wrap(net, output="scores"), images(2))
    torch.testing.assert_close(clf.module(images(2))["scores"], net.logits(images(2)))
    assert torch.equal(clf.module(images(2))["features"], images(2))


# ── the copy without the activation ─────────────────────────────────────────────────────────────────────────────────


def test_the_copy_shares_its_weights_and_the_given_network_is_as_it_was():
    module = nn.Sequential(seeded(GapNet), nn.Sequential(nn.Identity(), nn.Softmax(1))).train()
    before, structure = copy.deepcopy(module.state_dict()), repr(module)
    wrapped = Classifier.wrap(module)
    clf = with_logits(wrapped, images(3))
    assert clf.module is not module
    assert isinstance(clf.module[1][1], nn.Identity)
    assert repr(module) == structure
    assert all(m.training for m in module.modules())
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())
    assert [id(p) for p in clf.module.parameters()] == [id(p) for p in module.parameters()]
    clf.module.register_forward_hook(lambda *_: None)
    clf.module[1].register_forward_hook(lambda *_: None)
    assert not module._forward_hooks
    assert not module[1]._forward_hooks
    assert clf.digest != wrapped.digest
    assert clf.digest == with_logits(Classifier.wrap(module), images(2)).digest
    assert with_logits(clf, images(2)) is clf


def test_an_activation_that_is_used_twice_is_refused():
    """Taking it off at the end would take it out of the middle."""

    class Shared(Warmth):
        def __init__(self):
            super().__init__()
            self.act = nn.Sigmoid()

        def forward(self, x):
            return self.act(self.head(self.act(self.features(x)).mean((2, 3))))

    with pytest.raises(ModelError, match="sigmoid"):
        with_logits(Classifier.wrap(Shared().eval()), images(2))


def test_multi_label_outputs_say_how_they_are_read(audit):
    notes = " ".join(audit(WithModule(nn.Sigmoid())).run.model.notes)
    assert "the class with the highest logit is the prediction" in notes


# ── false alarms ────────────────────────────────────────────────────────────────────────────────────────────────────


class Normalised(GapNet):
    """Features of a fixed length, as behind a LayerNorm: its logits are bounded, whatever the image."""

    def forward(self, x):
        features = functional.normalize(
            self.relu2(self.conv2(self.relu1(self.conv1(x)))).mean((2, 3))
        )
        return 0.5 + self.fc(features) / 20


@pytest.mark.parametrize("outputs", [1, 3])
def test_bounded_logits_between_0_and_1_are_left_alone(outputs, tmp_path):
    from saved_networks import exported

    module = seeded(Normalised, classes=outputs)
    exported(tmp_path, module, (3, 32, 32))
    far = torch.cat([module(images(4) * factor) for factor in (1.0, -1e2, 1e6, -1e6)])
    assert ((far > 0) & (far < 1)).all(), "no multiple of an image tells them from probabilities"
    for clf in (Classifier.wrap(module), ga.load_classifier("net.pt2", root=tmp_path)):
        found = with_logits(clf, images(4))
        assert found.module is clf.module
        assert found.notes == clf.notes


def tiny_logits(outputs: int, shift: float = 0.5, scale: float = 1e-3) -> nn.Module:
    net = seeded(GapNet, classes=outputs)
    net.fc.weight.data.mul_(scale)
    net.fc.bias.data.fill_(shift)
    return net


@pytest.mark.parametrize(
    "module",
    [
        seeded(GapNet), seeded(SharedRelu), seeded(TinyViT), tiny_logits(1), tiny_logits(2), tiny_logits(5), tiny_logits(3, 0.0, 0.0), tiny_logits(3, 0.2),
        tiny_logits(2, -0.5), Warmth(), Warmth(1), tiny_logits(2, 0.5, 0.0), tiny_logits(4, 0.25, 1e-3),
    ],
)  # fmt: skip
def test_a_network_of_logits_is_left_alone(module):
    """Also where all its logits happen to lie in [0, 1]: on these images, or (constant ones) on every image."""
    clf = Classifier.wrap(module)
    found = with_logits(clf, images(4))
    assert found.module is module
    assert (found.notes, found.digest) == ((), clf.digest)


@pytest.mark.parametrize("scale", [1e-3, 1e-6, 0.0])
def test_a_gate_or_an_attention_inside_is_no_ending(scale):
    class Gated(Warmth):
        def __init__(self):
            super().__init__()
            self.gate, self.attention = nn.Sigmoid(), nn.Softmax(dim=-1)

        def logits(self, x):
            x = torch.relu(self.features(x)).flatten(2)
            return 0.5 + scale * self.head((x * self.gate(x) * self.attention(x)).mean(2))

    module = Gated().eval()
    assert ((module(images(4)) > 0) & (module(images(4)) < 1)).all(), (
        "as outputs of a softmax or sigmoid"
    )
    assert with_logits(Classifier.wrap(module), images(4)).module is module


class Cosines(GapNet):
    """Similarities of what a ReLU leaves with positive prototypes: between 0 and 1, and no probabilities."""

    def forward(self, x):
        features = functional.normalize(
            self.relu2(self.conv2(self.relu1(self.conv1(x)))).mean((2, 3))
        )
        return features @ functional.normalize(self.fc.weight.abs()).T


def test_outputs_that_never_leave_the_unit_interval_are_noted(audit):
    module = seeded(Cosines, classes=2)
    found = with_logits(Classifier.wrap(module), images(3))
    assert found.module is module
    assert any(
        "stayed within [0, 1] on 3 images" in note and "return the logits" in note
        for note in found.notes
    )
    assert "stayed within [0, 1] on 4 images" in " ".join(audit(module).run.model.notes), (
        "as many as there are at hand"
    )


def test_maps_of_classes_and_detections_pass():
    module = nn.Conv2d(3, 4, 1)
    assert with_logits(Classifier.wrap(module), images(2)).module is module
    with_maps = nn.Sequential(nn.Conv2d(3, 4, 3, 2, 1), nn.Conv2d(4, 4, 1), nn.Softmax(dim=1))
    clf = with_logits(Classifier.wrap(with_maps), images(2))
    torch.testing.assert_close(clf.module(images(2)), with_maps[:2](images(2)))

    class Coverage(nn.Module):
        """A map of one channel between 0 and 1: no decision between two classes rests on its sign."""

        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(3, 1, 3)

        def forward(self, x):
            return 1 / (1 + torch.exp(-self.conv(x)))

    coverage = seeded(Coverage)
    assert with_logits(Classifier.wrap(coverage), images(2)).module is coverage

    class Detector(nn.Module):
        def forward(self, x):
            return [
                {"boxes": torch.zeros(1, 4), "labels": torch.zeros(1), "scores": torch.ones(1)}
                for _ in x
            ]

    detector = Detector()
    assert with_logits(Classifier.wrap(detector), images(2)).module is detector


def test_layers_keep_their_names():
    net = nn.Sequential(seeded(GapNet), nn.Softmax(1))
    clf, _ = resolve_layer(Classifier.wrap(net), images(2))
    assert clf.layer == f"0.{choose_layer(seeded(GapNet), images(2)).name}"


# ── files ───────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "end",
    [
        nn.Softmax(dim=1), nn.LogSoftmax(dim=1), nn.Sigmoid(), nn.Sequential(nn.Softmax(dim=1), nn.Flatten()),
        nn.Sequential(nn.Sigmoid(), nn.Unflatten(1, (5, 1)), nn.Flatten()),
    ],
)  # fmt: skip
def test_exported_programs(tmp_path, end):
    from saved_networks import exported

    net = seeded(GapNet)
    exported(tmp_path, nn.Sequential(net, end).eval(), (3, 32, 32))
    clf = ga.load_classifier("net.pt2", root=tmp_path)
    torch.testing.assert_close(clf.module(images(3)), net(images(3)))
    assert any("was taken off" in note for note in clf.notes)


@pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in ("onnx", "onnx2torch")),
    reason="the extra [onnx] is not installed",
)
@pytest.mark.parametrize("ending", ["LogSoftmax", "Softmax", "Sigmoid"])
@pytest.mark.parametrize("after", ["", "Identity", "Flatten"])
def test_onnx_files(tmp_path, ending, after):
    import onnx
    from onnx import TensorProto, helper
    from saved_networks import onnx_file

    reference = onnx_file(tmp_path / "net.onnx", 13, ending=ending)
    if after:
        model = onnx.load(tmp_path / "net.onnx")
        model.graph.node.append(helper.make_node(after, ["out"], ["last"], name="after"))
        model.graph.output.pop()
        model.graph.output.append(
            helper.make_tensor_value_info("last", TensorProto.FLOAT, ["n", 3])
        )
        onnx.save(model, tmp_path / "net.onnx")
    batch = images(5, 16, width=20)
    loaded = ga.load_classifier("net.onnx", root=tmp_path)
    assert any("was taken off" in note for note in loaded.notes) == (not after)
    clf = with_logits(loaded, batch)
    torch.testing.assert_close(clf.module(batch), reference(batch), rtol=1e-5, atol=1e-6)
    assert any("was taken off" in note for note in clf.notes)


@pytest.fixture
def keras(monkeypatch):
    monkeypatch.setenv("KERAS_BACKEND", "torch")
    module = pytest.importorskip("keras", reason="the extra [keras] is not installed")
    if module.config.backend() != "torch":
        pytest.skip(f"keras already runs on {module.config.backend()} in this process")
    module.utils.set_random_seed(0)
    return module


@pytest.mark.filterwarnings("ignore")  # between Keras and NumPy
@pytest.mark.parametrize("activation", ["softmax", "log_softmax", "sigmoid", "log_sigmoid"])
def test_keras_files(keras, tmp_path, activation):
    layers = keras.layers
    body = [layers.Conv2D(4, 3), layers.ReLU(), layers.GlobalAveragePooling2D(), layers.Dense(3)]
    plain = keras.Sequential([layers.Input((16, 20, 3)), *body])
    keras.Sequential([layers.Input((16, 20, 3)), *body, layers.Activation(activation)]).save(
        tmp_path / "net.keras"
    )
    keras.Sequential(
        [layers.Input((16, 20, 3)), *body, layers.Activation(activation), layers.Reshape((3,))]
    ).save(tmp_path / "shaped.keras")
    batch = images(2, 16, width=20)
    clf = with_logits(ga.load_classifier("net.keras", root=tmp_path), batch)
    torch.testing.assert_close(
        clf.module(batch), plain(batch.permute(0, 2, 3, 1)), rtol=1e-5, atol=1e-6
    )
    assert any("was taken off" in note for note in clf.notes)
    with pytest.raises(ModelError, match=f"ends in a {activation.replace('_', '-')}"):
        with_logits(ga.load_classifier("shaped.keras", root=tmp_path), batch)
