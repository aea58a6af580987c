"""Results drawn on pictures, by what their pixels are; and the results of pipelines that draw themselves."""

import copy
import io
import json
import pickle
import subprocess
import sys

import keras
import numpy as np
import pytest
from PIL import Image

from keras_models import visualize
from keras_models.results import PictureResult, PictureResults

GREY = Image.new("RGB", (320, 240), (128, 128, 128))
ROWS = [{"label": "tabby, tabby cat", "score": 0.75}, {"label": "tiger cat", "score": 0.25}]


def box(left, top, right, bottom, label="cat", score=0.9):
    return {"label": label, "score": score, "box": {"xmin": left, "ymin": top, "xmax": right, "ymax": bottom}}


def mask(where, size=(320, 240)):
    """A mask as pipelines return it: 255 in a box."""
    image = Image.new("L", size)
    image.paste(255, where)
    return image


def is_color(picture, color):
    """Where a picture has a colour."""
    return (np.asarray(picture) == color).all(-1)


def changed(picture, before=GREY):
    return (np.asarray(picture) != np.asarray(before)).any(-1)


def color_of(*labels):
    return [visualize._colors(labels)[label] for label in labels]


# One call of each function for a picture of 320 x 240, and the size of what it makes.
CALLS = {
    "boxes": (lambda image: visualize.draw_boxes(image, [box(20, 60, 200, 200)]), (320, 240)),
    "masks": (
        lambda image: visualize.draw_masks(image, [{"label": "cat", "mask": mask((9, 9, 99, 99))}], legend=False),
        (320, 240),
    ),
    "classes": (lambda image: visualize.draw_classes(ROWS, image), None),
    "attention": (lambda image: visualize.draw_attention(image, np.eye(4)), (320, 240)),
    "depth": (lambda image: visualize.draw_depth(np.eye(6), image), (640, 240)),
}


@pytest.mark.parametrize("name", CALLS)
def test_any_kind_of_picture_is_drawn_on_a_copy(name):
    call, size = CALLS[name]
    noise = np.random.default_rng(0).integers(0, 256, (240, 320, 3), dtype=np.uint8)
    rgb = Image.fromarray(noise)
    expected = call(rgb)
    assert expected.mode == "RGB" and (size is None or expected.size == size)
    assert expected == call(rgb), "not deterministic"
    assert np.array_equal(rgb, noise), "the input changed"
    for other in (noise, noise / 255, (noise / 255).astype("float32"), rgb.convert("RGBA")):
        before = copy.deepcopy(other)
        assert call(other) == expected
        assert np.array_equal(other, before)
    for mode in ("L", "P", "1", "CMYK"):
        drawn = call(rgb.convert(mode))
        assert drawn.mode == "RGB" and drawn.size == expected.size and drawn != rgb.convert(mode).convert("RGB")


def test_a_box_is_outlined_at_its_edges_and_empty_inside():
    drawn = np.asarray(visualize.draw_boxes(GREY, [box(40, 80, 240, 200)]))
    (color,) = color_of("cat")
    for edge in (drawn[80, 40:241], drawn[200, 40:241], drawn[80:201, 40], drawn[80:201, 240]):
        assert is_color(edge, color).all()
    assert not changed(drawn)[90:190, 50:230].any()
    rows, columns = np.nonzero(changed(drawn)[79:])  # below the label
    assert (rows.max() + 79, columns.min(), columns.max()) == (201, 39, 241)  # with a thin edge around


BORDERS = {
    "middle": (120, 100, 200, 160),
    "top left": (0, 0, 60, 50),
    "top": (100, 0, 200, 50),
    "top right": (300, 0, 319, 50),
    "right": (310, 100, 319, 160),
    "bottom right": (290, 230, 319, 239),
    "bottom left": (0, 230, 9, 239),
    "whole picture": (0, 0, 320, 240),
    "beyond the picture": (-50, -20, 400, 300),
    "a point": (319, 239, 319, 239),
}


