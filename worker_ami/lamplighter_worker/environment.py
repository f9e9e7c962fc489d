"""The environment variables of a run."""

from __future__ import annotations

import socket
from collections.abc import Mapping

from lamplighter.contract.job import Job

# Either would make loggers wrap each metadata line in another object.
FORBIDDEN = ("VALOHAI_PORT",)


def environment_of(job: Job, visible: Mapping[str, str], base: Mapping[str, str]) -> dict[str, str]:
    """What the run sees: `base` below the user's variables below the platform's own."""
    own = {
        "VH_JOB_ID": f"exec-{job.execution_id}",
        "VH_EXECUTION_ID": job.execution_id,
        "VH_PROJECT_ID": job.project_id,
        **{f"VH_{name.upper()}_DIR": path for name, path in visible.items()},
    }
    if address := local_address():
        own["VH_LOCAL_IP"] = address
    merged = {**base, "PYTHONUNBUFFERED": "1", **job.environment, **own}
    return {name: value for name, value in merged.items() if name not in FORBIDDEN}


def is_on(job: Job, name: str) -> bool:
    """Whether the user set an agent control such as `VH_CLEAN`."""
    return job.environment.get(name, "").strip().lower() in ("1", "yes", "true")


def local_address() -> str:
    """This machine's address in its network, empty when it has none. Sends nothing."""
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.connect(("192.0.2.1", 9))
            return str(probe.getsockname()[0])
    except OSError:
        return ""
