"""Is a layer chosen, is it the last stage with a grid, and is there a map on it?  Every architecture that people bring, small and untrained."""

from __future__ import annotations

import warnings

import pytest
import torch
from tiny_models import awakened, images
from torch import nn

from gradaudit.capture import choose_layer
from gradaudit.engine import explain
from gradaudit.models import Classifier, load_classifier
from gradaudit.operators import import_torchvision

CLASSES = 5
QUICK = {
    "squeezenet1_1", "resnet18", "mobilenet_v2", "shufflenet_v2_x0_5", "mnasnet0_5", "tnt_s_patch16_224", "vit_tiny_patch16_224",
    "deit_tiny_distilled_patch16_224", "eva02_tiny_patch14_224", "xcit_nano_12_p16_224", "cait_xxs24_224", "resnet10t", "mobilenetv3_small_050",
}  # fmt: skip


def cases(names):
    """Each a test; those that cost a second or more are slow."""
    return [pytest.param(name, marks=() if name in QUICK else pytest.mark.slow) for name in names]


def assert_explained(clf: Classifier, side: int, grid: tuple[int, int], kind: str, prefix: int, layer: str = "") -> None:
    """The layer that ``auto`` takes has the grid of the last stage, and its map of each class is finite, not constant, and its own."""
    x = images(2, side)
    choice = choose_layer(clf.module, x, clf.output)
    assert (choice.grid, choice.kind, choice.prefix) == (grid, kind, prefix), choice.reason
    assert layer in choice.name
    scores = explain(clf, x).outputs.sum(0)
    by_class = [explain(clf, x, int(k)) for k in scores.topk(2).indices]  # others may lie behind a ReLU, as SqueezeNet's do, with a gradient of zero
    for found in by_class:
        assert found.layer == choice.name
        assert found.raw.shape == (2, *grid)
        assert found.raw.isfinite().all()
        assert set(found.status) <= {"ok", "no_positive_evidence"}, "a constant map is flat"
    assert not torch.allclose(by_class[0].raw, by_class[1].raw, rtol=1e-3, atol=0)
    assert not torch.allclose(by_class[0].raw[0], by_class[0].raw[1], rtol=1e-3, atol=0)


# ── Hugging Face ────────────────────────────────────────────────────────────────────────────────────────────────────

TOKENS = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32, "image_size": 32, "patch_size": 8}
FOUR = {"depths": [1, 1, 1, 1], "hidden_sizes": [8, 8, 16, 16]}
HEADS = {"num_attention_heads": [1, 1, 2, 2]}
WINDOWS = {"image_size": 64, "patch_size": 4, "embed_dim": 8, "depths": [1, 1, 1], "num_heads": [1, 2, 2], "window_size": 4}

# class of transformers without "ForImageClassification": configuration, side of the input, grid of the last stage, its layout, prefix tokens
HUGGINGFACE = {
    "ViT": (TOKENS, 32, (4, 4), "tokens", 1),
    "DeiT": (TOKENS, 32, (4, 4), "tokens", 2),
    "ViTMSN": (TOKENS, 32, (4, 4), "tokens", 1),
    "Beit": (TOKENS, 32, (4, 4), "tokens", 1),
    "Data2VecVision": (TOKENS, 32, (4, 4), "tokens", 1),
    "Dinov2": (TOKENS, 32, (4, 4), "tokens", 1),
    "Dinov2WithRegisters": (TOKENS, 32, (4, 4), "tokens", 5),
    "Siglip": ({"vision_config": TOKENS}, 32, (4, 4), "tokens", 0),
    "CLIP": ({"vision_config": TOKENS}, 32, (4, 4), "tokens", 1),
    "Swin": (WINDOWS, 64, (4, 4), "tokens", 0),
    "Swinv2": (WINDOWS, 64, (4, 4), "tokens", 0),
    "ConvNext": (FOUR, 64, (2, 2), "nchw", 0),
    "ConvNextV2": (FOUR, 64, (2, 2), "nchw", 0),
    "ResNet": ({"embedding_size": 8, "hidden_sizes": [8, 16], "depths": [1, 1], "layer_type": "basic"}, 64, (8, 8), "nchw", 0),
    "RegNet": ({"embedding_size": 8, "hidden_sizes": [8, 16], "depths": [1, 1], "groups_width": 4}, 64, (8, 8), "nchw", 0),
    "Bit": ({"embedding_size": 8, "hidden_sizes": [8, 16, 16, 32], "depths": [1, 1, 1, 1], "num_groups": 4}, 64, (2, 2), "nchw", 0),
    "MobileNetV1": ({"depth_multiplier": 0.25, "min_depth": 4}, 64, (2, 2), "nchw", 0),
    "MobileNetV2": ({"depth_multiplier": 0.25, "depth_divisible_by": 4, "min_depth": 4}, 64, (2, 2), "nchw", 0),
    "EfficientNet": ({"width_coefficient": 0.25, "depth_coefficient": 0.25, "depth_divisor": 4, "hidden_dim": 320}, 64, (2, 2), "nchw", 0),
    "MobileViT": ({"image_size": 64, "hidden_sizes": [12, 16, 16], "neck_hidden_sizes": [8, 8, 12, 12, 16, 16, 32], "num_attention_heads": 2}, 64, (2, 2), "nchw", 0),
    "MobileViTV2": ({"image_size": 64, "width_multiplier": 0.25}, 64, (2, 2), "nchw", 0),
    "FocalNet": ({"image_size": 64, "embed_dim": 8, "hidden_sizes": [8, 16, 16], "depths": [1, 1, 1], "focal_levels": [2, 2, 2], "focal_windows": [3, 3, 3]}, 64, (4, 4), "tokens", 0),
    "PoolFormer": (FOUR, 64, (2, 2), "nchw", 0),
    "Pvt": ({"image_size": 64} | FOUR | HEADS, 64, (2, 2), "tokens", 1),
    "PvtV2": ({"image_size": 64} | FOUR | HEADS, 64, (2, 2), "nchw", 0),
    "Segformer": ({"decoder_hidden_size": 16} | FOUR | HEADS, 64, (2, 2), "nchw", 0),
    "SwiftFormer": ({"image_size": 64, "embed_dims": [8, 16, 16, 32], "depths": [1, 1, 1, 1]}, 64, (2, 2), "nchw", 0),
    "Levit": ({"image_size": 128, "hidden_sizes": [16, 24, 32], "num_attention_heads": [2, 2, 2], "depths": [1, 1, 1], "key_dim": [8, 8, 8]}, 128, (2, 2), "tokens", 0),
    "Hiera": ({"image_size": [64, 64], "embed_dim": 8, "depths": [1, 1, 1, 1], "num_heads": [1, 2, 2, 2]}, 64, (2, 2), "tokens", 0),
}  # fmt: skip


