"""What msgspec says of a value that does not fit, made to name the keys that would."""

import difflib
import re
import types
from collections.abc import Collection
from typing import Annotated, Any, Union, get_args, get_origin

import msgspec
from msgspec import Struct

_STEP = re.compile(r"\.([^.\[\]]+)|\[([0-9]+|\.\.\.)\]")


def explain(error: str, kind: Any, value: Any) -> str:
    """Return the text of a ValidationError of `value` as `kind`; an unknown field becomes a key and its remedy."""
    if "unknown field" not in error:
        return error
    wrong = error.split("`")[1]
    _, _, path = error.partition(" - at `$")
    known: set[str] = set()
    for owner in _owners(kind, value, path.rstrip("`")):
        known |= {field.encode_name for field in msgspec.structs.fields(owner)}
    where = f" - at `${path}" if path else ""
    return f"unknown key {wrong!r}{suggest(wrong, known)}{where}"


def suggest(wrong: str, known: Collection[str]) -> str:
    """Return which of the `known` names was probably meant, or all of them."""
    close = difflib.get_close_matches(wrong, known, n=1)
    if close:
        return f"; did you mean {close[0]!r}?"
    return f"; known: {', '.join(sorted(known))}" if known else ""


def _owners(kind: Any, value: Any, path: str) -> list[type[Struct]]:
    """Return the struct at `path` below `kind`; of a tagged union the one that `value` says it is."""
    for key, index in _STEP.findall(path):
        kind, value = _inside(kind, value, key, index)
    return [s for s in _structs(kind) if _fits(s, value)]


def _inside(kind: Any, value: Any, key: str, index: str) -> tuple[Any, Any]:
    if key:
        for struct in _structs(kind):
            for field in msgspec.structs.fields(struct):
                if field.encode_name == key and _fits(struct, value):
                    return field.type, value.get(key) if isinstance(value, dict) else None
        return None, None
    inner = [a for a in get_args(_plain(kind)) if a is not Ellipsis]
    number = int(index) if index.isdigit() else -1
    known = isinstance(value, (list, tuple)) and 0 <= number < len(value)
    return (inner[-1] if inner else None), value[number] if known else None


def _plain(kind: Any) -> Any:
    return _plain(get_args(kind)[0]) if get_origin(kind) is Annotated else kind


def _structs(kind: Any) -> list[type[Struct]]:
    kind = _plain(kind)
    if get_origin(kind) in (Union, types.UnionType):
        return [struct for option in get_args(kind) for struct in _structs(option)]
    return [kind] if isinstance(kind, type) and issubclass(kind, Struct) else []


def _fits(struct: type[Struct], value: Any) -> bool:
    """Return whether `value` may be this member of a tagged union; what has no tag may be any."""
    config = struct.__struct_config__
    if config.tag is None or not isinstance(value, dict) or config.tag_field not in value:
        return True
    return bool(value[config.tag_field] == config.tag)
