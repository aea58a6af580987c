"""Results as pictures: boxes, masks, classes, attention and depth, drawn with Pillow on a copy of the input.

Pictures are PIL images, or arrays (height, width, 3) of bytes or of floats from 0 to 1. What is drawn grows with the
picture, and a label has the same colour in every picture, unless labels of one picture would share it.
"""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache, reduce
from typing import Any, NamedTuple
from zlib import crc32

import numpy as np
from PIL import Image, ImageDraw, ImageFont

Color = tuple[int, int, int]

# Searched for the largest distance between any two in OKLab, as seen with normal sight, protanopia and deuteranopia.
PALETTE: tuple[Color, ...] = (
    (195, 0, 120), (195, 240, 120), (120, 195, 255), (210, 120, 60), (120, 30, 255), (195, 45, 15),
    (15, 165, 180), (45, 255, 225), (75, 210, 150), (120, 135, 255), (75, 105, 180), (240, 165, 0),
)  # fmt: skip
# Even steps of OKLab lightness from indigo to pale yellow, so that more always looks brighter, in grey as well.
HEAT: tuple[Color, ...] = (
    (9, 0, 60), (47, 6, 97), (95, 14, 123), (153, 22, 123), (203, 52, 104), (243, 92, 73), (249, 153, 83),
    (252, 204, 122), (254, 249, 175),
)  # fmt: skip
WHITE, INK, GREY, TRACK, BAR = (255, 255, 255), (28, 30, 36), (104, 109, 120), (232, 234, 239), (56, 103, 214)
# Pillow's own font has ASCII only; the first of these that is installed and has the characters serves for the others.
FONTS = ("DejaVuSans.ttf", "NotoSans-Regular.ttf", "NotoSansCJK-Regular.ttc", "Arial Unicode.ttf", "arial.ttf",
         "msyh.ttc", "malgun.ttf")  # fmt: skip


def draw(image: Any, results: Any, **options: Any) -> Image.Image:
    """Draws the results of an image pipeline, whichever they are.

    Args:
        image: the picture that the results are for.
        results: what the pipeline returned for it: boxes, segments, classes or answers with scores, masks, or a depth.
        **options: those of `draw_boxes`, `draw_masks`, `draw_classes` or `draw_depth`.

    Returns:
        a new picture; an unchanged copy if nothing was found.

    Raises:
        ValueError: the results are none of these.
    """
    if isinstance(results, Mapping):
        if "predicted_depth" in results:
            return draw_depth(results["predicted_depth"], image, **options)
        if "masks" in results:
            segments = [{"label": f"mask {number}", "mask": mask} for number, mask in enumerate(results["masks"])]
            return draw_masks(image, segments, **{"legend": False, **options})
        found = f"a dictionary of {', '.join(map(repr, results)) or 'nothing'}"
    elif isinstance(results, Sequence) and all(isinstance(row, Mapping) for row in results):
        if not results:
            return _picture(image)
        for key, function in {"box": draw_boxes, "mask": draw_masks}.items():
            if key in results[0]:
                return function(image, results, **options)
        if "score" in results[0]:
            return draw_classes(results, image, **options)
        found = f"rows of {', '.join(map(repr, results[0])) or 'nothing'}"
    else:
        found = f"a {type(results).__name__}"
    raise ValueError(
        f"There is no picture for {found}: pass, for one picture, what a pipeline for object detection, image "
        "segmentation, image classification, mask generation or depth estimation returned."
    )


