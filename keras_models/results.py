"""What image pipelines return for one picture: plain lists and dictionaries that can show themselves."""

from __future__ import annotations

import io
import os
from collections.abc import Iterable, Mapping
from typing import Any

from PIL import Image

from keras_models import visualize

NOTEBOOK_SIDE = 1600  # the longest side, in pixels, of what goes into a notebook


class _Drawn:
    """What both kinds share."""

    image: Image.Image

    def draw(self, **options: Any) -> Image.Image:
        """The picture with the results drawn on it; options are those of `visualize.draw`."""
        return visualize.draw(self.image, self, **options)

    def save(self, path: str | os.PathLike[str], **options: Any):
        """Writes the drawn picture to a file, in the format that its ending names."""
        self.draw(**options).save(path)

    def show(self, **options: Any):
        """Opens the drawn picture in the viewer of the system, or shows it in the notebook."""
        self.draw(**options).show()

    def _repr_png_(self) -> bytes:
        picture = self.draw()
        picture.thumbnail((NOTEBOOK_SIDE, NOTEBOOK_SIDE))
        file = io.BytesIO()
        picture.save(file, "PNG")
        return file.getvalue()


class PictureResults(_Drawn, list):
    """The results for one picture: the list that it is, and the picture aside.

    It compares, prints, pickles and becomes JSON as a list does; a notebook shows the picture with the results drawn.

    Args:
        results: a dictionary for each thing found.
        image: the picture that went into the pipeline.
    """

    def __init__(self, results: Iterable[dict[str, Any]], *, image: Image.Image):
        super().__init__(results)
        self.image = image


class PictureResult(_Drawn, dict):
    """The result for one picture where that is a dictionary, as in depth estimation; otherwise as `PictureResults`.

    Args:
        result: what was found, by name.
        image: the picture that went into the pipeline.
    """

    def __init__(self, result: Mapping[str, Any], *, image: Image.Image):
        super().__init__(result)
        self.image = image