@pytest.fixture(scope="module")
def transformers():
    import_torchvision()
    return pytest.importorskip("transformers", reason="the extra [hf] is not installed")


@pytest.mark.parametrize("name", HUGGINGFACE)
def test_hugging_face(transformers, tmp_path, name):
    if not hasattr(transformers, f"{name}ForImageClassification"):
        pytest.skip(f"transformers {transformers.__version__} has no {name}ForImageClassification")
    settings, side, grid, kind, prefix = HUGGINGFACE[name]
    with torch.random.fork_rng([]), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # libraries among themselves
        torch.manual_seed(0)
        module = getattr(transformers, f"{name}ForImageClassification")(getattr(transformers, f"{name}Config")(**settings, num_labels=CLASSES))
        awakened(module, images(8, side, seed=2)).save_pretrained(tmp_path / "net")
    assert_explained(load_classifier("hf:net", root=tmp_path), side, grid, kind, prefix)


# ── torchvision ─────────────────────────────────────────────────────────────────────────────────────────────────────

# model of torchvision: side of the input, grid of the last stage, part of the layer's name
TORCHVISION = {
    "alexnet": (64, (3, 3), "features"), "squeezenet1_1": (64, (3, 3), "features"),
    "googlenet": (64, (2, 2), "inception5b"), "inception_v3": (139, (3, 3), "Mixed_7c"), "resnet18": (64, (2, 2), "layer4"),
    "resnext50_32x4d": (64, (2, 2), "layer4"), "densenet121": (64, (2, 2), "features"), "mobilenet_v2": (64, (2, 2), "features"),
    "mobilenet_v3_small": (64, (2, 2), "features"), "shufflenet_v2_x0_5": (64, (2, 2), "conv5"), "mnasnet0_5": (64, (2, 2), "layers"),
    "efficientnet_b0": (64, (2, 2), "features"), "regnet_y_400mf": (64, (2, 2), "trunk_output"), "convnext_tiny": (64, (2, 2), "features"),
}  # fmt: skip


@pytest.mark.parametrize("name", cases(TORCHVISION))
def test_torchvision(name):
    side, grid, layer = TORCHVISION[name]
    extra = {"init_weights": False} if name in ("googlenet", "inception_v3") else {}
    assert_explained(wrapped(lambda: import_torchvision().models.get_model(name, weights=None, num_classes=CLASSES, **extra), side), side, grid, "nchw", 0, layer)


def wrapped(build, side: int) -> Classifier:
    with torch.random.fork_rng([]), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # libraries among themselves
        torch.manual_seed(0)
        module: nn.Module = build()
        return Classifier.wrap(awakened(module, images(8, side, seed=2)))


