"""What PyTorch's interpolate makes of pictures."""

import numpy as np
import torch


def resized(folder, shape, cases):
    """Writes input.npy (batch, height, width, channels) and NUMBER.npy for (height, width), method, align_corners."""
    pictures = np.random.default_rng(0).normal(size=shape).astype("float32")
    np.save(folder / "input.npy", pictures)
    for number, (size, method, align) in enumerate(cases):
        flags = {} if method == "nearest" else {"align_corners": align}
        x = torch.from_numpy(pictures).permute(0, 3, 1, 2)
        found = torch.nn.functional.interpolate(x, size=tuple(size), mode=method, **flags)
        np.save(folder / f"{number}.npy", found.permute(0, 2, 3, 1).numpy())
