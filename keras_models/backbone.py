"""Backbones: models that give feature maps of some of their stages to a larger model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self

from keras_models.auto import AutoBackbone, config_class
from keras_models.config import Config, nearest
from keras_models.model import ModelOutput, PreTrainedModel


@dataclass(kw_only=True)
class BackboneConfig(Config):
    """A configuration that names the stages whose feature maps a backbone gives.

    `out_features` are their names and `out_indices` their numbers; either follows from the other, and without both it
    is the last stage. A subclass tells all names in `stage_names`.
    """

    out_features: list[str] | None = None
    out_indices: list[int] | None = None

    @property
    def stage_names(self) -> list[str]:
        """The names of all stages, the stem first."""
        raise NotImplementedError(f"{type(self).__name__} has no stage_names.")

    def __post_init__(self):
        super().__post_init__()
        self.extra.pop("stage_names", None)  # written by others; here it follows from the settings
        names = self.stage_names
        if self.out_features is None:
            indices = [-1] if self.out_indices is None else self.out_indices
            if any(not -len(names) <= index < len(names) for index in indices):
                raise ValueError(f"out_indices={list(indices)}: the stages of this backbone are 0 to {len(names) - 1}.")
            self.out_features = [names[index] for index in indices]
            self.out_indices = [len(names) - 1] if self.out_indices is None else list(indices)
        unknown = [name for name in self.out_features if name not in names]
        if unknown:
            raise ValueError(
                f"There is no stage {unknown[0]!r} in out_features={self.out_features}."
                f"{nearest(unknown[0], names)} There is {', '.join(names)}."
            )
        found = [names.index(name) for name in self.out_features]
        if found != sorted(set(found)):
            raise ValueError(f"out_features={self.out_features} must name stages once, in the order of {names}.")
        self.out_indices = found if self.out_indices is None else list(self.out_indices)
        if [index % len(names) for index in self.out_indices] != found:
            raise ValueError(
                f"out_features={self.out_features} and out_indices={self.out_indices} name different stages: drop one."
            )

    @classmethod
    def from_dict(cls, values: dict[str, Any], **overrides: Any) -> Self:
        """See `Config.from_dict`; names given to a call replace the numbers in the file, and the other way round."""
        if ("out_features" in overrides) != ("out_indices" in overrides):
            values = {key: value for key, value in values.items() if key not in ("out_features", "out_indices")}
        return super().from_dict(values, **overrides)

    def to_dict(self) -> dict[str, Any]:
        """The contents of config.json, the names of all stages included."""
        return super().to_dict() | {"stage_names": self.stage_names}


class Backbone:
    """Mixin before an architecture's PreTrainedModel: facts about the feature maps.

    A subclass sets `num_features`, the channels of each stage, and returns `feature_maps`, a tuple of
    (batch, height, width, channels), of the stages in `out_features`.
    """

    num_features: list[int]

    @property
    def stage_names(self) -> list[str]:
        """The names of all stages."""
        return self.config.stage_names

    @property
    def out_features(self) -> list[str]:
        """The names of the stages whose feature maps are given."""
        return self.config.out_features

    @property
    def out_indices(self) -> list[int]:
        """The numbers of these stages."""
        return self.config.out_indices

    @property
    def channels(self) -> list[int]:
        """The channels of each feature map."""
        return [self.num_features[self.stage_names.index(name)] for name in self.out_features]

    def chosen(self, maps: list[Any]) -> ModelOutput:
        """The outputs, from the feature maps of all stages."""
        picked = [maps[self.stage_names.index(name)] for name in self.out_features]
        return ModelOutput(feature_maps=tuple(picked))


def backbone_config(values: Config | dict[str, Any], **defaults: Any) -> Config:
    """The configuration of a backbone from the part of a config.json that describes it."""
    if isinstance(values, Config):
        return values
    return config_class(values["model_type"]).from_dict({**defaults, **values})


def build_backbone(config: Config, **options: Any) -> PreTrainedModel:
    """The backbone of a configuration, with fresh weights; options are those of its class."""
    return AutoBackbone._class_for(config)(config, **options)
