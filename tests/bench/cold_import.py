"""Cold start of each door, as a ratio to boto3 with one DynamoDB client: processor time of fresh processes, taken in turns, the
least counts.

Goals: the door of people and the server's API at most 0.65 to import, the doors of machines at most 0.40. The lines below tell what
the first request adds to an import, which no goal bounds: a door loads then what that request needs.
"""

from __future__ import annotations

import os
import subprocess
import sys

ROUNDS = 9
FLOOR = "import boto3; boto3.client('dynamodb', region_name='eu-north-1')"
FIRST = """
from functions.aws import {door}
from tests.doubles import make_world
world = make_world()
event = {{"rawPath": "{path}", "headers": {{}}, "requestContext": {{"http": {{"method": "{method}"}}}}}}
answer = {door}.make_handler(lambda: world)(event)
assert answer["statusCode"] == {status}, answer
"""
DOORS = {
    "use cases of the worker API": ("import lamplighter.usecases.lease_job, lamplighter.usecases.report", 0.40),
    "the agent": ("import lamplighter_worker.main", 0.40),
    "AWS: the worker API": ("import functions.aws.worker_api", 0.40),
    "AWS: the API": ("import functions.aws.api", 0.65),
    "AWS: tasks": ("import functions.aws.tasks", 0.40),
    "AWS: outbox": ("import functions.aws.outbox", 0.40),
    "AWS: audit": ("import functions.aws.audit", 0.40),
    "AWS: events": ("import functions.aws.events", 0.40),
    "AWS: sweep": ("import functions.aws.sweep", 0.40),
}
LATER = {
    "its connection to DynamoDB": ("import functions.aws.worker_api", "import adapters.metadata.dynamodb_http"),
    "its first page": ("import functions.aws.api", FIRST.format(door="api", method="GET", path="/", status=200)),
    "its first API call": (
        "import functions.aws.api",
        FIRST.format(door="api", method="GET", path="/api/v0/executions/", status=401),
    ),
}
DOUBLES = "import tests.doubles"
"""What the trial of a first call loads for itself, and the door does not."""


def seconds(code: str) -> float:
    """The processor time of one fresh interpreter, from start to end."""
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.DEVNULL)
    _, status, used = os.wait4(process.pid, 0)
    if status != 0:
        raise SystemExit(f"this program failed: {code}")
    return used.ru_utime + used.ru_stime


def main() -> None:
    programs = {"floor": FLOOR, "bare": "pass"} | {name: code for name, (code, _) in DOORS.items()}
    for name, (before, code) in LATER.items():
        with_doubles = DOUBLES if "make_world" in code else ""
        programs |= {f"before {name}": f"{before}\n{with_doubles}", f"with {name}": f"{before}\n{with_doubles}\n{code}"}
    taken = {name: seconds(code) for name, code in programs.items()}
    for _ in range(ROUNDS):
        for name, code in programs.items():
            taken[name] = min(taken[name], seconds(code))
    floor = taken["floor"] - taken["bare"]
    print(f"{'import':34} {'ms':>6} {'ratio':>6}  goal")
    print(f"{'boto3 + one DynamoDB client':34} {floor * 1000:6.0f} {1:6.2f}")
    for name, (_, goal) in DOORS.items():
        used = taken[name] - taken["bare"]
        verdict = "met" if used <= goal * floor else "MISSED"
        print(f"{name:34} {used * 1000:6.0f} {used / floor:6.2f}  {goal:.2f} {verdict}")
    print("and more, once:")
    for name in LATER:
        used = taken[f"with {name}"] - taken[f"before {name}"]
        print(f"{name:34} {used * 1000:6.0f} {used / floor:6.2f}")


if __name__ == "__main__":
    main()
