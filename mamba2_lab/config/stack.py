"""What a language model is made of: mixers in a stack, between an embedding and a head."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mamba2_lab.checks import require, require_whole
from mamba2_lab.config.attention import AttentionFields
from mamba2_lab.config.fields import LARGEST_COUNT, Fields
from mamba2_lab.config.mamba1 import Mamba1Fields
from mamba2_lab.config.mamba2 import Mamba2Fields
from mamba2_lab.config.mamba3 import Mamba3Fields
from mamba2_lab.config.presets import PRESETS

MIXERS: Mapping[str, type[Fields]] = {
    "mamba1": Mamba1Fields,
    "mamba2": Mamba2Fields,
    "mamba3": Mamba3Fields,
    "attention": AttentionFields,
}


@dataclass(frozen=True)
class LayerFields:
    """One layer of a model: its mixer by name and fields, the width of its MLP (0: it has none), and its norms."""

    mixer: str
    fields: Fields
    d_intermediate: int = 0
    rms_norm: bool = True
    norm_eps: float = 1e-5


@dataclass(frozen=True)
class StackFields(Fields):
    """What every model has around its mixers.

    d_model: width of the residual stream.
    n_layer: number of layers.
    vocab_size: number of tokens; the embedding has `padded_vocab_size` rows.
    tie_embeddings: the output head shares the embedding's weights.
    pad_vocab_size_multiple: the embedding's rows are rounded up to a multiple of it.
    norm_eps: epsilon of the norms.
    """

    d_model: int = 256
    n_layer: int = 4
    vocab_size: int = 257
    tie_embeddings: bool = True
    pad_vocab_size_multiple: int = 8
    norm_eps: float = 1e-5

    @property
    def mixer_fields_by_name(self) -> dict[str, Fields]:
        """The fields of each kind of mixer that it has."""
        raise NotImplementedError

    def layer(self, i: int) -> LayerFields:
        """What layer i is made of."""
        raise NotImplementedError

    @property
    def rms_norm(self) -> bool:
        """Whether the norms are RMSNorms."""
        return True

    @property
    def padded_vocab_size(self) -> int:
        """vocab_size rounded up to a multiple of pad_vocab_size_multiple: rows of the embedding."""
        return -(-self.vocab_size // self.pad_vocab_size_multiple) * self.pad_vocab_size_multiple


@dataclass(frozen=True)
class Mamba2Config(StackFields, Mamba2Fields):
    """The shape and the initialisation of a Mamba-2 language model: the fields of its mixers, `Mamba2Fields`, and those
    of the model around them, `StackFields`. One norm_eps serves the norms of both.

    Raises:
        TypeError, ValueError: naming the field, what was expected, and the value that came.
    """

    @property
    def mixer_fields_by_name(self) -> dict[str, Fields]:
        """Those of its one kind."""
        return {"mamba2": Mamba2Fields(**self.mixer_fields())}

    def layer(self, i: int) -> LayerFields:
        """What layer i is made of: as all the others."""
        return LayerFields("mamba2", self.mixer_fields_by_name["mamba2"], norm_eps=self.norm_eps)

    @classmethod
    def preset(cls, name: str, **changes: Any) -> Mamba2Config:
        """The named preset, with any field replaced: `Mamba2Config.preset("small", n_layer=2)`."""
        pure = [preset for preset, fields in PRESETS.items() if "mixers" not in fields]
        require(name in pure, "preset", f"one of {', '.join(pure)}", name)
        return cls.from_dict({**PRESETS[name], **changes})

    def to_dict(self) -> dict[str, Any]:
        """All fields by name, in the order in which people give them: first the size of the model."""
        return {"d_model": self.d_model, "n_layer": self.n_layer, "vocab_size": self.vocab_size} | super().to_dict()

    def mixer_fields(self) -> dict[str, Any]:
        """The fields that one `Mamba2` takes: all but those of the model around it."""
        return {field.name: getattr(self, field.name) for field in dataclasses.fields(Mamba2Fields)}


@dataclass(frozen=True)
class MambaConfig(StackFields):
    """The shape and the initialisation of a language model of any mixers.

    >>> MambaConfig(d_model=256, n_layer=4, mixers="mamba3", mamba3={"d_state": 64}, d_intermediate=512)
    >>> MambaConfig(d_model=256, n_layer=4, mixers=["mamba2", "mamba2", "attention", "mamba2"])

    The fields of `StackFields`, and

    mixers: the name of every layer's mixer, or a name for each layer.
    mamba1, mamba2, mamba3, attention: fields of that mixer, a dict without d_model; kept as `Mamba1Fields` and so on,
        and as None where no layer has the mixer.
    d_intermediate: width of the MLP that follows each mixer; 0 leaves it out.
    rms_norm: False puts LayerNorms where else are RMSNorms: before each mixer, each MLP, and the head.

    Raises:
        TypeError, ValueError: naming the field, what was expected, and the value that came.
    """

    mixers: str | tuple[str, ...] = "mamba2"
    mamba1: Mamba1Fields | None = None
    mamba2: Mamba2Fields | None = None
    mamba3: Mamba3Fields | None = None
    attention: AttentionFields | None = None
    d_intermediate: int = 0
    rms_norm: bool = True

    @property
    def mixer_fields_by_name(self) -> dict[str, Fields]:
        """Those that are not None."""
        return {name: getattr(self, name) for name in MIXERS if getattr(self, name) is not None}

    def layer(self, i: int) -> LayerFields:
        """What layer i is made of."""
        name = self.mixers if isinstance(self.mixers, str) else self.mixers[i]
        return LayerFields(name, getattr(self, name), self.d_intermediate, self.rms_norm, self.norm_eps)

    @classmethod
    def preset(cls, name: str, **changes: Any) -> MambaConfig | Mamba2Config:
        """The named preset, with any field replaced; of a pure Mamba-2 it is a Mamba2Config."""
        require(name in PRESETS, "preset", f"one of {', '.join(PRESETS)}", name)
        if "mixers" not in PRESETS[name]:
            return Mamba2Config.preset(name, **changes)
        return cls.from_dict({**PRESETS[name], **changes})

    def to_dict(self) -> dict[str, Any]:
        """All fields by name, those of mixers in dicts of their own."""
        fields = super().to_dict()
        for name in self.mixer_fields_by_name:
            del fields[name]["d_model"]
        return fields

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "mixers", self._mixers_by_name(self.mixers))
        for name in MIXERS:
            object.__setattr__(self, name, self._fields_of(name, getattr(self, name)))

    def _check(self, field: dataclasses.Field[Any]) -> None:
        if field.name == "d_intermediate":
            require_whole("d_intermediate", self.d_intermediate)
            require(0 <= self.d_intermediate <= LARGEST_COUNT, "d_intermediate", "at least 0", self.d_intermediate)
        elif field.name not in ("mixers", *MIXERS):
            super()._check(field)

    def _mixers_by_name(self, mixers: Any) -> str | tuple[str, ...]:
        """One name where all are the same."""
        names = (mixers,) if isinstance(mixers, str) else tuple(mixers) if isinstance(mixers, list | tuple) else ()
        if not names or not all(isinstance(name, str) for name in names):
            raise TypeError(f"mixers must be a name, or a name for each layer; got {mixers!r}")
        for name in names:
            require(name in MIXERS, "mixers", f"made of the names {', '.join(MIXERS)}", name)
        if not isinstance(mixers, str) and len(names) != self.n_layer:
            raise ValueError(f"mixers must be one name, or one for each of {self.n_layer} layers; got {len(names)}")
        return names[0] if len(set(names)) == 1 else names

    def _fields_of(self, name: str, given: Any) -> Fields | None:
        """The fields of a mixer, checked, with the model's d_model."""
        if name not in ((self.mixers,) if isinstance(self.mixers, str) else self.mixers):
            require(given is None, name, "left out, for no layer of `mixers` is one", given)
            return None
        fields = given.to_dict() | {"d_model": self.d_model} if isinstance(given, MIXERS[name]) else given or {}
        if not isinstance(fields, Mapping):
            raise TypeError(f"{name} must be a dict of its fields; got {given!r}")
        if fields.get("d_model", self.d_model) != self.d_model:
            raise ValueError(f"{name} must leave d_model to the model, {self.d_model}; got {fields['d_model']!r}")
        try:
            return MIXERS[name].from_dict({**fields, "d_model": self.d_model})
        except (TypeError, ValueError) as error:
            raise type(error)(f"{name}: {error}") from error


