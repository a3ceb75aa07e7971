"""Decoding against known pixels, geometry against brute force, preprocessing against torchvision and timm."""

import io
import multiprocessing
import os
import pickle
import random
import signal
import struct
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from gradaudit.errors import GradauditError, ImageError, InputError, MissingExtraError, PlanError
from gradaudit.images import preprocessing
from gradaudit.images.decoding import decode_image
from gradaudit.images.preprocessing import Preprocess, preprocess_image
from gradaudit.measurement import batches
from gradaudit.measurement.batches import iterate_batches, load_batch
from gradaudit.measurement.samples import thumbnail
from gradaudit.models.torchvision_compat import import_torchvision
from gradaudit.plan import Plan, PreprocessPlan
from gradaudit.records import REASONS, Sample


def sample(image, index=0, **regions):
    return Sample(
        index=index,
        id=f"s{index}",
        image=str(image),
        label=None,
        cluster=f"s{index}",
        regions=regions,
    )


def noise(height, width, channels=3, seed=0):
    values = np.random.default_rng(seed).integers(0, 256, (height, width, channels), dtype=np.uint8)
    return Image.fromarray(values if channels == 3 else values[..., 0])


def photo(height, width, seed=0):
    """Smooth blobs and edges: resampling errors show, and JPEG keeps them."""
    y, x = np.mgrid[:height, :width]
    planes = [
        127 + 80 * np.sin((x + seed * 7) / (9 + c)) + 40 * np.sign(np.cos(y / (5 + c)))
        for c in range(3)
    ]
    return Image.fromarray(np.clip(np.stack(planes, -1), 0, 255).astype(np.uint8))


def saved(folder, image, name="image.png", **options):
    path = Path(folder) / name
    image.save(path, **options)
    return path


# ── decoding: known pixels ──────────────────────────────────────────────────────────────────────────────────────────


def grey16():
    return np.array([[0, 257, 32768], [65535, 1000, 4095]], dtype=np.uint16)


def palette(transparent):
    image = Image.new("P", (2, 1))
    image.putpalette([200, 10, 20, 0, 0, 255])
    image.putdata([0, 1])
    return image, {"transparency": 1} if transparent else {}


def cmyk():
    image = Image.new("CMYK", (3, 1))
    image.putdata([(0, 0, 0, 0), (0, 255, 255, 0), (0, 0, 0, 255)])  # paper white, red, black
    return image


def case(name, image, expected, file="x.png", tolerance=1e-7, **options):
    return pytest.param(
        image, file, options, np.array(expected, dtype=np.float64), tolerance, id=name
    )


def grey(rows):
    return np.repeat(np.array(rows, dtype=np.float64)[..., None], 3, axis=2)


def put(mode, size, pixels):
    image = Image.new(mode, size)
    image.putdata(pixels)
    return image


KNOWN = [
    case("1-bit", put("1", (2, 1), [0, 255]), grey([[0, 1]])),
    case("grey", put("L", (3, 1), [0, 51, 255]), grey([[0, 0.2, 1]])),
    case("grey alpha", put("LA", (3, 1), [(0, 255), (0, 0), (0, 128)]), grey([[0, 1, 127 / 255]])),
    case("rgb", put("RGB", (2, 1), [(255, 0, 51), (0, 102, 255)]), [[[1, 0, 0.2], [0, 0.4, 1]]]),
    case(
        "alpha",
        put("RGBA", (3, 1), [(255, 0, 0, 255), (255, 0, 0, 0), (0, 0, 0, 51)]),
        [[[1, 0, 0], [1, 1, 1], [0.8, 0.8, 0.8]]],
    ),
    case(
        "colour key",
        put("RGB", (2, 1), [(1, 2, 3), (0, 0, 255)]),
        [[[1, 1, 1], [0, 0, 1]]],
        transparency=(1, 2, 3),
    ),
    case("grey colour key", put("L", (2, 1), [7, 51]), grey([[1, 0.2]]), transparency=7),
    case("palette", palette(False)[0], np.array([[[200, 10, 20], [0, 0, 255]]]) / 255),
    case(
        "palette, transparent entry",
        palette(True)[0],
        np.array([[[200, 10, 20], [255, 255, 255]]]) / 255,
        **palette(True)[1],
    ),
    case(
        "palette gif, transparent entry",
        palette(True)[0],
        np.array([[[200, 10, 20], [255, 255, 255]]]) / 255,
        file="x.gif",
        **palette(True)[1],
    ),
    case("cmyk tiff", cmyk(), [[[1, 1, 1], [1, 0, 0], [0, 0, 0]]], file="x.tif"),
    case("16-bit png", Image.fromarray(grey16()), grey(grey16() / 65535)),
    case("16-bit tiff", Image.fromarray(grey16()), grey(grey16() / 65535), file="x.tif"),
    case("16-bit pgm", Image.fromarray(grey16()), grey(grey16() / 65535), file="x.pgm"),
    case(
        "float tiff",
        Image.fromarray(np.array([[0, 0.25, 1]], dtype=np.float32)),
        grey([[0, 0.25, 1]]),
        file="x.tif",
    ),
    case(
        "jpeg",
        Image.new("RGB", (9, 9), (200, 30, 60)),
        np.full((9, 9, 3), [200, 30, 60]) / 255,
        file="x.jpg",
        quality=100,
        tolerance=0.01,
    ),
]


