"""`template.yaml` with its nested stacks as one deployed whole: every reference resolved, nothing deployed."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]

REGION = "eu-north-1"
ACCOUNT = "123456789012"
INSTALLATION = "5f0c0a3e-1d2b-4c3d-8e4f-0123456789ab"

NOTHING = object()
"""What `AWS::NoValue` means: the property is not there."""

_ARNS = {
    "AWS::DynamoDB::Table": "dynamodb:{region}:{account}:table/{name}",
    "AWS::EC2::LaunchTemplate": "ec2:{region}:{account}:launch-template/{name}",
    "AWS::Events::Rule": "events:{region}:{account}:rule/{name}",
    "AWS::IAM::InstanceProfile": "iam::{account}:instance-profile/{name}",
    "AWS::IAM::Role": "iam::{account}:role/{name}",
    "AWS::Lambda::Function": "lambda:{region}:{account}:function:{name}",
    "AWS::S3::Bucket": "s3:::{name}",
    "AWS::SNS::Topic": "sns:{region}:{account}:{name}",
    "AWS::SQS::Queue": "sqs:{region}:{account}:{name}",
    "AWS::Serverless::Function": "lambda:{region}:{account}:function:{name}",
    "AWS::Serverless::StateMachine": "states:{region}:{account}:stateMachine:{name}",
}
_REFERENCED_BY_ARN = {"AWS::SNS::Topic", "AWS::Serverless::StateMachine"}


@dataclass(frozen=True)
class Resource:
    """One resource of the stack or of a stack within it. `name` is its logical id; `properties` are resolved."""

    name: str
    type: str
    properties: Mapping[str, Any]
    stack: str

    @property
    def arn(self) -> str:
        """The ARN that this module gives it."""
        if self.type == "AWS::Logs::LogGroup":
            return f"arn:aws:logs:{REGION}:{ACCOUNT}:log-group:{self.properties['LogGroupName']}:*"
        return f"arn:aws:{_ARNS[self.type].format(region=REGION, account=ACCOUNT, name=self.name)}"


class Stack:
    """A template as CloudFormation would see it with these parameters."""

    def __init__(self, path: Path, parameters: Mapping[str, Any], name: str = "lamp") -> None:
        self.path, self.name = path, name
        self.source = load(path)
        declared = self.source.get("Parameters", {})
        assert not set(parameters) - set(declared), f"{path.name} has no parameters {set(parameters) - set(declared)}"
        self.parameters = {
            key: _typed(about, parameters.get(key, about.get("Default"))) for key, about in declared.items()
        }
        self._nested: dict[str, Stack] = {}
        self._outputs: dict[str, Any] = {}

    @property
    def resources(self) -> list[Resource]:
        """All that would be made, those of nested stacks included."""
        own = [self.resource(name) for name, about in self.source["Resources"].items() if self._holds(about)]
        return own + [
            inner for r in own if r.type == "AWS::CloudFormation::Stack" for inner in self.nested(r.name).resources
        ]

    def resource(self, name: str) -> Resource:
        about = self.source["Resources"][name]
        return Resource(name, about["Type"], self.resolve(about.get("Properties", {})), self.name)

    def nested(self, name: str) -> Stack:
        if name not in self._nested:
            properties = self.resource(name).properties
            self._nested[name] = Stack(
                ROOT / properties["TemplateURL"], properties.get("Parameters", {}), f"{self.name}-{name}"
            )
        return self._nested[name]

    @property
    def outputs(self) -> dict[str, Any]:
        declared = self.source.get("Outputs", {})
        return {name: self.resolve(about["Value"]) for name, about in declared.items() if self._holds(about)}

    def resolve(self, value: Any) -> Any:
        """`value` without intrinsic functions."""
        if isinstance(value, list):
            return [found for item in value if (found := self.resolve(item)) is not NOTHING]
        if not isinstance(value, dict):
            return value
        if len(value) == 1 and (function := next(iter(value))) in _FUNCTIONS:
            return _FUNCTIONS[function](self, value[function])
        pairs = ((key, self.resolve(item)) for key, item in value.items())
        return {key: item for key, item in pairs if item is not NOTHING}

    def ref(self, name: str) -> Any:
        if name in _PSEUDO:
            return _PSEUDO[name]
        if name == "AWS::StackName":
            return self.name
        if name == "AWS::StackId":
            return f"arn:aws:cloudformation:{REGION}:{ACCOUNT}:stack/{self.name}/{INSTALLATION}"
        if name in self.parameters:
            return self.parameters[name]
        about = self.source["Resources"][name]
        if about["Type"] == "AWS::Logs::LogGroup":
            return self.resource(name).properties["LogGroupName"]
        return Resource(name, about["Type"], {}, self.name).arn if about["Type"] in _REFERENCED_BY_ARN else name

    def attribute(self, name: str, attribute: str) -> Any:
        about = self.source["Resources"][name]
        if attribute.startswith("Outputs."):
            return self.nested(name).outputs[attribute.removeprefix("Outputs.")]
        if attribute == "Arn":
            bare = Resource(name, about["Type"], {}, self.name)
            return self.resource(name).arn if about["Type"] == "AWS::Logs::LogGroup" else bare.arn
        if attribute == "StreamArn":
            return Resource(name, about["Type"], {}, self.name).arn + "/stream/2026-01-01T00:00:00.000"
        if attribute == "FunctionUrl":
            return f"https://{name.lower()}.lambda-url.{REGION}.on.aws/"
        if attribute == "ApiEndpoint":
            return f"https://{name.lower()}.execute-api.{REGION}.amazonaws.com"
        assert attribute in {"GroupId", "Name", "QueueName", "RegionalDomainName"}, f"{name}.{attribute}"
        return name

    def condition(self, name: str) -> bool:
        return bool(self.resolve(self.source["Conditions"][name]))

    def _holds(self, about: Mapping[str, Any]) -> bool:
        return "Condition" not in about or self.condition(about["Condition"])


_PSEUDO: dict[str, Any] = {
    "AWS::AccountId": ACCOUNT,
    "AWS::NoValue": NOTHING,
    "AWS::Partition": "aws",
    "AWS::Region": REGION,
    "AWS::URLSuffix": "amazonaws.com",
}


def _sub(stack: Stack, given: Any) -> str:
    text, named = (given, {}) if isinstance(given, str) else (given[0], stack.resolve(given[1]))

    def value(match: re.Match[str]) -> str:
        name = match[1]
        if name in named:
            return str(named[name])
        resource, dot, attribute = name.partition(".")
        return str(stack.attribute(resource, attribute) if dot else stack.ref(name))

    return re.sub(r"\$\{([^!}]+)\}", value, text)


_FUNCTIONS: dict[str, Any] = {
    "Ref": lambda s, name: s.ref(name),
    "Condition": lambda s, name: s.condition(name),
    "Fn::GetAtt": lambda s, place: s.attribute(*place),
    "Fn::Sub": _sub,
    "Fn::If": lambda s, v: s.resolve(v[1] if s.condition(v[0]) else v[2]),
    "Fn::Equals": lambda s, v: str(s.resolve(v[0])) == str(s.resolve(v[1])),
    "Fn::Not": lambda s, v: not s.resolve(v[0]),
    "Fn::And": lambda s, v: all(s.resolve(item) for item in v),
    "Fn::Join": lambda s, v: v[0].join(str(item) for item in s.resolve(v[1])),
    "Fn::Split": lambda s, v: s.resolve(v[1]).split(v[0]),
    "Fn::Select": lambda s, v: s.resolve(v[1])[int(v[0])],
    "Fn::GetAZs": lambda s, v: [f"{REGION}{letter}" for letter in "abc"],
    "Fn::Base64": lambda s, v: s.resolve(v),
}


def load(path: Path) -> dict[str, Any]:
    """The template with its short forms (`!Ref`) written out (`{"Ref": ...}`)."""
    loaded: dict[str, Any] = yaml.load(path.read_text(), _Loader)
    return loaded


class _Loader(yaml.SafeLoader):
    pass


def _intrinsic(loader: _Loader, suffix: str, node: yaml.Node) -> dict[str, Any]:
    if isinstance(node, yaml.ScalarNode):
        value: Any = loader.construct_scalar(node)
    elif isinstance(node, yaml.SequenceNode):
        value = loader.construct_sequence(node, deep=True)
    else:
        value = loader.construct_mapping(node, deep=True)
    if suffix == "GetAtt" and isinstance(value, str):
        value = value.split(".", 1)
    return {suffix if suffix in ("Ref", "Condition") else f"Fn::{suffix}": value}


_Loader.add_multi_constructor("!", _intrinsic)


def _typed(about: Mapping[str, Any], value: Any) -> Any:
    assert value is not None, f"a parameter has neither a value nor a default: {about}"
    if about["Type"] == "CommaDelimitedList":
        return value if isinstance(value, list) else [part.strip() for part in str(value).split(",")]
    return value


def deployed(**parameters: Any) -> Stack:
    """The stack with these parameters; with both worker images unless told otherwise."""
    images = {"WorkerImageId": "ami-0000000000000000c", "GpuWorkerImageId": "ami-0000000000000000d"}
    return Stack(ROOT / "template.yaml", {**images, **parameters})