@pytest.mark.parametrize("where", BORDERS)
def test_labels_are_complete_at_every_border(where):
    """Wherever a box is, its label shows the same white pixels."""
    assert visualize._ink_on(color_of("cat")[0]) == visualize.WHITE

    def letters(left, top, right, bottom):
        drawn = visualize.draw_boxes(GREY, [box(left, top, right, bottom, label="cat", score=0.97)])
        return np.count_nonzero((np.asarray(drawn) > 200).all(-1))

    assert letters(*BORDERS[where]) == letters(*BORDERS["middle"]) > 30


def test_labels_keep_off_each_other():
    detections = [box(100, 100, 200, 180, name) for name in ("cat", "dog", "horse", "bird")]
    together = visualize.draw_boxes(GREY, detections)
    for detection, color in zip(detections, color_of("cat", "dog", "horse", "bird"), strict=True):
        chip = changed(visualize.draw_boxes(GREY, [detection]))[:99].sum()  # one stands above its box when alone
        assert is_color(together, color).sum() > 0.6 * chip, detection["label"]


def test_a_label_that_has_no_room_above_its_box_stands_inside():
    drawn = visualize.draw_boxes(GREY, [box(40, 8, 240, 200)])
    assert not changed(drawn)[:7].any() and changed(drawn)[8:22, 60].all()


def test_small_boxes_are_drawn_over_large_ones():
    small, large = box(100, 100, 140, 140, "remote"), box(100, 100, 300, 230, "couch")
    assert visualize.draw_boxes(GREY, [small, large]) == visualize.draw_boxes(GREY, [large, small])
    assert is_color(visualize.draw_boxes(GREY, [small, large]), color_of("remote")[0])[100:141, 100].all()


def test_a_score_may_be_absent_from_a_box():
    bare = {"label": "cat", "box": box(50, 50, 200, 200)["box"]}
    scored = visualize.draw_boxes(GREY, [box(50, 50, 200, 200)])
    assert 0 < changed(visualize.draw_boxes(GREY, [bare])).sum() < changed(scored).sum()


def test_what_is_drawn_grows_with_the_picture():
    sizes = [(8, 8), (40, 30), (1500, 1000), (6000, 4000)]
    shares, heights = [], []
    for width, height in sizes:
        picture = Image.new("RGB", (width, height))
        detection = box(width // 8, height // 4, width // 2, height * 3 // 4)
        drawn = visualize.draw_boxes(picture, [detection])
        assert drawn.size == picture.size
        shares.append(changed(drawn, picture).mean())
        heights.append(changed(drawn, picture)[: height // 4 - 30].any(1).sum() if height > 99 else 0)
    assert shares[0] > 0
    assert shares[3] == pytest.approx(shares[2], rel=0.1)
    assert heights[3] > 3 * heights[2] > 0, "the label"


def test_labels_have_their_own_colour_in_every_picture():
    names = [f"LABEL_{number}" for number in range(12)]
    colors = visualize._colors(names)
    assert sorted(colors.values()) == sorted(visualize.PALETTE)
    assert visualize._colors(reversed(names)) == colors
    assert all(visualize._colors([name])[name] in visualize.PALETTE for name in names)
    # Two that want different colours get the ones they have alone.
    alone = {name: visualize._colors([name])[name] for name in names}
    other = next(name for name in names if alone[name] != alone[names[0]])
    assert color_of(names[0], other) == [alone[names[0]], alone[other]]
    assert len(visualize._colors(map(str, range(100)))) == 100


def oklab(colors):
    """Linear light (n, 3) to a space where distances are as large as they look."""
    to_cones = [[0.4122, 0.5363, 0.0514], [0.2119, 0.6807, 0.1074], [0.0883, 0.2817, 0.6300]]
    to_lab = [[0.2105, 0.7936, -0.0041], [1.9780, -2.4286, 0.4506], [0.0259, 0.7828, -0.8087]]
    return np.cbrt(colors @ np.transpose(to_cones)) @ np.transpose(to_lab)


def linear(colors):
    values = np.array(colors) / 255
    return np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)


@pytest.mark.parametrize(
    "sight",
    [
        pytest.param(np.eye(3), id="normal"),
        pytest.param([[0.152, 1.053, -0.205], [0.115, 0.786, 0.099], [-0.004, -0.048, 1.052]], id="no red"),
        pytest.param([[0.367, 0.861, -0.228], [0.280, 0.673, 0.047], [-0.012, 0.043, 0.969]], id="no green"),
    ],
)
def test_colours_can_be_told_apart(sight):
    """With the cones that most colour-blind people lack too (the simulation of Machado and others, 2009)."""
    seen = oklab(np.clip(linear(visualize.PALETTE) @ np.transpose(sight), 0, 1))
    distances = np.linalg.norm(seen[:, None] - seen[None], axis=-1) + 9 * np.eye(len(seen))
    assert distances.min() > 0.11  # 0.02 is about the least difference that is seen at all


def test_more_heat_is_always_brighter():
    lightness = oklab(linear(visualize.heat_of(np.linspace(0, 1, 200)[None])[0]))[:, 0]
    assert (np.diff(lightness) > -1e-3).all() and lightness[-1] - lightness[0] > 0.7


def test_masks_tint_their_inside_and_nothing_else():
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 256, (240, 320, 3), dtype=np.uint8))
    drawn = visualize.draw_masks(picture, [{"score": 0.9, "label": "cat", "mask": mask((40, 30, 200, 150))}])
    before, after = np.asarray(picture).astype(int), np.asarray(drawn)[:240, :320].astype(int)
    (color,) = color_of("cat")
    inside = np.zeros((240, 320), bool)
    inside[30:150, 40:200] = True
    assert np.array_equal(after[~inside], before[~inside])
    assert np.abs(after[40:140, 50:190] - (before[40:140, 50:190] + color) / 2).max() <= 1.5
    outline = is_color(after, color)
    assert outline[30, 40:200].all() and outline[149, 40:200].all() and outline[30:150, 40].all()
    assert not outline[40:140, 50:190].any()


