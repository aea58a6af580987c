"""What a model returns."""

from __future__ import annotations

from typing import Any

# Outputs that are there only when asked for: reading one that was not asked for gives None, as in the reference.
OPTIONAL = frozenset(
    f"{prefix}{name}"
    for prefix in ("", "encoder_", "decoder_", "vision_", "text_")
    for name in ("loss", "hidden_states", "attentions", "cross_attentions", "past_key_values", "pooler_output")
) | {"cross_attentions", "reshaped_hidden_states"}


class ModelOutput(dict):
    """A dictionary of tensors whose entries can also be read as attributes (`outputs.logits`) and by position."""

    def __getattr__(self, name: str) -> Any:
        if name in self:
            return self[name]
        if name in OPTIONAL:
            return None
        raise AttributeError(f"The model returned no {name!r}; it returned {', '.join(self)}.")

    def __setattr__(self, name: str, value: Any):
        self[name] = value

    def __getitem__(self, key: str | int | slice) -> Any:
        return super().__getitem__(key) if isinstance(key, str) else self.to_tuple()[key]

    def __reduce__(self):
        return type(self), (dict(self),)

    def to_tuple(self) -> tuple[Any, ...]:
        """The outputs in order."""
        return tuple(self.values())
