"""Cold import of each door, as a ratio to boto3 with one DynamoDB client: fresh processes, taken in turns, the quickest counts.

Goals: the API door at most 0.65, the worker's own contract (what a hot door cannot do without) at most 0.40.
"""

from __future__ import annotations

import subprocess
import sys
import time

ROUNDS = 9
FLOOR = "import boto3; boto3.client('dynamodb', region_name='eu-north-1')"
DOORS = {
    "use cases of the worker API": ("import lamplighter.usecases.lease_job, lamplighter.usecases.report", 0.40),
    "records and secrets on AWS": (
        "from adapters.metadata.dynamodb_http import DynamoDbHttpMetadata\n"
        "from adapters.secrets.parameter_store import ParameterStoreSecrets\n"
        "DynamoDbHttpMetadata('records', region='eu-north-1'), ParameterStoreSecrets('/prefix', region='eu-north-1')",
        0.40,
    ),
    "the agent": ("import lamplighter_worker.main", 0.40),
    "the API door": ("import functions.api", 0.65),
}


def seconds(code: str) -> float:
    """One fresh interpreter, from start to end."""
    begun = time.perf_counter()
    subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - begun


def main() -> None:
    programs = {"floor": FLOOR, "bare interpreter": "pass"} | {name: code for name, (code, _) in DOORS.items()}
    for code in programs.values():
        seconds(code)
    taken = {name: min(seconds(code) for _ in range(ROUNDS)) for name, code in programs.items()}
    bare = taken["bare interpreter"]
    floor = taken["floor"] - bare
    print(f"{'import':34} {'ms':>6} {'ratio':>6}  goal")
    print(f"{'boto3 + one DynamoDB client':34} {floor * 1000:6.0f} {1:6.2f}")
    for name, (_, goal) in DOORS.items():
        ratio = (taken[name] - bare) / floor
        print(
            f"{name:34} {(taken[name] - bare) * 1000:6.0f} {ratio:6.2f}  {goal:.2f} {'met' if ratio <= goal else 'MISSED'}"
        )


if __name__ == "__main__":
    main()
