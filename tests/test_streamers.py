"""Streamers: the reference's pieces of text, and iterators that end whatever happens."""

import asyncio
import json
import queue
import threading
import warnings

import numpy as np
import pytest

from keras_models.generation import streamers
from keras_models.preprocessing import tokenizer as tokenizers
from tests import reference
from tests.reference import tokenizers_ as probe

TINY_BPE = probe.tiny_bpe("<|endoftext|>")
REAL = [
    ("GPT2TokenizerFast", "tokenizers/gpt2"),
    ("BartTokenizerFast", "tokenizers/bart-large-cnn"),
    ("BertTokenizerFast", "tokenizers/bert-base-uncased"),
    ("T5TokenizerFast", "tokenizers/t5-small"),
    ("LlamaTokenizerFast", "checkpoints/llama-stories260K"),
]
TEXT = "the cat and 我 on\nthe mat 😀"
PIECES = ["the ", "cat ", "and ", "我", " ", "on\n", "the ", "mat ", "😀"]


@pytest.fixture
def gpt2(tmp_path) -> tokenizers.Tokenizer:
    return tokenizers.GPT2Tokenizer.from_pretrained(probe.folder_with(TINY_BPE, None, tmp_path))


class Recorder(streamers.TextStreamer):
    """Keeps what it would print."""

    def __init__(self, *args, **options):
        super().__init__(*args, **options)
        self.pieces = []

    def on_finalized_text(self, text, stream_end=False):
        self.pieces.append([text, stream_end])


def generate(streamer: streamers.BaseStreamer, ids: list[int], error: Exception | None = None):
    """What a call of `generate` does with a streamer."""
    with streamers.failures_told(streamer):
        streamer.put(np.array([ids[:1]]))
        for index in ids[1:]:
            streamer.put(np.array([index]))
        if error is not None:
            raise error
        streamer.end()


def in_thread(streamer: streamers.BaseStreamer, ids: list[int], error: Exception | None = None) -> threading.Thread:
    def run():
        try:
            generate(streamer, ids, error)
        except Exception as raised:
            assert raised is error

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    return thread


def compare(tokenizer: tokenizers.Tokenizer, **arguments):
    folder = reference.make("generation_settings.streamed", **arguments)
    for case in json.loads((folder / "cases.json").read_text()):
        streamer = Recorder(tokenizer, **case["options"])
        for _ in range(2):
            for index, chunk in enumerate(case["chunks"]):
                streamer.put(np.array(chunk if index else [chunk], "int64"))
            streamer.end()
        assert streamer.pieces == case["pieces"], case


def test_pieces_equal_reference(gpt2):
    compare(gpt2, name="GPT2TokenizerFast", source=TINY_BPE)


@pytest.mark.parametrize(("name", "source"), REAL)
def test_pieces_of_real_tokenizers_equal_reference(shared, name, source):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        tokenizer = getattr(tokenizers, name).from_pretrained(shared / source)
    compare(tokenizer, name=name, source=str(shared / source))


def test_text_is_printed(gpt2, capsys):
    streamer = streamers.TextStreamer(gpt2, skip_prompt=True, skip_special_tokens=True)
    streamer.put(np.array([gpt2("a prompt").input_ids]))
    streamer.put(np.array(gpt2("the cat<|endoftext|> on").input_ids))
    assert capsys.readouterr().out == "the cat "
    streamer.end()
    assert capsys.readouterr().out == "on\n"


def test_batches_are_refused(gpt2):
    with pytest.raises(ValueError, match="^TextStreamer follows one sequence, not 2: generate them one by one"):
        streamers.TextStreamer(gpt2).put(np.array([[1, 2], [3, 4]]))


def test_base_class():
    base = streamers.BaseStreamer()
    for call in (lambda: base.put(np.array([1])), base.end):
        with pytest.raises(NotImplementedError, match="BaseStreamer has no"):
            call()
    assert base.fail(ValueError()) is None


