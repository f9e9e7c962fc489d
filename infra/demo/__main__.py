"""`make demo`: a server, the real `vh`, and a model that is trained on it, from nothing to its lineage."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import FrameType
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

from client import CommandFailed, Vh
from report import lineage, summary, verified
from server import Server, forget_old_states

ROOT = Path(__file__).parents[2]
CACHE = ROOT / ".cache"
DEMOS = ROOT / ".lamplighter" / "demo"
TRAINING = ("--learning-rate=0.003", "--epochs=12", "--hidden=64")


def main() -> int:
    """0 when the model is there, 1 when a step of the demo failed, 130 after Ctrl-C."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _interrupt)
    began = time.monotonic()
    forget_old_states(DEMOS)
    place = DEMOS / time.strftime("%Y%m%d-%H%M%S")
    place.mkdir(parents=True, mode=0o700)
    runtime = _runtime()
    server = Server(place / "state", runtime, python=CACHE / "digits" / "bin")
    done = False
    try:
        server.start()
        done = _tour(server, place, began)
    except CommandFailed as failure:
        print(f"\nThe demo stops: {failure}\n{server.tail()}", file=sys.stderr)
    except KeyboardInterrupt:
        print("\nInterrupted.", file=sys.stderr)
        server.stop()
        return 130
    if not done or os.environ.get("DEMO_ONCE"):
        server.stop()
        print(f"The server and its machines have ended. What they kept is in {_short(place)}.")
    return 0 if done else 1


def _tour(server: Server, place: Path, began: float) -> bool:
    vh = Vh(CACHE / "clients" / "bin" / "vh", place, server.url)
    project = shutil.copytree(
        ROOT / "examples" / "digits", place / "digits", ignore=shutil.ignore_patterns(".valohai", "__pycache__")
    )
    _heading("1  Log in and make a project, with the vh of every Valohai user")
    print(f"$ vh login --host {server.url} --username admin\n$ vh project create -n digits --link")
    vh("login", "--host", server.url, "--username", "admin", "--password", server.password, folder=project)
    vh("project", "create", "-n", "digits", "--link", folder=project)

    _heading("2  Run three steps; each takes the files of the ones before it")
    data = _step(vh, project, "preprocess")
    digits = f"--digits=datum://{data['outputs'][0]['id']}"
    model = _step(vh, project, "train", digits, *TRAINING)
    judged = _step(vh, project, "evaluate", digits, f"--model=datum://{model['outputs'][0]['id']}")
    steps = [data, model, judged]

    _heading("3  Take the model home")
    results = place / "results"
    print(f"$ vh exec outputs {model['counter']} -d results")
    vh("exec", "outputs", str(model["counter"]), "-d", str(results), folder=project)
    print(f"   {verified(results, model['outputs'])}  ->  {_short(results)}")

    _heading("4  Where everything came from")
    for step in steps:
        print(lineage(vh, step))
    print(summary(steps))
    print(f"\nDone in {time.monotonic() - began:.0f} s.")
    if not os.environ.get("DEMO_ONCE"):
        print(server.farewell())
    return True


def _step(vh: Vh, project: Path, step: str, *arguments: str) -> dict[str, Any]:
    """Run it, show its log while it runs, and give the execution as the server knows it. Raises `CommandFailed`."""
    print(f"\n$ vh exec run --adhoc {' '.join([step, *arguments])}")
    counter = vh.run(step, *arguments, folder=project)
    vh.show_log(counter, folder=project)
    execution = vh.execution(counter)
    if execution["status"] != "complete":
        why = execution["status_detail"] or f"exit code {execution['exit_code']}"
        raise CommandFailed(f"step {step} ended as {execution['status']}: {why}")
    return execution


def _runtime() -> str:
    """Containers where an engine answers and the image can be built, else plain processes; DEMO_RUNTIME decides otherwise."""
    wanted = os.environ.get("DEMO_RUNTIME", "")
    if wanted not in ("", "docker", "process"):
        raise SystemExit(f"DEMO_RUNTIME is {wanted!r}: set it to docker or process, or leave it out.")
    if wanted == "process":
        return wanted
    ready = _ran("infra/setup/docker.sh") and _ran("infra/images/build.sh", "lamplighter/digits:1")
    if ready or wanted == "docker":
        return "docker" if ready else _no_docker()
    print("  Going on without containers: the steps run as plain processes.")
    return "process"


def _no_docker() -> str:
    raise SystemExit("DEMO_RUNTIME=docker was asked for, and there is no Docker engine here.")


def _ran(script: str, *arguments: str) -> bool:
    return subprocess.run([str(ROOT / script), *arguments], stdin=subprocess.DEVNULL, check=False).returncode == 0


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _heading(text: str) -> None:
    print(f"\n{text}", flush=True)


def _short(path: Path) -> str:
    return os.path.relpath(path, ROOT)


if __name__ == "__main__":
    raise SystemExit(main())
