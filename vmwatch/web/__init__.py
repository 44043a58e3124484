"""What vmwatch answers over HTTP: its state as JSON, its health, its metrics. It only looks, and changes nothing."""

from __future__ import annotations

from vmwatch.web.facts import Facts
from vmwatch.web.listener import Beside
from vmwatch.web.site import Web

__all__ = ["Beside", "Facts", "Web"]
