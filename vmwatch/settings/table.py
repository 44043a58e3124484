"""What every table of a configuration has in common: names, kinds of alert, and secrets that are not shown."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, PlainSerializer, SecretStr

from vmwatch.models import WORDED

_NAME = re.compile(r"[a-z0-9_]+")
_GROUPS = frozenset(kind.group for kind in WORDED)
_KINDS = frozenset(kind.value for kind in WORDED)


def event(value: Any) -> str:
    if not isinstance(value, str) or value not in _GROUPS | _KINDS:
        raise ValueError(f"must be one of {', '.join(sorted(_GROUPS | _KINDS))}")
    return value


def _name(value: Any) -> str:
    if not isinstance(value, str) or not _NAME.fullmatch(value) or "__" in value:
        raise ValueError("a name is made of a-z, 0-9 and _ (never two _ in a row)")
    return value


def not_empty(value: SecretStr) -> SecretStr:
    if not value.get_secret_value().strip():
        raise ValueError("must not be empty")
    return value


def no_truth(value: Any) -> Any:
    if isinstance(value, bool):
        raise ValueError("must be a number")
    return value


def or_none(read: Callable[[Any], Any]) -> Callable[[Any], Any]:
    return lambda value: None if value is None else read(value)


AS_TEXT = PlainSerializer(str, return_type=str, when_used="json-unless-none")
HIDDEN = PlainSerializer(lambda _: "<secret>", return_type=str, when_used="json-unless-none")
Name = Annotated[str, BeforeValidator(_name)]


class Table(BaseModel):
    # hide_input_in_errors: a ValidationError prints what it refused, and that may be a PIN.
    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)