def test_iterator(gpt2):
    streamer = streamers.TextIteratorStreamer(gpt2, timeout=20)
    for _ in range(2):  # a streamer can be used again
        thread = in_thread(streamer, gpt2(TEXT).input_ids)
        assert [piece for piece in streamer if piece] == PIECES
        with pytest.raises(StopIteration):
            next(streamer)
        thread.join(20)


def test_errors_reach_the_iterator(gpt2):
    streamer, error = streamers.TextIteratorStreamer(gpt2, skip_prompt=True, timeout=20), RuntimeError("out of memory")
    thread, pieces = in_thread(streamer, gpt2("x the cat").input_ids, error), []
    with pytest.raises(RuntimeError, match="out of memory"):
        for piece in streamer:
            pieces.append(piece)
    assert "".join(pieces) == " the "
    thread.join(20)
    with pytest.raises(StopIteration):
        next(streamer)
    in_thread(streamer, gpt2("x the cat").input_ids)
    assert "".join(streamer) == " the cat"


def test_a_late_iterator_says_so(gpt2):
    with pytest.raises(queue.Empty, match=r"No text came for 0\.01 seconds: raise timeout=, or see what became of"):
        next(streamers.TextIteratorStreamer(gpt2, timeout=0.01))


def test_leaving_early_blocks_nobody(gpt2):
    ids = gpt2(TEXT).input_ids * 20
    left = streamers.TextIteratorStreamer(gpt2)
    thread = in_thread(left, ids)
    assert next(iter(left)) is not None
    thread.join(20)
    assert not thread.is_alive()
    closed = streamers.TextIteratorStreamer(gpt2)
    waiting = threading.Thread(target=lambda: list(closed), daemon=True)
    waiting.start()
    closed.close()
    waiting.join(20)
    assert not waiting.is_alive() and closed.closed
    generate(closed, ids)
    assert list(closed) == []


def test_asynchronous_iterator(gpt2):
    async def collect():
        streamer = streamers.AsyncTextIteratorStreamer(gpt2, timeout=20)
        pieces = []
        for _ in range(2):
            in_thread(streamer, gpt2(TEXT).input_ids)
            pieces.append([piece async for piece in streamer if piece])
            with pytest.raises(StopAsyncIteration):
                await anext(streamer)
        return pieces

    assert asyncio.run(collect()) == [PIECES, PIECES]


def test_errors_reach_the_asynchronous_iterator(gpt2):
    async def collect():
        streamer = streamers.AsyncTextIteratorStreamer(gpt2, timeout=20)
        in_thread(streamer, gpt2("the cat").input_ids, KeyError("weights"))
        return [piece async for piece in streamer]

    with pytest.raises(KeyError, match="weights"):
        asyncio.run(collect())


def test_asynchronous_iterator_that_is_late_or_left(gpt2):
    async def wait():
        with pytest.raises(TimeoutError, match=r"No text came for 0\.01 seconds"):
            await anext(streamers.AsyncTextIteratorStreamer(gpt2, timeout=0.01))
        closed = streamers.AsyncTextIteratorStreamer(gpt2)
        closed.close()
        assert [piece async for piece in closed] == []
        return streamers.AsyncTextIteratorStreamer(gpt2)

    left = asyncio.run(wait())
    generate(left, gpt2(TEXT).input_ids)
    assert left.closed
    with pytest.raises(
        RuntimeError, match="^Make AsyncTextIteratorStreamer inside the coroutine that iterates over it"
    ):
        streamers.AsyncTextIteratorStreamer(gpt2)


def test_failures_are_told_to_streamers_that_listen():
    class Simple:
        """A user's own streamer."""

    for streamer in (None, Simple(), streamers.BaseStreamer()):
        with pytest.raises(ZeroDivisionError), streamers.failures_told(streamer):
            _ = 1 / 0