@pytest.mark.parametrize(("image", "file", "options", "expected", "tolerance"), KNOWN)
def test_known_pixels(tmp_path, image, file, options, expected, tolerance):
    decoded = decode_image(saved(tmp_path, image, file, **options))
    assert decoded.size == expected.shape[:2]
    assert decoded.pixels.dtype == np.float32
    np.testing.assert_allclose(decoded.pixels, expected, atol=tolerance)


def test_big_endian_16_bit_tiff(tmp_path):
    values = grey16()
    strip = values.astype(">u2").tobytes()
    tags = [
        (256, 3, 1, 3 << 16),
        (257, 3, 1, 2 << 16),
        (258, 3, 1, 16 << 16),
        (259, 3, 1, 1 << 16),
        (262, 3, 1, 1 << 16),
    ]
    tags += [(273, 4, 1, 8), (277, 3, 1, 1 << 16), (278, 3, 1, 2 << 16), (279, 4, 1, len(strip))]
    directory = (
        struct.pack(">H", len(tags))
        + b"".join(struct.pack(">HHII", *tag) for tag in tags)
        + b"\0\0\0\0"
    )
    path = tmp_path / "big.tif"
    path.write_bytes(b"MM\0*" + struct.pack(">I", 8 + len(strip)) + strip + directory)
    np.testing.assert_allclose(decode_image(path).pixels[..., 0], values / 65535, atol=1e-7)


def adobe_cmyk_jpeg():
    colours = [(255, 255, 255), (255, 0, 0), (0, 0, 0)]
    picture = Image.new("CMYK", (48, 16))
    for column, ink in enumerate([(0, 0, 0, 0), (0, 255, 255, 0), (0, 0, 0, 255)]):
        picture.paste(ink, (16 * column, 0, 16 * column + 16, 16))
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=100)
    return buffer.getvalue(), colours


def test_inverted_cmyk_jpeg(tmp_path):
    content, colours = adobe_cmyk_jpeg()
    assert b"Adobe" in content, (
        "the file carries Adobe's marker, whose ink values are stored inverted"
    )
    path = tmp_path / "inks.jpg"
    path.write_bytes(content)
    pixels = decode_image(path).pixels
    for column, colour in enumerate(colours):
        np.testing.assert_allclose(pixels[8, 16 * column + 8], np.array(colour) / 255, atol=0.02)


def test_first_frame_of_an_animation(tmp_path):
    frames = [Image.new("RGB", (4, 4), colour) for colour in ("red", "blue")]
    path = saved(tmp_path, frames[0], "x.gif", save_all=True, append_images=frames[1:])
    np.testing.assert_allclose(decode_image(path).pixels[0, 0], [1, 0, 0], atol=0.01)


UPRIGHT = {  # EXIF 2.32, table 6: where row 0 and column 0 of the stored picture lie in the displayed one
    1: lambda s: s,
    2: lambda s: s[:, ::-1],
    3: lambda s: s[::-1, ::-1],
    4: lambda s: s[::-1],
    5: lambda s: s.swapaxes(0, 1),
    6: lambda s: np.rot90(s, -1),
    7: lambda s: np.rot90(s, 2).swapaxes(0, 1),
    8: lambda s: np.rot90(s, 1),
}


@pytest.mark.parametrize("orientation", UPRIGHT)
@pytest.mark.parametrize("file", ["x.png", "x.tif", "x.webp"])
def test_exif_orientation(tmp_path, orientation, file):
    stored = noise(5, 9)
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"lossless": True} if file.endswith("webp") else {}
    decoded = decode_image(saved(tmp_path, stored, file, exif=exif, **options))
    np.testing.assert_array_equal(
        np.asarray(decoded.raster), UPRIGHT[orientation](np.asarray(stored))
    )
    np.testing.assert_allclose(
        decoded.pixels * 255, UPRIGHT[orientation](np.asarray(stored)), atol=1e-4
    )


def test_damaged_exif_is_not_a_damaged_picture(tmp_path):
    path = saved(
        tmp_path, photo(16, 16), "x.jpg", exif=b"Exif\0\0II*\0\x08\0\0\0\x05\0\x12\x01\x03\0"
    )
    assert decode_image(path).size == (16, 16)


@pytest.mark.parametrize("values", [[[0.0, 300.0]], [[-1.0, 0.5]], [[np.nan, 0.5]]])
def test_float_pixels_without_a_declared_white_are_refused(tmp_path, values):
    path = saved(tmp_path, Image.fromarray(np.array(values, dtype=np.float32)), "x.tif")
    with pytest.raises(ImageError, match="no declared white") as caught:
        decode_image(path)
    assert caught.value.reason == "unreadable"


# ── decoding: what cannot be read ───────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("file", ["x.png", "x.jpg", "x.tif", "x.gif", "x.bmp", "x.webp", "x.ppm"])
def test_truncated(tmp_path, file):
    path = saved(tmp_path, noise(64, 64), file)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(ImageError) as caught:
        decode_image(path)
    assert caught.value.reason == "truncated"
    assert file in str(caught.value)


