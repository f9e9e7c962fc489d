"""The commands of the pages for AWS, each with the mark that says who has run it.

A mark is a comment on the line before a block, which a reader of the rendered page does not see:

| Mark | Meaning |
|---|---|
| `<!-- tested -->` | a test runs the very text of the block on the emulated stack, in the order of the page |
| `<!-- tested: shell -->` | so too; it prepares the reader's shell, and is said again before each later block |
| `<!-- tested: answers WORD -->` | so too; each question is answered with this word (PASSWORD: the administrator's) |
| `<!-- tested: prints nothing -->` | so too; anything printed is a fault |
| `<!-- live account: REASON -->` | nobody has run it here, since it needs what no emulator has |
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
DEPLOY = "docs/deploy-aws.md"
RUNBOOKS = "docs/runbooks.md"
OPERATE = "docs/operate-aws.md"
PAGES = (DEPLOY, RUNBOOKS, OPERATE)

SHELLS = ("", "sh", "bash", "shell", "console")
"""What may stand behind the fence of a block of commands."""

MARK = re.compile(
    r"<!-- (?:tested|tested: (?P<how>shell|prints nothing|answers (?P<answer>\S+))|live account: (?P<reason>\S.+)) -->"
)


@dataclass(frozen=True, slots=True)
class Block:
    """Commands that stand on `page` from `line` on. `mark` is the line before its fence, if that is not empty."""

    page: str
    line: int
    mark: str
    text: str

    @property
    def is_marked(self) -> bool:
        return MARK.fullmatch(self.mark) is not None

    @property
    def is_tested(self) -> bool:
        return self.is_marked and self.mark.startswith("<!-- tested")

    @property
    def prepares(self) -> bool:
        return self._part("how") == "shell"

    @property
    def prints_nothing(self) -> bool:
        return self._part("how") == "prints nothing"

    @property
    def answer(self) -> str:
        return self._part("answer")

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"

    def _part(self, name: str) -> str:
        found = MARK.fullmatch(self.mark)
        return (found[name] or "") if found else ""


def blocks(page: str, text: str) -> Iterator[Block]:
    """The blocks of commands of a page, in its order. A fence that nothing closes ends with the page."""
    lines = text.splitlines()
    at = 0
    while at < len(lines):
        if not lines[at].startswith("```"):
            at += 1
            continue
        end = next((i for i in range(at + 1, len(lines)) if lines[i] == "```"), len(lines))
        if lines[at].removeprefix("```").strip() in SHELLS:
            yield Block(page, at + 2, lines[at - 1] if at else "", "\n".join(lines[at + 1 : end]) + "\n")
        at = end + 1


def documented(page: str) -> list[Block]:
    """The blocks of one of `PAGES`."""
    return list(blocks(page, (ROOT / page).read_text("utf-8")))
