"""Converts decoded JSON, which may be anything, to NamedTuples that may contain each other.

``dagferry_core.typed`` does the same for flat ones and costs a sidecar's start less.
"""

from collections.abc import Mapping
from types import NoneType, UnionType
from typing import Any, TypeVar, get_args, get_origin

from dagferry_core.errors import FormatError

_Tuple = TypeVar("_Tuple", bound=tuple[Any, ...])
_NAMES = {str: "a text", int: "a whole number", float: "a fraction", bool: "true or false", NoneType: "null"}


def decode(cls: type[_Tuple], raw: object) -> _Tuple:
    """Return the NamedTuple ``cls`` with the fields of ``raw``, a decoded JSON object.

    What ``raw`` has beyond them is ignored; what it lacks has its default. A field may be a ``str``, ``int``,
    ``float``, ``bool`` or ``None``, another NamedTuple, a ``list`` or ``Mapping`` of these, or a union. Raises
    ``FormatError``, which names the field, where one is missing that has no default, or has another type.
    """
    found = _tuple(cls, raw, "")
    assert isinstance(found, cls)  # noqa: S101 - for mypy
    return found


def _tuple(cls: Any, raw: object, where: str) -> object:
    if not isinstance(raw, dict):
        raise FormatError(f"{where or 'it'} is not a JSON object")
    prefix = f"{where}." if where else ""
    values = {}
    for name, annotation in cls.__annotations__.items():
        if name in raw:
            values[name] = _value(annotation, raw[name], prefix + name)
        elif name not in cls._field_defaults:
            raise FormatError(f"{prefix}{name} is missing")
    return cls(**values)


def _value(annotation: Any, value: Any, where: str) -> Any:
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is UnionType:
        return _one_of(arguments, value, where)
    if origin is list:
        if type(value) is not list:
            raise FormatError(f"{where} is not a list")
        return [_value(arguments[0], one, f"{where}[{index}]") for index, one in enumerate(value)]
    if origin is Mapping:
        if type(value) is not dict:
            raise FormatError(f"{where} is not a JSON object")
        return {name: _value(arguments[1], one, f"{where}.{name}") for name, one in value.items()}
    if annotation not in _NAMES:
        return _tuple(annotation, value, where)
    if type(value) is not annotation:  # true is not a whole number
        raise FormatError(f"{where} is not {_NAMES[annotation]}")
    return value


def _one_of(annotations: tuple[Any, ...], value: Any, where: str) -> Any:
    """Return ``value`` as one of the types of a union: several plain ones, or one other, and maybe null."""
    if type(value) in annotations or (value is None and NoneType in annotations):
        return value
    return _value(next(one for one in annotations if one is not NoneType), value, where)
