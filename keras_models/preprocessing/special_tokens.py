"""The named special tokens of a tokenizer: `cls_token`, `pad_token_id` ... and a model's own, such as `image_token`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tokenizers import AddedToken

SPECIAL_TOKENS = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")
MORE_SPECIAL_TOKENS = "additional_special_tokens"


class _Text:
    """A special token's text; None if there is none."""

    def __set_name__(self, owner: type, name: str):
        self.name = name

    def __get__(self, tokenizer: Any, owner: type) -> Any:
        if tokenizer is None:
            return self
        token = tokenizer._special[self.name]
        return str(token) if token is not None else None

    def __set__(self, tokenizer: Any, token: str | AddedToken | None):
        if not (token is None or isinstance(token, (str, AddedToken))):
            raise TypeError(f"{self.name} must be a string, an AddedToken or None, not {type(token).__name__}.")
        tokenizer._special[self.name] = token


class _Id:
    """A special token's id; None if there is no such token."""

    def __set_name__(self, owner: type, name: str):
        self.name = name.removesuffix("_id")

    def __get__(self, tokenizer: Any, owner: type) -> Any:
        if tokenizer is None:
            return self
        token = tokenizer._special[self.name]
        return tokenizer.convert_tokens_to_ids(str(token)) if token is not None else None

    def __set__(self, tokenizer: Any, index: int | None):
        tokenizer._special[self.name] = None if index is None else tokenizer.convert_ids_to_tokens(int(index))


class SpecialTokens:
    """Special tokens by name, read and set as attributes; a part of `Tokenizer`.

    Setting one only gives a token its role; `add_special_tokens` also puts it into the vocabulary.
    """

    bos_token, bos_token_id = _Text(), _Id()
    eos_token, eos_token_id = _Text(), _Id()
    unk_token, unk_token_id = _Text(), _Id()
    sep_token, sep_token_id = _Text(), _Id()
    pad_token, pad_token_id = _Text(), _Id()
    cls_token, cls_token_id = _Text(), _Id()
    mask_token, mask_token_id = _Text(), _Id()

    def _set_up_special_tokens(self, settings: Mapping[str, Any]):
        self._special: dict[str, Any] = dict.fromkeys(SPECIAL_TOKENS)
        self._special[MORE_SPECIAL_TOKENS] = []
        for name in SPECIAL_TOKENS:
            setattr(self, name, settings.get(name))
        extra = settings.get("extra_special_tokens") or {}
        named = extra if isinstance(extra, Mapping) else {}
        self.additional_special_tokens = [*(settings.get(MORE_SPECIAL_TOKENS) or []), *([] if named else extra)]
        self.extra_special_tokens: dict[str, str | AddedToken] = dict(named)
        self._special |= named

    def __getattr__(self, name: str) -> Any:
        key = name.removesuffix("_id")
        if key in self.__dict__.get("extra_special_tokens", {}):
            token = str(self._special[key])
            return token if key == name else self.convert_tokens_to_ids(token)
        raise AttributeError(f"{type(self).__name__} has no attribute {name!r}.")

    @property
    def additional_special_tokens(self) -> list[str]:
        """Special tokens that have no name of their own."""
        return [str(token) for token in self._special[MORE_SPECIAL_TOKENS]]

    @additional_special_tokens.setter
    def additional_special_tokens(self, tokens: list[str | AddedToken]):
        if isinstance(tokens, str) or not all(isinstance(token, (str, AddedToken)) for token in tokens):
            raise TypeError(f"{MORE_SPECIAL_TOKENS} must be a list of strings or AddedTokens, not {tokens!r}.")
        self._special[MORE_SPECIAL_TOKENS] = list(tokens)

    @property
    def additional_special_tokens_ids(self) -> list[int]:
        """The ids of `additional_special_tokens`."""
        return self.convert_tokens_to_ids(self.additional_special_tokens)

    @property
    def special_tokens_map_extended(self) -> dict[str, str | AddedToken | list[str | AddedToken]]:
        """The special tokens that are set, by name, as they were given."""
        return {name: token for name, token in self._special.items() if token}

    @property
    def special_tokens_map(self) -> dict[str, str | list[str]]:
        """The texts of the special tokens that are set, by name."""
        tokens = self.special_tokens_map_extended
        return {
            name: [str(each) for each in token] if isinstance(token, list) else str(token)
            for name, token in tokens.items()
        }

    @property
    def all_special_tokens_extended(self) -> list[str | AddedToken]:
        """All special tokens, each once, as they were given."""
        unique: dict[str, str | AddedToken] = {}
        for token in self.special_tokens_map_extended.values():
            for each in token if isinstance(token, list) else [token]:
                unique.setdefault(str(each), each)
        return list(unique.values())

    @property
    def all_special_tokens(self) -> list[str]:
        """The texts of all special tokens, each once."""
        return [str(token) for token in self.all_special_tokens_extended]

    @property
    def all_special_ids(self) -> list[int]:
        """The ids of all special tokens, in the order of `all_special_tokens`."""
        return self.convert_tokens_to_ids(self.all_special_tokens)

    def add_special_tokens(
        self,
        special_tokens_dict: Mapping[str, str | AddedToken | list[str | AddedToken]],
        replace_additional_special_tokens: bool = True,
    ) -> int:
        """Gives tokens a role, such as `{"pad_token": "[PAD]"}`, and adds those that the vocabulary lacks.

        Args:
            special_tokens_dict: tokens by name (`bos_token`, `eos_token`, `unk_token`, `sep_token`, `pad_token`,
                `cls_token`, `mask_token`), and a list for `additional_special_tokens`.
            replace_additional_special_tokens: whether such a list replaces the present one or extends it.

        Returns:
            How many tokens were added; call `model.resize_token_embeddings(len(tokenizer))` if there were any.

        Raises:
            ValueError: a name is not one of those above.
            TypeError: a token is neither a string nor an AddedToken.
        """
        new: list[AddedToken] = []
        for name, value in special_tokens_dict.items():
            if name not in self._special:
                raise ValueError(f"{name!r} is not the name of a special token; those are {list(self._special)}.")
            if name != MORE_SPECIAL_TOKENS:
                self._special[name] = _special(value)
                new.append(self._special[name])
                continue
            present = [] if replace_additional_special_tokens else self._special[name]
            known = {str(token) for token in present}
            more = [_special(token) for token in value if str(token) not in known]
            self.additional_special_tokens = [*present, *more]
            new += more
        return self.add_tokens(new, special_tokens=True)


def _special(token: str | AddedToken) -> AddedToken:
    if not isinstance(token, (str, AddedToken)):
        raise TypeError(f"A token must be a string or an AddedToken, not {token!r}.")
    return AddedToken(token, normalized=False, special=True) if isinstance(token, str) else token
