"""Text while it is being generated: printed, or handed on to an iterator in another thread or coroutine."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from queue import Empty, Queue
from typing import Any

import numpy as np

# Blocks of ideographs, which are words by themselves.
_IDEOGRAPHS = (
    (0x3400, 0x4DBF), (0x4E00, 0x9FFF), (0xF900, 0xFAFF), (0x20000, 0x2A6DF), (0x2A700, 0x2B73F), (0x2B740, 0x2B81F),
    (0x2B820, 0x2CEAF), (0x2F800, 0x2FA1F),
)  # fmt: skip


class BaseStreamer:
    """What `generate` tells of tokens as they come: the prompt first, then each new one, or several."""

    def put(self, value: np.ndarray):
        """Takes token ids (1, length) or (length,)."""
        raise NotImplementedError(f"{type(self).__name__} has no put(ids).")

    def end(self):
        """Takes note that there is no more to come."""
        raise NotImplementedError(f"{type(self).__name__} has no end().")

    def fail(self, error: BaseException):
        """Takes note that there is no more to come because of an error, which `generate` raises too."""


class TextStreamer(BaseStreamer):
    """Prints text as soon as its words are finished.

    A word is finished at a space or a line's end; an ideograph is one by itself. Override `on_finalized_text` to do
    something else with the text.

    Args:
        tokenizer: what decodes the tokens.
        skip_prompt: whether to leave out the prompt.
        **decode_kwargs: options of the tokenizer's `decode`, such as `skip_special_tokens=True`.
    """

    def __init__(self, tokenizer: Any, skip_prompt: bool = False, **decode_kwargs: Any):
        self.tokenizer = tokenizer
        self.skip_prompt = skip_prompt
        self.decode_kwargs = decode_kwargs
        self._restart()

    def _restart(self):
        self.token_cache: list[int] = []  # of the current line
        self.print_len = 0  # how much of its text is out
        self.next_tokens_are_prompt = True

    def put(self, value: np.ndarray):
        """Takes token ids (1, length) or (length,), and prints what they finish.

        Raises:
            ValueError: there are several rows.
        """
        ids = np.asarray(value)
        if ids.ndim > 1 and len(ids) > 1:
            raise ValueError(f"{type(self).__name__} follows one sequence, not {len(ids)}: generate them one by one.")
        is_prompt, self.next_tokens_are_prompt = self.next_tokens_are_prompt, False
        if is_prompt and self.skip_prompt:
            return
        self.token_cache += ids.reshape(-1).tolist()
        text = self._decoded()
        is_word = text.endswith("\n") or _ends_in_ideograph(text)
        piece = text[self.print_len : len(text) if is_word else text.rfind(" ") + 1]
        self.print_len += len(piece)
        if text.endswith("\n"):
            self.token_cache, self.print_len = [], 0
        self.on_finalized_text(piece)

    def end(self):
        """Prints the rest, and a line's end."""
        rest = self._decoded()[self.print_len :]
        self._restart()
        self.on_finalized_text(rest, stream_end=True)

    def fail(self, error: BaseException):
        """Forgets what was begun."""
        self._restart()

    def _decoded(self) -> str:
        return self.tokenizer.decode(self.token_cache, **self.decode_kwargs) if self.token_cache else ""

    def on_finalized_text(self, text: str, stream_end: bool = False):
        """Prints a piece of text, "" if a token finished none; with a line's end at the end of the stream."""
        print(text, flush=True, end="\n" if stream_end else "")


