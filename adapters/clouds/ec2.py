"""Machines of EC2, one fleet request each, found by their tags."""

from __future__ import annotations

import hashlib
import re
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from itertools import groupby
from typing import Any, Literal

from adapters.clouds.ec2_answers import calling, fleet_refusal
from adapters.clouds.ec2_options import Ec2Options, Purchase, read_options
from adapters.clouds.ec2_pacing import Pace
from lamplighter.errors import LaunchRefused, NoCapacity, NotYet, QuotaReached
from lamplighter.ports import CloudMachine, LaunchRequest

INSTALLATION = "lamplighter:installation"
MACHINE = "lamplighter:machine"
ENVIRONMENT = "lamplighter:environment"
LAUNCH = "lamplighter:launch"
DIE_BY = "lamplighter:die-by"

_State = Literal["starting", "running", "stopped", "gone"]
_STATES: Mapping[str, _State] = {
    "pending": "starting",
    "running": "running",
    "stopping": "stopped",
    "stopped": "stopped",
}
_INSTANCE_ID = re.compile(r"i-[0-9a-f]{8,17}")
_PAGE = 1000


class Ec2Cloud:
    """Implements `Cloud` in one account and region.

    `launch_templates` are ids by name ("cpu", "gpu"), made by the stack: image, role, network and user data are theirs alone, so
    that a launch can ask for nothing else. `subnets` are where machines may live. `client` makes the boto3 client, at the first
    call. All machines get the same user data; each learns who it is by proving its own identity, so that the join token and the
    control URL of a request are not used here. Options of an environment: `ec2_options.Ec2Options`.

    One machine, however often a launch is repeated: each purchase option has a client token of its own, made from the launch
    token, and EC2 answers a repeated token with the first answer for at least 24 hours; and before any launch a machine of this id
    is looked for by its tag. What is left is a launch whose on-demand answer was lost, repeated while EC2 still hides that
    machine and has got spot capacity meanwhile. Then two instances carry one machine id: `describe` gives the older one that id and
    every further one its own instance id as machine id, which no record knows, so that the sweep ends it as an orphan; and
    `terminate` ends them all.
    """

    def __init__(
        self,
        launch_templates: Mapping[str, str],
        subnets: Sequence[str],
        *,
        region: str | None = None,
        endpoint_url: str | None = None,
        client: Callable[[], Any] | None = None,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._templates = dict(launch_templates)
        self._subnets = tuple(subnets)
        self._make = client or (lambda: _client(region, endpoint_url))
        self._made: Any = None
        self._making = threading.Lock()
        self._pace = Pace(clock, sleep)

    # --- The port ---

    def launch(self, request: LaunchRequest) -> CloudMachine:
        """As the port says. A machine id that was launched under another token is `LaunchRefused`."""
        there = self._instances(_tagged(MACHINE, request.machine_id))
        if there:
            if any(_tags(i).get(LAUNCH) != request.launch_token for i in there):
                raise LaunchRefused(f"machine {request.machine_id} was launched under another token")
            return _told(there)[0]
        options = read_options(
            request.options, templates=self._templates, subnets=self._subnets, gpu=bool(request.gpu_spec)
        )
        refusals: list[NoCapacity] = []
        for purchase in options.purchases:
            try:
                return CloudMachine(request.machine_id, self._create(request, options, purchase), "starting")
            except NoCapacity as refusal:
                refusals.append(refusal)
        # A quota is what to tell of only if no capacity anywhere could have helped.
        kind = QuotaReached if all(isinstance(r, QuotaReached) for r in refusals) else NoCapacity
        raise kind(" | ".join(str(r) for r in refusals))

    def describe(self, installation: str) -> tuple[CloudMachine, ...]:
        """As the port says: all pages or none. EC2 forgets an ended machine after about an hour.

        A machine that is shutting down counts as gone, as its work is lost; `terminate` still waits for its end. Only people stop
        a machine; its disk is billed until it is terminated.
        """
        return tuple(_told(self._instances(_tagged(INSTALLATION, installation))))

    def terminate(self, machine_id: str) -> None:
        """As the port says, for every instance of this machine id, or for the one instance of which it is the id. Only what EC2
        calls "terminated" is gone: until then it might still run. A machine that EC2 still hides is not found; the sweep
        ends it once it shows.
        """
        living = [i for i in self._instances(_of(machine_id)) if i["State"]["Name"] != "terminated"]
        ending = [i["InstanceId"] for i in living if i["State"]["Name"] != "shutting-down"]
        if ending:
            self._pace.wait("terminate")
            with calling(f"ending {', '.join(ending)}"):
                self._client().terminate_instances(InstanceIds=ending)
        if living:
            raise NotYet(f"{', '.join(i['InstanceId'] for i in living)} of machine {machine_id} is shutting down")

    # --- Calls ---

    def _create(self, request: LaunchRequest, options: Ec2Options, purchase: Purchase) -> str:
        """The id of the instance that one fleet request gave."""
        self._pace.wait("launch")
        with calling(f"launching machine {request.machine_id} ({purchase})", launching=True):
            answer = self._client().create_fleet(**_fleet(request, options, purchase))
        given = [instance for group in answer.get("Instances", ()) for instance in group.get("InstanceIds", ())]
        if not given:
            raise fleet_refusal(answer.get("Errors", ()), purchase)
        return str(given[0])

    def _instances(self, filters: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """All that match, or an error: never some."""
        found: list[dict[str, Any]] = []
        more: dict[str, str] = {}
        while True:
            self._pace.wait("describe")
            with calling("describing instances"):
                page = self._client().describe_instances(Filters=filters, MaxResults=_PAGE, **more)
            found += [i for reservation in page.get("Reservations", ()) for i in reservation.get("Instances", ())]
            if not page.get("NextToken"):
                return found
            more = {"NextToken": page["NextToken"]}

    def _client(self) -> Any:
        with self._making:
            if self._made is None:
                self._made = self._make()
            return self._made


def _client(region: str | None, endpoint_url: str | None) -> Any:
    import boto3
    from botocore.config import Config

    # A throttle is answered by whoever scheduled the call, which waits without being paid for waiting.
    config = Config(connect_timeout=5, read_timeout=25, retries={"mode": "standard", "total_max_attempts": 2})
    return boto3.client("ec2", region_name=region, endpoint_url=endpoint_url, config=config)


def _fleet(request: LaunchRequest, options: Ec2Options, purchase: Purchase) -> dict[str, Any]:
    """The request, byte for byte the same for the same launch: nothing in it may depend on when it is sent."""
    spot = purchase == "spot"
    extra = {"ImageId": options.image_id} if options.image_id else {}
    if spot and options.max_price:
        extra["MaxPrice"] = options.max_price
    specification = {"LaunchTemplateId": options.launch_template, "Version": "$Latest"}
    overrides = [{"InstanceType": t, "SubnetId": s, **extra} for t in options.instance_types for s in options.subnets]
    fleet: dict[str, Any] = {
        "Type": "instant",
        "ClientToken": hashlib.sha256(f"{request.launch_token}/{purchase}".encode()).hexdigest(),
        "LaunchTemplateConfigs": [{"LaunchTemplateSpecification": specification, "Overrides": overrides}],
        "TargetCapacitySpecification": {"TotalTargetCapacity": 1, "DefaultTargetCapacityType": purchase},
        "TagSpecifications": [{"ResourceType": "instance", "Tags": _tags_of(request, options)}],
    }
    if spot:
        fleet["SpotOptions"] = {"AllocationStrategy": "price-capacity-optimized"}
    else:
        fleet["OnDemandOptions"] = {"AllocationStrategy": "lowest-price"}
        if options.max_price:
            fleet["OnDemandOptions"]["MaxTotalPrice"] = options.max_price
    return fleet


def _tags_of(request: LaunchRequest, options: Ec2Options) -> list[dict[str, str]]:
    tags = {
        "Name": f"lamplighter {request.environment}",
        INSTALLATION: request.installation,
        MACHINE: request.machine_id,
        ENVIRONMENT: request.environment,
        LAUNCH: request.launch_token,
    }
    if request.requested_at:
        tags[DIE_BY] = _text(request.requested_at + timedelta(hours=options.max_life_hours))
    return [{"Key": key, "Value": value[:256]} for key, value in tags.items()]


def _text(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def _tagged(tag: str, value: str) -> list[dict[str, Any]]:
    # A filter's value may hold wildcards; what was asked for is meant as it stands.
    literal = re.sub(r"([*?\\])", r"\\\1", value)
    return [{"Name": f"tag:{tag}", "Values": [literal]}]


def _of(machine_id: str) -> list[dict[str, Any]]:
    if _INSTANCE_ID.fullmatch(machine_id):
        return [{"Name": "instance-id", "Values": [machine_id]}, {"Name": "tag-key", "Values": [MACHINE]}]
    return _tagged(MACHINE, machine_id)


def _tags(instance: dict[str, Any]) -> dict[str, str]:
    return {tag["Key"]: tag["Value"] for tag in instance.get("Tags", ())}


def _told(instances: Iterable[dict[str, Any]]) -> list[CloudMachine]:
    """One machine for each instance: the first of a machine id bears it, living ones before ended and older before younger."""

    def rank(instance: dict[str, Any]) -> tuple[str, bool, Any, str]:
        over = _state(instance) in ("stopped", "gone")
        return _tags(instance).get(MACHINE, ""), over, instance.get("LaunchTime", ""), instance["InstanceId"]

    told = []
    for machine_id, group in groupby(sorted(instances, key=rank), key=lambda i: _tags(i).get(MACHINE, "")):
        first, *further = group
        told.append(_seen(machine_id or first["InstanceId"], first))
        told.extend(_seen(i["InstanceId"], i) for i in further)
    return told


def _state(instance: dict[str, Any]) -> _State:
    return _STATES.get(instance["State"]["Name"], "gone")


def _seen(machine_id: str, instance: dict[str, Any]) -> CloudMachine:
    state = _state(instance)
    why = instance.get("StateReason", {}).get("Message") or instance.get("StateTransitionReason", "")
    return CloudMachine(
        machine_id, instance["InstanceId"], state, str(why)[:300] if state in ("stopped", "gone") else ""
    )