def test_masks_may_be_arrays_or_pictures_of_two_colours():
    image = mask((40, 30, 200, 150))
    expected = visualize.draw_masks(GREY, [{"label": "cat", "mask": image}])
    for other in (np.asarray(image) > 0, np.asarray(image), image.convert("1"), (np.asarray(image) > 0).tolist()):
        assert visualize.draw_masks(GREY, [{"label": "cat", "mask": other}]) == expected


def test_masks_have_no_outline_at_the_border_of_the_picture():
    drawn = visualize.draw_masks(GREY, [{"label": "wall", "mask": mask((0, 0, 320, 240))}], legend=False)
    assert not is_color(drawn, color_of("wall")[0]).any() and changed(drawn).all()


def test_an_outline_is_all_that_is_near_the_outside():
    inside = np.random.default_rng(0).random((40, 50)) > 0.01
    near = np.pad(inside, 3, mode="edge")
    windows = np.lib.stride_tricks.sliding_window_view(near, (7, 7))
    assert np.array_equal(visualize._eroded(inside, 3), windows.all((-1, -2)))


def test_small_masks_lie_over_large_ones():
    segments = [{"label": "mouse", "mask": mask((50, 50, 80, 80))}, {"label": "cat", "mask": mask((20, 20, 300, 220))}]
    drawn = visualize.draw_masks(GREY, segments, legend=False)
    assert drawn == visualize.draw_masks(GREY, segments[::-1], legend=False)
    assert is_color(drawn, color_of("mouse", "cat")[0])[50, 50:80].all()
    nothing = {"label": "nothing", "mask": np.zeros((240, 320), bool)}
    assert not changed(visualize.draw_masks(GREY, [nothing], legend=False)).any()


@pytest.mark.parametrize("size", [(8, 8), (640, 480), (1600, 120), (90, 900), (3000, 2000)])
def test_legends_show_every_label_beside_or_below(size):
    names = [f"label {number}" for number in range(11)]
    segments = [{"label": name, "mask": mask((0, 0, 4, 4), size)} for name in names]
    drawn = visualize.draw_masks(Image.new("RGB", size), segments)
    assert drawn.width >= size[0] and drawn.height >= size[1] and drawn.size != size
    legend = np.array(drawn)
    legend[: size[1], : size[0]] = 255
    for color in color_of(*names):
        assert is_color(legend, color).sum() > 60
    assert (legend[:, -1] == 255).all() and (legend[-1] == 255).all()  # nothing is cut