def test_torchvision_vision_transformer():
    build = import_torchvision().models.VisionTransformer
    clf = wrapped(lambda: build(image_size=32, patch_size=8, num_layers=2, num_heads=2, hidden_dim=16, mlp_dim=32, num_classes=CLASSES), 32)
    assert_explained(clf, 32, (4, 4), "tokens", 1, "encoder_layer_1.ln_1")


@pytest.mark.parametrize("version", ["swin_t", "swin_v2_t"])
def test_torchvision_swin(version):
    models = import_torchvision().models.swin_transformer
    parts = {"block": models.SwinTransformerBlockV2, "downsample_layer": models.PatchMergingV2} if "v2" in version else {}
    sizes = {"patch_size": [4, 4], "embed_dim": 16, "depths": [1, 1, 1], "num_heads": [1, 2, 2], "window_size": [4, 4], "num_classes": CLASSES}
    assert_explained(wrapped(lambda: models.SwinTransformer(**sizes, **parts), 64), 64, (4, 4), "nchw", 0, "permute")


def test_torchvision_maxvit():
    build = import_torchvision().models.MaxVit
    sizes = {"input_size": (64, 64), "stem_channels": 8, "partition_size": 4, "block_channels": [8, 16], "block_layers": [1, 1], "head_dim": 8}
    clf = wrapped(lambda: build(**sizes, stochastic_depth_prob=0.0, num_classes=CLASSES), 64)
    assert_explained(clf, 64, (8, 8), "nchw", 0, "blocks.1")


# ── timm ────────────────────────────────────────────────────────────────────────────────────────────────────────────

SMALL_VIT = {"img_size": 64, "depth": 2}
# model of timm: settings, side of the input, grid of the last stage, its layout, prefix tokens, part of the layer's name
TIMM = {
    "tnt_s_patch16_224": (SMALL_VIT, 64, (4, 4), "tokens", 1, "blocks.1.norm_out"),
    "vit_tiny_patch16_224": (SMALL_VIT, 64, (4, 4), "tokens", 1, "blocks.1.norm1"),
    "deit_tiny_distilled_patch16_224": (SMALL_VIT, 64, (4, 4), "tokens", 2, "blocks.1.norm1"),
    "eva02_tiny_patch14_224": ({"img_size": 56, "depth": 2}, 56, (4, 4), "tokens", 1, "blocks.1"),
    "xcit_nano_12_p16_224": (SMALL_VIT, 64, (4, 4), "tokens", 1, "cls_attn_blocks"),
    "cait_xxs24_224": (SMALL_VIT, 64, (4, 4), "tokens", 0, "blocks"),
    "mixer_s32_224": ({}, 224, (7, 7), "tokens", 0, "norm"),
    "levit_128s": ({}, 224, (4, 4), "tokens", 0, "stages"),
    "swinv2_cr_tiny_ns_224": ({"img_size": 64, "depths": (1, 1, 1, 1)}, 64, (2, 2), "nchw", 0, "stages"),
    "coatnet_pico_rw_224": ({"img_size": 64}, 64, (2, 2), "nchw", 0, "norm"),
    "resnet10t": ({}, 64, (2, 2), "nchw", 0, "layer4"),
    "resnetv2_50x1_bit": ({}, 64, (2, 2), "nchw", 0, "norm"),
    "mobilenetv3_small_050": ({}, 64, (2, 2), "nchw", 0, "blocks"),
    "mixnet_s": ({}, 64, (2, 2), "nchw", 0, "bn2"),
    "repvit_m0_9": ({}, 64, (2, 2), "nchw", 0, "stages"),
    "convnext_atto": ({}, 64, (2, 2), "nchw", 0, "stages"),
    "edgenext_xx_small": ({}, 64, (2, 2), "nchw", 0, "stages"),
    "mobilevit_xxs": ({}, 64, (2, 2), "nchw", 0, "final_conv"),
    "poolformer_s12": ({}, 64, (2, 2), "nchw", 0, "stages"),
    "pvt_v2_b0": ({}, 64, (2, 2), "nchw", 0, "stages"),
    "ghostnet_050": ({}, 64, (2, 2), "nchw", 0, "blocks"),
    "efficientvit_b0": ({}, 64, (2, 2), "nchw", 0, "in_conv"),
    "mambaout_femto": ({}, 64, (2, 2), "nhwc", 0, "stages"),
}  # fmt: skip


@pytest.fixture(scope="module")
def timm():
    import_torchvision()
    return pytest.importorskip("timm", reason="the extra [timm] is not installed")


@pytest.mark.parametrize("name", cases(TIMM))
def test_timm(timm, name):
    settings, side, grid, kind, prefix, layer = TIMM[name]
    assert_explained(wrapped(lambda: timm.create_model(name, num_classes=CLASSES, **settings), side), side, grid, kind, prefix, layer)
