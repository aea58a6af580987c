"""Transcripts as files: subtitles (SubRip and WebVTT), plain text, JSON."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

FORMATS = ("srt", "vtt", "txt", "json")
LINE = 42  # characters of a line of subtitles, as broadcasters have it
PAUSE = 1.0  # seconds without a word after which a new cue begins
LONGEST = 6.0  # seconds that a cue made of words stays
LAST = 2.0  # seconds that a cue stays whose end is not known


class Cue(NamedTuple):
    """A text and when it is shown, in seconds."""

    start: float
    end: float
    text: str


def write(result: Mapping[str, Any], kind: str, *, line: int = LINE) -> str:
    """The contents of a file for a transcript.

    Args:
        result: what a pipeline for speech recognition returned for one sound.
        kind: "srt", "vtt", "txt" or "json".
        line: the most characters in a line of subtitles.

    Raises:
        ValueError: the kind is unknown, or it needs timestamps and the result has none.
    """
    if kind not in FORMATS:
        raise ValueError(f"There is no format {kind!r} for transcripts: use one of {', '.join(FORMATS)}.")
    if kind == "txt":
        return result["text"].strip() + "\n"
    if kind == "json":
        return json.dumps(result, ensure_ascii=False, indent=2) + "\n"
    if "chunks" not in result:
        raise ValueError(f"A .{kind} file needs timestamps: call the pipeline with return_timestamps=True (or 'word').")
    cues = list(to_cues(result, line))
    if kind == "vtt":
        return "\n".join(["WEBVTT\n", *(_cue(cue, ".", line) for cue in cues)])
    return "\n".join(f"{number}\n{_cue(cue, ',', line)}" for number, cue in enumerate(cues, start=1))


def to_cues(result: Mapping[str, Any], line: int = LINE) -> Iterator[Cue]:
    """The chunks of a transcript as cues: segments as they are, words and characters joined up to two lines.

    Args:
        result: `{"text", "chunks": [{"text", "timestamp": (start, end)}]}`, in seconds; an end that is not known is
            None.
        line: the most characters in a line.
    """
    chunks = [chunk for chunk in result["chunks"] if chunk["text"].strip() or chunk["text"] == " "]
    # Whisper's words bring the spaces between them along, those of other models do not.
    glue = "" if "".join(each["text"] for each in chunks).strip() == result["text"].strip() else " "
    cue: Cue | None = None
    for index, chunk in enumerate(chunks):
        new = _timed(chunk, 0.0 if cue is None else cue.end, chunks[index + 1 :])
        if cue is None:
            cue = new
        elif _is_complete(cue, new, 2 * line):
            yield cue._replace(text=cue.text.strip())
            cue = new
        else:
            cue = Cue(cue.start, new.end, cue.text + glue + new.text)
    if cue is not None:
        yield cue._replace(text=cue.text.strip())


def _timed(chunk: Mapping[str, Any], before: float, later: Sequence[Mapping[str, Any]]) -> Cue:
    """A chunk as a cue of its own; `before` is where the last one ended."""
    start, end = chunk["timestamp"]
    start = before if start is None else start
    if end is None:
        end = later[0]["timestamp"][0] if later and later[0]["timestamp"][0] is not None else start + LAST
    return Cue(start, max(start, end), chunk["text"])


def _is_complete(cue: Cue, new: Cue, room: int) -> bool:
    """Whether a cue ends before what follows it: a sentence is over, a pause comes, or it would get too long."""
    return (
        cue.text.rstrip().endswith((".", "?", "!", "。", "？", "！"))  # noqa: RUF001
        or len(new.text.split()) > 1  # a segment, which stands alone
        or new.start - cue.end > PAUSE
        or new.end - cue.start > LONGEST
        or len(cue.text) + len(new.text) > room
    )


def _cue(cue: Cue, point: str, line: int) -> str:
    times = " --> ".join(_clock(seconds, point) for seconds in (cue.start, cue.end))
    text = textwrap.fill(cue.text, line, break_long_words=False, break_on_hyphens=False)
    return f"{times}\n{text}\n"


def _clock(seconds: float, point: str) -> str:
    whole, thousandths = divmod(round(seconds * 1000), 1000)
    minutes, seconds = divmod(whole, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours:02}:{minutes:02}:{seconds:02}{point}{thousandths:03}"