def test_legends_count_and_add_up():
    """Twice the same label is one row; the largest comes first."""
    cats = [mask((0, 0, 32, 240)), mask((0, 0, 64, 240))]
    segments = [{"label": "cat", "mask": cats[0]}, {"label": "cat", "mask": cats[1]}]
    drawn = visualize.draw_masks(GREY, [*segments, {"label": "sofa", "mask": mask((64, 0, 320, 240))}])
    rows = [int(np.flatnonzero(is_color(drawn, color)[:, 320:].any(1))[0]) for color in color_of("sofa", "cat")]
    assert rows == sorted(rows) and drawn.height == 240
    merged = visualize._with_legend(GREY, [(0.8, "sofa", (1, 2, 3)), (0.2, "cat (2)", (4, 5, 6))])
    letters = [np.asarray(each)[:, 345:] for each in (drawn, merged)]  # right of the colours
    assert np.array_equal(*letters) and (letters[0] < 99).any()


def lengths(picture):
    """Of the bars in a picture, in pixels."""
    rows = is_color(picture, visualize.BAR).sum(1)
    starts = np.flatnonzero((rows[1:] > 0) & (rows[:-1] == 0)) + 1
    return [rows[start : start + 30][: np.argmin(rows[start : start + 30] > 0)].max() for start in starts]


@pytest.mark.parametrize("size", [None, (8, 8), (500, 334), (334, 900)])
def test_bars_are_as_long_as_scores(size):
    scores = [0.5, 0.3, 0.15, 0.05]
    picture = size and Image.new("RGB", size)
    rows = [{"label": f"label {score}", "score": score} for score in scores]
    drawn = visualize.draw_classes(rows, picture)
    (full,) = lengths(visualize.draw_classes([{"label": "all", "score": 1.0}], picture))
    assert lengths(drawn) == pytest.approx([full * score for score in scores], abs=1.01)
    assert visualize.draw_classes(rows[::-1], picture) == drawn, "the highest come first"
    if picture:
        top = (drawn.height - size[1]) // 2
        assert drawn.crop((0, top, size[0], top + size[1])) == picture


def test_bars_of_scores_that_are_no_probabilities():
    """As with function_to_apply="none": the highest fills its bar, those below zero have none."""
    drawn = visualize.draw_classes([{"label": name, "score": score} for name, score in [("a", 8), ("b", 4), ("c", -3)]])
    one, half = lengths(drawn)
    assert one == pytest.approx(2 * half, abs=2)
    assert lengths(visualize.draw_classes([{"label": "a", "score": -2.0}])) == []


def test_bars_are_at_most_top_k():
    rows = [{"label": str(number), "score": 0.01 * (number + 1)} for number in range(50)]
    assert len(lengths(visualize.draw_classes(rows))) == 10
    assert visualize.draw_classes(rows, top_k=3) == visualize.draw_classes(rows[:-4:-1])
    assert visualize.draw_classes([{"answer": "2", "score": 0.5}]) == visualize.draw_classes(
        [{"label": 2, "score": 0.5}]
    )


@pytest.mark.parametrize(
    "label",
    ["猫", "кошка", "Schäferhund", "a\nb\tc", "", " ", "🐈", "قطة", "word " * 400, "x" * 3000, "e\u0301 \u0000"],
)
def test_any_label_can_be_drawn(label):
    for size in ((8, 8), (320, 240)):
        picture = Image.new("RGB", size)
        rows = [{"label": label, "score": 0.5, "mask": mask((1, 1, 6, 6), size), "box": box(1, 1, 6, 6)["box"]}]
        assert visualize.draw_boxes(picture, rows).size == size
        assert visualize.draw_masks(picture, rows).width <= size[0] + 24 * visualize._unit(size)
        panel = visualize.draw_classes(rows)
        assert panel.size == visualize.draw_classes(ROWS[:1]).size
        margins = np.asarray(panel)[:, [0, 5, -6, -1]]
        assert (margins == 255).all()


