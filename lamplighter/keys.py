"""Where each record lives: the whole key design on one page.

Rows of one partition are ordered. Index rows hold ids only, so that there is one place to change a thing. Whatever must be
changed together lies in one transaction, never necessarily in one partition.
"""

from __future__ import annotations

import zlib
from datetime import datetime

from lamplighter.contract.wire import format_time
from lamplighter.ports import Key

INSTALLATION = Key("installation", "installation")
SWEEP = Key("sweep", "memory")
ENVIRONMENTS = "environments"
ORGANISATIONS = "organisations"
STORES = "stores"

SHARDS = 16
"""Over how many partitions those records are spread that every execution of an installation or organisation writes.

DynamoDB gives one partition 1,000 write units a second; docs/key-design.md has the sums. May only grow: what a smaller number
has placed is then still walked.
"""

OUTBOX = tuple(f"outbox#{shard:02d}" for shard in range(SHARDS))
"""The partitions of what must still happen: whoever looks for work walks all of them."""


def organisation(organisation_id: str) -> Key:
    return Key(f"organisation#{organisation_id}", "organisation")


def user(user_id: str) -> Key:
    return Key(f"user#{user_id}", "user")


def username(name: str) -> Key:
    """Points at the user; names are compared without case."""
    return Key("usernames", name.casefold())


def token(sha256: str) -> Key:
    return Key(f"token#{sha256}", "token")


def token_of_user(user_id: str, sha256: str) -> Key:
    return Key(f"user#{user_id}", f"token#{sha256}")


def user_in(organisation_id: str, user_id: str) -> Key:
    """Ordered by age: user ids are UUIDv7."""
    return Key(f"organisation#{organisation_id}#users", user_id)


def project(project_id: str) -> Key:
    return Key(f"project#{project_id}", "project")


def project_in(organisation_id: str, project_id: str) -> Key:
    """Ordered by age: project ids are UUIDv7."""
    return Key(f"organisation#{organisation_id}#projects", project_id)


def project_name(organisation_id: str, name: str) -> Key:
    return Key(f"organisation#{organisation_id}#project-names", name.casefold())


def commit(project_id: str, identifier: str) -> Key:
    return Key(f"project#{project_id}#commits", identifier)


def commit_by_age(project_id: str, ctime: datetime, identifier: str) -> Key:
    return Key(f"project#{project_id}#commits-by-age", f"{format_time(ctime)}#{identifier}")


def commit_anywhere(identifier: str, project_id: str) -> Key:
    """One lookup comes without a project, and one archive may live in several."""
    return Key(f"commit#{identifier}", project_id)


def ref(project_id: str, name: str) -> Key:
    """Points at the commit that the ref meant when the repository was last fetched."""
    return Key(f"project#{project_id}#refs", name)


def counter(project_id: str) -> Key:
    """The number of the project's newest execution. Every submission changes it in its transaction, one after the other:
    that order, not DynamoDB's write units, bounds a project to about as many submissions a second as there are round trips of a
    transaction in it (some 50 to 100), while projects do not slow each other.
    """
    return Key(f"project#{project_id}", "counter#execution")


def execution(execution_id: str) -> Key:
    return Key(f"execution#{execution_id}", "execution")


def lease(execution_id: str) -> Key:
    return Key(f"execution#{execution_id}", "lease")


def watched(execution_id: str) -> Key:
    """Until when somebody looks at the log: apart from the execution, so that looking is in nobody's way."""
    return Key(f"execution#{execution_id}", "watched")


def workflow_token(execution_id: str) -> Key:
    return Key(f"execution#{execution_id}", "workflow-token")


def segments(execution_id: str) -> str:
    return f"execution#{execution_id}#events"


def segment(execution_id: str, first_seq: int) -> Key:
    return Key(segments(execution_id), f"{first_seq:012d}")


def status_events(execution_id: str) -> str:
    return f"execution#{execution_id}#status-events"


def status_event(execution_id: str, microseconds: int) -> Key:
    return Key(status_events(execution_id), f"{microseconds:017d}")


def outputs(execution_id: str) -> str:
    return f"execution#{execution_id}#outputs"


def output(execution_id: str, fingerprint: str) -> Key:
    """One per epoch, name and content, so that a repeated announcement finds the first."""
    return Key(outputs(execution_id), fingerprint)


def executions(project_id: str) -> str:
    return f"project#{project_id}#executions"


