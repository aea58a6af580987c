"""The weights of a repository, in whichever format it has them."""

from __future__ import annotations

import json
from functools import partial

from keras_models.checkpoint.open import WEIGHT_FILES, open_checkpoint
from keras_models.checkpoint.tensors import Checkpoint
from keras_models.hub import HubError, Repository


def open_weights(repository: Repository) -> Checkpoint:
    """The weights of a folder or a hub repository, opened; of several formats the first in `WEIGHT_FILES`.

    Raises:
        HubError: there are none, or they cannot be had.
        CheckpointError: a file is damaged.
    """
    path = next(filter(None, map(repository.file, WEIGHT_FILES)), None)
    if path is None:
        raise HubError(f"{repository} holds no weights: looked for {', '.join(WEIGHT_FILES)}.")

    if path.suffix == ".json" and not repository.is_local:  # all shards at once
        repository.files(sorted(set(json.loads(path.read_text()).get("weight_map", {}).values())))
    return open_checkpoint(path, fetch=partial(repository.file, required=True))
