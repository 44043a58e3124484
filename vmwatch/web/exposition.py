"""Metrics as text, for Prometheus and whatever else reads OpenMetrics. Pure.

The formats: prometheus.io/docs/instrumenting/exposition_formats, and OpenMetrics 1.0.0. The two differ in the names
of counters' families, in how an info metric is called, and in the end's mark.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate

from vmwatch.ledger import ChannelView
from vmwatch.models import SECOND, Instant, LineState, Standing
from vmwatch.tally import Histogram, Tally

_ESCAPES = {"\\": r"\\", "\n": r"\n", '"': r"\""}
_SPECIAL = re.compile(r'[\\\n"]')

Labels = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Form:
    content_type: str
    is_openmetrics: bool


PLAIN = Form("text/plain; version=0.0.4; charset=utf-8", is_openmetrics=False)
OPENMETRICS = Form("application/openmetrics-text; version=1.0.0; charset=utf-8", is_openmetrics=True)


@dataclass(frozen=True, slots=True)
class Sample:
    value: float
    labels: Labels = field(default_factory=dict)
    suffix: str = ""


@dataclass(frozen=True, slots=True)
class Family:
    """`name` is without what a counter's (`_total`) or an info's (`_info`) samples end with."""

    name: str
    kind: str
    unit: str
    about: str
    samples: Iterable[Sample]
    """To be gone through once: of 50,000 lines there are half a million, which are made one by one."""


def families(
    tally: Tally,
    lines: Sequence[Standing],
    channels: Sequence[ChannelView],
    oldest: Instant | None,
    now: Instant,
    build: Labels,
) -> tuple[Family, ...]:
    """Everything there is to measure. `oldest` is when the oldest alert was made that some channel still waits for."""
    return (
        _info("vmwatch_build", "Which vmwatch this is.", build),
        *_of_polls(tally),
        *_of_lines(tally, lines),
        *_of_channels(tally, channels),
        _gauge(
            "vmwatch_oldest_unsent_alert_age_seconds",
            "Age of the oldest alert that a channel still waits for; 0 where there is none.",
            [Sample((now - oldest) / SECOND if oldest is not None else 0)],
            unit="seconds",
        ),
        _histogram(
            "vmwatch_ledger_commit_duration_seconds", "How long the store's transactions took.", tally.commit_time
        ),
    )


def _of_polls(tally: Tally) -> Iterator[Family]:
    polls = [Sample(n, {"state": state, "reason": reason}) for (state, reason), n in sorted(tally.polls.items())]
    yield _counter("vmwatch_polls", "Polls by what they came to: the line's state after it, and the reason.", polls)
    yield _histogram(
        "vmwatch_poll_duration_seconds", "How long the operator took to answer, or not to.", tally.poll_time
    )
    yield _histogram("vmwatch_poll_lateness_seconds", "How much later than due polls began.", tally.lateness)
    claims = [Sample(tally.claims[kind], {"kind": kind}) for kind in ("delivery", "poll")]
    yield _counter("vmwatch_claims", "Attempts that were written down before they were made.", claims)
    yield _counter("vmwatch_rounds", "Rounds that were completed.", [Sample(tally.rounds)])
    if tally.last_round_at is not None:
        about = "When the last round was completed."
        yield _timestamp("vmwatch_last_round_timestamp_seconds", about, [Sample(tally.last_round_at / SECOND)])


def _of_lines(tally: Tally, lines: Sequence[Standing]) -> Iterator[Family]:
    states = (
        Sample(int(line.state is state), {"line": line.name, "state": state}) for line in lines for state in LineState
    )
    yield _gauge("vmwatch_line_state", "1 for the state that a line is in, 0 for every other.", states)
    read = ((line, max(line.last_success_at or 0, tally.last_read.get(line.number, 0))) for line in lines)
    yield _timestamp(
        "vmwatch_line_last_read_timestamp_seconds",
        "When a line was last read; absent where it never was.",
        (Sample(at / SECOND, {"line": line.name}) for line, at in read if at),
    )
    messages = (Sample(tally.messages[line.name], {"line": line.name}) for line in lines)
    yield _counter("vmwatch_messages", "Voicemails seen for the first time.", messages)


def _of_channels(tally: Tally, channels: Sequence[ChannelView]) -> Iterator[Family]:
    sent = [Sample(n, {"channel": name, "outcome": what}) for (name, what), n in sorted(tally.deliveries.items())]
    yield _counter("vmwatch_deliveries", "Attempts to send an alert, by what became of them.", sent)
    for what in ("pending", "dead"):
        counts = [Sample(getattr(view, what), {"channel": view.standing.name}) for view in channels]
        yield _gauge(f"vmwatch_deliveries_{what}", f"Deliveries that are {what}.", counts)


def _counter(name: str, about: str, samples: Iterable[Sample]) -> Family:
    return Family(name, "counter", "", about, (Sample(one.value, one.labels, "_total") for one in samples))


def _gauge(name: str, about: str, samples: Iterable[Sample], unit: str = "") -> Family:
    return Family(name, "gauge", unit, about, samples)


def _timestamp(name: str, about: str, samples: Iterable[Sample]) -> Family:
    return _gauge(name, about, samples, unit="seconds")


def _info(name: str, about: str, labels: Labels) -> Family:
    return Family(name, "info", "", about, (Sample(1, labels, "_info"),))


def _histogram(name: str, about: str, histogram: Histogram) -> Family:
    bounds = [*map(str, histogram.bounds), "+Inf"]
    sums = tuple(accumulate(histogram.counts))
    buckets = (Sample(count, {"le": bound}, "_bucket") for bound, count in zip(bounds, sums, strict=True))
    whole = (Sample(sums[-1], suffix="_count"), Sample(histogram.total, suffix="_sum"))
    return Family(name, "histogram", "seconds", about, (*buckets, *whole))


def text(families: Iterable[Family], form: Form) -> Iterator[str]:
    """Line by line, each with its end."""
    for family in families:
        for line in _lines(family, form):
            yield f"{line}\n"
    if form.is_openmetrics:
        yield "# EOF\n"


def _lines(family: Family, form: Form) -> Iterator[str]:
    name, kind = (family.name, family.kind) if form.is_openmetrics else _plain(family)
    yield f"# HELP {name} {family.about}"
    yield f"# TYPE {name} {kind}"
    if form.is_openmetrics and family.unit:
        yield f"# UNIT {name} {family.unit}"
    for sample in family.samples:
        yield f"{family.name}{sample.suffix}{_labels(sample.labels)} {_number(sample.value)}"


def _plain(family: Family) -> tuple[str, str]:
    ending = {"counter": "_total", "info": "_info"}.get(family.kind, "")
    return family.name + ending, "gauge" if family.kind == "info" else family.kind


def _labels(labels: Labels) -> str:
    pairs = (f'{name}="{_SPECIAL.sub(lambda found: _ESCAPES[found[0]], value)}"' for name, value in labels.items())
    return f"{{{','.join(pairs)}}}" if labels else ""


def _number(value: float) -> str:
    return repr(value) if isinstance(value, float) else str(value)