@pytest.mark.parametrize("file", ["x.png", "x.jpg", "x.gif", "x.webp", "x.bmp", "x.ppm", "x.tif"])
def test_any_damage_is_an_image_error_with_stable_words(tmp_path, file):
    content = saved(tmp_path, noise(40, 40), file).read_bytes()
    draw = random.Random(1)
    errors = []
    for _ in range(60):
        damaged = bytearray(
            content[: draw.randrange(1, len(content))] if draw.random() < 0.5 else content
        )
        for _ in range(draw.randrange(1, 9)):
            damaged[draw.randrange(len(damaged))] = draw.randrange(256)
        (tmp_path / "damaged").write_bytes(damaged)
        try:
            decode_image("damaged", tmp_path)
        except ImageError as error:
            errors.append(error)
    assert errors
    assert {error.reason for error in errors} <= set(REASONS)
    assert all(
        str(error).startswith("damaged: ") and " at 0x" not in str(error) for error in errors
    )


def test_missing_empty_folder_and_text(tmp_path):
    (tmp_path / "empty.png").touch()
    (tmp_path / "notes.png").write_text("not a picture")
    (tmp_path / "folder").mkdir()
    expected = {
        "nowhere.png": "missing_file",
        "empty.png": "truncated",
        "notes.png": "unreadable",
        "folder": "unreadable",
        "a\0b": "unreadable",
    }
    for name, reason in expected.items():
        with pytest.raises(ImageError) as caught:
            decode_image(name, tmp_path)
        assert caught.value.reason == reason
        assert "0x" not in str(caught.value)


def test_decompression_bomb(tmp_path, monkeypatch):
    path = saved(tmp_path, Image.new("L", (100, 100)))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100 * 100 - 1)
    assert decode_image(path).size == (100, 100), (
        "between one and two limits Pillow only warns, and the warning stays inside"
    )
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 4000)
    with pytest.raises(ImageError) as caught:
        decode_image(path)
    assert caught.value.reason == "decompression_bomb"


def test_urls(tmp_path):
    import fsspec

    buffer = io.BytesIO()
    put("L", (1, 1), [51]).save(buffer, "PNG")
    with fsspec.open("memory://folder/x.png", "wb") as stream:
        stream.write(buffer.getvalue())
    np.testing.assert_allclose(
        decode_image("memory://folder/x.png", tmp_path).pixels, 0.2, atol=1e-7
    )
    with pytest.raises(ImageError) as caught:
        decode_image("memory://folder/nothing.png")
    assert caught.value.reason == "missing_file"


def test_url_without_its_package_stops_the_run(monkeypatch):
    monkeypatch.setitem(sys.modules, "gcsfs", None)
    with pytest.raises(GradauditError, match="gcsfs") as caught:
        decode_image("gs://bucket/x.png")
    assert not isinstance(caught.value, ImageError)


# ── DICOM ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def dicom(path, values, photometric="MONOCHROME2", bits=16, **tags):
    pydicom = pytest.importorskip("pydicom", reason="the extra [dicom] is not installed")
    from pydicom.uid import ExplicitVRLittleEndian, SecondaryCaptureImageStorage, generate_uid

    meta = pydicom.dataset.FileMetaDataset()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.MediaStorageSOPClassUID = SecondaryCaptureImageStorage
    meta.MediaStorageSOPInstanceUID = generate_uid(entropy_srcs=["fixed"])
    data = pydicom.Dataset()
    data.file_meta = meta
    data.SOPClassUID, data.SOPInstanceUID = (
        meta.MediaStorageSOPClassUID,
        meta.MediaStorageSOPInstanceUID,
    )
    data.Rows, data.Columns = values.shape[:2]
    data.SamplesPerPixel = 1 if values.ndim == 2 else 3
    if values.ndim == 3:
        data.PlanarConfiguration = 0
    data.PhotometricInterpretation = photometric
    data.BitsAllocated, data.BitsStored, data.HighBit = 8 * values.dtype.itemsize, bits, bits - 1
    data.PixelRepresentation = int(values.dtype.kind == "i")
    for name, value in tags.items():
        setattr(data, name, value)
    data.PixelData = values.tobytes()
    data.save_as(path, enforce_file_format=True)
    return path


CT = np.array([[0, 24, 1024, 1064], [1104, 1264, 2000, 4095]], dtype=np.uint16)


def test_dicom_rescale_and_window(tmp_path):
    path = dicom(
        tmp_path / "ct.dcm",
        CT,
        bits=12,
        RescaleSlope=1,
        RescaleIntercept=-1024,
        WindowCenter=40,
        WindowWidth=400,
    )
    units = CT.astype(float) - 1024
    expected = np.clip((units - 39.5) / 399 + 0.5, 0, 1)
    np.testing.assert_allclose(decode_image(path).pixels[..., 1], expected, atol=1e-6)


