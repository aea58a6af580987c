"""What pipelines return for a picture or a sound: plain lists and dictionaries that can show themselves."""

from __future__ import annotations

import io
import os
from collections.abc import Iterable, Mapping
from typing import Any

from PIL import Image

from keras_models import subtitles, visualize, visualize_sound

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


class SoundResults(list):
    """The results for one sound: the list that it is, and the sound aside, which a notebook draws with them.

    Args:
        results: a dictionary for each class.
        source: what went into the pipeline.
    """

    def __init__(self, results: Iterable[dict[str, Any]], *, source: Any):
        super().__init__(results)
        self.source = source

    def draw(self, **options: Any) -> Image.Image:
        """The spectrogram of the sound with the classes as bars; options are those of `visualize.draw_classes`."""
        return visualize.draw_classes(self, visualize_sound.draw_spectrogram(self.source), **options)

    save, show, _repr_png_ = _Drawn.save, _Drawn.show, _Drawn._repr_png_


class SoundResult(dict):
    """What was said in a sound: the dictionary {"text", "chunks" ...} that it is, and the sound aside.

    Args:
        result: what was found, by name.
        source: what went into the pipeline.
    """

    def __init__(self, result: Mapping[str, Any], *, source: Any):
        super().__init__(result)
        self.source = source

    def draw(self, **options: Any) -> Image.Image:
        """The spectrogram of the sound with its words under it; options are those of `visualize_sound.draw_speech`."""
        return visualize_sound.draw_speech(self.source, self, **options)

    def save(self, path: str | os.PathLike[str], **options: Any):
        """Writes the result: as subtitles (.srt, .vtt), text (.txt), JSON (.json), or a picture (.png, .jpg ...)."""
        kind = os.path.splitext(os.fspath(path))[1].lower().removeprefix(".")
        if kind not in subtitles.FORMATS:
            self.draw(**options).save(path)
            return
        with open(path, "w", encoding="utf-8") as file:
            file.write(self.to_format(kind, **options))

    def to_format(self, kind: str, **options: Any) -> str:
        """The contents of a file of this kind: "srt", "vtt", "txt" or "json"; see `subtitles.write`."""
        return subtitles.write(self, kind, **options)

    show, _repr_png_ = _Drawn.show, _Drawn._repr_png_
