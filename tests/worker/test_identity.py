"""An EC2 machine introduces itself: with a fresh proof each time, patiently while it is not known, and only as itself."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from lamplighter.contract import ec2_proof
from lamplighter.contract.report import Proof
from tests.sts_double import REGION, ROLE, Sts, instance
from tests.worker.control_double import Control, Refusal
from tests.worker.harness import Agent
from tests.worker.metadata_double import ROLE_PATH, Metadata, told_to

INSTALLATION = "01234567-89ab-7cde-8f01-23456789abcd"


@pytest.fixture
def metadata() -> Iterator[Metadata]:
    running = Metadata(told_to(instance()))
    yield running
    running.shutdown()
    running.server_close()


@pytest.fixture
def machine(new_agent: Callable[..., Agent], metadata: Metadata) -> Agent:
    """An agent on an EC2 instance."""
    return on_ec2(new_agent(), metadata)


def on_ec2(agent: Agent, metadata: Metadata) -> Agent:
    agent.introduction = ["--identity", "ec2", "--installation", INSTALLATION]
    agent.variables["AWS_EC2_METADATA_SERVICE_ENDPOINT"] = metadata.url
    return agent


def judged(proof: Proof) -> int:
    """The status that STS answers to the signed request."""
    sts = Sts(instance())
    headers = {name.lower(): value for name, value in proof.evidence["headers"].items()}
    status, _ = sts.judge(proof.evidence["method"], "/", headers, proof.evidence["body"].encode())
    sts.close()
    return status


def test_an_instance_shows_a_proof_that_sts_confirms_and_works(control: Control, machine: Agent) -> None:
    control.drain = True
    execution = control.offer("echo hello")

    machine.start()

    assert machine.wait() == 0
    machine.until_finished(execution)
    (proof,) = control.proofs
    assert (proof.cloud, proof.nonce, proof.evidence["url"]) == ("ec2", "nonce-0", ec2_proof.sts_url(REGION))
    assert proof.evidence["headers"][ec2_proof.NONCE_HEADER] == "nonce-0"
    assert proof.evidence["headers"][ec2_proof.INSTALLATION_HEADER] == INSTALLATION
    assert judged(proof) == 200
    assert control.registrations[0].machine_id == ""
    assert execution.stdout == ["hello"]


def test_nothing_secret_is_logged_or_written_down(control: Control, machine: Agent) -> None:
    control.drain = True
    control.refuse_proofs = [Refusal(503, "not_yet"), Refusal(401, "not_authenticated")]

    machine.start()

    assert machine.wait() == 0
    keys = instance().credentials
    signatures = [proof.evidence["headers"]["Authorization"].rpartition("=")[2] for proof in control.proofs]
    written = [path.read_text(errors="replace") for path in machine.directory.rglob("*") if path.is_file()]
    told = "\n".join([machine.log.read_text(), *written])
    assert "machine-of-this-instance" in told
    assert not [s for s in (keys.secret_access_key, keys.session_token, *signatures) if s in told]


@pytest.mark.parametrize(
    "refusal", [Refusal(503, "not_yet"), Refusal(503, "unavailable"), Refusal(401, "not_authenticated")]
)
def test_each_try_has_a_nonce_of_its_own(refusal: Refusal, control: Control, machine: Agent) -> None:
    control.drain = True
    control.refuse_proofs = [refusal, refusal, refusal]

    machine.start()

    assert machine.wait() == 0
    assert [proof.nonce for proof in control.proofs] == ["nonce-0", "nonce-1", "nonce-2", "nonce-3"]
    assert control.farewells == ["drained"]


@pytest.mark.parametrize("kind", ["nonce", "register"])
def test_a_lost_answer_is_no_reason_to_give_up(kind: str, control: Control, machine: Agent) -> None:
    control.drain = True
    control.lose[kind] = 2

    machine.start()

    assert machine.wait() == 0
    assert control.farewells == ["drained"]


def test_a_machine_that_stays_unknown_powers_off_in_time(control: Control, machine: Agent) -> None:
    control.refuse_proofs = [Refusal(503, "not_yet") for _ in range(1000)]

    machine.start("--idle-power-off-seconds", "1")

    assert machine.wait() == 0
    assert "not let in for too long" in machine.log.read_text()
    assert len(control.proofs) > 1


def test_a_machine_that_was_given_up_powers_off_at_once(control: Control, machine: Agent) -> None:
    control.refuse_proofs = [Refusal(403, "forbidden")]

    machine.start()

    assert machine.wait() == 0
    assert len(control.proofs) == 1
    assert "refused this machine" in machine.log.read_text()


def test_an_agent_that_is_started_again_goes_on_with_its_session(control: Control, machine: Agent) -> None:
    machine.start()
    machine.until(lambda: control.seen["lease"] > 0, "a claim")
    machine.kill()
    control.drain = True

    machine.start()

    assert machine.wait() == 0
    assert len(control.proofs) == 1


def test_a_session_that_another_instance_left_is_not_taken_up(
    control: Control, machine: Agent, metadata: Metadata
) -> None:
    machine.start()
    machine.until(lambda: control.seen["lease"] > 0, "a claim")
    machine.kill()
    control.drain = True
    metadata.values.update(told_to(instance("i-fedcba9876543210f")))

    machine.start()

    assert machine.wait() == 0
    assert len(control.proofs) == 2


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (ROLE_PATH, None),
        (f"{ROLE_PATH}{ROLE}", None),
        (f"{ROLE_PATH}{ROLE}", '{"Code": "AssumeRoleUnauthorizedAccess"}'),
        (f"{ROLE_PATH}{ROLE}", '{"SecretAccessKey": "half a sec'),
        ("/latest/meta-data/placement/region", None),
    ],
)
def test_a_role_that_is_not_there_yet_is_waited_for(
    path: str, value: str | None, control: Control, machine: Agent, metadata: Metadata
) -> None:
    control.drain = True
    complete = dict(metadata.values)
    metadata.values.pop(path)
    if value is not None:
        metadata.values[path] = value
    machine.start()
    machine.until(lambda: len(control.nonces) > 1, "a second try")
    assert control.proofs == []

    metadata.values.update(complete)

    assert machine.wait() == 0
    assert control.farewells == ["drained"]
    assert "half a sec" not in machine.log.read_text()


def test_without_a_metadata_service_the_agent_says_so_and_wants_to_be_started_again(machine: Agent) -> None:
    machine.variables["AWS_EC2_METADATA_SERVICE_ENDPOINT"] = "http://127.0.0.1:9"

    machine.start()

    assert machine.wait() == 1
    assert "No answer from the metadata service" in machine.log.read_text()


@pytest.mark.parametrize(
    ("introduction", "fault"),
    [
        (["--identity", "ec2"], "--identity ec2 needs --installation"),
        (["--identity", "ec2", "--installation", "i", "--machine-id", "m"], "--machine-id has no meaning"),
        (["--machine-id", "m"], "--identity join-token needs --join-token-file"),
        (["--machine-id", "m", "--join-token-file", "/x", "--installation", "i"], "--installation has no meaning"),
    ],
)
def test_options_that_do_not_fit_the_identity_are_refused(introduction: list[str], fault: str, agent: Agent) -> None:
    agent.introduction = introduction

    agent.start()

    assert agent.wait() == 2
    assert fault in agent.log.read_text()
