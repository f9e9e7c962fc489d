"""The rules that the stack keeps for the machines that it starts: templates, disks, network."""

from __future__ import annotations

import importlib.util
import json
import re
from typing import Any

import pytest

from tests.infra.reading import STACK, of, user_data
from tests.infra.stack import INSTALLATION, ROOT, deployed

TAG = "lamplighter:installation"


@pytest.mark.parametrize("template", ["CpuTemplate", "GpuTemplate"])
def test_a_machine_keeps_its_metadata_service_from_containers_and_has_no_key_for_anybody(template: str):
    data = of("EC2::LaunchTemplate")[template].properties["LaunchTemplateData"]

    assert data["MetadataOptions"] == {
        "HttpEndpoint": "enabled",
        "HttpTokens": "required",
        "HttpPutResponseHopLimit": 1,
        "InstanceMetadataTags": "disabled",
    }
    assert "KeyName" not in data
    assert data["InstanceInitiatedShutdownBehavior"] == "terminate"
    assert [
        disk["Ebs"]["Encrypted"] and disk["Ebs"]["DeleteOnTermination"] for disk in data["BlockDeviceMappings"]
    ] == [True]


@pytest.mark.parametrize("template", ["CpuTemplate", "GpuTemplate"])
def test_all_that_is_launched_bears_the_installation(template: str):
    data = of("EC2::LaunchTemplate")[template].properties["LaunchTemplateData"]
    tagged = {t["ResourceType"] for t in data["TagSpecifications"] if {"Key": TAG, "Value": INSTALLATION} in t["Tags"]}

    assert tagged == {"instance", "volume", "network-interface"}
    assert user_data(STACK, template) == {
        "control_url": STACK.outputs["WorkerUrl"],
        "installation": INSTALLATION,
        "identity": "ec2",
        "input_networks": "public",
        "max_life_hours": 168,
    }


@pytest.mark.parametrize("template", ["CpuTemplate", "GpuTemplate"])
def test_a_machine_lives_as_long_as_the_stack_says_which_the_image_takes(template: str):
    longest = STACK.source["Parameters"]["MaxMachineHours"]["MaxValue"]

    told = user_data(deployed(MaxMachineHours=longest), template)["max_life_hours"]

    assert told == longest
    assert longest * 3600 == settings_of_a_machine().LONGEST_LIFE_SECONDS


def settings_of_a_machine() -> Any:
    file = ROOT / "worker_ami" / "image" / "files" / "usr" / "lib" / "lamplighter" / "settings.py"
    found = importlib.util.spec_from_file_location("settings_of_a_machine", file)
    assert found
    assert found.loader
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    return module


def test_no_disk_can_be_smaller_than_the_image_that_packer_makes():
    packer = (ROOT / "worker_ami" / "image" / "worker.pkr.hcl").read_text()
    (sizes,) = re.findall(r"volume_size\s+= var\.gpu \? (\d+) : (\d+)", packer)
    templates = of("EC2::LaunchTemplate")
    parameters = STACK.source["Parameters"]

    for name, template, size in zip(
        ("GpuWorkerDiskGiB", "WorkerDiskGiB"), ("GpuTemplate", "CpuTemplate"), sizes, strict=True
    ):
        (disk,) = templates[template].properties["LaunchTemplateData"]["BlockDeviceMappings"]
        assert parameters[name]["MinValue"] == int(size)
        assert disk["Ebs"]["VolumeSize"] == parameters[name]["Default"] >= int(size)


@pytest.mark.parametrize(
    ("images", "names"),
    [
        ({"WorkerImageId": "", "GpuWorkerImageId": ""}, set()),
        ({"GpuWorkerImageId": ""}, {"cpu"}),
        ({"WorkerImageId": ""}, {"gpu"}),
        ({}, {"cpu", "gpu"}),
    ],
)
def test_there_is_a_launch_template_for_each_image(images: dict[str, str], names: set[str]):
    stack = deployed(**images)

    assert set(json.loads(stack.outputs["LaunchTemplates"])) == names
    assert set(json.loads(stack.outputs["LaunchTemplates"]).values()) == set(of("EC2::LaunchTemplate", stack))


def test_nobody_can_call_a_machine():
    assert ["SecurityGroupIngress" in g.properties for g in of("EC2::SecurityGroup").values()] == [False]


def test_machines_live_in_the_network_that_was_named_or_in_one_that_is_made():
    own = deployed(VpcId="vpc-1", SubnetIds="subnet-1, subnet-2")

    assert own.outputs["Subnets"] == "subnet-1,subnet-2"
    assert of("EC2::VPC", own) == {}
    assert of("EC2::SecurityGroup", own)["WorkerFirewall"].properties["VpcId"] == "vpc-1"
    for zones in (1, 2, 3):
        assert (
            len(deployed(Zones=zones).outputs["Subnets"].split(","))
            == len(of("EC2::Subnet", deployed(Zones=zones)))
            == zones
        )
