"""One check for decoders: given in pieces, with a cache, a text has the logits that it has at once."""

import keras
import numpy as np

PIECES = (5, 1, 1, 4)  # of a text of 11 tokens


def check_pieces(model, along, prefix="", **whole):
    """Compares one call with several, where the text's mask, if there is one, is not 0.

    Args:
        along: inputs that are cut as the text is: input_ids and its like, and attention_mask, (batch, length) each.
        prefix: "decoder_" for an encoder-decoder, whose inputs are named so.
        whole: inputs that every call gets.
    """
    along = {f"{prefix}{name}": np.asarray(value) for name, value in along.items()}
    mask = f"{prefix}attention_mask"
    expected = keras.ops.convert_to_numpy(model(**along, **whole).logits)
    cache, found, start = None, [], 0
    for size in PIECES:
        end = start + size
        piece = {name: value[:, 0 if name == mask else start : end] for name, value in along.items()}
        outputs = model(**piece, **whole, past_key_values=cache, use_cache=True)
        cache, start = outputs.past_key_values, end
        found.append(keras.ops.convert_to_numpy(outputs.logits))
    assert cache.get_seq_length() == start
    counts = along.get(mask, np.ones(expected.shape[:2])) == 1
    np.testing.assert_allclose(np.concatenate(found, axis=1)[counts], expected[counts], rtol=0, atol=1e-5)