@pytest.mark.parametrize(
    ("function", "formula"),
    [
        ("LINEAR_EXACT", lambda u: np.clip((u - 40) / 400 + 0.5, 0, 1)),
        ("SIGMOID", lambda u: 1 / (1 + np.exp(-4 * (u - 40) / 400))),
    ],
)
def test_dicom_window_functions(tmp_path, function, formula):
    path = dicom(
        tmp_path / "ct.dcm",
        CT,
        bits=12,
        RescaleSlope=1,
        RescaleIntercept=-1024,
        WindowCenter=40,
        WindowWidth=400,
        VOILUTFunction=function,
    )
    np.testing.assert_allclose(
        decode_image(path).pixels[..., 0], formula(CT.astype(float) - 1024), atol=1e-6
    )


def test_dicom_first_of_several_windows(tmp_path):
    one = dicom(tmp_path / "one.dcm", CT, bits=12, WindowCenter=500, WindowWidth=300)
    two = dicom(tmp_path / "two.dcm", CT, bits=12, WindowCenter=[500, 90], WindowWidth=[300, 20])
    np.testing.assert_array_equal(decode_image(one).pixels, decode_image(two).pixels)


def test_dicom_monochrome1_is_inverted(tmp_path):
    plain = decode_image(dicom(tmp_path / "a.dcm", CT, bits=12)).pixels
    inverted = decode_image(
        dicom(tmp_path / "b.dcm", CT, bits=12, photometric="MONOCHROME1")
    ).pixels
    np.testing.assert_allclose(plain[..., 0], CT / 4095, atol=1e-6)
    np.testing.assert_allclose(inverted, 1 - plain, atol=1e-6)


def test_dicom_signed_without_window_uses_the_range_of_its_bits(tmp_path):
    values = np.array([[-2048, 0, 2047]], dtype=np.int16)
    np.testing.assert_allclose(
        decode_image(dicom(tmp_path / "a.dcm", values, bits=12)).pixels[..., 0],
        [[0, 2048 / 4095, 1]],
        atol=1e-6,
    )


def test_dicom_colour(tmp_path):
    values = np.array([[[255, 0, 51], [0, 102, 255]]], dtype=np.uint8)
    np.testing.assert_allclose(
        decode_image(dicom(tmp_path / "a.dcm", values, photometric="RGB", bits=8)).pixels,
        values / 255,
        atol=1e-7,
    )


def test_dicom_that_cannot_be_used(tmp_path, monkeypatch):
    path = dicom(tmp_path / "frames.dcm", CT, bits=12)
    content = path.read_bytes()
    frames = dicom(tmp_path / "frames.dcm", np.tile(CT, (1, 1)), bits=12, NumberOfFrames=3)
    with pytest.raises(ImageError, match="3 frames"):
        decode_image(frames)
    (tmp_path / "short.dcm").write_bytes(content[:-6])
    with pytest.raises(ImageError) as caught:
        decode_image(tmp_path / "short.dcm")
    assert caught.value.reason in ("truncated", "unreadable")
    (tmp_path / "text.dcm").write_text("no pixels here")
    with pytest.raises(ImageError):
        decode_image(tmp_path / "text.dcm")
    path.write_bytes(content)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 2)
    with pytest.raises(ImageError) as caught:
        decode_image(path)
    assert caught.value.reason == "decompression_bomb"
    monkeypatch.setitem(sys.modules, "pydicom", None)
    with pytest.raises(MissingExtraError, match=r"gradaudit\[dicom\]"):
        decode_image(path)


def test_dicom_from_a_scanner():
    data = pytest.importorskip("pydicom.data", reason="the extra [dicom] is not installed")
    decoded = decode_image(data.get_testdata_file("CT_small.dcm"))
    assert decoded.size == (128, 128)
    assert decoded.mode == "MONOCHROME2"
    assert 0 <= decoded.pixels.min() < decoded.pixels.max() <= 1


# ── preprocess: torchvision, timm ───────────────────────────────────────────────────────────────────────────────────

SHAPES = [
    (300, 400),
    (400, 300),
    (224, 224),
    (257, 511),
    (97, 1000),
    (180, 180),
    (256, 256),
    (231, 640),
    (1024, 768),
]


