"""What vmwatch answers over HTTP: its page, its state as JSON, its health, its metrics.

All of it only looks; what the page's buttons ask for is done by `Hands`, through the daemon's own ledger.
"""

from __future__ import annotations

from vmwatch.web.acts import Hands
from vmwatch.web.facts import Facts
from vmwatch.web.listener import Beside
from vmwatch.web.sight import Concerns
from vmwatch.web.site import Web

__all__ = ["Beside", "Concerns", "Facts", "Hands", "Web"]
