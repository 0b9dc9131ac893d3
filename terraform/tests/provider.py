"""Serves a schema to Terraform as the AWS provider: plans are real, and what
is applied is made up. `python provider.py SCHEMA SOCKET` prints the value of
TF_REATTACH_PROVIDERS once it listens.
"""

import json
import os
import sys
import uuid
from concurrent import futures

import grpc
import msgpack
from tf.gen import grpc_controller_pb2, grpc_controller_pb2_grpc, grpc_stdio_pb2_grpc
from tf.gen import tfplugin_pb2 as wire
from tf.gen import tfplugin_pb2_grpc

ADDRESS = "registry.terraform.io/hashicorp/aws"
NESTING = {"single": 1, "list": 2, "set": 3, "map": 4}
UNKNOWN = msgpack.ExtType(0, b"\0")
# What the configuration looks at: as the checks say, or of the right form.
FITTING = {"vpc_id": "vpc-0123456789abcdef0", "security_group_ids": ["sg-0123456789abcdef0"]}


def _block(block: dict) -> wire.Schema.Block:
    attributes = [
        wire.Schema.Attribute(
            name=name,
            type=json.dumps(attribute["type"]).encode(),
            required=attribute.get("required", False),
            optional=attribute.get("optional", False),
            computed=attribute.get("computed", False),
        )
        for name, attribute in sorted(block["attributes"].items())
    ]
    nested = [
        wire.Schema.NestedBlock(
            type_name=name,
            nesting=NESTING[inner["nesting_mode"]],
            min_items=0 if inner["nesting_mode"] == "single" else inner["min_items"],
            max_items=inner["max_items"],
            block=_block(inner["block"]),
        )
        for name, inner in sorted(block["block_types"].items())
    ]
    return wire.Schema.Block(version=0, attributes=attributes, block_types=nested)


def _schema(schema: dict) -> wire.Schema:
    return wire.Schema(version=schema.get("version", 0), block=_block(schema["block"]))


def _filled(value, block: dict, fill):
    """Gives computed attributes without a value the one that `fill` makes."""
    if value is None:
        return None
    for name, attribute in block["attributes"].items():
        if attribute.get("computed"):
            value[name] = fill(name, attribute["type"], value.get(name))
    for name, nested in block["block_types"].items():
        if isinstance(value.get(name), list):
            value[name] = [_filled(item, nested["block"], fill) for item in value[name]]
    return value


def _unknown(_name, _kind, value):
    return UNKNOWN if value is None else value


def _made_up(resource: str):
    def fill(name, kind, value):
        if value is not None and not isinstance(value, msgpack.ExtType):
            return value
        if name in FITTING:
            return FITTING[name]
        if kind in (["list", "string"], ["set", "string"]):
            return [f"{name}-{uuid.uuid4().hex[:8]}"]
        if kind != "string":
            return None
        if name == "json":
            return json.dumps({"Version": "2012-10-17", "Statement": []})
        made = uuid.uuid4().hex[:8]
        return f"arn:aws:{resource.split('_')[1]}:us-east-1:123456789012:{made}" if name.endswith("arn") else made

    return fill


def _read(value: wire.DynamicValue):
    return msgpack.unpackb(value.msgpack, raw=False, strict_map_key=False)


def _write(value) -> wire.DynamicValue:
    return wire.DynamicValue(msgpack=msgpack.packb(value))


class Provider(tfplugin_pb2_grpc.ProviderServicer):
    def __init__(self, schema: dict):
        self.schema = schema

    def GetMetadata(self, request, context):
        context.abort(grpc.StatusCode.UNIMPLEMENTED, "")

    def GetProviderSchema(self, request, context):
        return wire.GetProviderSchema.Response(
            provider=_schema(self.schema["provider"]),
            resource_schemas={name: _schema(s) for name, s in self.schema["resource_schemas"].items()},
            data_source_schemas={name: _schema(s) for name, s in self.schema["data_source_schemas"].items()},
        )

    def ValidateProviderConfig(self, request, context):
        return wire.ValidateProviderConfig.Response()

    def ValidateResourceConfig(self, request, context):
        return wire.ValidateResourceConfig.Response()

    def ValidateDataResourceConfig(self, request, context):
        return wire.ValidateDataResourceConfig.Response()

    def ConfigureProvider(self, request, context):
        return wire.ConfigureProvider.Response()

    def UpgradeResourceState(self, request, context):
        state = wire.DynamicValue(json=request.raw_state.json)
        return wire.UpgradeResourceState.Response(upgraded_state=state)

    def ReadResource(self, request, context):
        return wire.ReadResource.Response(new_state=request.current_state)

    def ReadDataSource(self, request, context):
        block = self.schema["data_source_schemas"][request.type_name]["block"]
        value = _filled(_read(request.config), block, _made_up(request.type_name))
        return wire.ReadDataSource.Response(state=_write(value))

    def PlanResourceChange(self, request, context):
        block = self.schema["resource_schemas"][request.type_name]["block"]
        value = _read(request.proposed_new_state)
        if _read(request.prior_state) is None:
            value = _filled(value, block, _unknown)
        return wire.PlanResourceChange.Response(planned_state=_write(value))

    def ApplyResourceChange(self, request, context):
        block = self.schema["resource_schemas"][request.type_name]["block"]
        value = _filled(_read(request.planned_state), block, _made_up(request.type_name))
        return wire.ApplyResourceChange.Response(new_state=_write(value))

    def StopProvider(self, request, context):
        return wire.StopProvider.Response()


class Controller(grpc_controller_pb2_grpc.GRPCControllerServicer):
    def Shutdown(self, request, context):
        return grpc_controller_pb2.Empty()


class Stdio(grpc_stdio_pb2_grpc.GRPCStdioServicer):
    def StreamStdio(self, request, context):
        return iter([])


def main(schema: str, socket: str) -> None:
    server = grpc.server(futures.ThreadPoolExecutor(8), options=[("grpc.max_send_message_length", -1)])
    with open(schema) as file:
        tfplugin_pb2_grpc.add_ProviderServicer_to_server(Provider(json.load(file)), server)
    grpc_controller_pb2_grpc.add_GRPCControllerServicer_to_server(Controller(), server)
    grpc_stdio_pb2_grpc.add_GRPCStdioServicer_to_server(Stdio(), server)
    server.add_insecure_port(f"unix://{socket}")
    server.start()
    place = {"Network": "unix", "String": socket}
    how = {"Protocol": "grpc", "ProtocolVersion": 6, "Pid": os.getpid(), "Test": True, "Addr": place}
    print(json.dumps({ADDRESS: how}), flush=True)
    server.wait_for_termination()


if __name__ == "__main__":
    main(*sys.argv[1:])
