"""What the command line shows: results and facts as tables on stdout, messages on stderr."""

from __future__ import annotations

import textwrap
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text


def show_result(item: Any, result: Any):
    """Prints an input, shortened, and what a pipeline made of it."""
    text = " · ".join(map(str, item.values())) if isinstance(item, dict) else str(item)
    _show_title(textwrap.shorten(text, 100, placeholder=" …"))
    if isinstance(result, dict) and isinstance(result.get("text"), str):  # speech
        show_rows([_timed(chunk) for chunk in result.get("chunks", ())] or [{"": result["text"].strip()}])
    elif isinstance(result, dict):
        columns = {name: values for name, values in result.items() if isinstance(values, list)}
        rows = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
        show_rows(rows or [result])
    elif isinstance(result, list) and all(isinstance(each, dict) for each in result):
        show_rows(result or [{"": "nothing found"}])
    elif isinstance(result, list) and all(isinstance(each, list) and isinstance(each[0], dict) for each in result):
        for number, rows in enumerate(result, start=1):
            show_rows(rows, f"{number} of {len(result)}")
    else:
        _show_numbers(result)


def show_rows(rows: list[dict[str, Any]], title: str | None = None):
    """Prints a table with a column for each key, and an empty line after it. Without names there is no header."""
    if title is not None:
        _show_title(title)
    header = any(name.strip() for name in rows[0])
    table = Table(*rows[0], box=box.SIMPLE_HEAD, show_edge=False, show_header=header)
    for row in rows:
        table.add_row(*(Text(_cell(value), overflow="fold") for value in row.values()))
    Console().print(table, "")


def tell(message: str, style: str):
    """Prints a message as one line on stderr."""
    Console(stderr=True).print(Text(" ".join(message.split()), style), soft_wrap=True)


def _timed(chunk: dict[str, Any]) -> dict[str, Any]:
    """A piece of a transcript as a row."""
    start, end = ("?" if each is None else f"{each:.2f}" for each in chunk["timestamp"])
    others = {name: value for name, value in chunk.items() if name not in ("timestamp", "text")}
    return {"from": start, "to": end, "text": chunk["text"].strip(), **others}


def _show_title(text: str):
    Console().print(Text(text, "bold"), soft_wrap=True)


def _show_numbers(result: Any):
    """A nested list by its sizes and the first few values."""
    import numpy as np  # which most commands can do without

    array = np.asarray(result)
    first = " ".join(f"{value:.4f}" for value in array.ravel()[:6])
    sizes = " x ".join(map(str, array.shape))
    Console().print(Text(f"{sizes} numbers: {first} ... (all of them with --json)"), "", soft_wrap=True)


def _cell(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(str, value))
    if isinstance(value, dict):
        return " ".join(f"{name} {each}" for name, each in value.items())
    if hasattr(value, "histogram"):  # a mask
        return f"{value.histogram()[-1] / (value.width * value.height):.1%} of the picture"
    return "" if value is None else f"{value:.4f}" if isinstance(value, float) else str(value)
