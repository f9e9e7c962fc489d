"""Megabytes a second: a 200 MB archive of code into the server, outputs out of a run; beside plain copies of the same bytes.

Outputs are counted from the program's last instruction to the end of the execution: hashed, sent, stored and written down. The
server reads an archive whole before it accepts it. Goal: outputs, in large and in small files, at 0.8 of a copy.
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from tests.bench._stage import Project, archive, moment, place, server, timed, verdict

ARCHIVE_MB, LARGE_MB = 200, 1074
FILES, FILE_BYTES = 2000, 100_000
GOAL = 0.8
STAMP = "date +%s%N"
LARGE = f'head -c 1073741824 /dev/zero > "$VH_OUTPUTS_DIR/large"; {STAMP}'
SMALL = (
    f"""cd "$VH_OUTPUTS_DIR"; head -c {FILES * FILE_BYTES} /dev/urandom | split -b {FILE_BYTES} -a 4 - part-; {STAMP}"""
)


def copied(source: Path, target: Path) -> float:
    return timed(lambda: subprocess.run(["cp", "-r", str(source), str(target)], check=True))


def floors(folder: Path, code: bytes) -> tuple[float, float, float]:
    """Seconds of a plain copy of the archive, the large file and the small ones."""
    (folder / "code").write_bytes(code)
    with (folder / "large").open("wb") as file:
        for _ in range(1024):
            file.write(b"\0" * 2**20)
    (folder / "small").mkdir()
    for number in range(FILES):
        (folder / "small" / str(number)).write_bytes(os.urandom(FILE_BYTES))
    found = [copied(folder / name, folder / f"{name}-copy") for name in ("code", "large", "small")]
    return found[0], found[1], found[2]


def stored(project: Project, step: str) -> float:
    """Seconds from the program's last instruction to the end of the execution."""
    ended = project.run(step)
    return moment(ended["end_time"]) - int(project.said(ended["id"])[-1]) / 1e9


def row(name: str, megabytes: float, seconds: float, least: float, goal: float = 0.0) -> None:
    told = f"{goal:.2f} {verdict(least / seconds >= goal)}" if goal else ""
    told = (
        f"{name:38} {seconds:8.2f} {megabytes / seconds:8.0f} {megabytes / least:10.0f} {least / seconds:6.2f}  {told}"
    )
    print(told.rstrip())


def main() -> None:
    code = archive({"valohai.yaml": b"[]", "model.bin": os.urandom(ARCHIVE_MB * 1_000_000)})
    with place() as folder:
        copy, large_copy, small_copy = floors(folder, code)
    with server("process", "--max-machines", "1") as running:
        project = Project(running, {"nothing": "true", "large": LARGE, "small": SMALL})
        project.run("nothing")
        upload = timed(lambda: project.upload(code))
        large = stored(project, "large")
        small = stored(project, "small")
    print(f"{'':38} {'seconds':>8} {'MB/s':>8} {'copy MB/s':>10} {'ratio':>6}  goal")
    row(f"ad-hoc code, {ARCHIVE_MB} MB", ARCHIVE_MB, upload, copy)
    row("one output of 1 GiB", LARGE_MB, large, large_copy, GOAL)
    row(f"{FILES} outputs of 100 kB", FILES * FILE_BYTES / 1e6, small, small_copy, GOAL)
    print(f"{f'{FILES} outputs of 100 kB':38} {small / FILES * 1000:8.1f} ms a file")


if __name__ == "__main__":
    main()