def of_presets(transforms):
    return Preprocess(
        resize=transforms.resize_size[0], crop=transforms.crop_size[0], interpolation=transforms.interpolation.value,
        mean=tuple(transforms.mean), std=tuple(transforms.std),
    )  # fmt: skip


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(
    "weights",
    [
        "ResNet50_Weights.IMAGENET1K_V1",
        "ResNet50_Weights.IMAGENET1K_V2",
        "EfficientNet_B3_Weights.IMAGENET1K_V1",
    ],
)
@pytest.mark.parametrize("channels", [3, 1])
def test_equals_torchvision(tmp_path, shape, weights, channels):
    transforms = import_torchvision().models.get_weight(weights).transforms()
    path = saved(tmp_path, noise(*shape, channels), "x.png")
    ours = preprocess_image(decode_image(path), of_presets(transforms))
    with Image.open(path) as image:
        theirs = transforms(image.convert("RGB")).numpy()
    assert ours.shape == theirs.shape
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-6)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("mode", ["center", "squash", "border"])
@pytest.mark.parametrize("size", [(3, 224, 224), (3, 160, 224)])
def test_equals_timm(tmp_path, shape, mode, size):
    import_torchvision()
    timm_data = pytest.importorskip("timm.data", reason="the extra [timm] is not installed")
    config = {
        "input_size": size,
        "interpolation": "bicubic",
        "crop_pct": 0.9,
        "crop_mode": mode,
        "mean": (0.5, 0.4, 0.3),
        "std": (0.2, 0.3, 0.4),
    }
    path = saved(tmp_path, noise(*shape), "x.png")
    scaled = tuple(int(side / 0.9) for side in size[1:])
    fit = {"center": "shorter", "squash": "exact", "border": "pad"}[mode]
    resize = scaled[0] if mode == "center" and scaled[0] == scaled[1] else scaled
    ours = Preprocess(
        resize=resize,
        crop=size[1:],
        fit=fit,
        interpolation="bicubic",
        mean=config["mean"],
        std=config["std"],
    )
    with Image.open(path) as image:
        theirs = timm_data.create_transform(**config, is_training=False)(image).numpy()
    np.testing.assert_allclose(
        preprocess_image(decode_image(path), ours), theirs, rtol=0, atol=1e-6
    )


@pytest.mark.parametrize("name", ["nearest", "bilinear", "bicubic", "lanczos"])
def test_interpolations(tmp_path, name):
    picture = photo(60, 90)
    path = saved(tmp_path, picture)
    expected = picture.resize((40, 50), preprocessing._FILTERS[name])
    got = preprocess_image(
        decode_image(path), Preprocess(resize=(50, 40), fit="exact", interpolation=name)
    )
    np.testing.assert_allclose(got, np.asarray(expected).transpose(2, 0, 1) / 255, atol=1e-6)


@pytest.mark.parametrize("size", [(20, 31), (113, 150)])
def test_without_antialias_equals_plain_bilinear(tmp_path, size):
    picture = photo(60, 90)
    got = preprocess_image(
        decode_image(saved(tmp_path, picture)),
        Preprocess(resize=size, fit="exact", antialias=False),
    )
    source = torch.from_numpy(np.asarray(picture).transpose(2, 0, 1).copy())[None].float() / 255
    expected = torch.nn.functional.interpolate(
        source, size=size, mode="bilinear", align_corners=False
    )[0].numpy()
    np.testing.assert_allclose(got, expected, atol=1.01 / 255)


def test_16_bit_keeps_its_depth(tmp_path):
    values = np.arange(0, 65536, 64, dtype=np.uint16).reshape(32, 32)
    got = preprocess_image(
        decode_image(saved(tmp_path, Image.fromarray(values))), Preprocess(mean=(0.5,), std=(0.25,))
    )
    np.testing.assert_allclose(
        got, np.broadcast_to((values / 65535 - 0.5) / 0.25, (3, 32, 32)), atol=1e-6
    )
    half = preprocess_image(
        decode_image(tmp_path / "image.png"), Preprocess(resize=(16, 16), fit="exact")
    )
    assert len(np.unique(half[0])) == 256, "resampled as floats, not in 256 steps"


def test_one_channel_is_luma_and_invert_comes_before_normalising(tmp_path):
    path = saved(tmp_path, put("RGB", (2, 1), [(255, 0, 0), (0, 255, 0)]))
    got = preprocess_image(
        decode_image(path), Preprocess(channels=1, invert=True, mean=(0.5,), std=(0.5,))
    )
    luma = np.array([[[76, 150]]]) / 255
    np.testing.assert_allclose(got, (1 - luma - 0.5) / 0.5, atol=1e-6)


@pytest.mark.parametrize("invert", [False, True])
@pytest.mark.parametrize("depth", [8, 16])
def test_pad_fills_with_the_mean_colour(tmp_path, invert, depth):
    picture = (
        Image.new("L", (20, 10), 255)
        if depth == 8
        else Image.fromarray(np.full((10, 20), 65535, dtype=np.uint16))
    )
    path = saved(tmp_path, picture)
    settings = Preprocess(
        resize=40, fit="pad", mean=(0.2, 0.4, 0.6), std=(0.1, 0.1, 0.1), invert=invert
    )
    got = preprocess_image(decode_image(path), settings)
    assert got.shape == (3, 40, 40)
    assert np.abs(got[:, :10]).max() < 0.02
    assert np.abs(got[:, 30:]).max() < 0.02
    white = ((0 if invert else 1) - np.array([0.2, 0.4, 0.6])) / 0.1
    np.testing.assert_allclose(
        got[:, 10:30], np.broadcast_to(white[:, None, None], (3, 20, 40)), atol=1e-5
    )


def test_a_crop_beyond_the_image_is_black(tmp_path):
    got = preprocess_image(
        decode_image(saved(tmp_path, Image.new("L", (4, 4), 255))), Preprocess(crop=7)
    )
    expected = np.zeros((7, 7))
    expected[1:5, 1:5] = 1
    np.testing.assert_allclose(got, np.broadcast_to(expected, (3, 7, 7)))


