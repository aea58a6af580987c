"""When each token of a transcript is said: the cheapest way through what the decoder has listened to."""

from __future__ import annotations

import numpy as np

PRECISION = 0.02  # seconds for each position of the encoder


def token_timestamps(weights: np.ndarray, frames: np.ndarray | None, prompt: int, width: int) -> np.ndarray:
    """The seconds at which tokens are said, (rows, prompt + tokens + 1) float32.

    Those of the prompt are 0; the last token, which nothing has followed, gets the time of the one before it.

    Args:
        weights: (rows, heads, tokens, positions), the attention of alignment heads to the encoder, from all tokens but
            the prompt's and the last.
        frames: (rows,), the frames that are real; all if None.
        prompt: how many tokens there are before the first.
        width: of the median filter, an odd number.
    """
    rows, _, tokens, positions = weights.shape
    times = np.zeros((rows, prompt + tokens + 1), "float32")
    if not tokens:
        return times
    for row in range(rows):
        end = positions if frames is None else min(max(int(frames[row]) // 2, 1), positions)
        matrix = weights[row, :, :, :end].astype("float32")
        with np.errstate(invalid="ignore", divide="ignore"):  # a single token differs from no other
            matrix = (matrix - matrix.mean(axis=1, keepdims=True)) / matrix.std(axis=1, keepdims=True)
        matrix = median_filter(matrix, width).mean(axis=0)
        token_indices, places = warp(-matrix.astype("float64"))
        first = np.diff(token_indices, prepend=-1) > 0
        times[row, prompt:-1] = places[first] * PRECISION
        times[row, -1] = times[row, -2]
    return times


def median_filter(x: np.ndarray, width: int) -> np.ndarray:
    """The median of each window of `width` along the last axis, which is mirrored at its ends.

    Raises:
        ValueError: the width is even, or not positive.
    """
    if width < 1 or width % 2 == 0:
        raise ValueError(f"config.median_filter_width must be a positive odd number, not {width}.")
    half = width // 2
    if x.shape[-1] <= half:
        return x
    padded = np.pad(x, [(0, 0)] * (x.ndim - 1) + [(half, half)], mode="reflect")
    shifted = [padded[..., start : start + x.shape[-1]] for start in range(width)]
    for turn in range(width):  # neighbours change places until all are in order
        for at in range(turn % 2, width - 1, 2):
            first, second = shifted[at : at + 2]
            shifted[at : at + 2] = np.minimum(first, second), np.maximum(first, second)
    return shifted[half]


def warp(costs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The cheapest way from the first to the last pair of a token and a position (dynamic time warping).

    Args:
        costs: (tokens, positions) float64.

    Returns:
        The tokens and the positions along the way, which advances by one of either, or of both, at a time.
    """
    tokens, positions = costs.shape
    # Sums up to a pair depend on those of the two diagonals before: all of a diagonal are added up at once. In each,
    # place i is that of the pair (i, diagonal - i), and pairs count from 1.
    moves = np.full((tokens + 1, positions + 1), 2, "int8")
    moves[1:, 0] = 1
    before, last = (np.full(tokens + 1, np.inf, "float32") for _ in range(2))
    before[0] = 0.0
    for diagonal in range(2, tokens + positions + 1):
        low, high = max(1, diagonal - positions), min(tokens, diagonal - 1)
        rows = np.arange(low, high + 1)
        both, token, place = before[rows - 1], last[rows - 1], last[rows]
        chosen = np.where((both < token) & (both < place), 0, np.where((token < both) & (token < place), 1, 2))
        moves[rows, diagonal - rows] = chosen
        sums = np.choose(chosen, (both, token, place)).astype("float64")
        fresh = np.full(tokens + 1, np.inf, "float32")
        fresh[rows] = costs[rows - 1, diagonal - rows - 1] + sums
        before, last = last, fresh
    way, token, place = [], tokens, positions
    while token > 0 or place > 0:
        way.append((token - 1, place - 1))
        move = moves[token, place]
        token, place = token - (move != 2), place - (move != 1)
    found = np.array(way[::-1], dtype="int64")
    return found[:, 0], found[:, 1]
