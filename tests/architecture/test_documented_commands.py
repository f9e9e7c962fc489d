"""Each command that the pages for AWS tell is either run by a test or says why none can."""

from __future__ import annotations

import pytest

from tests.documented import PAGES, Block, blocks, documented

PAGE = """Text.

<!-- tested: answers y -->
```
sam deploy
```

```json
{"not": "a command"}
```

<!-- live account: rings a bell -->
```sh
ring
it
```

```
nobody said who ran this
```
"""


@pytest.mark.parametrize("page", PAGES)
def test_every_block_of_commands_says_who_has_run_it(page: str) -> None:
    silent = [str(block) for block in documented(page) if not block.is_marked]

    assert not silent, f"no mark before {', '.join(silent)}: tests/documented.py lists the marks"


@pytest.mark.parametrize("page", PAGES)
def test_every_page_has_commands_that_a_test_runs(page: str) -> None:
    assert any(block.is_tested and not block.prepares for block in documented(page))


def test_blocks_are_found_with_their_marks_and_other_languages_are_left_out() -> None:
    found = list(blocks("page.md", PAGE))

    assert [(b.line, b.text) for b in found] == [
        (5, "sam deploy\n"),
        (14, "ring\nit\n"),
        (19, "nobody said who ran this\n"),
    ]
    assert [b.is_marked for b in found] == [True, True, False]
    assert [b.is_tested for b in found] == [True, False, False]
    assert found[0].answer == "y"


@pytest.mark.parametrize(
    "mark", ["<!-- live account -->", "<!-- live account: -->", "<!-- tested: sometimes -->", "<!-- testet -->", "Text"]
)
def test_a_mark_without_a_reason_or_with_an_unknown_word_is_none(mark: str) -> None:
    assert not Block("page.md", 1, mark, "true\n").is_marked
