"""The command line on pictures: files, folders, tables, JSON, and pictures with results drawn on them."""

import base64
import io

import numpy as np
from PIL import Image

from tests.test_cli import documents, failure, invoke, misuse, output
from tests.test_pipelines_image import made, paths


def test_a_picture_and_a_folder(shared, tmp_path):
    model = made(shared, "classes")
    one = documents("image-classification", paths(shared)[0], "-m", model, "--top-k", "2")
    assert len(one) == 1 and [set(each) for each in one[0]] == [{"label", "score"}] * 2
    assert documents("image-classification", "--file", paths(shared)[0], "-m", model, "--top-k", "2") == one
    (tmp_path / "all").mkdir()
    for number, path in enumerate(paths(shared)):
        Image.open(path).convert("RGB").resize((40, 30)).save(tmp_path / "all" / f"{number}.JPG", format="JPEG")
    (tmp_path / "all" / "notes.txt").write_text("no picture")
    found = invoke("run", "image-classification", tmp_path / "all", "-m", model, "--save", tmp_path / "drawn")
    assert found.exit_code == 0, found.stderr
    assert sorted(path.name for path in (tmp_path / "drawn").iterdir()) == ["0.png", "1.png", "2.png", "3.png"]
    assert [f"{number}.JPG" in found.stdout for number in range(4)] == [True] * 4


def test_boxes_are_drawn_and_shown(shared, tmp_path):
    target, source = tmp_path / "new" / "out.png", paths(shared)[1]
    options = ("-m", made(shared, "boxes"), "-o", "threshold=0.2")
    found = invoke("run", "object-detection", source, *options, "--save", target)
    assert found.exit_code == 0 and "written: " in found.stderr and "xmin" in found.stdout
    drawn, picture = Image.open(target), Image.open(source)
    assert drawn.size == picture.size and np.any(np.asarray(drawn) != np.asarray(picture))
    several = invoke("run", "object-detection", source, source, *options, "--save", target)
    assert several.exit_code == 1 and "there are several results: give --save a folder" in several.stderr


def test_masks_in_tables_and_in_json(shared):
    source, options = paths(shared)[1], ("-m", made(shared, "semantic"))
    table = output("run", "image-segmentation", source, *options)
    assert "of the picture" in table and "thing" in table
    (segments,) = documents("image-segmentation", source, *options)
    head, content = segments[0]["mask"].split(",")
    assert head == "data:image/png;base64"
    mask = Image.open(io.BytesIO(base64.b64decode(content)))
    assert mask.mode == "L" and mask.size == Image.open(source).size


def test_mistakes(shared, tmp_path):
    options = ("-m", made(shared, "classes"))
    assert "There is no file" in failure("run", "image-classification", tmp_path / "nowhere.png", *options)
    assert "holds nothing for this task: put a file in it, .jpg" in failure(
        "run", "image-classification", tmp_path, *options
    )
    features = ("run", "image-feature-extraction", paths(shared)[0], "-m", made(shared, "features"))
    assert "numbers, which nothing can be drawn of" in failure(*features, "--save", tmp_path / "out.png")
    assert "takes no pictures to draw on" in misuse("run", "sentiment-analysis", "fine", "--save", tmp_path / "a.png")
