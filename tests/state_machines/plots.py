"""What may happen to the state machines that are deployed: one function per story, played on every runner."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from lamplighter.errors import Conflict, NoCapacity, NotYet, Throttled, Unavailable
from lamplighter.ports import Json
from tests.state_machines.courses import Play

EXECUTION = {"execution_id": "e1"}
MACHINE = {"machine_id": "m1", "boot_seconds": 30}
YEAR = 31_000_000


@dataclass(frozen=True)
class Plot:
    """A story about one run of a definition."""

    definition: str
    argument: Json
    act: Callable[[Play], None]


PLOTS: dict[str, Plot] = {}


def plot(definition: str, argument: Json) -> Callable[[Callable[[Play], None]], None]:
    def add(act: Callable[[Play], None]) -> None:
        PLOTS[act.__name__] = Plot(definition, argument, act)

    return add


# --- execution ------------------------------------------------------------------------------------------------------


@plot("execution", EXECUTION)
def an_execution_ends_well(play: Play) -> None:
    play.start()
    play.pass_time(3)
    play.answer("begin_execution", {"any": "answer"})


@plot("execution", EXECUTION)
def an_execution_is_begun_by_a_busy_control_plane(play: Play) -> None:
    play.tasks.failures["begin_execution"] = [Throttled("slow down"), Unavailable("away"), Conflict("again")]
    play.start()
    play.pass_time(10)
    play.answer("begin_execution")


@plot("execution", EXECUTION)
def an_execution_is_answered_by_the_token_of_an_earlier_try(play: Play) -> None:
    play.tasks.failures["begin_execution"] = [Unavailable("away")]
    play.start()
    play.answer("begin_execution")
    play.pass_time(1)
    play.answer("begin_execution", nth=0)
    play.fail("begin_execution", "Lost", nth=0)
    play.answer("begin_execution", nth=1)


@plot("execution", EXECUTION)
def an_execution_that_cannot_begin_is_settled(play: Play) -> None:
    play.tasks.failures["begin_execution"] = [KeyError("a fault of ours")]
    play.start()


@plot("execution", EXECUTION)
def an_execution_uses_up_its_tries_to_begin(play: Play) -> None:
    play.tasks.failures["begin_execution"] = [Throttled("slow down")] * 21
    play.start()
    play.pass_time(480)
    play.pass_time(60)


@plot("execution", EXECUTION)
def an_execution_is_failed_from_outside(play: Play) -> None:
    play.start()
    play.fail("begin_execution", "Lost")


@plot("execution", EXECUTION)
def an_execution_is_failed_from_outside_by_a_name_that_is_tried_again(play: Play) -> None:
    play.start()
    play.fail("begin_execution", "Throttled")
    play.pass_time(1)
    play.answer("begin_execution")


@plot("execution", EXECUTION)
def an_execution_is_answered_twice(play: Play) -> None:
    play.start()
    play.answer("begin_execution")
    play.answer("begin_execution")
    play.fail("begin_execution", "Lost")


@plot("execution", EXECUTION)
def an_execution_is_answered_while_it_begins(play: Play) -> None:
    play.tasks.reactions["begin_execution"] = lambda call: play.workflow.resume(call["task_token"], {})
    play.start()


@plot("execution", EXECUTION)
def an_execution_is_started_again_and_again(play: Play) -> None:
    play.start()
    play.start()
    play.answer("begin_execution")
    play.start()


@plot("execution", EXECUTION)
def an_execution_is_stopped_while_it_waits(play: Play) -> None:
    play.start()
    play.stop()
    play.answer("begin_execution")
    play.stop()
    play.pass_time(YEAR, step=YEAR)


@plot("execution", EXECUTION)
def an_execution_is_stopped_between_two_tries(play: Play) -> None:
    play.tasks.failures["begin_execution"] = [Unavailable("away")]
    play.start()
    play.stop()
    play.pass_time(10)


@plot("execution", EXECUTION)
def an_execution_is_stopped_while_it_begins(play: Play) -> None:
    play.tasks.reactions["begin_execution"] = lambda _call: play.workflow.stop("execution-1", "enough")
    play.start()
    play.pass_time(5)


@plot("execution", EXECUTION)
def an_execution_is_stopped_when_it_has_ended(play: Play) -> None:
    play.start()
    play.answer("begin_execution")
    play.stop()


@plot("execution", EXECUTION)
def an_execution_waits_for_a_year(play: Play) -> None:
    play.start()
    play.pass_time(YEAR - 1, step=YEAR - 1)
    play.pass_time(1)
    play.answer("begin_execution")


@plot("execution", EXECUTION)
def an_execution_is_settled_at_the_eighth_try(play: Play) -> None:
    play.tasks.failures["settle_execution"] = [RuntimeError("a fault of ours")] * 7
    play.start()
    play.answer("begin_execution")
    play.watch(130, every=10)


@plot("execution", {})
def an_execution_without_an_id_fails_in_the_end(play: Play) -> None:
    play.start()
    play.pass_time(1441 * 60, step=60)


# --- machine --------------------------------------------------------------------------------------------------------


@plot("machine", MACHINE)
def a_machine_lives_and_retires(play: Play) -> None:
    play.start()
    play.answer("launch_machine")
    play.pass_time(YEAR - 1, step=YEAR - 1)
    play.answer("watch_machine")


@plot("machine", MACHINE)
def a_machine_does_not_register_in_time(play: Play) -> None:
    play.start()
    play.pass_time(29)
    play.pass_time(1)
    play.answer("launch_machine")


@plot("machine", MACHINE)
def a_machine_finds_no_capacity(play: Play) -> None:
    play.tasks.failures["launch_machine"] = [NoCapacity("none left")]
    play.start()


@plot("machine", MACHINE)
def a_machine_is_refused_after_its_launch(play: Play) -> None:
    play.start()
    play.fail("launch_machine", "LaunchRefused")


@plot("machine", MACHINE)
def a_machine_has_the_whole_limit_for_each_try(play: Play) -> None:
    play.tasks.failures["launch_machine"] = [Throttled("slow down")] * 4
    play.start()
    play.pass_time(15)
    play.pass_time(29)
    play.pass_time(1)


@plot("machine", MACHINE)
def a_machine_uses_up_its_tries_to_launch(play: Play) -> None:
    play.tasks.failures["launch_machine"] = [Unavailable("away")] * 11
    play.start()
    play.pass_time(180)
    play.pass_time(1)


@plot("machine", MACHINE)
def a_machine_is_lost(play: Play) -> None:
    play.start()
    play.answer("launch_machine")
    play.fail("watch_machine", "MachineLost")


@plot("machine", MACHINE)
def a_machine_is_answered_by_the_token_of_the_state_before(play: Play) -> None:
    play.start()
    play.answer("launch_machine")
    play.answer("launch_machine")
    play.fail("launch_machine", "LaunchRefused")
    play.answer("watch_machine")


@plot("machine", MACHINE)
def a_machine_is_not_gone_yet(play: Play) -> None:
    play.tasks.failures["put_out_machine"] = [NotYet("stopping")] * 12
    play.start()
    play.fail("launch_machine", "LaunchRefused")
    play.watch(200, every=10)


@plot("machine", MACHINE)
def a_machine_is_put_out_over_many_kinds_of_trouble(play: Play) -> None:
    faults = [NotYet("stopping"), ValueError("a fault of ours"), NotYet("stopping"), Unavailable("away")]
    play.tasks.failures["put_out_machine"] = faults * 2
    play.tasks.failures["settle_machine"] = [Conflict("again"), KeyError("a fault of ours")]
    play.start()
    play.fail("launch_machine", "LaunchRefused")
    play.watch(60, every=4)


@plot("machine", MACHINE)
def a_machine_is_stopped_while_it_works(play: Play) -> None:
    play.start()
    play.answer("launch_machine")
    play.stop()
    play.answer("watch_machine")
    play.pass_time(YEAR, step=YEAR)


@plot("machine", {"machine_id": "m1"})
def a_machine_without_a_boot_limit_is_put_out(play: Play) -> None:
    play.start()


@plot("machine", {"machine_id": "m1", "boot_seconds": "soon"})
def a_machine_whose_boot_limit_is_no_number_is_put_out(play: Play) -> None:
    play.start()
