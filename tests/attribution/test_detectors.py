"""torchvision's own detectors, before suppression: the score of a box is explained where the box is."""

import pytest
import torch

from gradaudit.attribution.explanation import explain
from gradaudit.attribution.layer_choice import resolve_layer
from gradaudit.attribution.targets import AllDetections
from gradaudit.models.classifier import Classifier
from gradaudit.models.torchvision_compat import import_torchvision, plain_nms

SIDE = 160
pytestmark = pytest.mark.filterwarnings(
    "ignore:.*torch.jit:DeprecationWarning"
)  # torchvision scripts a function on import


def detector(name):
    """Untrained, small input, few proposals; scores spread over a wide range, as training would spread them."""
    detection = import_torchvision().models.detection
    torch.manual_seed(0)
    settings = {
        "weights": None,
        "weights_backbone": None,
        "num_classes": 3,
        "min_size": SIDE,
        "max_size": SIDE,
    }
    if name.startswith("fasterrcnn"):
        settings |= {"rpn_post_nms_top_n_test": 24, "rpn_pre_nms_top_n_test": 200}
    net = getattr(detection, name)(**settings).eval()
    with torch.no_grad():
        for norm in (m for m in net.modules() if isinstance(m, torch.nn.BatchNorm2d)):
            norm.momentum = None
        for head in (
            m
            for n, m in net.named_modules()
            if n.endswith(("cls_logits", "box_predictor.cls_score"))
        ):
            head.weight.mul_(3)
    return net


@pytest.fixture(scope="module", autouse=True)
def uncompiled():
    """Where torchvision's operators are missing it compiles a RoIAlign of its own, which takes longer than all these tests."""
    with torch.compiler.set_stance("force_eager"):
        yield


@pytest.fixture(
    scope="module", params=["retinanet_resnet50_fpn", "fasterrcnn_mobilenet_v3_large_320_fpn"]
)
def setting(request):
    net = detector(request.param)
    x = torch.rand(1, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(1))
    clf, reason = resolve_layer(Classifier(AllDetections(net)), x)
    with torch.no_grad():
        found = clf.module(x)[0]
    return net, x, clf, reason, found


@pytest.mark.slow
def test_the_backbones_last_layer_is_chosen(setting):
    _, _, clf, reason, _ = setting
    assert clf.layer.startswith("detector.backbone.body.")
    assert "fpn" not in clf.layer
    assert reason


@pytest.mark.slow
def test_every_candidate_is_there_and_the_detector_is_as_before(setting):
    net, x, _, _, found = setting
    holder = getattr(net, "roi_heads", net)
    before = holder.nms_thresh, holder.score_thresh, holder.detections_per_img
    with torch.no_grad():
        suppressed = net(list(x))[0]
    assert len(found["boxes"]) > len(suppressed["boxes"])
    assert (holder.nms_thresh, holder.score_thresh, holder.detections_per_img) == before
    assert before[0] < 1


def test_the_score_of_a_box_is_explained_where_the_box_is(setting):
    _, x, clf, _, found = setting
    label = int(found["labels"].mode().values)
    own = found["labels"] == label
    boxes, scores = found["boxes"][own], found["scores"][own]
    across = (boxes[:, 0] + boxes[:, 2]) / 2
    narrow = (
        (boxes[:, 2] - boxes[:, 0] < SIDE / 2)
        & (boxes[:, 2] - boxes[:, 0] > 4)
        & (boxes[:, 3] - boxes[:, 1] > 4)
    )
    left, right = (boxes[narrow & side][0] for side in (across < 0.3 * SIDE, across > 0.7 * SIDE))
    centres = []
    for box in (left, right):
        maps = explain(clf, x, ("box", label, box), "hirescam")
        shared = overlap(boxes, box)
        torch.testing.assert_close(maps.score, (scores * shared)[shared >= 0.5].max()[None])
        columns = maps.raw[0].abs().sum(0)
        centres.append(
            float((columns * torch.arange(len(columns))).sum() / columns.sum()) / (len(columns) - 1)
        )
    assert centres[0] < centres[1]


def overlap(boxes, box):
    low, high = torch.maximum(boxes[:, :2], box[:2]), torch.minimum(boxes[:, 2:], box[2:])
    shared = (high - low).clamp_min(0).prod(1)
    return shared / ((boxes[:, 2:] - boxes[:, :2]).prod(1) + (box[2:] - box[:2]).prod() - shared)


def test_suppression_at_1_keeps_everything_in_order_of_score():
    boxes = torch.tensor([[0.0, 0, 2, 2]]).repeat(5, 1)
    scores = torch.tensor([0.1, 0.9, 0.5, 0.9, 0.2])
    assert plain_nms(boxes, scores, 1.0).tolist() == [1, 3, 2, 4, 0]
    assert plain_nms(boxes, scores, 0.99).tolist() == [1]
