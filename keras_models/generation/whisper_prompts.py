"""What Whisper's decoder reads before the first new token: language, task, and what was said before."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from keras_models.config import nearest
from keras_models.generation.config import GenerationConfig
from keras_models.preprocessing.whisper_text import LANGUAGES, TO_LANGUAGE_CODE

TASKS = ("translate", "transcribe")
ENGLISH, MULTILINGUAL = 51864, (51865, 51866)  # the sizes of the vocabularies of OpenAI's releases
TIMESTAMPS = 1501  # which are at the end of all of them
CONDITIONS = ("first-segment", "all-segments")  # of prompt_ids


def released(config: Any) -> dict[str, Any]:
    """The settings that follow from the vocabulary of OpenAI's releases; none for another one."""
    if config.vocab_size not in (ENGLISH, *MULTILINGUAL) or config.decoder_start_token_id is None:
        return {}
    # <|startoftranscript|>, languages, tasks, and four tokens, the last of which is <|notimestamps|>
    first, last = config.decoder_start_token_id + 1, config.vocab_size - TIMESTAMPS - 1
    count = last - first - len(TASKS) - 3
    if not 0 < count <= len(LANGUAGES):
        return {}
    return {
        "lang_to_id": {f"<|{code}|>": first + place for place, code in enumerate([*LANGUAGES][:count])},
        "task_to_id": {task: first + count + place for place, task in enumerate(TASKS)},
        "no_timestamps_token_id": last,
        "is_multilingual": config.vocab_size != ENGLISH,
    }


def needed(settings: GenerationConfig, config: Any, name: str, purpose: str) -> Any:
    """A setting that old checkpoints lack; found out where the vocabulary tells, and kept among the settings.

    Raises:
        ValueError: there is no telling.
    """
    if settings.extra.get(name) is None:
        found = released(config).get(name)
        if found is None:
            raise ValueError(
                f"generation_config has no {name}, which {purpose} needs, and a vocabulary of {config.vocab_size} "
                f"tokens does not tell: set model.generation_config.{name}, e.g. as a generation_config.json of "
                "openai/whisper-large-v3 has it."
            )
        settings.extra[name] = found
    return settings.extra[name]


def take_wishes(settings: GenerationConfig, config: Any, language: Any, task: str | None, is_multilingual: bool | None):
    """Puts language and task among the settings.

    Raises:
        ValueError: the model knows English only, or not the task.
    """
    if is_multilingual is not None:
        settings.extra["is_multilingual"] = is_multilingual
    multilingual = settings.extra.get("is_multilingual")
    multilingual = config.vocab_size != ENGLISH if multilingual is None else multilingual
    if not multilingual and (language is not None or task is not None):
        raise ValueError(
            "The model knows English only: drop language and task, or use a multilingual checkpoint (one whose name "
            "does not end in .en)."
        )
    if language is not None:
        needed(settings, config, "lang_to_id", "language=")
        settings.extra["language"] = language
    if task is not None:
        needed(settings, config, "task_to_id", "task=")
        settings.extra["task"] = task
    task = settings.extra.get("task")
    if task is not None and task not in TASKS:
        raise ValueError(f"There is no task {task!r}: use one of {', '.join(TASKS)}.")


def language_token(language: str, known: dict[str, int]) -> int:
    """The token of a language, given by its name, its code, or the text of its token.

    Raises:
        ValueError: there is no such language, or the model does not know it.
    """
    name = language.lower()
    code = TO_LANGUAGE_CODE.get(name, name)
    token = name if name in known else f"<|{code}|>"
    if token not in known and code not in LANGUAGES:
        options = [*TO_LANGUAGE_CODE, *LANGUAGES]
        raise ValueError(f"There is no language {language!r}.{nearest(name, options)} Use names or codes such as 'en'.")
    if token not in known:
        raise ValueError(
            f"This model does not know {language!r}, for generation_config.lang_to_id has no {token}: use another "
            "language, or another checkpoint."
        )
    return known[token]