def test_long_labels_end_with_whole_words():
    font = visualize.font_for([], 20)
    name = "timber wolf, grey wolf, gray wolf, Canis lupus"
    for room in range(15, 500, 7):
        short = visualize.shortened(name, font, room)
        assert font.getlength(short) <= room
        assert short == name or (short[-1:] == "…" and name.startswith(short[:-1])) or (room < 30 and not short)
    assert visualize.shortened(name, font, font.getlength("timber wolf, grey w…") + 1) == "timber wolf, grey…"
    assert visualize.shortened("e\u0301te\u0301", font, 500) == "\u00e9t\u00e9"


def test_labels_are_as_wide_as_half_of_the_picture_at_most():
    long = box(10, 100, 40, 120, "one two three four five six seven eight nine ten")
    columns = np.flatnonzero(changed(visualize.draw_boxes(GREY, [long])).any(0))
    assert columns.max() - columns.min() <= 165


def test_a_font_is_chosen_that_has_the_letters(monkeypatch):
    """Pillow's own lacks accents; an installed one that has them is taken for the whole picture."""
    assert visualize.font_for(["cat", "dog 3/4 (98%)"], 16).getname() == ("Aileron", "Regular")
    monkeypatch.setattr(visualize, "FONTS", ("none.ttf", "two.ttf"))
    monkeypatch.setattr(visualize, "_has", lambda name, character: name == "two.ttf" or character in "cat… ")
    monkeypatch.setattr(visualize, "_font", lambda name, size: name)
    assert [visualize.font_for(labels, 16) for labels in (["cat"], ["cat", "çat"])] == ["", "two.ttf"]
    monkeypatch.setattr(
        visualize, "_has", lambda name, character: character in {"": "ca", "two.ttf": "cat"}.get(name, "")
    )
    assert visualize.font_for(["cat"], 16) == "two.ttf"


def test_characters_that_a_font_lacks_are_noticed():
    assert all(visualize._has("", character) for character in "aZ09 …%<(),-")
    assert not any(visualize._has("", character) for character in "é猫к")
    assert not visualize._has("no such font.ttf", "a")


def hottest(picture, size=(320, 240)):
    """The row and column of the brightest pixel."""
    assert picture.size == size
    return np.unravel_index(np.asarray(picture).sum(-1, dtype=int).argmax(), size[::-1])


def one_hot(heads, prefix, patches, patch, query=0):
    """Attention of one token to one patch, and hardly any other."""
    attention = np.full((heads, prefix + patches, prefix + patches), 1e-3, "float32")
    attention[:, query, prefix + patch] = 1
    return attention


