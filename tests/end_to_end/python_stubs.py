"""Python stubs of our .proto files, from protoc and grpc_python_plugin."""

import os
import subprocess
import sys

import google

PROTOS = ["google/rpc/status.proto", "google/rpc/error_details.proto"] + [
    f"latticed/v1/{name}.proto"
    for name in ("spec", "manifest", "sampler", "chain", "model", "measure",
                 "admin")]


def generate_stubs(arguments, folder):
    """Writes them into `folder` and puts that on the path. `arguments` has
    protos, protoc and grpc_plugin."""
    subprocess.run(
        [arguments.protoc, f"-I{arguments.protos}", f"--python_out={folder}",
         f"--grpc_out={folder}",
         f"--plugin=protoc-gen-grpc={arguments.grpc_plugin}"] + PROTOS,
        check=True)
    sys.path.insert(0, folder)
    # google/rpc lies beside, not in, the google package of python3-protobuf.
    google.__path__ = list(google.__path__) + [os.path.join(folder, "google")]
