"""The worker's disk is booted by a true kernel, works once, and powers itself off."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from lamplighter.ports import LaunchRequest
from tests.image.control import ControlPlane, told_to
from tests.image.instance import user_data
from tests.image.virtual_machine import HOST, MODEL, VirtualMachine

PATIENCE = 780
"""Emulated, on a machine that is busy with other tests, all takes long."""


def boot(request: LaunchRequest) -> VirtualMachine:
    told = user_data(files={"/etc/lamplighter/scratch-models": f"{MODEL}\n"}, **told_to(request))
    return VirtualMachine(f"vm-{request.machine_id}", told).start()


@pytest.mark.timeout(900)
def test_a_machine_with_a_kernel_of_its_own_boots_works_and_powers_itself_off(
    new_control: Callable[..., ControlPlane], capsys: pytest.CaptureFixture[str]
) -> None:
    control = new_control(
        boot, host="127.0.0.1", url_of_machines=f"http://{HOST}:{{port}}", options={"runtime": "process"}
    )

    execution = control.ended_execution(
        control.submit("none", "docker version", "mount", "echo worked > $VH_OUTPUTS_DIR/a.txt"), seconds=PATIENCE
    )

    (machine_id,) = control.cloud.machines
    machine = control.cloud.machines[machine_id]
    (output,) = control.outputs(execution)
    assert control.content(output) == b"worked\n"
    mounts = [line.split() for line in control.events(execution) if " on /" in line]
    places = {words[2]: words[0] for words in mounts}
    assert places["/var/lib/docker"] == places["/var/lib/lamplighter"]
    assert places["/var/lib/docker"].startswith("/dev/md"), "its two own disks are one"
    machine.wait_off(PATIENCE)
    with capsys.disabled():
        print(f"\na disk of the image under QEMU {control.times(machine_id, execution)}")
