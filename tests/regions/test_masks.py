"""Every way to say where a region is gives the mask that it says; the laws of derived regions hold."""

from __future__ import annotations

import contextlib
import gzip
import json
import struct
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image
from pycocotools import mask as coco

from gradaudit.errors import ImageError, InputError, MissingExtraError
from gradaudit.plan import build_plan
from gradaudit.records import Sample
from gradaudit.regions.derived import OPERATIONS, derivation_faults, derive, parse_derivation
from gradaudit.regions.masks import load_region, region_masks
from gradaudit.regions.text import RegionTextError, is_url, parse_region

SIZE = (12, 20)
SHAPES = hnp.array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=24)
MASKS = SHAPES.flatmap(lambda shape: hnp.arrays(np.bool_, shape))
PAIRS = SHAPES.flatmap(
    lambda shape: st.tuples(hnp.arrays(np.bool_, shape), hnp.arrays(np.bool_, shape))
)


def blob(size: tuple[int, int] = SIZE) -> np.ndarray:
    mask = np.zeros(size, np.uint8)
    mask[3:8, 5:13] = 1
    mask[4, 6] = 0
    return mask


def save(array: np.ndarray, path: Path, **options: object) -> str:
    Image.fromarray(array).save(path, **options)
    return path.name


def png(path: Path, rows: list[bytes], width: int, depth: int, colour: int) -> str:
    """A PNG written by hand, for bit depths that Pillow does not write."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    header = struct.pack(">IIBBBBB", width, len(rows), depth, colour, 0, 0, 0)
    data = zlib.compress(b"".join(b"\0" + row for row in rows))
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")
    )
    return path.name


def reason_of(text: str, root: Path, size: tuple[int, int] = SIZE) -> tuple[str, str]:
    with pytest.raises(ImageError) as caught:
        load_region(text, root, size)
    return caught.value.reason, str(caught.value)


# ── mask files ──────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("suffix", ["png", "bmp", "gif", "tif", "tiff", "pgm"])
@pytest.mark.parametrize("level", [1, 7, 255])
def test_mask_file_is_inside_where_not_zero(tmp_path: Path, suffix: str, level: int) -> None:
    name = save(blob() * np.uint8(level), tmp_path / f"m.{suffix}")
    mask = load_region(name, tmp_path, SIZE)
    assert mask.dtype == np.float32
    np.testing.assert_array_equal(mask, blob())


def test_mask_modes_agree(tmp_path: Path) -> None:
    grey = Image.fromarray(blob() * np.uint8(255))
    grey.convert("1").save(tmp_path / "bits.png")
    grey.convert("RGB").save(tmp_path / "rgb.png")
    grey.convert("RGBA").save(tmp_path / "rgba.png")
    Image.merge("LA", [grey, grey.point(lambda _: 255)]).save(tmp_path / "la.png")
    Image.fromarray(blob().astype(np.uint16) * 256 + blob()).save(tmp_path / "deep.png")
    Image.fromarray(blob().astype(np.float32) * 0.25).save(tmp_path / "float.tif")
    Image.fromarray(blob().astype(np.int32) * 70000).save(tmp_path / "int.tif")
    for name in ("bits.png", "rgb.png", "rgba.png", "la.png", "deep.png", "float.tif", "int.tif"):
        np.testing.assert_array_equal(load_region(name, tmp_path, SIZE), blob(), err_msg=name)


def test_blue_only_pixels_are_inside(tmp_path: Path) -> None:
    colours = np.zeros((*SIZE, 3), np.uint8)
    colours[..., 2] = blob()  # one step of blue: any conversion to grey would lose it
    np.testing.assert_array_equal(
        load_region(save(colours, tmp_path / "blue.png"), tmp_path, SIZE), blob()
    )


def test_transparent_pixels_are_outside_and_alpha_can_be_the_mask(tmp_path: Path) -> None:
    pixels = np.full((*SIZE, 4), 200, np.uint8)
    pixels[..., 3] = blob() * np.uint8(255)
    name = save(pixels, tmp_path / "cutout.png")
    np.testing.assert_array_equal(load_region(name, tmp_path, SIZE), blob())
    np.testing.assert_array_equal(load_region(f"{name}#alpha", tmp_path, SIZE), blob())


def test_black_silhouette_asks_for_alpha_instead_of_being_empty(tmp_path: Path) -> None:
    pixels = np.zeros((*SIZE, 4), np.uint8)
    pixels[..., 3] = blob() * np.uint8(255)
    name = save(pixels, tmp_path / "black.png")
    reason, message = reason_of(name, tmp_path)
    assert reason == "unreadable_mask"
    assert f"{name}#alpha" in message
    np.testing.assert_array_equal(load_region(f"{name}#alpha", tmp_path, SIZE), blob())


def test_alpha_of_a_mask_without_alpha_is_refused(tmp_path: Path) -> None:
    assert reason_of(save(blob(), tmp_path / "m.png") + "#alpha", tmp_path)[0] == "unreadable_mask"


def test_jpeg_mask_is_cut_at_half(tmp_path: Path) -> None:
    mask = np.zeros((64, 64), np.uint8)
    mask[19:45, 19:45] = 255
    name = save(mask, tmp_path / "m.jpg", quality=60)
    assert (
        (np.asarray(Image.open(tmp_path / name)) > 0) & (mask == 0)
    ).any()  # blurred over the edge, so "not 0" would be wrong
    np.testing.assert_array_equal(load_region(name, tmp_path, (64, 64)), mask / 255)


def test_dark_jpeg_mask_is_refused_rather_than_empty(tmp_path: Path) -> None:
    reason, message = reason_of(save(np.full(SIZE, 1, np.uint8), tmp_path / "dark.jpg"), tmp_path)
    assert reason == "unreadable_mask"
    assert "save it as PNG" in message


def test_index_mask_takes_palette_indices_not_colours(tmp_path: Path) -> None:
    palette = Image.new("P", SIZE[::-1])
    palette.putpalette(
        [250, 250, 250, 9, 9, 9, 8, 8, 8, 0, 0, 0]
    )  # index 0 is nearly white, index 3 black
    palette.putdata((blob() * 3).ravel().tolist())
    palette.save(tmp_path / "labels.png")
    np.testing.assert_array_equal(load_region("labels.png#3", tmp_path, SIZE), blob())
    np.testing.assert_array_equal(load_region("labels.png", tmp_path, SIZE), blob())
    np.testing.assert_array_equal(load_region("labels.png#0", tmp_path, SIZE), 1 - blob())
    assert (
        load_region("labels.png#2", tmp_path, SIZE).sum() == 0
    )  # the value is absent: annotated, and not there


def test_sixteen_bit_index_mask(tmp_path: Path) -> None:
    labels = blob().astype(np.uint16) * 1000
    labels[0, 0] = 1000 - 256 * 3  # same low byte as 1000
    name = save(labels, tmp_path / "deep.png")
    np.testing.assert_array_equal(load_region(f"{name}#1000", tmp_path, SIZE), blob())


@pytest.mark.parametrize("depth", [1, 2, 4])
def test_low_bit_grey_png_keeps_its_values(tmp_path: Path, depth: int) -> None:
    per_byte, top = 8 // depth, 2**depth - 1
    values = np.arange(16).reshape(2, 8) % (top + 1)
    rows = []
    for line in values:
        packed = [
            sum(int(v) << (8 - depth * (k + 1)) for k, v in enumerate(line[i : i + per_byte]))
            for i in range(0, 8, per_byte)
        ]
        rows.append(bytes(packed))
    name = png(tmp_path / "low.png", rows, 8, depth, 0)
    for value in range(top + 1):
        np.testing.assert_array_equal(
            load_region(f"{name}#{value}", tmp_path, (2, 8)), values == value
        )


def test_sixteen_bit_colour_png_is_refused(tmp_path: Path) -> None:
    name = png(tmp_path / "deep_rgb.png", [struct.pack(">6H", 1, 0, 0, 0, 0, 0)] * 2, 2, 16, 2)
    reason, message = reason_of(name, tmp_path, (2, 2))
    assert reason == "unreadable_mask"
    assert "one grey channel" in message


def test_index_of_a_colour_picture_is_refused(tmp_path: Path) -> None:
    colours = np.random.default_rng(0).integers(0, 255, (*SIZE, 3), np.uint8)
    assert reason_of(save(colours, tmp_path / "photo.png") + "#3", tmp_path)[0] == "unreadable_mask"


def test_file_name_with_a_hash(tmp_path: Path) -> None:
    save(blob(), tmp_path / "case#1.png")
    np.testing.assert_array_equal(load_region("case#1.png", tmp_path, SIZE), blob())
    np.testing.assert_array_equal(load_region("case#1.png#1", tmp_path, SIZE), blob())


def test_mask_in_a_folder_and_absolute(tmp_path: Path) -> None:
    (tmp_path / "masks of a").mkdir()
    save(blob(), tmp_path / "masks of a" / "ünï.png")
    np.testing.assert_array_equal(load_region("masks of a/ünï.png", tmp_path, SIZE), blob())
    np.testing.assert_array_equal(
        load_region(str(tmp_path / "masks of a/ünï.png"), Path("/nowhere"), SIZE), blob()
    )


def test_mask_through_fsspec(tmp_path: Path) -> None:
    import fsspec

    save(blob(), tmp_path / "m.png")
    with fsspec.open("memory://masks/m.png", "wb") as stream:
        stream.write((tmp_path / "m.png").read_bytes())
    np.testing.assert_array_equal(load_region("memory://masks/m.png", tmp_path, SIZE), blob())
    assert reason_of("memory://masks/other.png", tmp_path)[0] == "missing_mask"
    assert is_url("s3://a/b.png")
    assert not is_url("C:\\b.png")


# ── sizes and orientation ───────────────────────────────────────────────────────────────────────────────────────────


def test_larger_and_smaller_masks_of_the_same_aspect_are_stretched(tmp_path: Path) -> None:
    double = np.kron(blob(), np.ones((2, 2), np.uint8))
    np.testing.assert_array_equal(
        load_region(save(double, tmp_path / "double.png"), tmp_path, SIZE), blob()
    )
    np.testing.assert_array_equal(
        load_region(save(blob(), tmp_path / "m.png"), tmp_path, (24, 40)), double
    )


def test_aspect_may_differ_by_rounding_only(tmp_path: Path) -> None:
    name = save(
        np.ones((384, 512), np.uint8), tmp_path / "m.png"
    )  # 767 x 1022 scaled by one half is 383.5 x 511
    assert load_region(name, tmp_path, (767, 1022)).shape == (767, 1022)
    reason, message = reason_of(name, tmp_path, (767, 1000))
    assert reason == "mask_size"
    assert "384 high and 512 wide" in message
    assert "767 high and 1000 wide" in message


def test_small_mask_of_another_aspect_is_refused(tmp_path: Path) -> None:
    assert (
        reason_of(save(np.ones((7, 8), np.uint8), tmp_path / "m.png"), tmp_path, (224, 224))[0]
        == "mask_size"
    )


def test_transposed_mask_is_named_as_such(tmp_path: Path) -> None:
    reason, message = reason_of(save(blob().T.copy(), tmp_path / "t.png"), tmp_path)
    assert reason == "mask_size"
    assert "transposed" in message


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_exif_orientation_of_a_mask_is_applied(
    tmp_path: Path, orientation: int, suffix: str
) -> None:
    """Expected arrays are written out by hand from the EXIF table, not taken from Pillow."""
    stored = np.arange(6, dtype=np.uint8).reshape(2, 3)
    shown = {
        1: stored, 2: stored[:, ::-1], 3: stored[::-1, ::-1], 4: stored[::-1], 5: stored.T,
        6: np.rot90(stored, -1), 7: stored[::-1, ::-1].T, 8: np.rot90(stored),
    }[orientation]  # fmt: skip
    exif = Image.Exif()
    exif[0x0112] = orientation
    name = save(stored, tmp_path / f"m.{suffix}", exif=exif)
    np.testing.assert_array_equal(load_region(f"{name}#4", tmp_path, shown.shape), shown == 4)


# ── damaged files ───────────────────────────────────────────────────────────────────────────────────────────────────


def test_missing_file_and_folder(tmp_path: Path) -> None:
    assert reason_of("none.png", tmp_path)[0] == "missing_mask"
    (tmp_path / "folder.png").mkdir()
    assert reason_of("folder.png", tmp_path)[0] == "unreadable_mask"


@pytest.mark.parametrize("keep", [0, 1, 20, 40, 70, 200])
def test_truncated_mask(tmp_path: Path, keep: int) -> None:
    noise = np.random.default_rng(1).integers(0, 2, SIZE, np.uint8)
    name = save(noise, tmp_path / "m.png")
    data = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(data[: min(keep, len(data) - 40)])
    assert reason_of(name, tmp_path)[0] == "unreadable_mask"


@given(st.data(), st.sampled_from(["png", "gif", "tif", "bmp", "jpg", "pgm"]))
@settings(
    max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_damaged_masks_are_read_or_refused_with_a_reason(
    tmp_path: Path, data: st.DataObject, suffix: str
) -> None:
    name = save(blob() * np.uint8(255), tmp_path / f"m.{suffix}")
    whole = (tmp_path / name).read_bytes()
    start = data.draw(st.integers(0, len(whole)))
    stop = data.draw(st.integers(start, len(whole)))
    (tmp_path / name).write_bytes(whole[:start] + data.draw(st.binary(max_size=8)) + whole[stop:])
    try:
        mask = load_region(name, tmp_path, SIZE)
    except ImageError as error:
        reason = error.reason
    else:
        assert mask.shape == SIZE
        reason = ""
    assert reason in ("", "unreadable_mask", "mask_size")


def test_text_that_calls_itself_png(tmp_path: Path) -> None:
    (tmp_path / "m.png").write_text("no picture")
    assert reason_of("m.png", tmp_path)[0] == "unreadable_mask"


def test_decompression_bomb_is_refused_before_decoding(tmp_path: Path) -> None:
    name = png(tmp_path / "bomb.png", [b""], 60_000, 8, 0)
    data = bytearray((tmp_path / name).read_bytes())
    data[16:24] = struct.pack(">II", 60_000, 60_000)
    data[29:33] = struct.pack(">I", zlib.crc32(bytes(data[12:29])))
    (tmp_path / name).write_bytes(data)
    reason, message = reason_of(name, tmp_path)
    assert reason == "unreadable_mask"
    assert "more pixels than the limit" in message


def test_many_pages_are_refused(tmp_path: Path) -> None:
    first, second = Image.fromarray(blob()), Image.fromarray(1 - blob())
    first.save(tmp_path / "pages.tif", save_all=True, append_images=[second])
    reason, message = reason_of("pages.tif", tmp_path)
    assert reason == "unreadable_mask"
    assert "2 pages" in message


def test_nan_mask_is_refused(tmp_path: Path) -> None:
    values = blob().astype(np.float32)
    values[0, 0] = np.nan
    assert reason_of(save(values, tmp_path / "nan.tif"), tmp_path)[0] == "unreadable_mask"


# ── shapes ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_box_is_half_open(tmp_path: Path) -> None:
    expected = np.zeros(SIZE)
    expected[3:8, 5:13] = 1
    np.testing.assert_array_equal(load_region("box:5,3,13,8", tmp_path, SIZE), expected)
    np.testing.assert_array_equal(load_region("box: 5, 3 , 13, 8 ", tmp_path, SIZE), expected)
    np.testing.assert_array_equal(load_region("xywh:[5, 3, 8, 5]", tmp_path, SIZE), expected)


@given(
    st.tuples(*[st.floats(0, 19, allow_nan=False)] * 2),
    st.tuples(*[st.floats(0, 11, allow_nan=False)] * 2),
)
def test_box_holds_the_pixels_whose_centre_is_inside(
    xs: tuple[float, float], ys: tuple[float, float]
) -> None:
    (x0, x1), (y0, y1) = sorted(xs), sorted(ys)
    if x1 - x0 < 1 or y1 - y0 < 1 or max(x1, y1) <= 1:
        return
    centres_y, centres_x = np.mgrid[: SIZE[0], : SIZE[1]] + 0.5
    expected = (centres_x >= x0) & (centres_x < x1) & (centres_y >= y0) & (centres_y < y1)
    np.testing.assert_array_equal(
        load_region(f"box:{x0!r},{y0!r},{x1!r},{y1!r}", Path(), SIZE), expected
    )


def test_tiny_shapes_keep_the_pixel_under_their_centre(tmp_path: Path) -> None:
    for text in ("box:5.6,3.6,5.9,3.9", "polygon:5.6,3.6 5.9,3.6 5.9,3.9"):
        mask = load_region(text, tmp_path, SIZE)
        assert mask.sum() == 1
        assert mask[3, 5] == 1


def test_shape_slightly_over_the_edge_is_clipped_and_far_over_is_refused(tmp_path: Path) -> None:
    assert load_region("box:15,8,21,13", tmp_path, SIZE).sum() == 5 * 4
    for text in (
        "box:15,8,40,12",
        "box:1,1,5,30",
        "box:-9,1,5,5",
        "polygon:1,1 60,1 30,9",
        "box:25,1,26,5",
    ):
        reason, message = reason_of(text, tmp_path)
        assert reason == "mask_size"
        assert "20 wide and 12 high" in message


@given(st.integers(0, 18), st.integers(0, 10), st.integers(1, 20), st.integers(1, 12))
def test_polygon_of_a_box_is_the_box(x0: int, y0: int, width: int, height: int) -> None:
    x1, y1 = min(x0 + width, 20), min(y0 + height, 12)
    box = load_region(f"box:{x0},{y0},{x1},{y1}", Path(), SIZE)
    assert box.sum() == (x1 - x0) * (y1 - y0)
    np.testing.assert_array_equal(
        load_region(f"polygon:{x0},{y0} {x1},{y0} {x1},{y1} {x0},{y1}", Path(), SIZE), box
    )
    np.testing.assert_array_equal(
        load_region(f"[[{x0},{y0},{x1},{y0},{x1},{y1},{x0},{y1}]]", Path(), SIZE), box
    )


def test_triangle_counted_by_hand(tmp_path: Path) -> None:
    expected = np.array(
        [[1, 1, 1, 1, 0], [1, 1, 1, 0, 0], [1, 1, 0, 0, 0], [1, 0, 0, 0, 0], [0] * 5]
    )  # centres with x + y < 4.2
    np.testing.assert_array_equal(
        load_region("polygon:0,0 4.2,0 0,4.2", tmp_path, (5, 5)), expected
    )
    np.testing.assert_array_equal(
        load_region("polygon:0,0 3.9,0 0,3.9", tmp_path, (5, 5)), [*expected[1:].tolist(), [0] * 5]
    )


def test_ring_in_a_ring_is_a_hole_and_coco_rings_are_united(tmp_path: Path) -> None:
    outer, inner = "2,2 12,2 12,10 2,10", "4,4 8,4 8,8 4,8"
    mask = load_region(f"polygon:{outer}; {inner}", tmp_path, SIZE)
    assert mask.sum() == 10 * 8 - 16
    assert mask[5, 5] == 0
    united = json.dumps(
        [[float(v) for v in ring.replace(",", " ").split()] for ring in (outer, inner)]
    )
    assert load_region(united, tmp_path, SIZE).sum() == 10 * 8


@pytest.mark.filterwarnings(
    "ignore:__array__ implementation:DeprecationWarning"
)  # pycocotools' own
def test_polygon_agrees_with_coco_up_to_its_border(tmp_path: Path) -> None:
    angles = np.linspace(0, 2 * np.pi, 40, endpoint=False)
    points = np.stack([50 + 30 * np.cos(angles), 40 + 20 * np.sin(angles)], 1)
    ours = load_region("polygon:" + " ".join(f"{x},{y}" for x, y in points), tmp_path, (80, 100))
    theirs = coco.decode(coco.frPyObjects([points.ravel().tolist()], 80, 100)).squeeze()
    assert (ours * theirs).sum() / np.maximum(ours, theirs).sum() > 0.95


def test_whole_and_absent(tmp_path: Path) -> None:
    assert load_region("whole", tmp_path, SIZE).all()
    assert not load_region("absent", tmp_path, SIZE).any()


# ── run lengths ─────────────────────────────────────────────────────────────────────────────────────────────────────


def rle_texts(mask: np.ndarray) -> dict[str, str]:
    """The same mask in every accepted spelling; the compressed string comes from pycocotools."""
    height, width = mask.shape
    counts = coco.encode(np.asfortranarray(mask.astype(np.uint8)))["counts"].decode()
    flat = mask.ravel(order="F")
    edges = np.flatnonzero(np.diff(flat)) + 1
    runs = np.diff([0, *edges.tolist(), flat.size]).tolist()
    runs = [0, *runs] if flat[0] else runs
    return {
        "compressed JSON": "rle:" + json.dumps({"size": [height, width], "counts": counts}),
        "uncompressed JSON": "rle:" + json.dumps({"counts": runs, "size": [height, width]}),
        "COCO cell": json.dumps({"size": [height, width], "counts": counts}),
        "bare with size": f"rle:{height}x{width}:{counts}",
        "bare": f"rle:{counts}",
        "list with size": f"rle:{height}x{width}:{runs}",
        "list": f"rle:{runs}",
    }


@given(MASKS)
@settings(max_examples=150, deadline=None)
def test_rle_round_trip(mask: np.ndarray) -> None:
    for form, text in rle_texts(mask).items():
        np.testing.assert_array_equal(load_region(text, Path(), mask.shape), mask, err_msg=form)


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=20, deadline=None)
def test_rle_round_trip_with_long_runs(seed: int) -> None:
    rng = np.random.default_rng(seed)
    mask = np.zeros((700, 900), bool)
    for _ in range(5):
        r, c = rng.integers(0, 600, 2)
        mask[r : r + rng.integers(1, 400), c : c + rng.integers(1, 300)] ^= True
    counts = coco.encode(np.asfortranarray(mask.astype(np.uint8)))["counts"].decode()
    np.testing.assert_array_equal(load_region(f"rle:700x900:{counts}", Path(), mask.shape), mask)


@given(st.text(alphabet="".join(map(chr, range(48, 112))), min_size=1, max_size=30))
@settings(max_examples=300, deadline=None)
def test_any_compressed_string_is_decoded_or_refused_never_overrun(counts: str) -> None:
    try:
        mask = load_region(f"rle:{counts}", Path(), (9, 7))
    except (ImageError, InputError):
        return
    again = coco.encode(np.asfortranarray(mask.astype(np.uint8)))
    assert coco.area(again) == mask.sum()


def test_rle_of_another_size(tmp_path: Path) -> None:
    text = rle_texts(blob())["compressed JSON"]
    np.testing.assert_array_equal(
        load_region(text, tmp_path, (24, 40)), np.kron(blob(), np.ones((2, 2)))
    )
    assert reason_of(text, tmp_path, (12, 12))[0] == "mask_size"
    assert reason_of(rle_texts(blob())["bare"], tmp_path, (24, 40))[0] == "mask_size"


# ── volumes ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_nifti_slice_is_rows_by_columns_as_simpleitk_gives_it(tmp_path: Path) -> None:
    nibabel = pytest.importorskip("nibabel")
    volume = np.zeros((20, 12, 3), np.uint8)  # x, y, z
    volume[..., 1] = blob().T * 2
    volume[0, 0, 1] = 1
    for name in ("v.nii", "v.nii.gz"):
        nibabel.save(nibabel.Nifti1Image(volume, np.eye(4)), tmp_path / name)
        expected = blob().copy()
        np.testing.assert_array_equal(load_region(f"{name}#1=2", tmp_path, SIZE), expected)
        expected[0, 0] = 1
        np.testing.assert_array_equal(load_region(f"{name}#1", tmp_path, SIZE), expected)
        assert load_region(f"{name}#0", tmp_path, SIZE).sum() == 0
        assert reason_of(f"{name}#3", tmp_path)[0] == "unreadable_mask"
        assert "choose one slice" in reason_of(name, tmp_path)[1]
    assert reason_of("none.nii.gz#0", tmp_path)[0] == "missing_mask"
    (tmp_path / "bad.nii.gz").write_bytes(gzip.compress(b"no volume"))
    assert reason_of("bad.nii.gz#0", tmp_path)[0] == "unreadable_mask"


def test_flat_nifti_needs_no_slice(tmp_path: Path) -> None:
    nibabel = pytest.importorskip("nibabel")
    nibabel.save(nibabel.Nifti1Image(blob().T.copy(), np.eye(4)), tmp_path / "flat.nii")
    np.testing.assert_array_equal(load_region("flat.nii", tmp_path, SIZE), blob())


def test_nifti_without_nibabel_names_the_extra(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "nibabel", None)
    with pytest.raises(MissingExtraError, match=r"gradaudit\[nifti\]"):
        load_region("v.nii#0", tmp_path, SIZE)


# ── broken text ─────────────────────────────────────────────────────────────────────────────────────────────────────

BROKEN = {
    "boks:1,2,3,4": "region_kind",
    "bbox:1,2,3,4": "region_kind",
    "mask: a.png": "region_kind",
    "notes.txt": "mask_type",
    "mask": "mask_type",
    "s3://b/v.nii.gz#3": "mask_type",
    "labels.png#x": "label_value",
    "labels.png#": "label_value",
    "labels.png#-1": "label_value",
    "labels.png#1.5": "label_value",
    "labels.jpg#3": "label_value",
    "scan.nii.gz#a": "label_value",
    "scan.nii.gz#3=": "label_value",
    "box:1,2,3": "box_malformed",
    "box:1,2,3,4,5": "box_malformed",
    "box:": "box_malformed",
    "box:a,2,3,4": "box_malformed",
    "box:nan,2,3,4": "box_malformed",
    "box:1,2,inf,4": "box_malformed",
    "box:10,2,3,4": "box_empty",
    "box:1,9,3,4": "box_empty",
    "box:1,2,1,4": "box_empty",
    "xywh:1,2,0,4": "box_empty",
    "box:-9,2,-3,4": "box_outside",
    "box:0.1,0.2,0.5,0.9": "box_fractions",
    "polygon:1,2 3,4": "polygon_points",
    "polygon:": "polygon_points",
    "polygon:1,2 3,4 5,6; 1,1 2,2": "polygon_points",
    "polygon:1,2 3,4 5": "polygon_malformed",
    "polygon:1,2 3,b 5,6": "polygon_malformed",
    "polygon:0.1,0.1 0.5,0.1 0.5,0.9": "box_fractions",
    "polygon:-5,1 -4,1 -4,9": "box_outside",
    "[1,2,3,4]": "polygon_malformed",
    "[[1,2,3,4": "polygon_malformed",
    "[[1,2,3,NaN,5,6]]": "polygon_malformed",
    "[]": "polygon_points",
    "rle:": "rle_malformed",
    "rle:{": "rle_malformed",
    'rle:{"counts": "1"}': "rle_malformed",
    'rle:{"size": [2, 2]}': "rle_malformed",
    'rle:{"size": [2, "a"], "counts": [4]}': "rle_malformed",
    'rle:{"size": [2, 2], "counts": [4.5]}': "rle_malformed",
    'rle:{"size": [2, 2], "counts": [-4, 8]}': "rle_malformed",
    'rle:{"size": [2, 2], "counts": "P"}': "rle_malformed",
    'rle:{"size": [0, 2], "counts": []}': "rle_malformed",
    'rle:{"size": [100000, 100000], "counts": [10000000000]}': "rle_malformed",
    "rle:not a string": "rle_malformed",
    'rle:{"size": [2, 2], "counts": [1, 2]}': "rle_size",
    "rle:3x3:[1,2]": "rle_size",
}


@pytest.mark.parametrize(("text", "rule"), BROKEN.items())
def test_broken_text_is_refused_by_its_rule(text: str, rule: str) -> None:
    with pytest.raises(RegionTextError) as caught:
        parse_region(text)
    assert caught.value.rule == rule
    assert isinstance(caught.value, InputError)


@given(st.text(max_size=40))
@settings(max_examples=300)
def test_any_text_is_parsed_or_refused_as_input_error(text: str) -> None:
    for prefix in ("", "box:", "polygon:", "rle:", "rle:{", "[[", "a.png#"):
        with contextlib.suppress(RegionTextError):
            assert parse_region(prefix + text).kind


# ── derived regions ─────────────────────────────────────────────────────────────────────────────────────────────────


@given(PAIRS)
@settings(max_examples=60)
def test_laws_of_sets(pair: tuple[np.ndarray, np.ndarray]) -> None:
    a, b = pair
    size = a.shape
    masks = {"a": a.astype(np.float32), "b": b.astype(np.float32)}

    def of(expr: str) -> np.ndarray:
        return derive(expr, masks, size)

    same = np.testing.assert_array_equal
    same(of("complement(complement(a))"), a)
    same(of("skin(minus=a)"), of("complement(a)"))
    same(of("union(a, b)"), of("union(b, a)"))
    same(of("intersection(a, b)"), of("intersection(b, a)"))
    same(of("complement(union(a, b))"), of("intersection(complement(a), complement(b))"))
    same(of("difference(a, b)"), of("intersection(a, complement(b))"))
    same(of("difference(a, b)"), of("minus(a, b)"))
    same(of("union(difference(a, b), difference(b, a), intersection(a, b))"), a | b)
    same(of("union(a)"), a)
    assert of("union(a, complement(a))").all()
    assert of("whole()").all()


@given(MASKS, st.floats(0.01, 2))
@settings(max_examples=60)
def test_ring_is_what_its_definition_says(mask: np.ndarray, width: float) -> None:
    ring = derive(f"ring(a, {width!r})", {"a": mask}, mask.shape)
    expected = np.zeros(mask.shape)
    inside = np.argwhere(mask)
    reach = max(1.0, width * np.sqrt(len(inside)))
    for row, column in np.argwhere(~mask) if len(inside) else []:
        expected[row, column] = np.sqrt(((inside - (row, column)) ** 2).sum(1).min()) <= reach
    np.testing.assert_array_equal(ring, expected)


def test_ring_scales_with_the_region() -> None:
    small, large = np.zeros((100, 100), bool), np.zeros((200, 200), bool)
    small[40:60, 40:60], large[80:120, 80:120] = True, True
    one = derive("ring(a, 0.2)", {"a": small}, small.shape).sum() / small.sum()
    two = derive("ring(a, 0.2)", {"a": large}, large.shape).sum() / large.sum()
    assert one == pytest.approx(two, rel=0.05)
    assert one == pytest.approx(4 * 0.2 + np.pi * 0.2**2, rel=0.1)


@pytest.mark.parametrize(
    ("width", "size", "broad"),
    [(0.05, (100, 300), 5), (0.001, (10, 10), 1), (0.5, (10, 20), 5), (0.25, (8, 8), 2)],
)
def test_frame(width: float, size: tuple[int, int], broad: int) -> None:
    frame = derive(f"frame({width})", {}, size)
    expected = np.ones(size)
    expected[broad : size[0] - broad, broad : size[1] - broad] = 0
    np.testing.assert_array_equal(frame, expected)
    np.testing.assert_array_equal(frame, derive(f"frame(width={width})", {}, size))


def test_needs_and_quoted_names() -> None:
    assert parse_derivation("ring(union(lesion, 'hair line', lesion), 0.1)").needs == (
        "lesion",
        "hair line",
    )
    assert parse_derivation("frame(0.1)").needs == ()
    mask = blob()
    np.testing.assert_array_equal(
        derive("complement('hair line')", {"hair line": mask}, SIZE), 1 - mask
    )


@pytest.mark.parametrize(
    "expr",
    [
        "", "ring(", "ring(a)", "ring(a, 0)", "ring(a, -1)", "ring(a, 9)", "ring(a, b)", "ring(a, True)", "ring(0.1)", "ring(a, 0.1, 0.2)",
        "frame()", "frame(0.6)", "frame(a, 0.1)", "complement()", "complement(a, b)", "difference(a)", "union()", "blur(a)", "a + b", "a.b", "a[0]",
        "1", "__import__('os').system('x')", "(lambda: a)()", "union(*a)", "union(**a)", "skin()", "skin(lesion=a)", "skin(minus=a, more=b)",
        "complement(a, width=3)", "union(a, 3)", "a; b", "a\0b", "(" * 300 + "a" + ")" * 300,
        "complement(" * 60 + "a" + ")" * 60, "a" * 3000, "[a for a in b]",
    ],
)  # fmt: skip
def test_broken_derivations_are_refused(expr: str) -> None:
    with pytest.raises(InputError) as caught:
        parse_derivation(expr)
    assert len(str(caught.value)) < 600


def test_derive_refuses_missing_and_misshapen_inputs() -> None:
    with pytest.raises(InputError, match="needs the region 'b'"):
        derive("union(a, b)", {"a": blob()}, SIZE)
    with pytest.raises(InputError, match=r"shape \(12, 20\), expected \(3, 3\)"):
        derive("complement(a)", {"a": blob()}, (3, 3))


def test_every_operation_states_a_form_that_parses() -> None:
    for name, operation in OPERATIONS.items():
        assert parse_derivation(operation.form.replace("...", "c")).text.startswith(name)


def test_derivation_faults_are_named() -> None:
    faults = derivation_faults(
        {"m": "ring(lesion, 0.1)", "w": "whole()",
         "x": "complement(y)", "y": "complement(x)", "u": "union(lesion, scar)", "s": "ring(", "lesion": "frame(0.1)", "z": "skin(minus=x)"},
        {"lesion"},
    )  # fmt: skip
    assert {(name, rule) for name, rule, _ in faults} == {
        ("x", "derive_cycle"), ("y", "derive_cycle"), ("u", "derive_unknown"), ("s", "derive_syntax"), ("lesion", "derive_and_column"),
    }  # fmt: skip
    assert "'scar'" in next(text for _, rule, text in faults if rule == "derive_unknown")


# ── all regions of one image ────────────────────────────────────────────────────────────────────────────────────────


def sample(**regions: str) -> Sample:
    return Sample(index=0, id="a", image="a.png", label=None, cluster="a", regions=regions)


def test_region_masks_say_why_there_is_none(tmp_path: Path) -> None:
    save(blob(), tmp_path / "m.png")
    save(blob()[:, :9].copy(), tmp_path / "narrow.png")
    (tmp_path / "bad.png").write_text("x")
    plan = build_plan(
        {
            "regions": {
                "margin": {"derive": "ring(lesion, 0.1)"},
                "outside": {"derive": "complement(union(lesion, margin))"},
                "without": {"derive": "union(lesion, hair)"},
                "broken": {"derive": "union(hair, bad)"},
                "nothing": {"derive": "intersection(lesion, outside)"},
                "border": {"derive": "frame(0.1)"},
            }
        }
    )
    row = sample(lesion="m.png", bad="bad.png", gone="gone.png", narrow="narrow.png", none="absent")
    names = ("lesion", "hair", "bad", "gone", "narrow", "none", *plan.regions)
    masks = region_masks(row, plan, tmp_path, SIZE, names)
    assert list(masks) == list(names)
    reasons = {name: reason for name, (_, reason) in masks.items()}
    assert reasons == {
        "lesion": "", "hair": "not_annotated", "bad": "unreadable_mask", "gone": "missing_mask", "narrow": "mask_size", "none": "empty_mask",
        "margin": "", "outside": "", "without": "not_annotated", "broken": "unreadable_mask", "nothing": "empty_mask", "border": "",
    }  # fmt: skip
    assert {name for name, (mask, _) in masks.items() if mask is None} == {
        "hair",
        "bad",
        "gone",
        "narrow",
        "without",
        "broken",
    }
    total = sum(masks[name][0] for name in ("lesion", "margin", "outside"))
    np.testing.assert_array_equal(total, np.ones(SIZE))


def test_only_the_named_regions_are_returned_and_a_file_is_decoded_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from gradaudit.regions import masks

    save(blob() * np.uint8(2), tmp_path / "labels.png")
    opened: list[str] = []
    real = masks._open
    monkeypatch.setattr(
        masks, "_open", lambda path, root: (opened.append(path), real(path, root))[1]
    )
    plan = build_plan({"regions": {"both": {"derive": "union(one, two)"}}})
    masks = region_masks(
        sample(one="labels.png#1", two="labels.png#2"), plan, tmp_path, SIZE, ("both",)
    )
    assert list(masks) == ["both"]
    np.testing.assert_array_equal(masks["both"][0], blob())
    assert opened == ["labels.png"]


def test_cyclic_derivations_end_in_an_error(tmp_path: Path) -> None:
    plan = build_plan(
        {"regions": {"x": {"derive": "complement(y)"}, "y": {"derive": "complement(x)"}}}
    )
    with pytest.raises(InputError, match="x -> y -> x"):
        region_masks(sample(), plan, tmp_path, SIZE, ("x",))
