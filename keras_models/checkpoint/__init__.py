"""Weight files: every format of the hub read as one mapping of names to lazy tensors, and written as safetensors."""

from keras_models.checkpoint.open import WEIGHT_FILES, open_checkpoint
from keras_models.checkpoint.tensors import Checkpoint, CheckpointError, Tensor
from keras_models.checkpoint.writer import save_weights

__all__ = ["WEIGHT_FILES", "Checkpoint", "CheckpointError", "Tensor", "open_checkpoint", "save_weights"]
