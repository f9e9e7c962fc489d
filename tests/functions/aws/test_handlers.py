"""The functions that nobody calls by hand: state machines, the table's stream, EC2's events and the clock call them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pytest

from adapters.clouds.memory import MemoryCloud
from adapters.stores.memory import MemoryStore
from functions.aws import audit, events, outbox, sweep, tasks
from functions.messages import to_json
from lamplighter import errors, keys
from lamplighter.contract.wire import encode
from lamplighter.domain.machines import MachineState
from lamplighter.intents import Intent, intend
from lamplighter.intents import record as audit_record
from lamplighter.ports import Key, Put
from lamplighter.records import find, walk_together
from lamplighter.world import World
from tests.doubles import SteppingClock, make_world
from tests.life import Life

CONTEXT = object()


def stream_record(put: Put, number: int = 1, *, name: str = "INSERT") -> dict[str, Any]:
    """As DynamoDB Streams hands it on, with both images."""
    image = {"pk": {"S": put.key.partition}, "sk": {"S": put.key.sort}}
    value = {"version": {"N": "1"}, "value": {"S": to_json(put.value).decode()}}
    return {
        "eventID": f"{number:032x}",
        "eventName": name,
        "eventVersion": "1.1",
        "eventSource": "aws:dynamodb",
        "awsRegion": "eu-north-1",
        "dynamodb": {
            "ApproximateCreationDateTime": 1767607200.0,
            "Keys": image,
            **({"NewImage": {**image, **value}} if name != "REMOVE" else {"OldImage": {**image, **value}}),
            "SequenceNumber": f"{number:021d}",
            "SizeBytes": 100,
            "StreamViewType": "NEW_AND_OLD_IMAGES",
        },
        "eventSourceARN": "arn:aws:dynamodb:eu-north-1:123456789012:table/t/stream/2026-01-05T10:00:00.000",
    }


def stream(puts: Sequence[Put], **more: Any) -> dict[str, Any]:
    return {"Records": [stream_record(put, number, **more) for number, put in enumerate(puts, 1)]}


def ec2(kind: str, **detail: Any) -> dict[str, Any]:
    """As EventBridge hands it on."""
    return {
        "version": "0",
        "id": "7bf73129-1428-4cd3-a780-95db273d1602",
        "detail-type": kind,
        "source": "aws.ec2",
        "account": "123456789012",
        "time": "2026-01-05T10:00:00Z",
        "region": "eu-north-1",
        "resources": ["arn:aws:ec2:eu-north-1:123456789012:instance/i-0123456789abcdef0"],
        "detail": detail,
    }


# --- State machines -------------------------------------------------------------------------------------------------


def test_a_task_of_a_state_machine_is_done_and_answers_nothing_of_weight() -> None:
    life = Life()
    execution = life.submit()
    handle = tasks.make_handler(lambda: life.world)

    answer = handle({"task": "begin_execution", "execution_id": execution.id, "task_token": "t" * 600}, CONTEXT)

    assert answer == {}
    assert life.world.metadata.get(keys.workflow_token(execution.id)) is not None


@pytest.mark.parametrize("name", ["Throttled", "Unavailable", "Conflict", "NotYet", "NoCapacity", "LaunchRefused"])
def test_a_failure_has_the_name_that_the_definitions_catch(name: str) -> None:
    def refuse() -> World:
        raise getattr(errors, name)("because")

    with pytest.raises(errors.LamplighterError) as caught:
        tasks.make_handler(refuse)({"task": "settle_machine", "machine_id": "m"}, CONTEXT)

    # Lambda tells Step Functions the name of the class.
    assert type(caught.value).__name__ == name


def test_a_failure_that_an_adapter_derived_has_the_name_too() -> None:
    def refuse() -> World:
        raise Refused("DynamoDB was not reached")

    class Refused(errors.Unavailable):
        """As an adapter would tell it apart."""

    with pytest.raises(errors.Unavailable, match="not reached") as caught:
        tasks.make_handler(refuse)({"task": "settle_machine", "machine_id": "m"}, CONTEXT)
    assert caught.type.__name__ == "Unavailable"


def test_what_has_not_ended_is_not_settled() -> None:
    life = Life()
    execution = life.submit()

    with pytest.raises(errors.NotYet, match="has not ended"):
        tasks.make_handler(lambda: life.world)({"task": "settle_execution", "execution_id": execution.id}, CONTEXT)


def test_a_task_from_another_version_is_refused_with_those_that_are_known() -> None:
    with pytest.raises(errors.NotFound, match="settle_machine"):
        tasks.make_handler(make_world)({"task": "fly"}, CONTEXT)


# --- The stream: outbox ---------------------------------------------------------------------------------------------


def _intended(world: World, *kinds_and_arguments: tuple[Any, dict[str, Any]]) -> list[Put]:
    puts = [intend(world, kind, **argument) for kind, argument in kinds_and_arguments]
    for put in puts:
        world.metadata.transact([put])
    return puts


def _left(world: World) -> list[Key]:
    return [row.key for row in walk_together(world.metadata, keys.OUTBOX)]


def test_an_intent_is_carried_out_when_the_stream_shows_it_and_a_repetition_does_no_more() -> None:
    world = make_world()
    batch = stream(
        _intended(world, ("start_execution", {"execution_id": "e1"}), ("resume", {"token": "t", "output": {}}))
    )
    handle = outbox.make_handler(lambda: world)

    answers = [handle(batch, CONTEXT), handle(batch, CONTEXT)]

    assert answers == [{"batchItemFailures": []}] * 2
    assert set(world.workflow.started) == {"execution-e1"}  # type: ignore[attr-defined]
    assert world.workflow.resumed == [("t", {})]  # type: ignore[attr-defined]
    assert _left(world) == []


def test_what_is_no_intent_or_was_removed_is_passed_over() -> None:
    world = make_world()
    other = audit_record(world, "org", "me", "look", "thing")
    gone = _intended(world, ("start_execution", {"execution_id": "e1"}))
    handle = outbox.make_handler(lambda: world)

    answers = [handle(stream([other]), CONTEXT), handle(stream(gone, name="REMOVE"), CONTEXT)]

    assert answers == [{"batchItemFailures": []}] * 2
    assert len(_left(world)) == 1


@pytest.mark.parametrize(
    "poison",
    [("set_alias", {}), ("delete_object", {"store": "no", "key": "k"}), ("start_machine", {"machine_id": "m"})],
)
def test_an_intent_that_cannot_be_carried_out_holds_up_nobody_and_is_parked_in_the_end(
    poison: tuple[Any, dict[str, Any]],
) -> None:
    clock = SteppingClock()
    world = make_world(now=clock)
    batch = stream(_intended(world, poison, ("start_execution", {"execution_id": "e1"})))
    handle = outbox.make_handler(lambda: world)

    answer = handle(batch, CONTEXT)
    started = set(world.workflow.started)  # type: ignore[attr-defined]
    waiting = _left(world)
    for _ in range(10):
        clock.advance(hours=1)
        handle(batch, CONTEXT)

    assert (answer, started, len(waiting)) == ({"batchItemFailures": []}, {"execution-e1"}, 1)
    assert _left(world) == []
    parked = find(world.metadata, Intent, keys.parked(waiting[0].sort))
    assert parked is not None
    assert parked.value.tries == 8


def test_a_postponed_intent_is_left_to_the_sweep() -> None:
    world = make_world()
    batch = stream(_intended(world, ("set_alias", {})), name="MODIFY")
    handle = outbox.make_handler(lambda: world)
    handle(batch, CONTEXT)

    handle(batch, CONTEXT)

    (key,) = _left(world)
    stored = find(world.metadata, Intent, key)
    assert stored is not None
    assert stored.value.tries == 1


@pytest.mark.parametrize("fault", [errors.Throttled("slow down"), errors.Unavailable("nobody there")])
def test_records_come_again_from_the_one_that_the_metadata_did_not_answer_for(fault: Exception) -> None:
    world = make_world()
    batch = stream(_intended(world, *(("start_execution", {"execution_id": f"e{n}"}) for n in range(3))))
    asked = iter([world, fault, world])

    def give() -> World:
        found = next(asked)
        if isinstance(found, Exception):
            raise found
        return found

    answer = outbox.make_handler(give)(batch, CONTEXT)

    assert answer == {"batchItemFailures": [{"itemIdentifier": f"{2:021d}"}]}
    assert set(world.workflow.started) == {"execution-e0"}  # type: ignore[attr-defined]


# --- The stream: audit ----------------------------------------------------------------------------------------------


def test_a_batch_of_audit_records_becomes_one_object_however_often_it_comes() -> None:
    world, store = make_world(), MemoryStore()
    puts = [audit_record(world, "org-1", "ada", "project.create", f"p{n}", name="größer") for n in range(3)]
    batch = stream([*puts, intend(world, "resume", token="t", output={})])
    handle = audit.make_handler(lambda: store)

    handle(batch, CONTEXT)
    handle(batch, CONTEXT)

    (found,) = store.list("")
    lines = [json.loads(line) for line in b"".join(store.get(found.key)).splitlines()]
    assert lines == [{"organisation_id": "org-1", **encode(put.value)} for put in puts]
    assert found.key.startswith(f"2026/01/05/{puts[0].key.sort}-")
    assert found.key.endswith(".jsonl")


def test_changes_that_are_no_new_audit_record_write_nothing() -> None:
    world, store = make_world(), MemoryStore()
    put = audit_record(world, "org-1", "ada", "look", "p")
    handle = audit.make_handler(lambda: store)

    handle(stream([put], name="REMOVE"), CONTEXT)
    handle(stream([intend(world, "resume", token="t", output={})]), CONTEXT)

    assert list(store.list("")) == []


def test_audit_records_that_could_not_be_stored_come_again() -> None:
    def refuse() -> Any:
        raise errors.Unavailable("no bucket")

    with pytest.raises(errors.Unavailable):
        audit.make_handler(refuse)(stream([audit_record(make_world(), "o", "a", "look", "p")]), CONTEXT)


# --- EC2 ------------------------------------------------------------------------------------------------------------


class Aws:
    """A life whose machines are EC2's, with one that runs and is known by its instance."""

    def __init__(self) -> None:
        clock = SteppingClock()
        cloud = MemoryCloud(clock)
        self.life = Life(clock=clock, cloud=cloud, cloud_name="ec2")
        self.life.submit()
        self.life.settle()
        self.machine = self.life.machines()[-1]
        self.handle = events.make_handler(lambda: self.life.world)

    def tell(self, kind: str, **detail: Any) -> MachineState:
        """The machine's state once this event was heard, twice."""
        told = ec2(kind, **{"instance-id": self.machine.cloud_id, **detail})
        self.handle(told, CONTEXT)
        self.handle(told, CONTEXT)
        return self.life.machine(self.machine.id).state


