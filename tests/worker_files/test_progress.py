"""What holds inputs up is told in a few bounded lines, and forgotten when it is over."""

from __future__ import annotations

from lamplighter_worker.progress import Hindrances, ProgressTeller


def test_a_hindrance_is_over_when_bytes_arrive() -> None:
    hindrances = Hindrances()
    phases: list[str] = []
    teller = ProgressTeller(2, hindrances, phases.append, lambda _: None)

    with hindrances.of("x") as hindrance:
        hindrance.again("http://data.example/a", "timed out")
        teller.tell(0)
        hindrance.over(1, 2)
        teller.tell(0)

    assert phases == ["fetching inputs: 0 of 2 (x: timed out, trying again)", "fetching inputs: 0 of 2"]


def test_a_hindrance_is_over_when_its_file_was_given_up() -> None:
    hindrances = Hindrances()

    with hindrances.of("x") as hindrance:
        hindrance.again("http://data.example/a", "timed out")

    assert hindrances.now() == ""


def test_many_files_with_many_troubles_are_few_lines() -> None:
    hindrances = Hindrances()

    for n in range(1000):
        with hindrances.of("x") as hindrance:
            hindrance.again(f"http://data.example/{n}", "timed out")
            hindrance.again(f"http://data.example/{n}", f"broke off after {n} bytes\n" + "!" * 9999)

    lines = hindrances.news()
    assert len(lines) <= 20
    assert all(line.isprintable() and len(line) < 1000 for line in lines)
    assert hindrances.news() == []


def test_progress_that_stands_still_is_said_once() -> None:
    said: list[str] = []
    teller = ProgressTeller(3, Hindrances(), lambda _: None, said.append)

    for done in (0, 0, 2, 2, 3, 3):
        teller.tell(done)

    assert said == ["Fetching inputs: 0 of 3", "Fetching inputs: 3 of 3"]
