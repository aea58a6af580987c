"""tf_model.h5: TensorFlow variables, under PyTorch's names and in its layout.

A variable is the dataset `<layer>/<model class>/<path>/<kind>:0`, for example
`bert/tf_bert_model/bert/encoder/layer_._0/output/dense/kernel:0`; files of a sharded checkpoint leave out the first one
or two parts. A head keeps copies of the tensors it ties to (`mlm___cls/tf_bert_for_masked_lm/bert/embeddings/...`).
"""

import h5py
import numpy as np

from keras_models.checkpoint.tensors import Checkpoint, CheckpointError, File, FileTensor, LoadedTensor, Stream, Tensor

MAGIC = b"\x89HDF\r\n\x1a\n"
KINDS = {
    "kernel": "weight",
    "gamma": "weight",
    "beta": "bias",
    "embeddings": "weight",
    "moving_mean": "running_mean",
    "moving_variance": "running_var",
}
KERNEL_AXES = {2: (1, 0), 3: (2, 1, 0), 4: (3, 2, 0, 1)}  # (in, out), (w, in, out), (h, w, in, out) to (out, in, ...)

DAMAGED = (OSError, RuntimeError, LookupError, ValueError, TypeError)  # what h5py raises for broken files


def read(file: File) -> Checkpoint:
    """The tensors of a TensorFlow weight file; CheckpointError if HDF5 cannot read it."""
    datasets: dict[str, h5py.Dataset] = {}

    def collect(name: str, item):
        if isinstance(item, h5py.Dataset) and item.dtype.kind in "fiub":
            datasets[name] = item

    try:
        h5 = h5py.File(Stream(file), "r")
        h5.visititems(collect)
        layers = {layer.decode() if isinstance(layer, bytes) else layer for layer in h5.attrs.get("layer_names", ())}
        tensors: dict[str, Tensor] = {}
        for path, dataset in datasets.items():
            variable = path if path in layers else path.split("/", 1)[-1]
            name, shape, axes = convert(variable, dataset.shape, has_class=path not in layers)
            tensors.setdefault(name, _tensor(file, dataset, shape, axes))
    except CheckpointError:
        raise
    except DAMAGED as error:
        raise CheckpointError(f"{file.path} is truncated or corrupt: {error}.") from None
    return Checkpoint(tensors, "h5", {}, [file.close])


def convert(
    variable: str, shape: tuple[int, ...], has_class: bool
) -> tuple[str, tuple[int, ...], tuple[int, ...] | None]:
    """A variable's PyTorch name, its stored shape (less an axis of one that PyTorch lacks) and its axes in PyTorch."""
    *parts, kind = variable.removesuffix(":0").replace("_._", "/").split("/")
    if has_class or any("model." in part for part in parts):  # shards keep the first part of names with a "model."
        parts = parts[1:]
    parts = [part.rsplit("___", 1)[-1] for part in parts]
    axes = KERNEL_AXES.get(len(shape)) if kind in ("kernel", "weight_g") else None  # weight_g: Wav2Vec2's (w, 1, 1)
    is_longer = (kind == "bias" and len(shape) == 2) or kind == "logit_scale"  # GPT-2's Conv1D; CLIP's
    if is_longer and shape[0] == 1:
        shape = shape[1:]
    return ".".join([*parts, KINDS.get(kind, kind)]), shape, axes


def _tensor(file: File, dataset: h5py.Dataset, shape: tuple[int, ...], axes: tuple[int, ...] | None) -> Tensor:
    if dataset.external or dataset.is_virtual:
        raise CheckpointError(f"{file.path} keeps {dataset.name!r} in other files, which weights may not.")
    offset, dtype = dataset.id.get_offset(), dataset.dtype.newbyteorder("=")
    if offset is None or dtype != dataset.dtype:  # in chunks, compressed, never written, or of the other byte order
        return LoadedTensor(lambda: _load(file, dataset).astype(dtype, copy=False).reshape(shape), shape, dtype, axes)
    return FileTensor(file, offset, shape, dtype, axes)


def _load(file: File, dataset: h5py.Dataset) -> np.ndarray:
    try:
        return dataset[()]
    except DAMAGED as error:
        raise CheckpointError(f"{file.path}: {dataset.name!r} cannot be read: {error}.") from None
