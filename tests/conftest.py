"""What several folders of tests share: an emulated AWS, started once, and a stage on it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import pytest

from lamplighter.ports import Json
from tests.emulators.theatre import EmulatedStage, Theatre, theatre

EmulatedStages = Callable[[Mapping[str, Json]], EmulatedStage]


@pytest.fixture(scope="session")
def emulated_step_functions(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Theatre]:
    with theatre(tmp_path_factory.mktemp("ministack")) as made:
        yield made


@pytest.fixture
def emulated_stages(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[EmulatedStages]:
    """Makes stages with the definitions given; a test that makes none starts no emulator."""
    made: list[EmulatedStage] = []

    def make(definitions: Mapping[str, Json]) -> EmulatedStage:
        place: Theatre = request.getfixturevalue("emulated_step_functions")
        for name, value in place.emulator.environment.items():
            monkeypatch.setenv(name, value)
        made.append(EmulatedStage(place, definitions))
        return made[-1]

    yield make
    for stage in made:
        stage.close()
