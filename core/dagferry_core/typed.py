"""Converts decoded JSON, which may be anything, to a NamedTuple: its fields are checked against their annotations.

``typing.get_type_hints`` and ``inspect`` are not used: they would cost a sidecar's start more than all of its records.
"""

import json
from collections.abc import Callable, Mapping
from types import NoneType, UnionType
from typing import Any, NamedTuple, TypeVar, get_args, get_origin

from dagferry_core.errors import FormatError

_Tuple = TypeVar("_Tuple", bound=tuple[Any, ...])
_Fits = Callable[[Any], bool]


class _Field(NamedTuple):
    name: str
    plain: type | None
    """The one type that the value has; ``None`` where ``fits`` has to look into it."""
    fits: _Fits
    expected: str


_known: dict[type, tuple[_Field, ...]] = {}


def typed(cls: type[_Tuple], raw: object) -> _Tuple:
    """Return the NamedTuple ``cls`` with the fields of ``raw``, a decoded JSON object.

    What ``raw`` has beyond them is ignored; what it lacks has its default. A field may be a ``str``, ``int`` or
    ``bool``, a ``list`` or ``Mapping`` of those, or one of these or ``None``. Raises ``FormatError``, which names
    the field, where one is missing that has no default, or has another type (``true`` is not an ``int``).
    """
    if not isinstance(raw, dict):
        raise FormatError("it is not a JSON object")
    values = {}
    for name, plain, fits, expected in _known.get(cls) or _fields(cls):
        if name in raw:
            value = raw[name]
            if type(value) is not plain and not fits(value):
                raise FormatError(f"its {name} is not {expected}")
            values[name] = value
        elif name not in cls._field_defaults:  # type: ignore[attr-defined] # every NamedTuple has it
            raise FormatError(f"it has no {name}")
    return cls(**values)


def typed_json(cls: type[_Tuple], data: bytes) -> _Tuple:
    """Return what ``typed`` makes of JSON text; ``FormatError`` also if it is not valid JSON."""
    try:
        raw = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise FormatError(f"it is not JSON: {error}") from error
    return typed(cls, raw)


def _fields(cls: type) -> tuple[_Field, ...]:
    fields = tuple(
        _Field(name, annotation if isinstance(annotation, type) else None, _fits(annotation), _named(annotation))
        for name, annotation in cls.__annotations__.items()
    )
    _known[cls] = fields
    return fields


def _fits(annotation: Any) -> _Fits:
    origin, arguments = get_origin(annotation), tuple(map(_fits, get_args(annotation)))
    if origin is UnionType:
        return lambda value: any(fits(value) for fits in arguments)
    if origin is list:
        return lambda value: type(value) is list and all(map(arguments[0], value))
    if origin is Mapping:
        return lambda value: type(value) is dict and all(map(arguments[1], value.values()))
    return lambda value: type(value) is annotation


_NAMES = {str: "a text", int: "a whole number", bool: "true or false", NoneType: "null"}


def _named(annotation: Any) -> str:
    origin, arguments = get_origin(annotation), tuple(map(_named, get_args(annotation)))
    if origin is UnionType:
        return " or ".join(arguments)
    if origin is list:
        return f"a list, each item {arguments[0]}"
    if origin is Mapping:
        return f"an object, each value {arguments[1]}"
    return _NAMES[annotation]
