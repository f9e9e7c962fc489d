"""A strict EC2 in memory: the three calls of a boto3 client that we make, with the awkward things that EC2 may do.

Requests are checked against the service's own model, so that a misspelt parameter fails as it would on AWS. Refusals are
`botocore` errors with AWS's names. What others do to instances (`reclaim`, `shut_down`) and what oracles ask (`living`) is below.
"""

from __future__ import annotations

import functools
import random
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Literal

import botocore.session
from botocore.exceptions import ClientError, ParamValidationError
from botocore.validate import ParamValidator

from tests.faults import FaultPlan

TOKENS_KEPT = timedelta(hours=24)
REMEMBERED = timedelta(hours=1)
NOTICE = timedelta(minutes=2)


@dataclass
class Instance:
    """An instance as an oracle sees it."""

    id: str
    type: str
    subnet: str
    lifecycle: Literal["spot", "on-demand"]
    image_id: str
    tags: dict[str, str]
    launched: datetime
    visible_at: datetime
    runs_at: datetime
    silent: bool
    ends_at: datetime | None = None
    gone_at: datetime | None = None
    stopped: bool = False
    reason: str = ""

    def state(self, now: datetime) -> str:
        """In EC2's words."""
        if self.ends_at is not None and now >= self.ends_at:
            return "terminated" if self.gone_at and now >= self.gone_at else "shutting-down"
        if self.stopped:
            return "stopped"
        return "running" if now >= self.runs_at else "pending"


