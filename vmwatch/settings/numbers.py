"""Telephone numbers."""

from __future__ import annotations

import re
from typing import Any

import phonenumbers


def e164(value: Any) -> str:
    if not isinstance(value, str) or not re.fullmatch(r"\+[1-9][0-9]{4,14}", value):
        raise ValueError('must be a number in E.164 form, like "+4571919998"')
    if not _is_possible(value):
        raise ValueError("is not a possible phone number: check its country code and its length")
    return value


def _is_possible(number: str) -> bool:
    try:
        return phonenumbers.is_possible_number(phonenumbers.parse(number))
    except phonenumbers.NumberParseException:
        return False