def first_tokens(settings: GenerationConfig, config: Any, batch: int, detect: Callable[[], np.ndarray]) -> np.ndarray:
    """The tokens that tell language, task and whether there are timestamps, (batch, tokens).

    Args:
        detect: finds the languages' tokens, (batch,), where nothing tells them.

    Raises:
        TypeError, ValueError: the languages are not one for each sound; `forced_decoder_ids` leaves out places.
    """
    extra = settings.extra
    language, task, tasks = extra.get("language"), extra.get("task"), extra.get("task_to_id")
    start: list[int | None] = [settings.decoder_start_token_id]
    if language is None and task is None:
        start += _forced(settings, config)
    tokens: Any = None
    if isinstance(language, (list, tuple)):
        if not all(isinstance(each, str) for each in language):
            raise TypeError(f"language must be a name, or a list with a name for each sound, not {language!r}.")
        if len(language) != batch:
            raise ValueError(f"language holds {len(language)} languages for {batch} sounds: give one, or one each.")
        tokens = [language_token(each, extra["lang_to_id"]) for each in language]
    elif language is not None:
        tokens = [language_token(language, needed(settings, config, "lang_to_id", "a language"))] * batch
    elif extra.get("lang_to_id") is not None and start[1:2] in ([], [None]):
        tokens = detect()
    rows = [list(start) for _ in range(batch)]
    for row, token in zip(rows, [] if tokens is None else tokens, strict=False):
        row[1:2] = [int(token)]
    silent = extra.get("no_timestamps_token_id")
    for row in rows:
        if task is not None:
            row.append(needed(settings, config, "task_to_id", "a task")[task])
        elif language is not None and tasks is not None and not set(tasks.values()) & set(row):
            row.append(tasks["transcribe"])
        if not extra["return_timestamps"] and silent is not None and row[-1] != silent:
            row.append(silent)
        elif extra["return_timestamps"] and row[-1] == silent:
            row.pop()
    return np.array([[token for token in row if token is not None] for row in rows], "int32")


def _forced(settings: GenerationConfig, config: Any) -> list[int | None]:
    """The tokens behind the first that old settings force, from the first place on."""
    forced = settings.extra.get("forced_decoder_ids") or config.extra.get("forced_decoder_ids") or []
    if not forced or forced[0][0] != 1:
        return []
    places = [place for place, _ in forced]
    if places != list(range(1, len(forced) + 1)):
        raise ValueError(
            f"forced_decoder_ids is for the places {places}, which do not follow each other: drop it, and pass "
            "language= and task= instead."
        )
    return [token for _, token in forced]


def with_previous(
    starts: np.ndarray,
    before: Sequence[Sequence[np.ndarray]] | None,
    prompt_ids: np.ndarray | None,
    opening: np.ndarray,
    pad: int,
    most: int,
) -> tuple[np.ndarray, np.ndarray | None]:
    """Tokens (rows, length) and their mask: what was said before, padded on the left, and what tells the task.

    Args:
        starts: (rows, tokens), see `first_tokens`.
        before: for each row what its segments say; None where nothing of it is to be read.
        prompt_ids: what to read instead, if that is None.
        opening: (tokens,), what stands before what was said.
        pad: the token of padding.
        most: of the tokens of segments to read.
    """
    if before is None:
        if prompt_ids is None:
            return starts, None
        return np.concatenate([np.tile(prompt_ids, (len(starts), 1)), starts], axis=1), None
    texts = [np.concatenate([opening, np.concatenate([opening[:0], *each])[-most:]]) for each in before]
    length = max(map(len, texts))
    padded = np.stack([np.pad(text, (length - len(text), 0), constant_values=pad) for text in texts])
    tokens = np.concatenate([padded, starts], axis=1).astype("int32")
    return tokens, (tokens != pad).astype("int32")
