"""Records to JSON and back, strictly: what a store gives back is what was put in, to the bit.

A record is a frozen dataclass whose fields are numbers, text, truth values, None, other records,
tuples and mappings of these, or ``Any`` that is plain JSON already. An unknown key, a missing field
and a value of another kind are errors, so that no record is read as what it is not. Fields marked
:data:`NOT_STORED` are left out, and have their default when they are read back; one whose metadata
names what it was called ``formerly`` is read under that name too.
"""

from __future__ import annotations

import json
import types
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, Field, fields, is_dataclass
from functools import cache
from typing import (
    Any,
    Literal,
    TypeGuard,
    TypeVar,
    Union,
    cast,
    get_args,
    get_origin,
    get_type_hints,
)

from bitgap.errors import StoreError

Record = TypeVar("Record")

NOT_STORED: Mapping[str, bool] = {"stored": False}
"""Metadata of a field that a store keeps elsewhere or not at all; such a field has a default."""


def is_object(value: Any) -> TypeGuard[dict[str, Any]]:
    """Returns whether what was read is an object."""
    return isinstance(value, dict)


def is_array(value: Any) -> TypeGuard[list[Any]]:
    """Returns whether what was read is an array."""
    return isinstance(value, list)


def to_json(value: Any) -> Any:
    """Returns a record, or what a record may hold, as JSON knows it."""
    if is_dataclass(value) and not isinstance(value, type):
        return {f.name: to_json(getattr(value, f.name)) for f in _stored(type(value))}
    if isinstance(value, Mapping):
        items = cast("Mapping[str, Any]", value).items()
        return {name: to_json(item) for name, item in items}
    if isinstance(value, list | tuple):
        return [to_json(item) for item in cast("Sequence[Any]", value)]
    return value


def from_json(kind: type[Record], value: Any) -> Record:
    """Returns the record that :func:`to_json` was given.

    Args:
        kind: The record's class.
        value: Its JSON.

    Raises:
        StoreError: If a key is unknown or missing, or a value is of another kind.
    """
    return cast("Record", _read(kind, value, kind.__name__))


def encode(record: Any) -> str:
    """Returns a record as JSON text; NaN and infinity are errors."""
    return json.dumps(to_json(record), ensure_ascii=False, allow_nan=False)


def decode(kind: type[Record], text: str) -> Record:
    """Returns the record that :func:`encode` wrote.

    Raises:
        StoreError: As :func:`from_json` has it.
    """
    try:
        value = json.loads(text)
    except (TypeError, ValueError, RecursionError) as error:
        raise StoreError(f"a stored {kind.__name__} is no JSON: {error}") from None
    return from_json(kind, value)


@cache
def _stored(kind: type) -> tuple[Field[Any], ...]:
    return tuple(f for f in fields(kind) if f.metadata.get("stored", True))


@cache
def _hints(kind: type) -> dict[str, Any]:
    return get_type_hints(kind)


def _read(hint: Any, value: Any, where: str) -> Any:
    if hint is Any:
        return value
    if is_dataclass(hint):
        return _read_record(cast("type", hint), value, where)
    origin, inner = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        if value is None and type(None) in inner:
            return None
        (hint,) = (one for one in inner if one is not type(None))
        return _read(hint, value, where)
    if origin is Literal:
        _check(value in inner, value, where, " or ".join(map(repr, inner)))
        return value
    if origin is tuple:
        _check(isinstance(value, list), value, where, "a list")
        if inner[-1] is not Ellipsis:
            _check(len(value) == len(inner), value, where, f"{len(inner)} values")
            return tuple(_read(h, item, where) for h, item in zip(inner, value, strict=True))
        return tuple(_read(inner[0], item, where) for item in value)
    if origin is Sequence:
        _check(isinstance(value, list), value, where, "a list")
        return [_read(inner[0], item, where) for item in value]
    if origin is Mapping:
        _check(isinstance(value, dict), value, where, "an object")
        return {name: _read(inner[1], item, f"{where}.{name}") for name, item in value.items()}
    return _read_plain(hint, value, where)


def _read_record(kind: type, value: Any, where: str) -> Any:
    _check(isinstance(value, dict), value, where, "an object")
    stored = _stored(kind)
    former = {f.metadata["formerly"]: f.name for f in stored if "formerly" in f.metadata}
    value = {former.get(name, name): item for name, item in value.items()}
    if unknown := value.keys() - {f.name for f in stored}:
        raise StoreError(f"a stored {kind.__name__} has unknown fields {sorted(unknown)}")
    required = {f.name for f in stored if f.default is MISSING and f.default_factory is MISSING}
    if missing := required - value.keys():
        raise StoreError(f"a stored {kind.__name__} does not fit: it lacks {sorted(missing)}")
    hints = _hints(kind)
    read = {name: _read(hints[name], v, f"{kind.__name__}.{name}") for name, v in value.items()}
    try:
        return kind(**read)
    except ValueError as error:
        raise StoreError(f"a stored {kind.__name__} does not fit: {error}") from error


_PLAIN: Mapping[Any, tuple[type, ...]] = {
    str: (str,), bool: (bool,), int: (int,), float: (int, float)
}  # fmt: skip
"""What JSON has for each plain type; a float that is a whole number may have lost its point."""


def _read_plain(hint: Any, value: Any, where: str) -> Any:
    if hint not in _PLAIN:
        raise TypeError(f"{where} is a {hint}, which is nothing that JSON gives back")
    fits = isinstance(value, _PLAIN[hint]) and (hint is bool or not isinstance(value, bool))
    _check(fits, value, where, hint.__name__)
    return value


def _check(fits: bool, value: Any, where: str, wanted: str) -> None:
    if not fits:
        raise StoreError(f"a stored {where} does not fit: it is {value!r:.60}, not {wanted}")
