"""Records of runs that were made up in a test."""

from gradaudit.runs.record import RunData, RunFile, RunModel, digest_of


def run_file(
    *, classes=("benign", "malignant"), cluster_declared=True, identity=None, **changes
) -> RunFile:
    """A complete record; ``changes`` replace its own fields."""
    identity = identity or {"manifest": "made up"}
    model = RunModel(
        source="made up",
        digest="0" * 64,
        layer="none",
        layer_reason="",
        classes=tuple(classes),
        input_size=(),
        preprocess={},
        notes=(),
    )
    data = RunData(
        name="made up",
        digest="0" * 64,
        cluster_declared=cluster_declared,
        attributes=(),
        regions=(),
    )
    fields = {
        "identity": identity, "plan_id": digest_of(identity), "rows": 0, "shard_size": 1, "model": model, "data": data, "cards": {},
        "versions": {}, "device": "cpu", "dtype": "float32", "seed": 0, "command": "", "started": "",
    }  # fmt: skip
    return RunFile(**{**fields, **changes})