@pytest.mark.parametrize("state", ["shutting-down", "stopping", "stopped", "terminated"])
def test_the_end_of_an_instance_is_heard_and_believed_once_ec2_confirms_it(state: str) -> None:
    aws = Aws()

    rumour = aws.tell("EC2 Instance State-change Notification", state=state)
    aws.life.cloud.lose(aws.machine.id)
    fact = aws.tell("EC2 Instance State-change Notification", state=state)

    assert (rumour, fact) == (MachineState.REQUESTED, MachineState.GONE)


def test_the_beginning_of_an_instance_is_no_news() -> None:
    aws = Aws()
    aws.life.cloud.lose(aws.machine.id)

    states = [aws.tell("EC2 Instance State-change Notification", state=state) for state in ("pending", "running")]

    assert states == [MachineState.REQUESTED, MachineState.REQUESTED]


@pytest.mark.parametrize(
    ("kind", "notice"),
    [
        ("EC2 Spot Instance Interruption Warning", "interruption"),
        ("EC2 Instance Rebalance Recommendation", "rebalance"),
    ],
)
def test_a_machine_that_ec2_takes_back_gets_no_job_any_more(kind: str, notice: str) -> None:
    aws = Aws()

    state = aws.tell(kind, **{"instance-action": "terminate"})

    assert state is MachineState.DRAINING
    assert notice in aws.life.machine(aws.machine.id).retired_because


