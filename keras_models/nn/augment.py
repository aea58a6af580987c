"""What training hides at random."""

from typing import Any

import keras
from keras import ops


def random_spans(
    lengths: Any, size: Any, chance: float, span: int, least: int, seed: keras.random.SeedGenerator
) -> Any:
    """Random spans of rows: where they are, (batch, size) bool.

    How many there are, between two numbers, is up to chance, the same for all of the batch.

    Args:
        lengths: (batch,) integers, how much of each row counts: spans lie there.
        size: of the rows, an integer or a scalar tensor.
        chance: the share of a row that spans would cover if they did not overlap.
        span: the length of one.
        least: the smallest number of spans in a row, as far as there is room.
        seed: a Keras seed generator.

    Raises:
        ValueError: rows are shorter than a span.
    """
    if isinstance(size, int) and not 0 < span <= size:
        raise ValueError(
            f"Spans of {span} cannot hide parts of {size} places: train with longer sounds, or set the configuration's "
            "mask_time_length (or mask_feature_length, or the chance of either) lower."
        )
    counts = chance / span * ops.cast(lengths, "float32") + keras.random.uniform((), seed=seed)
    counts, begins = ops.cast(counts, "int32"), ops.maximum(lengths - span + 1, 0)
    counts = ops.minimum(ops.minimum(ops.maximum(counts, least), size // span), begins)
    draws = keras.random.uniform((ops.shape(lengths)[0], size), seed=seed)
    draws = ops.where(ops.arange(size)[None] < begins[:, None], draws, 2.0)
    rank = ops.argsort(ops.argsort(draws, axis=1), axis=1)  # the lowest draws are where spans begin
    begun = ops.cumsum(ops.cast(rank < counts[:, None], "int32"), axis=1)
    return begun > ops.pad(begun, ((0, 0), (span, 0)))[:, :size]
