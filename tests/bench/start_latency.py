"""From the order over REST to the first instruction of the step, on a warm machine; beside a bare `docker run` of the image.

Goals for containers: p50 at most `docker run` + 150 ms, p99 at most `docker run` + 400 ms. Orders and bare runs take turns.
An idle machine asks for work four times a second, so that an eighth of a second of the figure is waiting on average.
"""

from __future__ import annotations

import random
import subprocess
import time

from tests.bench._stage import IMAGE, Project, percentile, server, verdict
from tests.e2e.image import ensure_image

ROUNDS = 30
PROGRAM = ["python", "-c", "import time;print(time.time_ns())"]
COMMAND = 'python -c "import time;print(time.time_ns())"'
P50_MS, P99_MS = 150, 400


def bare() -> float:
    """Milliseconds from the call of docker to the first instruction."""
    begun = time.time_ns()
    run = subprocess.run(["docker", "run", "--rm", IMAGE, *PROGRAM], capture_output=True, check=True)
    return (int(run.stdout) - begun) / 1e6


def ordered(project: Project) -> float:
    """Milliseconds from the order to the first instruction."""
    time.sleep(random.uniform(0.1, 0.35))  # at any moment between two questions of the machine
    begun = time.time_ns()
    execution_id = project.submit("stamp")
    project.ended(execution_id)
    return (int(project.said(execution_id)[0]) - begun) / 1e6


def measure(runtime: str, beside: bool) -> tuple[list[float], list[float]]:
    with server(runtime, "--max-machines", "1") as running:
        project = Project(running, {"stamp": COMMAND})
        project.run("stamp")
        floors, figures = [], []
        for _ in range(ROUNDS):
            if beside:
                floors.append(bare())
            figures.append(ordered(project))
    return floors, figures


def main() -> None:
    ensure_image()
    floors, in_containers = measure("docker", beside=True)
    _, as_processes = measure("process", beside=False)
    print(f"{f'order to first instruction, n={ROUNDS}':42} {'p50 ms':>8} {'p99 ms':>8}  goal")
    low, high = percentile(floors, 0.5), percentile(floors, 0.99)
    print(f"{'docker run (floor)':42} {low:8.0f} {high:8.0f}")
    p50, p99 = percentile(in_containers, 0.5), percentile(in_containers, 0.99)
    told = f"{low + P50_MS:.0f} {verdict(p50 <= low + P50_MS)}, {high + P99_MS:.0f} {verdict(p99 <= high + P99_MS)}"
    print(f"{'in a container, warm machine':42} {p50:8.0f} {p99:8.0f}  {told}")
    p50, p99 = percentile(as_processes, 0.5), percentile(as_processes, 0.99)
    print(f"{'as a process, warm machine':42} {p50:8.0f} {p99:8.0f}")


if __name__ == "__main__":
    main()