def draw_boxes(image: Any, detections: Sequence[Mapping[str, Any]]) -> Image.Image:
    """Draws boxes with their labels.

    Args:
        image: the picture.
        detections: `{"label", "score", "box": {"xmin", "ymin", "xmax", "ymax"}}` each, in pixels of the picture; the
            score may be absent. Boxes that reach beyond the picture end at its border.

    Returns:
        a new picture of the same size.

    Raises:
        ValueError: a detection is no such dictionary, or its box ends before it begins.
    """
    canvas = _picture(image)
    colors = _colors(_label(row, number) for number, row in enumerate(detections))
    boxes = [_box(row, number, canvas.size) for number, row in enumerate(detections)]
    # Large ones first, so that what is small stays visible.
    order = sorted(range(len(boxes)), key=lambda number: -boxes[number].area)
    pen, line = ImageDraw.Draw(canvas, "RGBA"), _line(canvas.size)
    for number in order:
        box = boxes[number]
        color = colors[_label(detections[number], number)]
        # A thin edge of the opposite lightness keeps the line apart from whatever is behind it.
        pen.rectangle(box.grown(max(1, line // 3)), outline=(*_ink_on(color), 110), width=max(1, line // 3))
        pen.rectangle(box, outline=color, width=line)
    taken: list[_Box] = []
    font = font_for(colors, _unit(canvas.size))
    for number in reversed(order):  # around the small there is the least choice
        label = _label(detections[number], number)
        words = _caption(label, detections[number].get("score"), font, boxes[number], canvas.size)
        if words:
            taken.append(_place(_chip_size(words, font), boxes[number], canvas.size, taken))
            _paste_chip(canvas, words, font, taken[-1], colors[label])
    return canvas


def draw_masks(image: Any, segments: Sequence[Mapping[str, Any]], *, legend: bool = True) -> Image.Image:
    """Tints the pixels of masks, and outlines them.

    Args:
        image: the picture.
        segments: `{"label", "mask"}` each; the mask is a PIL image of 0 and 255, or an array (height, width) that is
            true inside, of the picture's size. Smaller segments lie over larger ones.
        legend: whether to list the labels, with their share of the picture, at the right or below.

    Returns:
        a new picture, larger by the legend.

    Raises:
        ValueError: a segment is no such dictionary, or its mask has another size than the picture.
    """
    canvas = _picture(image)
    if not segments:
        return canvas
    labels = [_label(row, number) for number, row in enumerate(segments)]
    masks = [_mask(row, number, canvas.size) for number, row in enumerate(segments)]
    colors, pixels = _colors(labels), np.array(canvas)
    for number in sorted(range(len(masks)), key=lambda number: -np.count_nonzero(masks[number])):
        _tint(pixels, masks[number], colors[labels[number]], _line(canvas.size))
    tinted = Image.fromarray(pixels)
    if not legend:
        return tinted
    rows = []
    for label, color in colors.items():
        own = [mask for name, mask in zip(labels, masks, strict=True) if name == label]
        share = float(reduce(np.logical_or, own).mean())
        rows.append((share, f"{label} ({len(own)})" if len(own) > 1 else label, color))
    return _with_legend(tinted, sorted(rows, key=lambda row: -row[0]))


def draw_classes(results: Sequence[Mapping[str, Any]], image: Any = None, *, top_k: int = 10) -> Image.Image:
    """Draws scores as bars, the highest first, at the right of the picture if there is one.

    Args:
        results: `{"label", "score"}` each (or `{"answer", "score"}`), as pipelines that classify images, texts, sounds
            or videos return them. A full bar is 1, or the highest score where one is no probability.
        image: the picture they are for.
        top_k: how many of them to show at most.

    Returns:
        a new picture; without any results the one that was given.

    Raises:
        ValueError: a result is no such dictionary, or there are neither results nor a picture.
    """
    canvas = None if image is None else _picture(image)
    if not results:
        if canvas is None:
            raise ValueError("There are neither results nor a picture to draw: pass one or the other.")
        return canvas
    rows = [(_score(row, number), _label(row, number)) for number, row in enumerate(results)]
    rows = sorted(rows, key=lambda row: -row[0])[:top_k]
    panel = _bars(rows, 18 if canvas is None else max(14, _unit(canvas.size)))
    if canvas is None:
        return panel
    height = max(canvas.height, panel.height)
    sheet = Image.new("RGB", (canvas.width + panel.width, height), WHITE)
    sheet.paste(canvas, (0, (height - canvas.height) // 2))
    sheet.paste(panel, (canvas.width, (height - panel.height) // 2))
    return sheet


def draw_attention(
    image: Any,
    attention: Any,
    *,
    head: int | None = None,
    prefix_tokens: int = 1,
    grid: tuple[int, int] | None = None,
) -> Image.Image:
    """Lays what a vision transformer attends to over the picture: the brighter, the more.

    Args:
        image: the picture. The model is taken to have seen all of it, not a crop.
        attention: (heads, tokens, tokens), one picture's of one layer, as in `outputs.attentions[-1][0]`; or a map
            (height, width) of any size.
        head: which head to show; all of them averaged by default.
        prefix_tokens: how many tokens come before those of the patches. The map is the attention of the first of
            them, the class token; without any, that of all patches averaged.
        grid: how many patches there are (down, across); a square by default.

    Returns:
        a new picture of the same size.

    Raises:
        ValueError: the attention has another shape, there is no such head, or its patches do not fill the grid.
    """
    canvas = _picture(image)
    values = _array(attention)
    if values.ndim == 3 and values.shape[1] == values.shape[2]:
        values = _patches(values, head, prefix_tokens, grid)
    elif values.ndim != 2 or not values.size:
        raise ValueError(
            f"The attention has the shape {values.shape}: pass (heads, tokens, tokens) of one picture and layer, as "
            "outputs.attentions[-1][0] is, or a map (height, width)."
        )
    heat = _resized(_stretched(values), canvas.size)
    # Where there is no attention there is no colour: the picture shows through, darker.
    opacity = 0.75 * np.sqrt(heat)[..., None]
    pixels = 0.65 * np.asarray(canvas, "float32") * (1 - opacity) + heat_of(heat) * opacity
    return Image.fromarray(pixels.round().astype(np.uint8))


def draw_depth(depth: Any, image: Any = None) -> Image.Image:
    """Colours a depth map: the larger a number, the brighter.

    Args:
        depth: (height, width). Most models give the inverse of the distance, so what is near is bright; models
            of metric depth give metres, so what is far is. Numbers that are not finite are grey.
        image: the picture it is for, which comes to stand at the left of the map, stretched to its size.

    Returns:
        a new picture, of the size of the map or twice as wide as the picture.

    Raises:
        ValueError: the depth has another shape.
    """
    values = _array(depth)
    if values.ndim != 2 or not values.size:
        raise ValueError(f"The depth has the shape {values.shape}: pass (height, width), that of one picture.")
    canvas = None if image is None else _picture(image)
    unknown, values = ~np.isfinite(values), _stretched(values)
    if canvas:
        unknown = np.asarray(Image.fromarray(unknown).resize(canvas.size, Image.Resampling.NEAREST))
        values = _resized(values, canvas.size)
    pixels = heat_of(values)
    pixels[unknown] = GREY
    return Image.fromarray(np.hstack([canvas, pixels]) if canvas else pixels)


# What comes in ------------------------------------------------------------------------------------------------------


def _picture(image: Any) -> Image.Image:
    """A new RGB picture."""
    if isinstance(image, Image.Image):
        return image.convert("RGB") if image.mode != "RGB" else image.copy()
    if not isinstance(image, np.ndarray):
        raise TypeError(f"The image is a {type(image).__name__}: pass a PIL image or an array (height, width, 3).")
    if image.ndim != 3 or image.shape[2] != 3 or not image.size:
        raise ValueError(f"The image has the shape {image.shape}: pass an array (height, width, 3).")
    if np.issubdtype(image.dtype, np.floating):
        if not (image.min() >= 0 and image.max() <= 1):
            raise ValueError(
                f"The image holds floats from {image.min():.3g} to {image.max():.3g}: pass floats from 0 to 1, or the "
                "bytes before the image processor normalized them."
            )
        image = (image * 255).round().astype(np.uint8)
    if image.dtype != np.uint8:
        raise ValueError(f"The image holds {image.dtype}: pass bytes (uint8) or floats from 0 to 1.")
    return Image.fromarray(image)


def _array(values: Any) -> np.ndarray:
    """An array of floats, of numbers or a tensor of any backend."""
    if not isinstance(values, np.ndarray | Image.Image):
        from keras import ops  # only tensors need it

        values = ops.convert_to_numpy(values)
    return np.asarray(values, "float32")


def _entry(row: Any, number: int, keys: tuple[str, ...]) -> Any:
    """The value of the first of these keys that a row has."""
    for key in keys:
        if isinstance(row, Mapping) and row.get(key) is not None:
            return row[key]
    raise ValueError(
        f"Result {number} has no {' or '.join(map(repr, keys))}: pass the dictionaries that a pipeline returned."
    )


def _label(row: Any, number: int) -> str:
    return str(_entry(row, number, ("label", "answer")))


def _score(row: Any, number: int) -> float:
    score = float(_entry(row, number, ("score",)))
    if not math.isfinite(score):
        raise ValueError(
            f"The score of result {number} is {score}, which has no bar: look for what the model overflows on."
        )
    return score


class _Box(NamedTuple):
    """Pixels of a picture, both ends included."""

    left: int
    top: int
    right: int
    bottom: int

    @property
    def area(self) -> int:
        return (self.right - self.left + 1) * (self.bottom - self.top + 1)

    def grown(self, by: int) -> _Box:
        return _Box(self.left - by, self.top - by, self.right + by, self.bottom + by)

    def overlap(self, other: _Box) -> int:
        width = min(self.right, other.right) - max(self.left, other.left) + 1
        height = min(self.bottom, other.bottom) - max(self.top, other.top) + 1
        return max(0, width) * max(0, height)


def _box(row: Any, number: int, size: tuple[int, int]) -> _Box:
    box = _entry(row, number, ("box",))
    left, top, right, bottom = (float(_entry(box, number, (key,))) for key in ("xmin", "ymin", "xmax", "ymax"))
    if not (left <= right and top <= bottom):
        raise ValueError(
            f"The box of result {number} goes from ({left:g}, {top:g}) to ({right:g}, {bottom:g}): its xmin and ymin "
            "must not exceed xmax and ymax."
        )
    width, height = size
    ends = ((left, width), (top, height), (right, width), (bottom, height))
    return _Box(*(round(min(max(value, 0), end - 1)) for value, end in ends))


def _mask(row: Any, number: int, size: tuple[int, int]) -> np.ndarray:
    """Where a segment is, (height, width)."""
    mask = _entry(row, number, ("mask",))
    array = np.asarray(mask.convert("L")) > 127 if isinstance(mask, Image.Image) else np.asarray(mask) != 0
    if array.shape != size[::-1]:
        raise ValueError(
            f"The mask of result {number} has the shape {array.shape} (height, width), the picture {size[::-1]}: "
            "resize one to the other."
        )
    return array


def _patches(attention: np.ndarray, head: int | None, prefix_tokens: int, grid: tuple[int, int] | None) -> np.ndarray:
    """What the class token attends to: (heads, tokens, tokens) -> (down, across)."""
    heads, tokens, _ = attention.shape
    if head is not None and not 0 <= head < heads:
        raise ValueError(f"There is no head {head}: the attention has {heads}, counted from 0.")
    weights = attention.mean(0) if head is None else attention[head]  # (tokens, tokens)
    row = weights[0] if prefix_tokens else weights.mean(0)
    row = row[prefix_tokens:]
    down, across = grid or (math.isqrt(len(row)),) * 2
    if not len(row) or down * across != len(row):
        raise ValueError(
            f"Of {tokens} tokens {len(row)} are patches, which do not fill a grid of {down} x {across}: set "
            "grid=(down, across), and prefix_tokens to the number of tokens before them."
        )
    return row.reshape(down, across)


# Sizes, colours and text --------------------------------------------------------------------------------------------


def _unit(size: tuple[int, int]) -> int:
    """The size of text in a picture of this size."""
    return max(11, round(0.028 * math.sqrt(size[0] * size[1])))


def _line(size: tuple[int, int]) -> int:
    """The width of lines in a picture of this size."""
    return max(1, round(0.005 * math.sqrt(size[0] * size[1])))


def _colors(labels: Iterable[str]) -> dict[str, Color]:
    """A colour for each label, in order of the labels. Where two want the same, the later takes the next free one."""
    used: set[int] = set()
    colors = {}
    for label in sorted(set(labels)):
        first = crc32(label.encode()) % len(PALETTE)
        turns = [(first + turn) % len(PALETTE) for turn in range(len(PALETTE))]
        slot = next((turn for turn in turns if turn not in used), first)
        used.add(slot)
        colors[label] = PALETTE[slot]
    return colors


def _stretched(values: np.ndarray) -> np.ndarray:
    """Values from 0 for the lowest to 1 for the highest; 0 where they are not finite, or all the same."""
    finite = values[np.isfinite(values)]
    low, high = (finite.min(), finite.max()) if finite.size else (0, 0)
    scaled = (values - low) / (high - low) if high > low else np.zeros_like(values)
    return np.nan_to_num(scaled, nan=0, posinf=0, neginf=0)


def _resized(values: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Values from 0 to 1 for each pixel of a picture."""
    return np.asarray(Image.fromarray(values).resize(size, Image.Resampling.BICUBIC)).clip(0, 1)


def heat_of(values: np.ndarray) -> np.ndarray:
    """Colours of values from 0 to 1: (height, width) -> bytes (height, width, 3)."""
    steps = np.linspace(0, 255, len(HEAT))
    table = np.stack([np.interp(np.arange(256), steps, channel) for channel in zip(*HEAT, strict=True)], axis=-1)
    return table.round().astype(np.uint8)[(values * 255).round().astype(np.uint8)]


def _ink_on(color: Color) -> Color:
    """The colour of text that is easiest to read on this one."""
    red, green, blue = ((value / 255) ** 2.2 for value in color)
    return INK if 0.2126 * red + 0.7152 * green + 0.0722 * blue > 0.22 else WHITE


def _percent(share: float, digits: int = 0) -> str:
    least = 10**-digits
    return f"<{least:g}%" if 0 < share < least / 200 else f"{100 * share:.{digits}f}%"


@lru_cache(maxsize=64)
def _font(name: str, size: int) -> ImageFont.FreeTypeFont | None:
    """An installed font, or None; without a name Pillow's own."""
    try:
        return ImageFont.truetype(name, size) if name else ImageFont.load_default(size)
    except OSError:
        return None


@lru_cache(maxsize=4096)
def _has(name: str, character: str) -> bool:
    """Whether a font has a character: one it lacks looks like U+FFFF, which no font has."""
    font = _font(name, 16)
    return font is not None and (character == " " or bytes(font.getmask(character)) != bytes(font.getmask("\uffff")))


def font_for(labels: Iterable[str], size: int) -> ImageFont.FreeTypeFont:
    """The font that has the most characters of all labels of a picture, the first of those that tie."""
    needed = {*_clean(" ".join(labels)), "…"}
    names = ("", *FONTS)
    # Asked one by one, so that fonts are searched for only where Pillow's own does not do.
    name = next((name for name in names if all(_has(name, each) for each in needed)), None)
    if name is None:
        name = max(names, key=lambda name: sum(_has(name, each) for each in needed))
    return _font(name, size)


def _clean(words: str) -> str:
    """Words as they are drawn: one line, accents joined to their letters."""
    return " ".join(unicodedata.normalize("NFC", words).split())


def shortened(words: str, font: ImageFont.FreeTypeFont, room: float) -> str:
    """As much of a line as fits, ending with whole words if that costs little; empty if nothing does."""
    words = _clean(words)
    if font.getlength(words) <= room:
        return words
    fits, over = 0, len(words)
    while over - fits > 1:
        middle = (fits + over) // 2
        fits, over = (middle, over) if font.getlength(words[:middle] + "…") <= room else (fits, middle)
    start = words[:fits]
    end = max(start.rfind(" "), start.rfind(","))
    start = start[:end] if end > 0.6 * fits else start
    return start.rstrip(" ,;") + "…" if start else ""


# Parts of pictures --------------------------------------------------------------------------------------------------


def _rounded(width: int, height: int, radius: float) -> Image.Image:
    """A filled rectangle with smooth round corners, as the mask of a paste."""
    scale = 4
    mask = Image.new("L", (width * scale, height * scale))
    ImageDraw.Draw(mask).rounded_rectangle((0, 0, width * scale - 1, height * scale - 1), radius * scale, fill=255)
    return mask.reduce(scale)


def _caption(label: str, score: float | None, font: ImageFont.FreeTypeFont, box: _Box, size: tuple[int, int]) -> str:
    """Label and score, shortened to half of a picture or the box; empty if that is too small for any text."""
    tail = "" if score is None else f" {_percent(score)}"
    frame, height = _chip_size("", font)
    if height > size[1]:
        return ""
    room = min(size[0], max(box.right - box.left, size[0] // 2, 8 * font.size)) - frame
    if font.getlength(whole := _clean(label + tail)) <= room:
        return whole
    # Where space is short, a label without its score tells more than a score with three letters of a label.
    rest = room - font.getlength(tail)
    return shortened(label, font, rest) + tail if rest >= 4 * font.size else shortened(label, font, room)


def _chip_size(words: str, font: ImageFont.FreeTypeFont) -> tuple[int, int]:
    """Width and height of the chip behind a line."""
    return math.ceil(font.getlength(words) + 0.8 * font.size), math.ceil(1.45 * font.size)


def _place(chip: tuple[int, int], box: _Box, size: tuple[int, int], taken: Sequence[_Box]) -> _Box:
    """Where a box's chip stands: in the picture, at a corner of the box, where it covers other chips the least."""
    width, height = chip
    lefts = (box.left, box.right + 1 - width)
    above, below, first, last = (
        [(left, top) for left in lefts] for top in (box.top - height, box.bottom + 1, box.top, box.bottom + 1 - height)
    )
    small = box.bottom - box.top < 3 * height or box.right - box.left < width
    corners = [*above, *below, *first, *last] if small else [*above, *first, *last, *below]
    inside = [corner for corner in corners if 0 <= corner[1] <= size[1] - height] or [first[0]]
    places = []
    for left, top in inside:
        left, top = min(max(left, 0), size[0] - width), min(max(top, 0), size[1] - height)
        places.append(_Box(left, top, left + width - 1, top + height - 1))
    return min(places, key=lambda place: sum(place.overlap(other) for other in taken))


def _paste_chip(canvas: Image.Image, words: str, font: ImageFont.FreeTypeFont, place: _Box, color: Color):
    width, height = place.right - place.left + 1, place.bottom - place.top + 1
    canvas.paste(color, place[:2], _rounded(width, height, 0.2 * height))
    middle = (place.left + width / 2, place.top + height / 2)
    ImageDraw.Draw(canvas).text(middle, words, font=font, fill=_ink_on(color), anchor="mm")


def _tint(pixels: np.ndarray, mask: np.ndarray, color: Color, line: int):
    """Mixes a colour into the pixels of a mask, and draws its outline inside, though not along the picture's border."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    if not len(rows):
        return
    around = tuple(slice(max(0, found[0] - line), found[-1] + 1 + line) for found in (rows, columns))
    mask, part = mask[around], pixels[around]  # part is a view
    part[mask] = part[mask] // 2 + (np.array(color) // 2).astype(np.uint8)
    part[mask & ~_eroded(mask, line)] = color


def _eroded(mask: np.ndarray, by: int) -> np.ndarray:
    """A mask without what is nearer than this to its outside."""
    inner = np.pad(mask, by, mode="edge")
    for _ in range(2):
        reach, goal = 1, 2 * by + 1  # how many neighbours each place stands for; twice as many a step
        while reach < goal:
            step = min(reach, goal - reach)
            inner = inner[:-step] & inner[step:]
            reach += step
        inner = inner.T
    return inner


def _with_legend(picture: Image.Image, rows: Sequence[tuple[float, str, Color]]) -> Image.Image:
    """A picture and, at its right if that is high enough, else below, rows of a colour, a label and a share."""
    unit = _unit(picture.size)
    font = font_for((label for _, label, _ in rows), unit)
    labels = [shortened(label, font, 16 * unit) for _, label, _ in rows]
    longest = math.ceil(max(map(font.getlength, labels)))
    height, margin = round(1.7 * unit), unit
    share_at = round(1.6 * unit) + longest + unit + math.ceil(font.getlength("100%"))  # its right end
    width = share_at + margin
    beside = len(rows) * height + 2 * margin <= picture.height
    columns = 1 if beside else max(1, (picture.width - margin) // width)
    columns = min(columns, len(rows))
    lines = math.ceil(len(rows) / columns)
    if beside:
        sheet = Image.new("RGB", (picture.width + margin + width, picture.height), WHITE)
        left, top = picture.width + margin, margin
    else:
        right = max(picture.width, margin + columns * width)
        sheet = Image.new("RGB", (right, picture.height + lines * height + 2 * margin), WHITE)
        left, top = margin, picture.height + margin
    sheet.paste(picture, (0, 0))
    pen = ImageDraw.Draw(sheet)
    for number, ((share, _, color), label) in enumerate(zip(rows, labels, strict=True)):
        x, middle = left + number // lines * width, top + number % lines * height + height / 2
        sheet.paste(color, (x, round(middle - unit / 2)), _rounded(unit, unit, 0.25 * unit))
        pen.text((x + 1.6 * unit, middle), label, font=font, fill=INK, anchor="lm")
        pen.text((x + share_at, middle), _percent(share), font=font, fill=GREY, anchor="rm")
    return sheet


def _bars(rows: Sequence[tuple[float, str]], unit: int) -> Image.Image:
    """A panel of labels and scores over bars."""
    likely = all(0 <= score <= 1 for score, _ in rows)
    full = 1 if likely else max(*(score for score, _ in rows), 0)
    margin, width = round(1.3 * unit), 21 * unit
    text, bar, gap = round(1.5 * unit), max(4, round(0.42 * unit)), round(0.75 * unit)
    panel = Image.new("RGB", (width + 2 * margin, len(rows) * (text + bar + gap) - gap + 2 * margin), WHITE)
    pen, shape = ImageDraw.Draw(panel), _rounded(width, bar, bar / 2)
    font = font_for((label for _, label in rows), unit)
    for number, (score, label) in enumerate(rows):
        top = margin + number * (text + bar + gap)
        value = _percent(score, 1) if likely else f"{score:.2f}"
        room = width - unit - font.getlength(value)
        pen.text((margin, top + text / 2), shortened(label, font, room), font=font, fill=INK, anchor="lm")
        pen.text((margin + width, top + text / 2), value, font=font, fill=GREY, anchor="rm")
        filled = Image.new("RGB", (width, bar), TRACK)
        filled.paste(BAR, (0, 0, round(width * max(score, 0) / full) if full else 0, bar))
        panel.paste(filled, (margin, top + text), shape)
    return panel
