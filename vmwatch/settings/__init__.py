"""The shape of a configuration: every key, its default and what it may hold. Pure; `config` finds the values."""

from __future__ import annotations

from pydantic import Field

from vmwatch.models import Duration, Recipient
from vmwatch.settings.callers import UNKNOWN, WITHHELD, Callers
from vmwatch.settings.channels import Alerts, Channel, Template, Templates
from vmwatch.settings.contacts import CardDav, Contacts, ContactSources
from vmwatch.settings.lines import LONGEST_LABEL, MOST_STEPS, Escalation, Line
from vmwatch.settings.polling import (
    BRISK,
    Backoff,
    DeliveryPolicy,
    ErrorBackoff,
    LockoutBackoff,
    Operator,
    Polling,
    Retry,
)
from vmwatch.settings.spans import LONGEST, Interval, Leisure, Span, Wait, duration, spelled
from vmwatch.settings.store import Store, is_shared, passwords_of
from vmwatch.settings.table import Name, Table
from vmwatch.settings.times import Budget, QuietWindow, Reminder, ReminderStep, TimeOfDay
from vmwatch.settings.web import LifeSign, Web, address

__all__ = [
    "BRISK",
    "LONGEST",
    "LONGEST_LABEL",
    "MOST_STEPS",
    "UNKNOWN",
    "WITHHELD",
    "Alerts",
    "Backoff",
    "Budget",
    "Callers",
    "CardDav",
    "Channel",
    "ContactSources",
    "Contacts",
    "DeliveryPolicy",
    "ErrorBackoff",
    "Escalation",
    "Interval",
    "Leisure",
    "LifeSign",
    "Line",
    "LockoutBackoff",
    "Name",
    "Operator",
    "Polling",
    "QuietWindow",
    "Reminder",
    "ReminderStep",
    "Retry",
    "Settings",
    "Span",
    "Store",
    "Template",
    "Templates",
    "TimeOfDay",
    "Wait",
    "Web",
    "address",
    "duration",
    "is_shared",
    "passwords_of",
    "spelled",
]


class Settings(Table):
    """A whole, accepted configuration."""

    operator: Operator = Operator()
    polling: Polling = Polling()
    delivery: DeliveryPolicy = DeliveryPolicy()
    store: Store = Store()
    web: Web = Web()
    alerts: Alerts = Alerts()
    heartbeat: LifeSign = LifeSign()
    contacts: Contacts = Contacts()
    channels: dict[Name, Channel] = Field(default_factory=dict)
    callers: dict[Name, Callers] = Field(default_factory=dict)
    lines: dict[Name, Line] = Field(default_factory=dict)

    def language_of(self, channel: str) -> str:
        return self.channels[channel].language or self.alerts.language

    def timezone_of(self, channel: str) -> str | None:
        return self.channels[channel].timezone or self.alerts.timezone

    def label_of(self, name: str) -> str:
        return self.lines[name].label or name

    def interval_of(self, name: str) -> Duration:
        return self.lines[name].interval or self.polling.interval

    def recipients_of(self, name: str) -> tuple[Recipient, ...]:
        """The channels of a line, in the order of the configuration."""
        wanted = self.lines[name].channels
        return tuple(recipient for recipient in self.recipients() if wanted is None or recipient.name in wanted)

    def recipients(self) -> tuple[Recipient, ...]:
        return tuple(Recipient(name, channel.events) for name, channel in self.channels.items())
