"""ResNet (https://arxiv.org/abs/1512.03385) under the names that timm gives its tensors: DETR's usual backbone.

Feature maps are (batch, height, width, channels).
"""

from keras import ops

from keras_models import nn

DEPTHS = {  # variant -> (layers of each stage, whether they are bottlenecks)
    "resnet18": ((2, 2, 2, 2), False),
    "resnet34": ((3, 4, 6, 3), False),
    "resnet50": ((3, 4, 6, 3), True),
    "resnet101": ((3, 4, 23, 3), True),
    "resnet152": ((3, 8, 36, 3), True),
}


class Block(nn.Layer):
    """Two convolutions, or three of which only the middle one is wide, around which their input passes."""

    def __init__(self, input_dim, width, is_bottleneck, strides, dilation, norm):
        super().__init__()
        filters = 4 * width if is_bottleneck else width
        first, second = dilation
        if is_bottleneck:
            kernels = [(input_dim, width, 1, 1, 1), (width, width, 3, strides, first), (width, filters, 1, 1, 1)]
        else:
            kernels = [(input_dim, width, 3, strides, first), (width, width, 3, 1, second)]
        self.count = len(kernels)
        for index, (size, count, kernel, step, spread) in enumerate(kernels, start=1):
            padding = spread * (kernel // 2)
            conv = nn.Conv2D(size, count, kernel, step, padding, spread, use_bias=False)
            setattr(self, f"conv{index}", conv)
            setattr(self, f"bn{index}", norm(count))
        self.downsample = None
        if input_dim != filters or strides != 1:
            self.downsample = [nn.Conv2D(input_dim, filters, 1, strides, use_bias=False), norm(filters)]

    def call(self, x):
        residual = x if self.downsample is None else nn.convolve(*self.downsample, x)
        for index in range(1, self.count + 1):
            around = residual if index == self.count else None
            x = nn.convolve(getattr(self, f"conv{index}"), getattr(self, f"bn{index}"), x, ops.relu, around)
        return x


class TimmResNet(nn.Layer):
    """Four feature maps, at 1/4, 1/8, 1/16 and 1/32 of the pictures' size.

    Args:
        variant: a key of DEPTHS, with or without what follows a dot in timm's names.
        input_dim: channels of the pictures.
        output_stride: 32; or 16 or 8, where later stages are dilated instead of downsampled.
        norm: class of the normalizations.
    """

    def __init__(self, variant, input_dim, output_stride, norm):
        super().__init__()
        if variant.split(".")[0] not in DEPTHS:
            raise ValueError(f"Unknown backbone {variant!r}: there is {', '.join(DEPTHS)}.")
        depths, is_bottleneck = DEPTHS[variant.split(".")[0]]
        self.conv1 = nn.Conv2D(input_dim, 64, 7, 2, 3, use_bias=False)
        self.bn1 = norm(64)
        self.channels = []
        size, stride, dilation = 64, 4, 1
        for index, depth in enumerate(depths):
            width, step, before = 64 * 2**index, 1 if index == 0 else 2, dilation
            if stride * step > output_stride:
                step, dilation = 1, dilation * step
            stride *= step
            blocks = []
            for number in range(depth):
                spread = (before if number == 0 else dilation, dilation)
                blocks.append(Block(size, width, is_bottleneck, 1 if number else step, spread, norm))
                size = 4 * width if is_bottleneck else width
            setattr(self, f"layer{index + 1}", blocks)
            self.channels.append(size)

    def call(self, pixel_values):
        x = nn.max_pool(nn.convolve(self.conv1, self.bn1, pixel_values, ops.relu), 3, 2, 1)
        maps = []
        for index in range(1, 5):
            for block in getattr(self, f"layer{index}"):
                x = block(x)
            maps.append(x)
        return maps