def test_preprocess_resolves_and_refuses():
    assert Preprocess(crop=224).crop == (224, 224)
    assert Preprocess(resize=32, fit="exact").output_size == (32, 32)
    assert Preprocess(resize=256).output_size is None
    assert Preprocess(mean=(0.5,)).mean == (0.5, 0.5, 0.5)
    assert Preprocess(crop=224).as_dict()["crop"] == [224, 224]
    for wrong in [
        {"mean": (0.5, 0.5)},
        {"std": (0.0,)},
        {"crop": 0},
        {"resize": (3, 3, 3)},
        {"resize": 0},
        {"fit": "stretch"},
    ]:
        with pytest.raises(InputError):
            Preprocess(**wrong)
    with pytest.raises(InputError, match="antialias"):
        Preprocess(antialias=False, interpolation="bicubic")


def test_the_plan_may_switch_antialiasing_off():
    merged = Preprocess(resize=(8, 8), fit="exact").merged(PreprocessPlan(antialias=False))
    assert not merged.antialias
    with pytest.raises(PlanError, match="antialias"):
        Preprocess(interpolation="bicubic").merged(PreprocessPlan(antialias=False))


def test_merged_with_the_plan():
    declared = Preprocess(resize=256, crop=224, mean=(0.5, 0.4, 0.3), std=(0.2,))
    assert declared.merged(PreprocessPlan()) == declared
    assert declared.merged(PreprocessPlan(resize=300)).resize == 300
    assert declared.merged(PreprocessPlan(resize=(300, 400))).fit == "exact"
    assert declared.merged(PreprocessPlan(resize=(300, 400), fit="shorter")).fit == "shorter"
    with pytest.raises(PlanError, match="black border"):
        declared.merged(PreprocessPlan(resize=28))
    with pytest.raises(PlanError, match="mean needs 1"):
        declared.merged(PreprocessPlan(channels=1))
    grey = declared.merged(
        PreprocessPlan(channels=1, mean=(0.1307,), std=(0.3081,), resize=28, crop=28)
    )
    assert (grey.channels, grey.mean, grey.output_size) == (1, (0.1307,), (28, 28))


# ── geometry: image and mask stay together ──────────────────────────────────────────────────────────────────────────

FITS = [
    Preprocess(),
    Preprocess(resize=32),
    Preprocess(resize=40, crop=32),
    Preprocess(resize=200, crop=(120, 160)),
    Preprocess(resize=(48, 40), crop=32),
    Preprocess(resize=(32, 56), fit="exact"),
    Preprocess(resize=(150, 170), fit="exact", crop=140),
    Preprocess(resize=48, fit="pad"),
    Preprocess(resize=(48, 64), fit="pad", crop=(44, 60)),
    Preprocess(fit="pad"),
    Preprocess(crop=60),
    Preprocess(crop=150),
    Preprocess(resize=32, interpolation="bicubic"),
    Preprocess(resize=64, interpolation="nearest"),
    Preprocess(resize=64, antialias=False),
]


def covered_slowly(mask, geometry):
    """Replica: every output pixel's footprint against every source pixel, one by one."""
    out = np.zeros(geometry.size)
    step = [s / t for s, t in zip(geometry.source, geometry.scaled, strict=True)]
    for i in range(geometry.size[0]):
        for j in range(geometry.size[1]):
            top, left = (geometry.top + i) * step[0], (geometry.left + j) * step[1]
            for y in range(max(0, int(top) - 1), min(mask.shape[0], int(top + step[0]) + 2)):
                for x in range(max(0, int(left) - 1), min(mask.shape[1], int(left + step[1]) + 2)):
                    high = max(0.0, min(y + 1, top + step[0]) - max(y, top))
                    wide = max(0.0, min(x + 1, left + step[1]) - max(x, left))
                    out[i, j] += mask[y, x] * high * wide / (step[0] * step[1])
    return out


@pytest.mark.parametrize(
    "preprocess", [p for p in FITS if p.geometry((21, 33)).size < (100, 100)], ids=repr
)
def test_mask_coverage_equals_brute_force(preprocess):
    mask = (np.random.default_rng(3).random((21, 33)) > 0.6).astype(np.float32)
    geometry = preprocess.geometry(mask.shape)
    np.testing.assert_allclose(geometry.warp_mask(mask), covered_slowly(mask, geometry), atol=2e-6)


@settings(max_examples=60, deadline=None)
@given(
    st.tuples(st.integers(1, 60), st.integers(1, 60)), st.tuples(st.integers(1, 60), st.integers(1, 60)), st.sampled_from(["exact", "pad"]),
    st.integers(0, 2**32 - 1),
)  # fmt: skip
def test_area_is_preserved(source, target, fit, seed):
    mask = (np.random.default_rng(seed).random(source) > 0.5).astype(np.float32)
    geometry = Preprocess(resize=target, fit=fit).geometry(source)
    footprint = (source[0] / geometry.scaled[0]) * (source[1] / geometry.scaled[1])
    warped = geometry.warp_mask(mask)
    assert warped.min() >= 0
    assert warped.max() <= 1 + 1e-5
    assert warped.sum() * footprint == pytest.approx(mask.sum(), rel=1e-4, abs=1e-4)


