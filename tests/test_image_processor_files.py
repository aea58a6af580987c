"""Pictures read from whatever holds one, and what is said of what does not."""

import base64
import io
import threading
import warnings
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer

import numpy as np
import pytest
from PIL import Image

from keras_models.preprocessing.image import load_image, to_rgb

PIXELS = np.random.default_rng(0).integers(0, 256, (11, 17, 3), dtype=np.uint8)
PICTURE = Image.fromarray(PIXELS)


def encoded(image=PICTURE, kind="PNG", **options) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


@contextmanager
def serving(content: bytes, status: int = 200):
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(status)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *arguments):
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/a%20picture.png?size=1"
    finally:
        server.shutdown()
        server.server_close()


def check(image, expected=PIXELS):
    assert isinstance(image, Image.Image) and image.mode == "RGB"
    np.testing.assert_array_equal(np.asarray(image), expected)


def test_every_source(tmp_path, monkeypatch):
    content = encoded()
    path = tmp_path / "a picture.png"
    path.write_bytes(content)
    text = base64.b64encode(content).decode()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    for source in (
        path, str(path), "a picture.png", "~/a picture.png", content, bytearray(content), memoryview(content), text,
        base64.encodebytes(content).decode(), f"data:image/png;base64,{text}", f"data:;BASE64,{text.rstrip('=')}",
        "data:image/png," + "".join(f"%{byte:02x}" for byte in content), PICTURE, PIXELS, PIXELS.transpose(2, 0, 1),
        PIXELS.astype(int), PIXELS.astype(float), PIXELS / np.float32(255), np.dstack([PIXELS, PIXELS[..., :1]]),
    ):  # fmt: skip
        check(load_image(source))
    with serving(content) as address:
        check(load_image(address))


@pytest.mark.parametrize("name", ["bus.jpg", "wolves.jpg", "pineapple.jpg", "coco_000000039769.png"])
def test_photos(shared, name):
    path = shared / "data" / "images" / name
    check(load_image(path), np.asarray(Image.open(path).convert("RGB")))


@pytest.mark.parametrize("kind", ["JPEG", "GIF", "BMP", "WEBP", "TIFF"])
def test_formats(kind):
    content = encoded(kind=kind)
    check(load_image(content), np.asarray(Image.open(io.BytesIO(content)).convert("RGB")))


@pytest.mark.parametrize(
    "mode", ["1", "L", "LA", "La", "P", "PA", "RGBA", "RGBX", "RGBa", "CMYK", "YCbCr", "HSV", "LAB"]
)
def test_modes(mode):
    straight = {"La": "LA", "RGBa": "RGBA"}.get(mode)  # what Pillow converts it to first
    image = PICTURE.convert(straight or ("L" if mode == "PA" else "RGB")).convert(mode)
    expected = (image.convert(straight) if straight else image).convert("RGB")
    check(to_rgb(image), np.asarray(expected))


def test_transparent_palette():
    image = PICTURE.convert("P")
    content = encoded(image, transparency=bytes(range(256)))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check(load_image(content), np.asarray(image.convert("RGB")))


@pytest.mark.parametrize("dtype", ["uint16", ">u2", "int32", "int64"])
def test_16_bit_grey_is_scaled_down(dtype):
    grey = np.arange(0, 65536, 257 * 3).astype(dtype)[None]
    expected = np.repeat((np.arange(0, 256, 3).astype("uint8"))[None, :, None], 3, axis=-1)
    check(load_image(grey), expected)
    if dtype != "int64":
        image = Image.fromarray(grey.astype("int32")) if dtype == "int32" else Image.fromarray(grey)
        check(load_image(image), expected)
        check(load_image(encoded(Image.fromarray(grey.astype("uint16")))), expected)


