"""`lamplighter --stack NAME doctor`: whether everything that a stack should have is there and works."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from adapters.aws.stack import Stack
from functions.aws.doors import ask
from functions.aws.operator import add_command, price_command, settings_of
from functions.aws.settings import Settings
from functions.aws.wiring import CLOUD, check_offer, make_metadata, make_secrets, make_stores
from functions.local.doctor import Finding, tell
from functions.stores import make_store, prove_store
from functions.wiring import JOIN_KEY
from lamplighter import keys
from lamplighter.domain.environments import Environment
from lamplighter.errors import LamplighterError, NotFound
from lamplighter.ports import Metadata
from lamplighter.records import find_many, walk
from lamplighter.usecases.installation import read_installation


def doctor(name: str, region: str | None) -> int:
    """Print every finding; 1 when something needed is missing, else 0. Raises `NotFound` when there is no such stack."""
    return tell(examine(Stack(name, region)), "This installation can run steps.")


def examine(stack: Stack) -> Iterator[Finding]:
    """Look at everything, one finding after the other; nothing is changed, but each store gets a small object for a moment.

    What `init` makes is not looked for before it was run: that it was not is one finding, not several.
    """
    settings = settings_of(stack)
    yield _stack(stack)
    metadata = make_metadata(settings)
    table = _looked("table", lambda: _records(metadata, stack.name))
    begun = table.grade == "ok"
    yield table
    yield _looked("parameters", lambda: _parameters(settings, stack, begun))
    yield from _stores(settings, stack, metadata)
    for kind in ("execution_machine", "machine_machine"):
        yield _looked(kind.replace("_", " "), lambda kind=kind: stack.state_machine(settings.need(kind)))  # type: ignore[misc]
    yield from _templates(settings, stack)
    yield _looked("api", lambda: _answers("GET", f"{settings.need('url')}/api/health/"))
    if begun:
        worker = settings.worker_url or settings.need("url")
        yield _looked("worker address", lambda: _answers("POST", f"{worker}/api/worker/v0/nonce/"))
        yield from _offers(settings, stack, metadata)
        yield from _prices(settings, stack, metadata)


def _looked(thing: str, look: Callable[[], str]) -> Finding:
    try:
        return Finding("ok", thing, look())
    except LamplighterError as error:
        return Finding("missing", thing, error.told())


def _stack(stack: Stack) -> Finding:
    status = stack.status()
    if status.endswith("_COMPLETE") and "ROLLBACK" not in status:
        return Finding("ok", "stack", f"{stack.name} in {stack.region}: {status}")
    advice = "Wait until it is done, or look at its events: aws cloudformation describe-stack-events."
    return Finding("warn", "stack", f"{stack.name} in {stack.region}: {status}", advice)


def _records(metadata: Metadata, stack: str) -> str:
    if not read_installation(metadata):
        raise NotFound(f"it is empty: run lamplighter --stack {stack} init")
    return "it answers, and has been begun with"


def _parameters(settings: Settings, stack: Stack, begun: bool) -> str:
    try:
        make_secrets(settings, stack.credentials).get(JOIN_KEY)
    except NotFound as error:
        if begun:
            raise NotFound(
                f"{error.told()} Run lamplighter --stack {stack.name} init: it makes what is missing."
            ) from error
    return f"under {settings.secrets_prefix}"


def _answers(method: str, url: str) -> str:
    ask(method, url)
    return f"{url} answers"


def _offers(settings: Settings, stack: Stack, metadata: Metadata) -> Iterator[Finding]:
    """Machines are only launched for environments that are enabled, and that the stack can launch."""
    offers = [offer for offer in _environments(metadata) if offer.enabled]
    if not offers:
        yield Finding("missing", "environments", "none is on offer and enabled", add_command(stack.name))
    good = []
    for offer in offers:
        try:
            check_offer(settings, offer)
        except LamplighterError as error:
            advice = f"lamplighter --stack {stack.name} environment set {offer.slug} options.NAME=VALUE"
            yield Finding("missing", f"environment {offer.slug}", error.told(), advice)
        else:
            good.append(offer.slug)
    if good:
        yield Finding("ok", "environments", ", ".join(good))


def _stores(settings: Settings, stack: Stack, metadata: Metadata) -> Iterator[Finding]:
    secrets = make_secrets(settings, stack.credentials)
    stores = make_stores(settings, metadata, secrets)
    for row in stores.rows():
        try:
            own = stores.built_in.get(row.name)
            prove_store(own.store if own else make_store(row, secrets))
        except LamplighterError as error:
            yield Finding("missing", f"store {row.name}", error.told())
        else:
            yield Finding("ok", f"store {row.name}", "written, read and deleted a small object")


def _prices(settings: Settings, stack: Stack, metadata: Metadata) -> Iterator[Finding]:
    """Machines without a price cost nothing for the daily budget."""
    if settings.daily_budget_usd is None:
        return
    for offer in _environments(metadata):
        if offer.cloud == CLOUD and not offer.per_hour_price_usd:
            detail = f"no price: the daily budget of {settings.daily_budget_usd} USD does not count its machines"
            yield Finding("warn", f"environment {offer.slug}", detail, price_command(stack.name, offer.slug))


def _environments(metadata: Metadata) -> list[Environment]:
    """All of them; none where the table does not answer, which is a finding of its own."""
    try:
        ids = [str(row.value["environment_id"]) for row in walk(metadata, keys.ENVIRONMENTS)]
        return [s.value for s in find_many(metadata, Environment, [keys.environment(i) for i in ids])]
    except LamplighterError:
        return []


def _templates(settings: Settings, stack: Stack) -> Iterator[Finding]:
    advice = "Build one as worker_ami/image/README.md says, and set WorkerImageId or GpuWorkerImageId of the stack."
    if not settings.launch_templates:
        yield Finding("missing", "worker image", "there is no launch template, so no machine can start", advice)
    for name, template in settings.launch_templates.items():
        try:
            image = stack.image_of(template)
        except LamplighterError as error:
            yield Finding("missing", f"template {name}", error.told(), advice)
        else:
            grade, detail = ("ok", image) if image else ("missing", "it names no image")
            yield Finding(grade, f"template {name}", detail, "" if image else advice)  # type: ignore[arg-type]