@dataclass
class Ec2Double:
    """All times hold for what happens next and may be changed at any time.

    `hidden_for`: a new instance is missing from describe for a time up to this, chosen by `seed`. `boot_time`: how long it is
    pending. `dies_in`: how long it is shutting down. `page`: instances in one page at most. `replays_refusals`: whether a token
    whose request found nothing is answered so again; AWS does not say. `without`: offers (type, subnet, purchase) that there are
    none of, "*" for all. `quota`: how many may live, by purchase. `on_sale_for`: the spot price of everything.
    `stumbles`: by type, the code with which EC2 fails at a spot offer within a fleet that it answers.
    """

    clock: Callable[[], datetime]
    seed: int = 0
    hidden_for: timedelta = timedelta(0)
    boot_time: timedelta = timedelta(0)
    dies_in: timedelta = timedelta(0)
    page: int = 1000
    replays_refusals: bool = True
    without: set[tuple[str, str, str]] = field(default_factory=set)
    unsupported: set[str] = field(default_factory=set)
    quota: dict[str, int] = field(default_factory=dict)
    on_sale_for: float = 0.01
    stumbles: dict[str, str] = field(default_factory=dict)
    instances: dict[str, Instance] = field(default_factory=dict)
    calls: list[tuple[str, dict[str, Any]]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._random = random.Random(self.seed)
        self._tokens: dict[str, tuple[dict[str, Any], dict[str, Any], datetime]] = {}
        self._faults: list[tuple[str, str, int]] = []
        self._deaf: dict[str, int] = {}
        self._silences = 0
        self._lock = threading.RLock()

    # --- The client ---

    def create_fleet(self, **request: Any) -> dict[str, Any]:
        """An instant fleet of one instance, or the reasons why not."""
        with self._lock:
            self._begin("CreateFleet", request)
            if request.get("Type") != "instant":
                raise refusal("InvalidParameterValue", "this double knows instant fleets only", "CreateFleet")
            token = request.get("ClientToken")
            if not token or len(token) > 64:
                raise refusal("InvalidParameterValue", "ClientToken must be 1 to 64 characters", "CreateFleet")
            known = self._tokens.get(token)
            if known and self.clock() < known[2]:
                if known[0] != request:
                    raise refusal("IdempotentParameterMismatch", "the token was used before", "CreateFleet")
                if known[1]["Instances"] or self.replays_refusals:
                    return known[1]
            answer = self._fulfil(request)
            self._tokens[token] = (request, answer, self.clock() + timedelta(days=365))
            return answer

    def describe_instances(self, **request: Any) -> dict[str, Any]:
        """A page of those that match all filters, are visible, and not forgotten."""
        with self._lock:
            self._begin("DescribeInstances", request)
            now = self.clock()
            found = [
                i
                for i in self.instances.values()
                if now >= i.visible_at
                and not (i.gone_at and now >= i.gone_at + REMEMBERED)
                and all(_matches(i, f["Name"], f["Values"]) for f in request.get("Filters", ()))
            ]
            start = int(request.get("NextToken") or 0)
            end = start + min(self.page, request.get("MaxResults", 1000))
            reservations = [{"Instances": [self._told(i)]} for i in found[start:end]]
            return {"Reservations": reservations, **({"NextToken": str(end)} if end < len(found) else {})}

    def terminate_instances(self, **request: Any) -> dict[str, Any]:
        """Ends all or none."""
        with self._lock:
            self._begin("TerminateInstances", request)
            for instance_id in request["InstanceIds"]:
                if instance_id not in self.instances or self.clock() < self.instances[instance_id].visible_at:
                    raise refusal("InvalidInstanceID.NotFound", f"{instance_id} does not exist", "TerminateInstances")
            for instance_id in request["InstanceIds"]:
                if self._deaf.get(instance_id, 0):
                    self._deaf[instance_id] -= 1
                else:
                    self._end(instance_id, "Client.UserInitiatedShutdown: User initiated shutdown")
            return {"TerminatingInstances": [{"InstanceId": i} for i in request["InstanceIds"]]}

    # --- What the world does ---

    def fail(self, call: str, code: str, times: int = 1, status: int = 400) -> None:
        """The next `times` calls of this name ("CreateFleet", ...) are refused with `code`."""
        self._faults += [(call, code, status)] * times

    def silence(self, times: int = 1) -> None:
        """The next instances never register: their `silent` is true."""
        self._silences = times

    def ignore_terminate(self, instance_id: str, times: int) -> None:
        """The next calls to terminate this instance are accepted, and nothing happens."""
        self._deaf[instance_id] = times

    def reclaim(self, instance_id: str, *, notice: bool = False) -> None:
        """AWS wants its spot instance back: now, or in two minutes."""
        at = self.clock() + (NOTICE if notice else timedelta(0))
        self._end(instance_id, "Server.SpotInstanceTermination: Instance terminated by spot interruption", at)

    def shut_down(self, instance_id: str) -> None:
        """It powers off of its own will."""
        self._end(instance_id, "Client.InstanceInitiatedShutdown: Instance initiated shutdown")

    def stop(self, instance_id: str) -> None:
        """Somebody stops it by hand: it works no more, and its disk is billed."""
        self.instances[instance_id].stopped = True
        self.instances[instance_id].reason = "Client.UserInitiatedShutdown: User initiated shutdown"

    # --- What oracles ask ---

    def living(self, machine_id: str | None = None) -> list[Instance]:
        """Instances that cost money, hidden ones too, of one machine id or of all."""
        now = self.clock()
        wanted = [i for i in self.instances.values() if machine_id in (None, i.tags.get("lamplighter:machine"))]
        return [i for i in wanted if i.state(now) in ("pending", "running", "stopped")]

    def requests(self, call: str) -> list[dict[str, Any]]:
        """What was asked of this call so far, refused requests too."""
        return [request for name, request in self.calls if name == call]

    def _begin(self, call: str, request: dict[str, Any]) -> None:
        self.calls.append((call, request))
        report = ParamValidator().validate(request, _model().operation_model(call).input_shape)
        if report.has_errors():
            raise ParamValidationError(report=report.generate_report())
        fault = next((f for f in self._faults if f[0] == call), None)
        if fault:
            self._faults.remove(fault)
            raise refusal(fault[1], "scripted", call, fault[2])

    def _fulfil(self, request: dict[str, Any]) -> dict[str, Any]:
        purchase = request["TargetCapacitySpecification"]["DefaultTargetCapacityType"]
        errors = []
        for configuration in request["LaunchTemplateConfigs"]:
            for offer in configuration["Overrides"]:
                code = self._refuses(offer, purchase)
                if code:
                    about = {"LaunchTemplateAndOverrides": {"Overrides": offer}, "Lifecycle": purchase}
                    errors.append({"ErrorCode": code, "ErrorMessage": "scripted", **about})
                    continue
                instance = self._start(offer, purchase, request)
                group = {"InstanceIds": [instance.id], "InstanceType": instance.type, "Lifecycle": purchase}
                return {"FleetId": "fleet-1", "Errors": errors, "Instances": [group]}
        return {"FleetId": "fleet-1", "Errors": errors, "Instances": []}

    def _refuses(self, offer: dict[str, Any], purchase: str) -> str | None:
        if offer["InstanceType"] in self.unsupported:
            return "Unsupported"
        if purchase == "spot" and offer["InstanceType"] in self.stumbles:
            return self.stumbles[offer["InstanceType"]]
        if purchase == "spot" and float(offer.get("MaxPrice", "1000")) < self.on_sale_for:
            return "SpotMaxPriceTooLow"
        if len([i for i in self.living() if i.lifecycle == purchase]) >= self.quota.get(purchase, 10**6):
            return "MaxSpotInstanceCountExceeded" if purchase == "spot" else "VcpuLimitExceeded"
        wanted = (offer["InstanceType"], offer["SubnetId"], purchase)
        gone = any(all(a in ("*", b) for a, b in zip(none, wanted, strict=True)) for none in self.without)
        return "InsufficientInstanceCapacity" if gone else None

    def _start(self, offer: dict[str, Any], purchase: Any, request: dict[str, Any]) -> Instance:
        now = self.clock()
        tags = next(t["Tags"] for t in request["TagSpecifications"] if t["ResourceType"] == "instance")
        instance = Instance(
            id=f"i-{len(self.instances) + 1:017x}",
            type=offer["InstanceType"],
            subnet=offer["SubnetId"],
            lifecycle=purchase,
            image_id=offer.get("ImageId", "ami-00000000"),
            tags={t["Key"]: t["Value"] for t in tags},
            launched=now,
            visible_at=now + self.hidden_for * self._random.random(),
            runs_at=now + self.boot_time,
            silent=self._silences > 0,
        )
        self._silences -= instance.silent
        self.instances[instance.id] = instance
        return instance

    def _end(self, instance_id: str, reason: str, at: datetime | None = None) -> None:
        instance = self.instances[instance_id]
        when = at or self.clock()
        if instance.ends_at is None or when < instance.ends_at:
            instance.ends_at, instance.gone_at, instance.reason = when, when + self.dies_in, reason

    def _told(self, instance: Instance) -> dict[str, Any]:
        state = instance.state(self.clock())
        told: dict[str, Any] = {
            "InstanceId": instance.id,
            "InstanceType": instance.type,
            "LaunchTime": instance.launched,
            "State": {"Name": state},
            "Tags": [{"Key": k, "Value": v} for k, v in instance.tags.items()],
        }
        if state in ("stopped", "shutting-down", "terminated"):
            told["StateReason"] = {"Code": instance.reason.partition(":")[0], "Message": instance.reason}
        return told


class FaultyClient:
    """The same client under a fault plan: every call is an effect, since a launch may die before and after each."""

    def __init__(self, inner: Ec2Double, plan: FaultPlan) -> None:
        self._inner = inner
        self._plan = plan

    def create_fleet(self, **request: Any) -> dict[str, Any]:
        return self._plan.effect("create_fleet", lambda: self._inner.create_fleet(**request))

    def describe_instances(self, **request: Any) -> dict[str, Any]:
        return self._plan.effect("describe_instances", lambda: self._inner.describe_instances(**request))

    def terminate_instances(self, **request: Any) -> dict[str, Any]:
        return self._plan.effect("terminate_instances", lambda: self._inner.terminate_instances(**request))


def refusal(code: str, message: str, call: str, status: int = 400) -> ClientError:
    """What boto3 raises."""
    answer = {"Error": {"Code": code, "Message": message}, "ResponseMetadata": {"HTTPStatusCode": status}}
    return ClientError(answer, call)  # type: ignore[arg-type]


@functools.cache
def _model() -> Any:
    return botocore.session.get_session().get_service_model("ec2")


def _matches(instance: Instance, name: str, values: list[str]) -> bool:
    """Values are compared literally, apart from the backslash that hides a wildcard; an open wildcard matches nothing here."""
    if name == "instance-id":
        return instance.id in values
    if name == "tag-key":
        return any(value in instance.tags for value in values)
    if name.startswith("tag:"):
        given = instance.tags.get(name.removeprefix("tag:"))
        plain = [v.replace("\\*", "*").replace("\\?", "?").replace("\\\\", "\\") for v in values]
        return given is not None and given in plain
    raise refusal("InvalidParameterValue", f"this double does not know the filter {name}", "DescribeInstances")
