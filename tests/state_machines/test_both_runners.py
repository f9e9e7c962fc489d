"""The state machines that are deployed do the same on the embedded runner and on Step Functions, as ministack emulates it.

Both run in held time, so that nothing is scaled and no test waits. Heartbeats are not compared: the subset has none.
What ministack 1.5.33 does unlike AWS, and what we have done about it, is told where it is done: `tests/emulators/fixed_*.py`
for what is put right, `EmulatedPlace` for what is left out of the comparison.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from functools import cache

import pytest

from tests.emulators.theatre import Theatre
from tests.state_machines.courses import Course, EmbeddedPlace, EmulatedPlace, Play
from tests.state_machines.plots import PLOTS
from tests.state_machines.stage import DEFINITIONS

MOST_TRANSITIONS = {"execution": 3, "machine": 5}
"""Step Functions bill by the transition; what a life costs rests on these."""

Courses = Callable[[str], tuple[Course, Course]]


@pytest.fixture(scope="module")
def courses(emulated_step_functions: Theatre) -> Iterator[Courses]:
    """Plays a plot on both runners, once for all tests of it."""

    @cache
    def play_both(name: str) -> tuple[Course, Course]:
        with closing(EmulatedPlace(emulated_step_functions, DEFINITIONS)) as place:
            return played(name, EmbeddedPlace()), played(name, place)

    with pytest.MonkeyPatch.context() as settings:
        for name, value in emulated_step_functions.emulator.environment.items():
            settings.setenv(name, value)
        yield play_both


def played(name: str, place: EmbeddedPlace | EmulatedPlace) -> Course:
    plot = PLOTS[name]
    play = Play(place, plot.definition, plot.argument)
    plot.act(play)
    return play.course()


@pytest.mark.parametrize("name", PLOTS)
def test_a_plot_goes_the_same_way_on_both_runners(name: str, courses: Courses) -> None:
    embedded, emulated = courses(name)

    assert emulated == embedded


@pytest.mark.parametrize("name", PLOTS)
def test_no_plot_makes_more_transitions_than_a_life_may_cost(name: str, courses: Courses) -> None:
    embedded, emulated = courses(name)

    assert max(embedded.transitions, emulated.transitions) <= MOST_TRANSITIONS[PLOTS[name].definition]


@pytest.mark.parametrize(
    ("name", "calls"),
    [
        ("an_execution_ends_well", ["begin_execution", "settle_execution"]),
        ("a_machine_lives_and_retires", ["launch_machine", "watch_machine", "put_out_machine", "settle_machine"]),
    ],
)
def test_a_good_life_calls_each_task_once(name: str, calls: list[str], courses: Courses) -> None:
    for course in courses(name):
        assert [call["task"] for call in course.calls] == calls
        assert course.status == "succeeded"