def execution_summary(project_id: str) -> Key:
    """A saved count of executions that have all ended: only ever a help, never the truth."""
    return Key(f"project#{project_id}", "execution-summary")


def execution_by_counter(project_id: str, number: int) -> Key:
    return Key(executions(project_id), f"{number:010d}")


def live_of_project(project_id: str) -> str:
    return f"project#{project_id}#live"


def live_in_project(project_id: str, number: int) -> Key:
    """Only while the execution is not terminal."""
    return Key(live_of_project(project_id), f"{number:010d}")


def live_of_environment(environment_id: str) -> str:
    return f"environment#{environment_id}#live"


def live_in_environment(environment_id: str, execution_id: str) -> Key:
    """Only while the execution is not terminal: what the sweep walks."""
    return Key(live_of_environment(environment_id), execution_id)


def queue(environment_id: str) -> str:
    return f"environment#{environment_id}#queue"


def queue_entry(environment_id: str, priority: int, qtime: datetime, execution_id: str) -> Key:
    """Higher priority first, then first come first served."""
    return Key(queue(environment_id), f"{10**9 - priority:010d}#{format_time(qtime)}#{execution_id}")


def environment(environment_id: str) -> Key:
    return Key(f"environment#{environment_id}", "environment")


def environment_slug(slug: str) -> Key:
    return Key(ENVIRONMENTS, slug)


def capacity(environment_id: str) -> Key:
    """The count of machines that are not gone; every launch and every end changes it in its own transaction."""
    return Key(f"environment#{environment_id}", "capacity")


def installation_capacity() -> Key:
    """The same count over all environments."""
    return Key("installation", "capacity")


def spending(day: str) -> Key:
    """What machines that ended on this day (UTC, 2026-01-31) have cost on it."""
    return Key(f"spending#{day}", "spending")


def machine(machine_id: str) -> Key:
    return Key(f"machine#{machine_id}", "machine")


def machines(environment_id: str) -> str:
    return f"environment#{environment_id}#machines"


def live_machine(environment_id: str, machine_id: str) -> Key:
    """Only until the machine is gone."""
    return Key(machines(environment_id), machine_id)


def cloud_machine(cloud: str, cloud_id: str) -> Key:
    """Points at the machine that has this id in its cloud; only until it is gone."""
    return Key(f"cloud-machine#{cloud}#{cloud_id}", "machine")


def join(sha256: str) -> Key:
    """Of a join token: which machine may register with it."""
    return Key(f"join#{sha256}", "join")


def datum(datum_id: str) -> Key:
    return Key(f"datum#{datum_id}", "datum")


def data(project_id: str) -> str:
    return f"project#{project_id}#data"


def datum_in_project(project_id: str, datum_id: str) -> Key:
    """Ordered by age: datum ids are UUIDv7."""
    return Key(data(project_id), datum_id)


def used_by(datum_id: str, execution_id: str) -> Key:
    """Lineage, forwards: which executions read this datum."""
    return Key(f"datum#{datum_id}#used-by", execution_id)


def aliases(project_id: str) -> str:
    return f"project#{project_id}#aliases"


def alias(project_id: str, name: str) -> Key:
    return Key(aliases(project_id), name)


def outbox(intent_id: str) -> Key:
    return Key(OUTBOX[_shard(intent_id)], intent_id)


def parked(intent_id: str) -> Key:
    """Intents that failed too often, kept for a person to look at. One partition: parking that is slowed down harms nobody."""
    return Key("outbox-parked", intent_id)


def audit(organisation_id: str, record_id: str) -> Key:
    return Key(audit_partitions(organisation_id)[_shard(record_id)], record_id)


def audit_partitions(organisation_id: str) -> tuple[str, ...]:
    """Each is ordered by age on its own: record ids are UUIDv7."""
    return tuple(f"audit#{organisation_id}#{shard:02d}" for shard in range(SHARDS))


def idempotency(organisation_id: str, key: str) -> Key:
    return Key(f"idempotency#{organisation_id}", key)


def store(name: str) -> Key:
    return Key(STORES, name)


def registry(organisation_id: str, address: str) -> Key:
    return Key(f"organisation#{organisation_id}#registries", address)


def _shard(record_id: str) -> int:
    """The same for this id in every process and for ever."""
    return zlib.crc32(record_id.encode()) % SHARDS
