"""The text of /metrics: what Prometheus' own parsers and its linter say of it."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import parser
from prometheus_client.openmetrics import parser as openmetrics_parser
from values import NOW, NUMBER, standing, trusted

from vmwatch.ledger import ChannelView
from vmwatch.models import MINUTE, SECOND, ChannelStanding, LineState, Outcome, Reason
from vmwatch.tally import Histogram, Tally
from vmwatch.web.exposition import OPENMETRICS, PLAIN, Form, families, text

BUILD = {"version": "0.1.0", "python": "3.11.2"}
PARSERS = {PLAIN: parser.text_string_to_metric_families, OPENMETRICS: openmetrics_parser.text_string_to_metric_families}


def a_tally() -> Tally:
    tally = Tally()
    tally.polls[LineState.OK, Reason.NOTHING_NEW] = 7
    tally.polls[LineState.LOCKED, Reason.PIN_LOCKED] = 1
    tally.delivered("phone", Outcome.SENT)
    tally.begun(250)
    tally.begun(-5)
    tally.poll_time.add(120)
    tally.commit_time.add(1.5)
    tally.round_ended(NOW)
    tally.last_read[NUMBER] = NOW
    return tally


def written(form: Form, tally: Tally | None = None, **more: Any) -> str:
    lines = more.pop("lines", (trusted(), standing(number="+4571919999", name="office")))
    channels = more.pop("channels", (ChannelView(ChannelStanding("phone"), 2, 1),))
    found = families(tally or a_tally(), lines, channels, more.pop("oldest", None), NOW, BUILD)
    return "".join(text(found, form))


def read(form: Form, exposed: str) -> dict[tuple[str, ...], float]:
    return {
        (sample.name, *(f"{name}={value}" for name, value in sorted(sample.labels.items()))): sample.value
        for family in PARSERS[form](exposed)
        for sample in family.samples
    }


@pytest.mark.parametrize("form", [PLAIN, OPENMETRICS])
def test_what_was_counted_is_what_is_read(form: Form) -> None:
    found = read(form, written(form, oldest=NOW - 3 * MINUTE))
    assert found["vmwatch_build_info", "python=3.11.2", "version=0.1.0"] == 1
    assert found["vmwatch_polls_total", "reason=nothing_new", "state=ok"] == 7
    assert found["vmwatch_polls_total", "reason=pin_locked", "state=locked"] == 1
    assert found["vmwatch_poll_lateness_seconds_bucket", "le=0.1"] == 1
    assert found["vmwatch_poll_lateness_seconds_bucket", "le=0.5"] == 2
    assert found["vmwatch_poll_lateness_seconds_bucket", "le=+Inf"] == 2
    assert found["vmwatch_poll_lateness_seconds_sum",] == 0.25
    assert found["vmwatch_ledger_commit_duration_seconds_sum",] == 0.0015
    assert found["vmwatch_oldest_unsent_alert_age_seconds",] == 180
    assert found["vmwatch_line_state", "line=home", "state=ok"] == 1
    assert found["vmwatch_line_state", "line=home", "state=locked"] == 0
    assert found["vmwatch_line_last_read_timestamp_seconds", "line=home"] == NOW / SECOND
    assert found["vmwatch_deliveries_total", "channel=phone", "outcome=sent"] == 1
    assert found["vmwatch_deliveries_pending", "channel=phone"] == 2
    assert found["vmwatch_deliveries_dead", "channel=phone"] == 1
    assert found["vmwatch_claims_total", "kind=poll"] == 2


@pytest.mark.parametrize("form", [PLAIN, OPENMETRICS])
def test_a_daemon_that_has_just_begun_has_metrics_too(form: Form) -> None:
    found = read(form, written(form, Tally(), lines=(), channels=()))
    assert found["vmwatch_rounds_total",] == 0
    assert found["vmwatch_poll_duration_seconds_count",] == 0
    assert ("vmwatch_last_round_timestamp_seconds",) not in found


def test_the_two_forms_say_the_same() -> None:
    assert read(PLAIN, written(PLAIN)) == read(OPENMETRICS, written(OPENMETRICS))
    assert written(OPENMETRICS).endswith("\n# EOF\n")


@pytest.mark.parametrize("form", [PLAIN, OPENMETRICS])
def test_no_number_stands_in_it(form: Form) -> None:
    assert NUMBER.lstrip("+") not in written(form)


@given(name=st.text(st.characters(exclude_categories=("Cs",)), max_size=20))
@pytest.mark.parametrize("form", [PLAIN, OPENMETRICS])
def test_a_label_is_read_as_it_was_written(form: Form, name: str) -> None:
    tally = Tally()
    tally.delivered(name, Outcome.SENT)
    values = [
        sample.labels["channel"]
        for family in PARSERS[form](written(form, tally, lines=(), channels=()))
        for sample in family.samples
        if sample.name == "vmwatch_deliveries_total"
    ]
    assert values == [name]


def test_buckets_take_what_is_at_most_so_long() -> None:
    histogram = Histogram((0.1, 1.0))
    for span in (0, 100, 101, 1000, 1001, 10**9):
        histogram.add(span)
    assert histogram.counts == [2, 2, 2]
    assert histogram.total == pytest.approx(1_000_002.202)


needs_promtool = pytest.mark.skipif(
    shutil.which("promtool") is None, reason="promtool is in Debian's package prometheus"
)


def promtool(*arguments: str, text: str = "") -> tuple[int, str]:
    ran = subprocess.run(
        ["promtool", *arguments], input=text, capture_output=True, text=True, cwd=Path(__file__).parent
    )
    return ran.returncode, ran.stdout + ran.stderr


@needs_promtool
def test_prometheus_own_linter_finds_nothing() -> None:
    assert promtool("check", "metrics", text=written(PLAIN)) == (0, "")


@needs_promtool
def test_the_alert_rules_are_raised_by_what_they_are_for_and_by_nothing_else() -> None:
    status, said = promtool("check", "rules", "../docs/alerts.rules.yml")
    assert (status, "5 rules found" in said) == (0, True), said
    status, said = promtool("test", "rules", "alerts.test.yml")
    assert (status, "SUCCESS" in said) == (0, True), said


DOCS = Path(__file__).parent.parent / "docs"


def on_the_dashboard() -> list[str]:
    dashboard = json.loads((DOCS / "grafana.json").read_text())
    return [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]


@needs_promtool
def test_the_dashboard_asks_what_prometheus_understands(tmp_path: Path) -> None:
    asked = [expr.replace("$__rate_interval", "5m").replace("$job", ".*") for expr in on_the_dashboard()]
    rules = [{"record": f"panel:{place}", "expr": expr} for place, expr in enumerate(asked)]
    file = tmp_path / "rules.json"  # JSON is YAML
    file.write_text(json.dumps({"groups": [{"name": "dashboard", "rules": rules}]}))
    status, said = promtool("check", "rules", str(file))
    assert (status, f"{len(rules)} rules found" in said) == (0, True), said


def test_rules_and_dashboard_speak_of_metrics_that_there_are() -> None:
    rules = (DOCS / "alerts.rules.yml").read_text()
    there_are = {name for name, *_ in read(PLAIN, written(PLAIN))}
    assert set(re.findall(r"\bvmwatch_\w+", rules + " ".join(on_the_dashboard()))) <= there_are
    states = re.findall(r'state=~?"([a-z_|]+)"', rules)
    assert {state for group in states for state in group.split("|")} <= {state.value for state in LineState}
