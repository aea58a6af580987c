"""Models whose backbones timm makes. torchvision, which timm imports, need not run, and its kernels may not load."""

import torch

_kernels = torch.library.Library("torchvision", "DEF")  # the two that it takes for granted
for _name in ("nms", "qnms"):
    _kernels.define(f"{_name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")

from models import checkpoint, forward  # noqa: E402, F401