class _Iterated(TextStreamer):
    """What both iterators share: pieces go into `text_queue`, and `stop_signal` or an error ends them."""

    text_queue: Any
    stop_signal = None

    def __init__(self, tokenizer: Any, skip_prompt: bool, timeout: float | None, **decode_kwargs: Any):
        super().__init__(tokenizer, skip_prompt, **decode_kwargs)
        self.timeout = timeout
        self.closed = False
        self._is_over = False

    def put(self, value: np.ndarray):
        if not self.closed:
            super().put(value)

    def on_finalized_text(self, text: str, stream_end: bool = False):
        """Hands a piece of text on to the iterator."""
        self._send(text)
        if stream_end:
            self._send(self.stop_signal)

    def fail(self, error: BaseException):
        """Ends the iteration with the error."""
        super().fail(error)
        self._send(error)

    def close(self):
        """Ends the iteration early; what is still generated is dropped."""
        self.closed = True
        self._send(self.stop_signal)

    def _send(self, item: str | BaseException | None):
        raise NotImplementedError

    def _is_last(self, item: str | BaseException | None) -> bool:
        """Whether this item ends the iteration; raises it if it is an error, which does so too."""
        self._is_over = item is self.stop_signal or isinstance(item, BaseException)
        if isinstance(item, BaseException):
            raise item
        return self._is_over

    def _late(self) -> str:
        return f"No text came for {self.timeout} seconds: raise timeout=, or see what became of the generating thread."


class TextIteratorStreamer(_Iterated):
    """An iterator over text that `generate` finishes in another thread.

    An error there is raised here too. A streamer may serve several calls of `generate`, one after the other, with a
    `for` loop each. Leaving the loop early does no harm; `close` says that there will be no other one.

    Args:
        tokenizer, skip_prompt, **decode_kwargs: see `TextStreamer`.
        timeout: how many seconds to wait for a piece of text; None for ever. Then `queue.Empty` is raised.
    """

    def __init__(self, tokenizer: Any, skip_prompt: bool = False, timeout: float | None = None, **decode_kwargs: Any):
        super().__init__(tokenizer, skip_prompt, timeout, **decode_kwargs)
        self.text_queue: Queue = Queue()

    def _send(self, item: str | BaseException | None):
        self.text_queue.put(item)

    def __iter__(self) -> Iterator[str]:
        self._is_over = self.closed
        return self

    def __next__(self) -> str:
        if self._is_over:
            raise StopIteration
        try:
            item = self.text_queue.get(timeout=self.timeout)
        except Empty:
            raise Empty(self._late()) from None
        if self._is_last(item):
            raise StopIteration
        return item


class AsyncTextIteratorStreamer(_Iterated):
    """An asynchronous iterator over text that `generate` finishes in another thread; made inside a coroutine.

    Otherwise it is like `TextIteratorStreamer`, but that a piece which is late raises TimeoutError.

    Raises:
        RuntimeError: it is made outside of a coroutine.
    """

    def __init__(self, tokenizer: Any, skip_prompt: bool = False, timeout: float | None = None, **decode_kwargs: Any):
        super().__init__(tokenizer, skip_prompt, timeout, **decode_kwargs)
        self.text_queue: asyncio.Queue = asyncio.Queue()
        try:
            self.loop = asyncio.get_running_loop()
        except RuntimeError:
            raise RuntimeError(f"Make {type(self).__name__} inside the coroutine that iterates over it.") from None

    def _send(self, item: str | BaseException | None):
        try:
            self.loop.call_soon_threadsafe(self.text_queue.put_nowait, item)
        except RuntimeError:  # the loop is closed, so nobody listens any more
            self.closed = True

    def __aiter__(self) -> AsyncIterator[str]:
        self._is_over = self.closed
        return self

    async def __anext__(self) -> str:
        if self._is_over:
            raise StopAsyncIteration
        try:
            async with asyncio.timeout(self.timeout):
                item = await self.text_queue.get()
        except TimeoutError:
            raise TimeoutError(self._late()) from None
        if self._is_last(item):
            raise StopAsyncIteration
        return item


@contextmanager
def failures_told(streamer: Any) -> Iterator[None]:
    """Tells a streamer of an error that ends the block, so that who waits for text does not wait for ever."""
    try:
        yield
    except BaseException as error:
        if hasattr(streamer, "fail"):  # a user's own streamer need not have it
            streamer.fail(error)
        raise


def _ends_in_ideograph(text: str) -> bool:
    return any(first <= ord(text[-1]) <= last for first, last in _IDEOGRAPHS) if text else False