@pytest.mark.parametrize(
    "event",
    [
        {},
        {"detail-type": "EC2 Instance State-change Notification", "detail": None},
        ec2("EC2 Instance State-change Notification", state="terminated"),
        ec2("EC2 Instance State-change Notification", **{"instance-id": "i-0", "state": "running"}),
        ec2("EC2 Instance State-change Notification", **{"instance-id": "i-of-somebody", "state": "terminated"}),
        ec2("EC2 Spot Instance Interruption Warning", **{"instance-id": "i-0", "instance-action": "terminate"}),
        ec2("EC2 Instance Rebalance Recommendation", **{"instance-id": "i-0"}),
        ec2("EC2 Instance Launch Unsuccessful", **{"instance-id": "i-0"}),
    ],
)
def test_an_event_that_is_not_about_a_machine_of_ours_changes_nothing(event: dict[str, Any]) -> None:
    world = make_world()

    events.make_handler(lambda: world)(event, CONTEXT)

    assert _left(world) == []


def test_a_sweep_says_in_one_line_what_it_found_for_the_log_and_for_the_counters(
    capsys: pytest.CaptureFixture[str],
) -> None:
    world = make_world()
    _intended(world, ("start_execution", {"execution_id": "e1"}))

    sweep.make_handler(lambda: world)({"time": "2026-01-05T10:00:00Z"}, CONTEXT)

    (line,) = capsys.readouterr().out.splitlines()
    told = json.loads(line)
    directive = told["_aws"]["CloudWatchMetrics"][0]
    assert (directive["Namespace"], directive["Dimensions"]) == ("Lamplighter", [["installation"]])
    assert {metric["Name"] for metric in directive["Metrics"]} == {sweep.STEADY}
    assert all(isinstance(told[metric["Name"]], int | float) for metric in directive["Metrics"])
    assert (told["delivered"], told["faults"], told["installation"]) == (1, 0, "installation-1")


