"""What the command line does with pictures and sounds: folders of them, results as files, speech while it is spoken."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from contextlib import suppress
from enum import StrEnum
from pathlib import Path
from typing import Any


class Live(StrEnum):
    """Where sound can come from while it is being spoken."""

    MICROPHONE = "microphone"
    S16LE = "s16le"
    F32LE = "f32le"


def files_in(item: Any, suffixes: tuple[str, ...]) -> Iterable[Any]:
    """The files in a folder that have one of the suffixes; an input that is no folder as it is."""
    if not (isinstance(item, str) and Path(item).is_dir()):
        return [item]
    found = sorted(str(path) for path in Path(item).iterdir() if path.suffix.lower() in suffixes)
    if not found:
        raise ValueError(f"The folder {item} holds nothing for this task: put a file in it, {', '.join(suffixes)}.")
    return found


def save_result(result: Any, item: Any, number: int, target: Path, suffix: str) -> Path:
    """Writes a result into the file `target`, or into the folder of that name, under the input's."""
    if not hasattr(result, "draw"):
        raise ValueError("This task's results are numbers, which nothing can be drawn of: drop --save.")
    if target.suffix and number:
        raise ValueError(f"{target} is a file, and there are several results: give --save a folder.")
    if not target.suffix:
        name = Path(str(item)).stem if isinstance(item, str) and len(item) < 200 else f"{number + 1}"
        target = target / f"{name}.{suffix}"
    target.parent.mkdir(parents=True, exist_ok=True)
    result.save(target)
    return target


def transcribe_live(pipe: Any, source: Live, pieces: dict[str, Any], call: dict[str, Any], as_json: bool):
    """Prints what is being said: a line for each chunk, which grows until it is complete on a terminal."""
    from keras_models.preprocessing.audio_stream import microphone, pcm_chunks

    pieces = {"chunk_length_s": 5.0, "stream_chunk_s": 1.0} | pieces
    if not (as_json or sys.stdout.isatty()):
        pieces["stream_chunk_s"] = None  # nobody reads what is taken back
    if source is Live.MICROPHONE:
        chunks = microphone(pipe.sampling_rate, **pieces)
    else:
        chunks = pcm_chunks(sys.stdin.buffer, pipe.sampling_rate, format=source, **pieces)
    to_start = "\r\x1b[K" if pieces["stream_chunk_s"] else ""
    with suppress(KeyboardInterrupt):
        for result in pipe(chunks, **call):
            is_partial = any(result.pop("partial"))
            if as_json:
                print(json.dumps({**result, "partial": is_partial}, ensure_ascii=False, default=plain), flush=True)
            else:
                print(to_start + result["text"].strip(), end="" if is_partial else "\n", flush=True)


def plain(value: Any) -> Any:
    """An array, tensor or picture for JSON; pictures become data addresses of PNG files."""
    if hasattr(value, "getbbox"):
        import base64
        import io

        value.save(file := io.BytesIO(), "PNG")
        return f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"
    from keras import ops

    return ops.convert_to_numpy(value).tolist()
