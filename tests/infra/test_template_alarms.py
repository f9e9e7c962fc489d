"""The rules that alarms keep: each leads to a page, and watches what is counted."""

from __future__ import annotations

import re

from functions.aws.sweep import METRICS, NAMESPACE
from tests.infra.reading import of
from tests.infra.stack import ROOT


def test_every_alarm_leads_to_its_page():
    text = (ROOT / "docs" / "runbooks.md").read_text()
    pages = {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in re.findall(r"^## (.+)$", text, re.M)}
    described = {name: alarm.properties["AlarmDescription"] for name, alarm in of("CloudWatch::Alarm").items()}

    assert [n for n, said in described.items() if said.rpartition("docs/runbooks.md#")[2] not in pages] == []


def test_every_page_has_what_somebody_woken_up_needs():
    text = (ROOT / "docs" / "runbooks.md").read_text()

    for page in re.split(r"^## ", text, flags=re.M)[1:]:
        for part in ("**Symptom.**", "**Check.**", "**Act.**", "**Verify.**"):
            assert part in page, f"{page.splitlines()[0]} has no {part}"


def test_alarms_watch_what_is_counted_and_nothing_is_counted_that_none_watches():
    filtered = {f.properties["MetricTransformations"][0]["MetricName"] for f in of("Logs::MetricFilter").values()}
    ours = {
        a.properties["MetricName"] for a in of("CloudWatch::Alarm").values() if a.properties["Namespace"] == NAMESPACE
    }

    assert ours == {*METRICS, *filtered}


def test_a_sweep_that_says_nothing_is_an_alarm_while_other_silence_is_none():
    silent = {n: a.properties["TreatMissingData"] for n, a in of("CloudWatch::Alarm").items()}

    assert {name for name, how in silent.items() if how == "breaching"} == {"SweepSilent"}


def test_every_queue_and_every_function_is_watched():
    dimensions = [d for a in of("CloudWatch::Alarm").values() for d in a.properties.get("Dimensions", [])]
    watched = {d["Value"] for d in dimensions}

    assert set(of("SQS::Queue")) | set(of("Serverless::Function")) <= watched