@pytest.mark.parametrize(
    ("prefix", "grid", "patch", "query"),
    [(1, None, 5, 0), (1, None, 15, 0), (2, None, 0, 0), (5, (2, 8), 11, 0), (0, None, 6, 0), (0, None, 6, 9)],
)
def test_attention_is_bright_where_it_goes(prefix, grid, patch, query):
    attention = one_hot(3, prefix, 16, patch, query)
    drawn = visualize.draw_attention(GREY, attention, prefix_tokens=prefix, grid=grid)
    down, across = grid or (4, 4)
    row, column = hottest(drawn)
    assert (row * down // 240, column * across // 320) == divmod(patch, across)
    assert drawn == visualize.draw_attention(
        GREY, keras.ops.convert_to_tensor(attention), prefix_tokens=prefix, grid=grid
    )


def test_attention_of_one_head_or_of_all():
    attention = np.concatenate([one_hot(1, 1, 9, 0), one_hot(1, 1, 9, 8)])
    maps = [visualize.draw_attention(GREY, attention, head=head) for head in (0, 1)]
    assert [hottest(each)[0] * 3 // 240 for each in maps] == [0, 2]
    both = np.asarray(visualize.draw_attention(GREY, attention)).sum(-1, dtype=int)
    assert both[10, 10] == both[-10, -10] > both[10, -10] + 100
    assert maps[0] == visualize.draw_attention(GREY, attention[0, 0, 1:].reshape(3, 3))


def test_attention_that_is_the_same_everywhere_only_darkens():
    drawn = np.asarray(visualize.draw_attention(GREY, np.full((14, 14), 0.3)))
    assert (drawn == drawn[0, 0]).all() and (drawn < 128).all()


def test_depth_is_coloured_by_rank():
    depth = np.linspace(3, 900, 48).reshape(6, 8)
    drawn = visualize.draw_depth(depth)
    assert drawn.size == (8, 6)
    assert (drawn.getpixel((0, 0)), drawn.getpixel((7, 5))) == (visualize.HEAT[0], visualize.HEAT[-1])
    lightness = oklab(linear(np.asarray(drawn).reshape(-1, 3)))[:, 0]
    assert (np.diff(lightness) > 0).all()
    assert drawn == visualize.draw_depth(keras.ops.convert_to_tensor(depth.astype("float32")))
    assert drawn == visualize.draw_depth((depth * 2 + 5).tolist())


def test_depth_that_is_not_finite_is_grey():
    drawn = visualize.draw_depth([[1.0, np.nan], [np.inf, 2.0]])
    assert is_color(drawn, visualize.GREY).tolist() == [[False, True], [True, False]]
    assert is_color(visualize.draw_depth([[np.nan]]), visualize.GREY).all()
    assert is_color(visualize.draw_depth(np.ones((4, 5))), visualize.HEAT[0]).all()


def test_depth_stands_beside_its_picture():
    drawn = visualize.draw_depth(np.arange(12.0).reshape(3, 4), GREY)
    assert drawn.size == (640, 240) and drawn.crop((0, 0, 320, 240)) == GREY
    assert drawn.getpixel((639, 239)) == visualize.HEAT[-1]


RESULTS = {
    "boxes": ([box(20, 60, 200, 200)], visualize.draw_boxes),
    "masks": ([{"score": None, "label": "cat", "mask": mask((9, 9, 99, 99))}], visualize.draw_masks),
    "classes": (ROWS, lambda image, rows: visualize.draw_classes(rows, image)),
    "answers": (
        [{"answer": "two", "score": 0.5}],
        lambda image, rows: visualize.draw_classes([{"label": "two", "score": 0.5}], image),
    ),
    "depth": (
        {"predicted_depth": np.eye(3), "depth": Image.new("L", (3, 3))},
        lambda image, result: visualize.draw_depth(result["predicted_depth"], image),
    ),
    "nothing": ([], lambda image, rows: image),
}


@pytest.mark.parametrize("name", RESULTS)
def test_results_are_drawn_by_what_they_are(name):
    results, function = RESULTS[name]
    assert visualize.draw(GREY, results) == function(GREY, results)
    assert visualize.draw(np.asarray(GREY), results) == function(GREY, results)


def test_options_reach_the_function():
    segments = RESULTS["masks"][0]
    assert visualize.draw(GREY, segments, legend=False) == visualize.draw_masks(GREY, segments, legend=False)
    assert visualize.draw(GREY, ROWS, top_k=1) == visualize.draw_classes(ROWS, GREY, top_k=1)
    with pytest.raises(TypeError, match="top_k"):
        visualize.draw(GREY, segments, top_k=1)


def test_masks_without_labels_are_told_apart():
    """As mask generation returns them."""
    masks = [np.asarray(mask((20 + 40 * number, 20, 50 + 40 * number, 90))) > 0 for number in range(6)]
    drawn = visualize.draw(GREY, {"masks": masks, "scores": np.ones(6)})
    assert drawn.size == GREY.size
    assert np.array_equal(changed(drawn), np.logical_or.reduce(masks))
    assert len({drawn.getpixel((20 + 40 * number, 20)) for number in range(6)}) == 6


def test_nothing_found_is_the_picture_itself():
    for drawn in (
        visualize.draw_boxes(GREY, []),
        visualize.draw_masks(GREY, []),
        visualize.draw_classes([], GREY),
        visualize.draw(GREY, []),
        visualize.draw(GREY, {"masks": [], "scores": []}),
    ):
        assert drawn == GREY and drawn is not GREY


ERRORS = {
    "other rows": (lambda: visualize.draw(GREY, [{"generated_text": "a cat"}]), "for rows of 'generated_text': pass"),
    "other dictionary": (lambda: visualize.draw(GREY, {"text": "a"}), "for a dictionary of 'text': pass"),
    "no dictionary": (lambda: visualize.draw(GREY, {}), "for a dictionary of nothing: pass"),
    "several pictures": (lambda: visualize.draw(GREY, [ROWS, ROWS]), "for a list: pass, for one picture,"),
    "a string": (lambda: visualize.draw(GREY, "cat"), "for a str: pass"),
    "no label": (lambda: visualize.draw_boxes(GREY, [box(1, 1, 9, 9), {"box": {}}]), "Result 1 has no 'label' or 'ans"),
    "no box": (lambda: visualize.draw_boxes(GREY, ROWS), "Result 0 has no 'box': pass the dictionaries that"),
    "half a box": (lambda: visualize.draw_boxes(GREY, [{"label": "a", "box": {"xmin": 1}}]), "Result 0 has no 'ymin'"),
    "list as box": (
        lambda: visualize.draw_boxes(GREY, [{"label": "a", "box": [1, 2, 3, 4]}]),
        "Result 0 has no 'xmin'",
    ),
    "turned box": (
        lambda: visualize.draw_boxes(GREY, [box(30, 1, 9, 9)]),
        r"The box of result 0 goes from \(30, 1\) to \(9, 9\): its xmin and ymin must not exceed",
    ),
    "box of nan": (lambda: visualize.draw_boxes(GREY, [box(float("nan"), 1, 9, 9)]), r"goes from \(nan, 1\)"),
    "other size": (
        lambda: visualize.draw_masks(GREY, [{"label": "a", "mask": np.ones((320, 240))}]),
        r"The mask of result 0 has the shape \(320, 240\) \(height, width\), the picture \(240, 320\): resize",
    ),
    "no score": (lambda: visualize.draw_classes([{"label": "a"}]), "Result 0 has no 'score'"),
    "score of nan": (lambda: visualize.draw_classes([{"label": "a", "score": float("nan")}]), "of result 0 is nan"),
    "neither": (lambda: visualize.draw_classes([]), "neither results nor a picture"),
    "batch of attention": (
        lambda: visualize.draw_attention(GREY, np.ones((1, 2, 5, 5))),
        r"has the shape \(1, 2, 5, 5\): pass \(heads, tokens, tokens\) .* outputs.attentions\[-1\]\[0\]",
    ),
    "cross attention": (lambda: visualize.draw_attention(GREY, np.ones((2, 5, 7))), r"has the shape \(2, 5, 7\)"),
    "no square": (
        lambda: visualize.draw_attention(GREY, np.ones((2, 9, 9))),
        "Of 9 tokens 8 are patches, which do not fill a grid of 2 x 2: set grid=",
    ),
    "other grid": (lambda: visualize.draw_attention(GREY, np.ones((2, 9, 9)), grid=(3, 3)), "a grid of 3 x 3: set"),
    "no patches": (lambda: visualize.draw_attention(GREY, np.ones((2, 1, 1))), "Of 1 tokens 0 are patches"),
    "no head": (lambda: visualize.draw_attention(GREY, np.ones((2, 5, 5)), head=2), "no head 2: the attention has 2"),
    "batch of depth": (lambda: visualize.draw_depth(np.ones((1, 2, 5))), r"the shape \(1, 2, 5\): pass \(height"),
    "channels first": (lambda: visualize.draw_boxes(np.ones((3, 8, 9)), []), r"shape \(3, 8, 9\): pass an array"),
    "normalized": (lambda: visualize.draw_boxes(np.full((8, 9, 3), -2.1), []), "floats from -2.1 to -2.1: pass"),
    "floats to 255": (lambda: visualize.draw_boxes(np.full((8, 9, 3), 255.0), []), "floats from 255 to 255"),
    "integers": (lambda: visualize.draw_boxes(np.ones((8, 9, 3), int), []), "The image holds int64: pass bytes"),
}


@pytest.mark.parametrize("name", ERRORS)
def test_what_is_wrong_is_said(name):
    call, message = ERRORS[name]
    with pytest.raises(ValueError, match=message):
        call()


def test_an_image_must_be_one():
    with pytest.raises(TypeError, match=r"The image is a str: pass a PIL image or an array \(height, width, 3\)"):
        visualize.draw_boxes("cat.png", [])


def test_picture_results_are_a_list():
    plain = [box(20, 60, 200, 200), box(50, 20, 90, 90, "dog")]
    results = PictureResults(plain, image=GREY)
    assert results == plain and plain == results and isinstance(results, list)
    assert (repr(results), str(results), json.dumps(results)) == (repr(plain), str(plain), json.dumps(plain))
    assert results[1] is plain[1] and len(results) == 2 and results.image is GREY
    assert PictureResults([], image=GREY) == []


def test_a_picture_result_is_a_dictionary():
    plain = {"predicted_depth": [[1.0, 2.0]], "name": "x"}
    result = PictureResult(plain, image=GREY)
    assert result == plain and isinstance(result, dict)
    assert (repr(result), json.dumps(result)) == (repr(plain), json.dumps(plain))
    assert result.draw() == visualize.draw_depth(plain["predicted_depth"], GREY)


@pytest.mark.parametrize(
    "again",
    [copy.copy, copy.deepcopy, lambda results: pickle.loads(pickle.dumps(results))],
    ids=["copy", "deep", "pickle"],
)
@pytest.mark.parametrize("results", [
    PictureResults([box(20, 60, 200, 200)], image=GREY), PictureResult({"predicted_depth": [[1.0, 2.0]]}, image=GREY),
], ids=["list", "dictionary"])  # fmt: skip
def test_results_are_copied_with_their_picture(results, again):
    other = again(results)
    assert type(other) is type(results) and other == results and other is not results
    assert other.image == GREY and other.draw() == results.draw()


def test_results_of_a_file_are_pickled(shared):
    """An image that PIL has not read yet."""
    image = Image.open(shared / "data/images/wolves.jpg")
    again = pickle.loads(pickle.dumps(PictureResults(ROWS, image=image)))
    assert np.array_equal(again.image, Image.open(shared / "data/images/wolves.jpg"))


def test_notebooks_show_the_drawn_picture():
    results = PictureResults([box(20, 60, 200, 200)], image=GREY)
    assert np.array_equal(Image.open(io.BytesIO(results._repr_png_())), results.draw())
    large = PictureResults([box(20, 60, 2000, 2000)], image=Image.new("RGB", (4000, 3000)))
    assert Image.open(io.BytesIO(large._repr_png_())).size == (1600, 1200)
    assert large.draw().size == large.image.size == (4000, 3000)
    assert np.array_equal(Image.open(io.BytesIO(PictureResults([], image=GREY)._repr_png_())), GREY)


def test_results_are_saved_and_shown(tmp_path, monkeypatch):
    results = PictureResults(RESULTS["masks"][0], image=GREY)
    results.save(tmp_path / "drawn.png")
    assert Image.open(tmp_path / "drawn.png").convert("RGB") == results.draw()
    results.save(str(tmp_path / "drawn.jpg"), legend=False)
    assert Image.open(tmp_path / "drawn.jpg").size == GREY.size
    shown = []
    monkeypatch.setattr(Image.Image, "show", lambda picture: shown.append(picture))
    results.show(legend=False)
    assert shown == [visualize.draw_masks(GREY, results, legend=False)]


def test_a_photograph(shared):
    """All together on a real picture: outlines where the boxes are, the rest of the photograph untouched."""
    image = Image.open(shared / "data/images/coco_000000039769.png")
    found = [
        box(40, 70, 175, 117, "remote", 0.9988), box(333, 72, 368, 187, "remote", 0.996),
        box(0, 1, 639, 473, "couch", 0.9954), box(13, 52, 314, 470, "cat", 0.9988),
        box(345, 23, 640, 368, "cat", 0.9987),
    ]  # fmt: skip
    results = PictureResults(found, image=image)
    drawn = results.draw()
    cat, remote = color_of("cat", "couch", "remote")[::2]
    assert is_color(drawn, cat)[60:471, 13].mean() > 0.95 and is_color(drawn, remote)[117, 40:176].all()
    assert 0.03 < changed(drawn, image.convert("RGB")).mean() < 0.15


def test_drawing_needs_no_backend():
    code = "import sys, keras_models.visualize, keras_models.results; print('keras' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"