@pytest.mark.parametrize("orientation", UPRIGHT)
@pytest.mark.parametrize("preprocess", FITS, ids=repr)
def test_a_known_square_is_found_where_its_mask_says(tmp_path, preprocess, orientation):
    """White square on black, stored in any orientation, its box given in displayed pixels."""
    height, width, (x0, y0, x1, y1) = 90, 120, (52, 36, 68, 50)
    shown = np.zeros((height, width), dtype=np.uint8)
    shown[y0:y1, x0:x1] = 255
    backwards = {6: 8, 8: 6}.get(orientation, orientation)
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = saved(
        tmp_path, Image.fromarray(np.ascontiguousarray(UPRIGHT[backwards](shown))), exif=exif
    )
    batch = load_batch(
        [sample(path, square=f"box:{x0},{y0},{x1},{y1}")], tmp_path, preprocess, Plan(), ["square"]
    )
    picture, mask = (
        batch.images[0, 0].numpy().astype(float),
        batch.masks[0, 0].numpy().astype(float),
    )
    assert batch.sizes == ((height, width),)
    assert batch.reasons == (("",),)
    assert picture.shape == mask.shape
    assert mask.sum() > 10
    grid = np.mgrid[: mask.shape[0], : mask.shape[1]]
    centres = [[(axis * plane).sum() / plane.sum() for axis in grid] for plane in (picture, mask)]
    tolerance = 0.6 if preprocess.interpolation == "nearest" else 0.15
    np.testing.assert_allclose(centres[0], centres[1], atol=tolerance)
    assert picture.sum() == pytest.approx(mask.sum(), rel=0.12 if tolerance > 0.5 else 0.05)
    assert ((picture > 0.5) != (mask > 0.5)).mean() < 0.01


# ── batches ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_reasons(tmp_path):
    saved(tmp_path, photo(40, 60), "photo.png")
    saved(tmp_path, Image.new("L", (60, 40)), "nothing.png")
    saved(tmp_path, Image.new("L", (61, 10)), "other.png")
    (tmp_path / "text.png").write_text("not a mask")
    cells = {
        "used": ("box:20,10,40,30", ""), "away": ("box:0,0,5,40", "empty_after_crop"), "empty": ("nothing.png", "empty_mask"),
        "lost": ("lost.png", "missing_mask"), "text": ("text.png", "unreadable_mask"), "other": ("other.png", "mask_size"),
        "blank": (None, "not_annotated"),
    }  # fmt: skip
    row = sample("photo.png", **{name: cell for name, (cell, _) in cells.items() if cell})
    batch = load_batch([row], tmp_path, Preprocess(resize=40, crop=32), Plan(), list(cells))
    assert dict(zip(batch.region_names, batch.reasons[0], strict=True)) == {
        name: reason for name, (_, reason) in cells.items()
    }
    usable = batch.masks[0].sum(dim=(1, 2)) > 0
    assert usable.tolist() == [reason == "" for _, reason in cells.values()]
    assert batch.masks[0, 0].sum() == 400


def test_an_unreadable_image_keeps_its_slot(tmp_path):
    for index in range(3):
        saved(tmp_path, photo(40, 60, seed=index), f"{index}.png")
    rows = [sample(f"{index}.png", index, square="box:20,10,40,30") for index in range(3)]
    whole = load_batch(rows, tmp_path, Preprocess(crop=32), Plan(), ["square"])
    (tmp_path / "1.png").write_bytes((tmp_path / "1.png").read_bytes()[:200])
    batch = load_batch(rows, tmp_path, Preprocess(crop=32), Plan(), ["square"])
    assert [failure[0] for failure in batch.failures] == ["", "truncated", ""]
    assert batch.failures[1][1].startswith("1.png: ")
    assert batch.readable == (True, False, True)
    assert batch.reasons == (("",), ("truncated",), ("",))
    assert len(batch) == 3
    assert not batch.images[1].any()
    for slot in (0, 2):
        assert torch.equal(batch.images[slot], whole.images[slot])
        assert torch.equal(batch.masks[slot], whole.masks[slot])


def test_without_preprocess_one_size(tmp_path):
    saved(tmp_path, put("L", (3, 2), [0, 51, 102, 153, 204, 255]), "a.png")
    saved(tmp_path, Image.new("L", (3, 2)), "b.png")
    saved(tmp_path, Image.new("L", (4, 2)), "c.png")
    batch = load_batch([sample("a.png"), sample("b.png", 1)], tmp_path, None, Plan(), [])
    np.testing.assert_allclose(batch.images[0, 2], [[0, 0.2, 0.4], [0.6, 0.8, 1]], atol=1e-7)
    assert batch.masks.shape == (2, 0, 2, 3)
    with pytest.raises(
        InputError,
        match=r"2 sizes.*2x3 \(1 images, e.g. s0\), 2x4 \(1 images, e.g. s2\).*\[preprocess\]",
    ):
        load_batch([sample("a.png"), sample("c.png", 2)], tmp_path, None, Plan(), [])
    nothing = load_batch([sample("lost.png")], tmp_path, None, Plan(), ["r"])
    assert nothing.images.shape == (1, 3, 0, 0)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("batches")
    for index in range(9):
        saved(path, photo(40 + index, 60, seed=index), f"{index}.png")
    (path / "5.png").unlink()
    return path


