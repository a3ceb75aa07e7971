"""Networks saved as exported programs and as ONNX files."""

import warnings
from pathlib import Path

import numpy as np
import torch
from torch import nn

# ── whole networks in one file ──────────────────────────────────────────────────────────────────────────────────────


def exported(folder, module, size=(3, 16, 20), batch=True, name="net.pt2"):
    shapes = ({0: torch.export.Dim("batch")},) if batch is True else None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's own deprecations
        program = torch.export.export(
            module, (torch.rand(2 if batch is True else batch, *size),), dynamic_shapes=shapes
        )
        torch.export.save(program, Path(folder) / name)
    return name


def onnx_file(path, opset, last_channels=False, ending="Softmax"):
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    draw = np.random.default_rng(0)
    weights = {
        "w": draw.normal(size=(4, 3, 3, 3)),
        "b": draw.normal(size=4),
        "hw": draw.normal(size=(3, 4)),
        "hb": draw.normal(size=3),
    }
    nodes = (
        [helper.make_node("Transpose", ["image"], ["first"], perm=[0, 3, 1, 2])]
        if last_channels
        else []
    )
    nodes += [
        helper.make_node(
            "Conv", ["first" if last_channels else "image", "w", "b"], ["c"], name="stem/conv"
        ),
        helper.make_node("Relu", ["c"], ["r"], name="stem/relu"),
        helper.make_node("GlobalAveragePool", ["r"], ["g"], name="pool"),
        helper.make_node("Flatten", ["g"], ["f"], name="flat"),
        helper.make_node(
            "Gemm", ["f", "hw", "hb"], ["logits" if ending else "out"], name="head", transB=1
        ),
    ]
    nodes += [helper.make_node(ending, ["logits"], ["out"], name="ending")] if ending else []
    shape = ["n", 16, 20, 3] if last_channels else ["n", 3, 16, 20]
    graph = helper.make_graph(
        nodes, "net", [helper.make_tensor_value_info("image", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("out", TensorProto.FLOAT, ["n", 3])],
        [numpy_helper.from_array(value.astype(np.float32), name) for name, value in weights.items()],
    )  # fmt: skip
    onnx.save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8), path
    )
    torch_like = nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3)
    )
    torch_like.load_state_dict({f"{i}.{k}": torch.tensor(weights[w]).float() for i, k, w in
                                [(0, "weight", "w"), (0, "bias", "b"), (4, "weight", "hw"), (4, "bias", "hb")]})  # fmt: skip
    return torch_like