def config_of(config: StackFields | None, fields: Mapping[str, Any]) -> StackFields:
    """The config that is given whole, or by its fields; a pure Mamba-2, however it is given, as a `Mamba2Config`.

    Raises:
        TypeError: if both are given, or something else than a config.
    """
    if config is not None and fields:
        raise TypeError(f"give a config or its fields, not both; got a config and {', '.join(fields)}")
    if not isinstance(config, StackFields | None):
        raise TypeError(f"config must be a Mamba2Config or a MambaConfig; got {type(config).__name__}")
    if config is None:
        config = (MambaConfig if "mixers" in fields else Mamba2Config).from_dict(dict(fields))
    return _as_mamba2(config) if isinstance(config, MambaConfig) else config


def _as_mamba2(config: MambaConfig) -> StackFields:
    """The same as a `Mamba2Config`, if it is a pure Mamba-2."""
    mixer = config.mamba2
    if mixer is None or config.mixers != "mamba2" or config.d_intermediate or not config.rms_norm:
        return config
    if mixer.norm_eps != config.norm_eps:
        return config
    stack = {field.name: getattr(config, field.name) for field in dataclasses.fields(StackFields)}
    return Mamba2Config(**{**mixer.to_dict(), **stack})


def tokens_per_piece(config: StackFields, device: str = "cpu") -> int:
    """How many tokens of a long prompt are read at once, in whole chunks, on a type of device.

    The scan takes a thousand at once anyway, so pieces of as many cost nothing. Wide models take fewer: a layer of a
    piece has to end before somebody who asks to stop is heard. A card of the kind of cuda is done with a thousand
    before the next thousand operations are launched: it takes eight times as many.
    """
    most = min(1024, max(256, 2**30 // config.d_model**2)) * (8 if device == "cuda" else 1)
    chunk = longest_chunk(config)
    return max(1, most // chunk) * chunk


def longest_chunk(config: StackFields) -> int:
    """The largest chunk_size of its mixers, in tokens; 1 if none works in chunks."""
    return max(getattr(fields, "chunk_size", 1) for fields in config.mixer_fields_by_name.values())
