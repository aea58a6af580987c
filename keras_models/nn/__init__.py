"""What model files share: layers that exist once constructed, attention, activations, records of what passes."""

from keras_models.nn.activations import get_activation
from keras_models.nn.attention import (
    attend,
    attention_bias,
    flatten_choices,
    kept,
    last_token,
    lowest,
    merge_heads,
    positions,
    split_heads,
)
from keras_models.nn.augment import random_spans
from keras_models.nn.convolutions import (
    BatchNormalization,
    Conv1D,
    Conv2D,
    FrozenBatchNormalization,
    GroupNormalization,
    convolve,
)
from keras_models.nn.layers import (
    BareCall,
    Dense,
    Dropout,
    DropPath,
    Embedding,
    InOutDense,
    Layer,
    LayerNormalization,
    RMSNormalization,
    bump_structure_version,
    output_projection,
    set_initializer_range,
    structure_version,
)
from keras_models.nn.observe import captured, chain, record, recording, records
from keras_models.nn.pictures import (
    from_windows,
    max_pool,
    pad_to_multiples,
    pair,
    pixel_shuffle,
    real_length,
    real_size,
    resize,
    sizes,
    to_picture,
    to_sequence,
    to_windows,
    without_padding,
)
