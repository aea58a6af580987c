"""Resizing of feature maps is PyTorch's, at odd sizes, up and down."""

import keras
import numpy as np
import pytest

from keras_models import nn
from tests import reference

SIZES = [[7, 11], [14, 22], [3, 5], [13, 4], [1, 1]]
METHODS = [("nearest", False), ("bilinear", False), ("bilinear", True), ("bicubic", False), ("bicubic", True)]


@pytest.mark.parametrize(("method", "align_corners"), METHODS)
def test_resize(method, align_corners):
    cases = [[size, method, align_corners] for size in SIZES]
    folder = reference.make("resizing.resized", shape=[2, 7, 11, 3], cases=cases)
    pictures = keras.ops.convert_to_tensor(np.load(folder / "input.npy"))
    for number, size in enumerate(SIZES):
        found = keras.ops.convert_to_numpy(nn.resize(pictures, size, method, align_corners))
        np.testing.assert_allclose(found, np.load(folder / f"{number}.npy"), rtol=0, atol=1e-5, err_msg=str(size))