def chunks(count=9, size=2):
    rows = [sample(f"{index}.png", index, square="box:20,10,40,30") for index in range(count)]
    return [rows[start : start + size] for start in range(0, count, size)]


def test_workers_give_the_same_batches_in_order_and_leave_nothing(folder):
    torch.manual_seed(3)
    before = torch.get_rng_state()
    alone = list(
        iterate_batches(chunks(), folder, Preprocess(resize=32, crop=32), Plan(), ["square"])
    )
    ahead = list(
        iterate_batches(
            chunks(), folder, Preprocess(resize=32, crop=32), Plan(), ["square"], workers=2
        )
    )
    assert torch.equal(before, torch.get_rng_state())
    assert [[s.id for s in batch.samples] for batch in ahead] == [
        [s.id for s in chunk] for chunk in chunks()
    ]
    for one, two in zip(alone, ahead, strict=True):
        assert torch.equal(one.images, two.images)
        assert torch.equal(one.masks, two.masks)
        assert (one.reasons, one.failures, one.sizes) == (two.reasons, two.failures, two.sizes)
    assert multiprocessing.active_children() == []


def test_closing_early_ends_the_workers(folder):
    ahead = iterate_batches(chunks(), folder, Preprocess(crop=32), Plan(), [], workers=2)
    next(ahead)
    assert len(multiprocessing.active_children()) == 2
    ahead.close()
    assert multiprocessing.active_children() == []


def test_errors_come_back_from_workers(folder, monkeypatch):
    with pytest.raises(InputError, match="2 sizes"):
        list(iterate_batches(chunks(), folder, None, Plan(), [], workers=2))

    def broken(*_):
        raise ZeroDivisionError("deep inside")

    monkeypatch.setattr(batches, "decode_sample", broken)
    with pytest.raises(
        GradauditError, match=r"Images s0 to s1 could not be loaded:(.|\n)*deep inside"
    ):
        list(iterate_batches(chunks(), folder, Preprocess(crop=32), Plan(), [], workers=2))
    assert multiprocessing.active_children() == []


def test_a_killed_worker_is_a_clear_error(folder, monkeypatch):
    monkeypatch.setattr(batches, "decode_sample", lambda *_: os.kill(os.getpid(), signal.SIGKILL))
    with pytest.raises(GradauditError, match="workers = 0"):
        list(iterate_batches(chunks(), folder, Preprocess(crop=32), Plan(), [], workers=1))
    assert multiprocessing.active_children() == []


def test_batches_survive_the_way_to_a_spawned_process(folder):
    """Where processes are spawned and not forked, the data set itself is pickled."""
    dataset = batches._Batches(chunks(), folder, Preprocess(crop=32), Plan(), ("square",))
    batch = pickle.loads(pickle.dumps(dataset))[0]
    assert torch.equal(batch.images, dataset[0].images)
    assert pickle.loads(pickle.dumps(batch)).reasons == batch.reasons


def test_workers_are_single_threaded(folder, monkeypatch):
    def report(*_):
        raise ValueError(f"threads: {torch.get_num_threads()}")

    monkeypatch.setattr(batches, "decode_sample", report)
    with pytest.raises(GradauditError, match="threads: 1"):
        list(iterate_batches(chunks(), folder, Preprocess(crop=32), Plan(), [], workers=1))


def test_thumbnail_shows_what_the_network_sees(tmp_path):
    values = np.zeros((40, 80, 3), dtype=np.uint8)
    values[10:30, 30:50] = (255, 128, 0)
    saved(tmp_path, Image.fromarray(values), "x.png")
    settings = Preprocess(resize=40, crop=(40, 60), mean=(0.5, 0.4, 0.3), std=(0.2, 0.2, 0.2))
    row = sample("x.png", square="box:30,10,50,30", away="box:0,0,2,2")
    picture, masks = thumbnail(row, tmp_path, settings, Plan(), ["square", "away", "blank"], 30)
    assert (picture.mode, picture.size) == ("RGB", (30, 20))
    assert picture.getpixel((15, 10)) == (255, 128, 0)
    assert picture.getpixel((2, 2)) == (0, 0, 0)
    assert list(masks) == ["square"]
    assert masks["square"].shape == (20, 30)
    assert masks["square"].sum() == pytest.approx(100)
    np.testing.assert_allclose(masks["square"][5:15, 10:20], 1)
    with pytest.raises(ImageError):
        thumbnail(sample("lost.png"), tmp_path, settings, Plan(), [], 30)


def test_thumbnail_of_a_small_grey_image_grows(tmp_path):
    saved(tmp_path, put("L", (2, 2), [0, 255, 255, 0]), "x.png")
    picture, _ = thumbnail(
        sample("x.png"),
        tmp_path,
        Preprocess(channels=1, mean=(0.1307,), std=(0.3081,)),
        Plan(),
        [],
        64,
    )
    assert picture.size == (64, 64)
    assert picture.getpixel((0, 0)) == (0, 0, 0)
    assert picture.getpixel((63, 0)) == (255, 255, 255)
