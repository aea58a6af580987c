"""Records of what passes: hidden states and attentions for those who ask for them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager


class _Settings(threading.local):
    records: dict[str, list] | None = None


_settings = _Settings()


@contextmanager
def records(names: list[str]) -> Iterator[dict[str, list]]:
    """Collects what `record` is given under these names, in order, while it is entered."""
    before, _settings.records = _settings.records, {name: [] for name in names}
    try:
        yield _settings.records
    finally:
        _settings.records = before


@contextmanager
def captured(name: str, pass_on: bool = True) -> Iterator[list]:
    """Collects what is recorded under this name for the caller's own use, and hands it on to whoever asked for it."""
    before, own = _settings.records, []
    _settings.records = {**(before or {}), name: own}
    try:
        yield own
    finally:
        _settings.records = before
    for tensor in own if pass_on else ():
        record(name, tensor)


def recording(name: str) -> bool:
    """Whether somebody asked for these tensors."""
    return _settings.records is not None and name in _settings.records


def record(name: str, tensor):
    """Hands a tensor to the caller who asked for `output_hidden_states` or `output_attentions`."""
    if recording(name):
        _settings.records[name].append(tensor)


def chain(layers, x, *args, record_as: str = "hidden_states", final: Callable | None = None, **kwargs):
    """Calls layers one after the other on x, recording what goes into each and what comes out of the last.

    `final`, a last normalisation, is applied to what the last layer returns before that is recorded.
    """
    for layer in layers:
        record(record_as, x)
        x = layer(x, *args, **kwargs)
    x = x if final is None else final(x)
    record(record_as, x)
    return x
