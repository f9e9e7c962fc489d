"""Writes more files than fit on a page."""

from pathlib import Path

import valohai

for number in range(5_020):
    Path(valohai.outputs(f"part-{number // 1000}").path(f"{number}.txt")).write_text(str(number))