def test_other_numbers():
    grey = np.asarray([[0, 0.25, 1]])
    check(load_image(grey), np.asarray([[[0] * 3, [63] * 3, [255] * 3]]))
    check(load_image(Image.fromarray(grey.astype("float32"))), np.asarray([[[0] * 3, [63] * 3, [255] * 3]]))
    check(load_image(grey > 0.5), np.asarray([[[0] * 3, [0] * 3, [255] * 3]]))
    check(load_image(np.asarray([[0, 0.25, 1]], "float16")), np.asarray([[[0] * 3, [63] * 3, [255] * 3]]))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation(orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    image = load_image(encoded(exif=exif))
    turns = {1: PIXELS, 2: PIXELS[:, ::-1], 3: PIXELS[::-1, ::-1], 4: PIXELS[::-1], 5: PIXELS.transpose(1, 0, 2)}
    turns |= {6: np.rot90(PIXELS, -1), 7: PIXELS[::-1, ::-1].transpose(1, 0, 2), 8: np.rot90(PIXELS)}
    check(image, turns[orientation])
    check(load_image(Image.open(io.BytesIO(encoded(exif=exif)))), turns[orientation])


def test_frames_give_the_first():
    other = Image.fromarray(255 - PIXELS)
    check(load_image(encoded(kind="TIFF", save_all=True, append_images=[other])))


BAD = {
    "missing": ("missing.png", FileNotFoundError, "no file 'missing.png'"),
    "long name": ("x/" * 3000, FileNotFoundError, "no file"),
    "a zero": ("a\0b", FileNotFoundError, "no file"),
    "base64 of none": (base64.b64encode(b"no picture at all, not one").decode(), FileNotFoundError, "no file"),
    "no picture": (b"no picture", ValueError, "10 bytes hold is not a picture"),
    "nothing": (b"", ValueError, "not a picture"),
    "truncated PNG": (encoded()[:-200], ValueError, "damaged"),
    "truncated JPEG": (encoded(kind="JPEG")[:-50], ValueError, "damaged"),
    "a damaged head": (encoded()[:30] + b"xxxx" + encoded()[34:], ValueError, "picture"),
    "data": ("data:image/png;base64,", ValueError, "no data"),
    "data of none": ("data:image/png;base64,aGVsbG8=", ValueError, "not a picture"),
    "data, not base64": ("data:image/png;base64,???", ValueError, "no data"),
    "no channels": (np.zeros((5, 6, 5)), ValueError, r"\(5, 6, 5\)"),
    "no pixels": (Image.new("L", (0, 5)), ValueError, "no pixels"),
    "NaN": (np.full((5, 5), np.nan), ValueError, "NaN"),
    "float image": (Image.fromarray(np.full((5, 5), -3.5, "float32")), ValueError, "-3.5"),
    "large numbers": (np.full((5, 5), 70000), ValueError, "70000"),
    "large fractions": (np.full((5, 5), 1.5), ValueError, "1.5"),
    "a number": (5, ValueError, "shape"),
    "a dictionary": ({}, TypeError, "dict"),
}


@pytest.mark.parametrize("case", BAD)
def test_what_is_wrong_is_said(case):
    source, error, words = BAD[case]
    with pytest.raises(error, match=words) as caught:
        load_image(source)
    assert "\n" not in str(caught.value)


def test_bad_files(tmp_path):
    (tmp_path / "text.jpg").write_text("no picture")
    with pytest.raises(ValueError, match=r"text\.jpg.*not a picture"):
        load_image(tmp_path / "text.jpg")
    with pytest.raises(ValueError, match="folder"):
        load_image(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"none\.jpg"):
        load_image(tmp_path / "none.jpg")


@pytest.mark.filterwarnings("ignore:Image size")
@pytest.mark.parametrize("limit", [100, 60])
def test_far_too_many_pixels(monkeypatch, limit):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
    with pytest.raises(ValueError, match=f"more than {limit} pixels"):
        load_image(encoded())
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)
    check(load_image(encoded()))


def test_bad_addresses():
    with serving(b"gone", 404) as address, pytest.raises(OSError, match=r"Cannot get http://.*404"):
        load_image(address)
    with serving(b"<html>") as address, pytest.raises(ValueError, match="not a picture"):
        load_image(address)
    with pytest.raises(OSError, match="Cannot get"):
        load_image("http://127.0.0.1:1/picture.png")