@dataclass(frozen=True)
class LambdaContext:
    """What Lambda tells of the time that a call has left."""

    milliseconds: int

    def get_remaining_time_in_millis(self) -> int:
        return self.milliseconds


@pytest.mark.parametrize(
    ("context", "cut"), [(LambdaContext(119_900), 0), (LambdaContext(60_000), 1), (CONTEXT, 0), (None, 0)]
)
def test_a_sweep_looks_at_executions_only_while_lambda_leaves_it_time(
    context: object, cut: int, capsys: pytest.CaptureFixture[str]
) -> None:
    life = Life()
    life.submit()
    life.settle()

    sweep.make_handler(lambda: life.world)({}, context)

    told = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert (told["cut"], told["looked_at"]) == (cut, 1 - cut)


def test_a_sweep_counts_only_what_there_is_beside_its_faults(capsys: pytest.CaptureFixture[str]) -> None:
    life = Life()
    life.submit()
    life.settle()

    sweep.make_handler(lambda: life.world)({}, CONTEXT)

    told = json.loads(capsys.readouterr().out.splitlines()[-1])
    metrics = {metric["Name"] for metric in told["_aws"]["CloudWatchMetrics"][0]["Metrics"]}
    assert metrics == {sweep.STEADY, "machines"}
    assert metrics <= set(sweep.METRICS)
