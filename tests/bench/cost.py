"""What AWS bills for the reference execution and for an idle month, at list prices and without any free tier.

The execution is played in virtual time through the real handlers; units, requests and transitions are counted, the time of a
function is its CPU time here, scaled to its share of a core, plus a wait for each call of another service.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from typing import Any

from tests.bench._meter import Meter
from tests.bench._reference_run import DYING_SECONDS, IDLE_SECONDS, Stage
from tests.infra.stack import ROOT, Stack, deployed

MB_OF_A_CORE = 1769
"""Lambda gives one core for so much memory (https://docs.aws.amazon.com/lambda/latest/dg/configuration-memory.html)."""

WAIT_SECONDS = 0.005
"""For a call of DynamoDB or S3 in the same region: an assumption, on the high side of what they publish."""

SIGNING_SECONDS = {"api": 0.0002, "worker_api": 0.0002}
SDK_SECONDS = 0.0007
"""CPU time that a call through the doubles does not show: our signed call, and one through botocore."""

LOG_BYTES = 600
"""What Lambda itself writes for a call that logs at its level INFO; ours log at WARN, which leaves errors alone."""

MINUTES_OF_MONTH = 60 * 24 * 30
HOURS_OF_MONTH = 730
"""By which AWS divides what it bills by the month."""

GOALS = {"execution": 0.30, "idle": 3.00}


def main() -> None:
    prices = tomllib.loads((ROOT / "infra" / "prices" / "aws.toml").read_text())
    stack = deployed()
    print(f"List prices of {prices['date']}, {prices['region']}; USD for 1,000 of each")
    print(
        f"assumed: {IDLE_SECONDS} s idle after the job, {DYING_SECONDS} s until the cloud says that a machine is gone"
    )
    execution, machine = _played()
    shown = {"one execution, 1 h": execution, f"its machine, {IDLE_SECONDS // 60} min idle": machine}
    bills = {name: _bill(meter, prices, stack) for name, meter in shown.items()}
    _table(bills, shown, stack)
    total = sum(bills["one execution, 1 h"].values()) * 1000
    _judge("1,000 executions", total, GOALS["execution"])
    _beside(prices, stack)
    _idle(prices, stack)


def _judge(what: str, usd: float, goal: float) -> None:
    print(f"goal for {what}: ${goal:.2f}: ${usd:.3f} {'met' if usd <= goal else 'MISSED'}")


def _played() -> tuple[Meter, Meter]:
    """The bill of an execution on a machine that is there, and that of the machine it came with."""
    execution, machine = Meter(), Meter()
    stage = Stage(execution)
    execution_id = stage.submit()
    stage.meter_with(machine)
    machine_id = stage.light()
    stage.meter_with(execution)
    stage.run(execution_id)
    stage.meter_with(machine)
    stage.idle()
    stage.put_out(machine_id)
    return execution, machine


def _bill(meter: Meter, prices: Mapping[str, Any], stack: Stack) -> dict[str, float]:
    """USD by service."""
    counts = meter.counts
    calls = sum(meter.calls.values())
    gigabyte_seconds = sum(_seconds(meter, f, stack) * _megabytes(f, stack) / 1024 for f in meter.calls)
    return {
        "Lambda requests": calls * prices["lambda"]["request"],
        "Lambda time": gigabyte_seconds * prices["lambda"]["arm_gb_second"],
        "HTTP API": counts["requests"] * prices["http_api"]["request"],
        "DynamoDB writes": counts["write_units"] * prices["dynamodb"]["write_unit"],
        "DynamoDB reads": counts["read_units"] * prices["dynamodb"]["read_unit"],
        "S3 requests": counts["puts"] * prices["s3"]["put"] + counts["gets"] * prices["s3"]["get"],
        "Step Functions": counts["transitions"] * prices["step_functions"]["transition"],
        "Scheduler": counts["scheduled"] * prices["scheduler"]["invocation"],
    }


def _seconds(meter: Meter, function: str, stack: Stack) -> float:
    """Billed by Lambda for all calls of the function."""
    services = meter.waits[function]
    cpu = meter.cpu[function] + services * SIGNING_SECONDS.get(function, SDK_SECONDS)
    return cpu * MB_OF_A_CORE / _megabytes(function, stack) + services * WAIT_SECONDS


def _megabytes(function: str, stack: Stack) -> int:
    """The memory that the template gives to the function."""
    return int(stack.resource(f"{function.title().replace('_', '')}Function").properties["MemorySize"])


def _table(bills: Mapping[str, Mapping[str, float]], meters: Mapping[str, Meter], stack: Stack) -> None:
    names = next(iter(bills.values())).keys()
    print(f"{'':18}" + "".join(f"{column:>26}" for column in bills))
    for name in names:
        print(f"{name:18}" + "".join(f"{bill[name] * 1000:26.4f}" for bill in bills.values()))
    print(f"{'together':18}" + "".join(f"{sum(bill.values()) * 1000:26.4f}" for bill in bills.values()))
    for name, meter in meters.items():
        counted = dict(meter.counts) | {f"calls of {f}": n for f, n in meter.calls.items()}
        print(f"{name}: " + ", ".join(f"{n} {what}" for what, n in sorted(counted.items())))
        times = ", ".join(f"{f} {_seconds(meter, f, stack) / n * 1000:.0f} ms" for f, n in meter.calls.items())
        print(f"  billed for a call: {times}")


def _beside(prices: Mapping[str, Any], stack: Stack) -> None:
    """What a machine costs beside its instance, however little it does."""
    gigabytes = int(stack.parameters["WorkerDiskGiB"])
    disk = gigabytes * prices["ec2"]["gp3_gb_month"] / HOURS_OF_MONTH
    address = prices["ec2"]["public_ipv4_hour"]
    print(
        f"1,000 hours of a machine beside its instance: address ${address * 1000:.2f}, {gigabytes} GB disk ${disk * 1000:.2f}"
    )


def _idle(prices: Mapping[str, Any], stack: Stack) -> None:
    """One sweep a minute over an installation that has worked and rests, and what lies there."""
    meter = Meter()
    stage = Stage(Meter())
    stage.meter_with(meter)
    metrics = stage.sweep_once()["_aws"]["CloudWatchMetrics"][0]["Metrics"]
    sweeps = {name: usd * MINUTES_OF_MONTH for name, usd in _bill(meter, prices, stack).items() if usd}
    print(f"an idle month: {dict(meter.counts)} a sweep, {MINUTES_OF_MONTH} of them")
    alarms = sum(r.type == "AWS::CloudWatch::Alarm" for r in stack.resources)
    fixed = {
        "sweep's log": MINUTES_OF_MONTH * LOG_BYTES / 1e9 * prices["cloudwatch"]["log_gb"],
        "metrics": len(metrics) * prices["cloudwatch"]["metric_month"],
        "alarms": alarms * prices["cloudwatch"]["alarm_month"],
        "image, 8 GB": 8 * prices["ec2"]["snapshot_gb_month"],
        "1 GB of records": prices["dynamodb"]["gb_month"] + prices["dynamodb"]["pitr_gb_month"],
    }
    month = {**sweeps, **fixed}
    for name, usd in month.items():
        print(f"  {name:18}{usd:8.3f}")
    _judge("an idle month", sum(month.values()), GOALS["idle"])


if __name__ == "__main__":
    main()
