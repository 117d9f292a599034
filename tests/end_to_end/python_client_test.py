#!/usr/bin/python3
"""Train, publish, serve, and draw from Python with nothing of ours but .proto.

Debian's python3-grpcio and python3-numpy; the stubs come from protoc and
grpc_python_plugin when the test runs.
"""

import argparse
import math
import shutil
import sys
import tempfile
import unittest

import grpc
import numpy

from python_server import Server, connect
from python_stubs import generate_stubs

ARGUMENTS = None  # of the command line
MASS_SQUARED, LAMBDA, LENGTH = -4.0, 6.008, 8  # as in tiny.textproto


def crc32c_table():
    table = []
    for byte in range(256):
        for _ in range(8):
            byte = (byte >> 1) ^ (0x82F63B78 if byte & 1 else 0)
        table.append(byte)
    return table


CRC_TABLE = crc32c_table()


def crc32c(*parts):
    crc = 0xFFFFFFFF
    for part in parts:
        for byte in part:
            crc = (crc >> 8) ^ CRC_TABLE[(crc ^ byte) & 0xFF]
    return crc ^ 0xFFFFFFFF


def action_of(phi):
    """S as spec.proto defines it, in float64."""
    phi = phi.astype(numpy.float64)
    s = MASS_SQUARED * phi**2 + LAMBDA * phi**4
    for axis in (1, 2):
        s += (numpy.roll(phi, -1, axis) - phi) ** 2
    return s.sum((1, 2))


def payload(block):
    """phi, log_q and action of a block whose CRC32C holds."""
    if crc32c(block.log_q, block.action, block.phi) != block.crc32c:
        raise AssertionError("CRC32C differs")
    phi = numpy.frombuffer(block.phi, "<f4").reshape(-1, LENGTH, LENGTH)
    log_q = numpy.frombuffer(block.log_q, "<f8")
    action = numpy.frombuffer(block.action, "<f8")
    return phi, log_q, action


class PythonClient(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.stubs = tempfile.mkdtemp(prefix="latticed-stubs-")
        generate_stubs(ARGUMENTS, cls.stubs)
        cls.server = Server(ARGUMENTS.latticed, ARGUMENTS.train)
        cls.channel = connect(cls.server.address)
        from latticed.v1 import chain_pb2_grpc, model_pb2_grpc
        from latticed.v1 import sampler_pb2_grpc
        cls.sampler = sampler_pb2_grpc.SamplerServiceStub(cls.channel)
        cls.chain = chain_pb2_grpc.ChainServiceStub(cls.channel)
        cls.models = model_pb2_grpc.ModelServiceStub(cls.channel)

    @classmethod
    def tearDownClass(cls):
        cls.channel.close()
        code = cls.server.stop()
        shutil.rmtree(cls.stubs, ignore_errors=True)
        assert code == 0, f"latticed exited {code} after SIGTERM"

    def stream(self, count, first_index=0, name="python"):
        """Header, arrays and summary of a whole stream."""
        from latticed.v1 import sampler_pb2 as pb
        request = pb.StreamSamplesRequest(
            model=pb.ModelSelector(model="tiny"),
            stream=pb.RngStream(name=name), first_index=first_index,
            count=count, block_bytes_max=1 << 16)
        header = summary = None
        phi, log_q, action, next_index = [], [], [], first_index
        for message in self.sampler.StreamSamples(request):
            kind = message.WhichOneof("kind")
            if kind == "header":
                header = message.header
            elif kind == "summary":
                summary = message.summary
            else:
                block = message.block
                self.assertEqual(block.first_index, next_index)
                self.assertEqual(block.digest_prefix,
                                 int(header.digest[:16], 16))
                next_index += block.count
                for whole, part in zip((phi, log_q, action), payload(block)):
                    self.assertEqual(len(part),
                                     block.count - len(block.non_finite))
                    whole.append(part)
        self.assertEqual(next_index, first_index + count)
        return (header, *map(numpy.concatenate, (phi, log_q, action)), summary)

    def error_of(self, call):
        """Code, ErrorInfo and fields of the error that `call` raises."""
        from google.rpc import error_details_pb2, status_pb2
        with self.assertRaises(grpc.RpcError) as caught:
            call()
        error = caught.exception
        status = status_pb2.Status()
        status.ParseFromString(
            dict(error.trailing_metadata())["grpc-status-details-bin"])
        self.assertEqual(status.code, error.code().value[0])
        self.assertEqual(status.message, error.details())
        info, bad = error_details_pb2.ErrorInfo(), error_details_pb2.BadRequest()
        found = [any_.Unpack(info) for any_ in status.details]
        self.assertEqual(sum(found), 1, "exactly one ErrorInfo")
        for any_ in status.details:
            any_.Unpack(bad)
        return error, info, [v.field for v in bad.field_violations]

    def test_crc32c_known_answer(self):
        self.assertEqual(crc32c(b"123456789"), 0xE3069283)

    def test_models_carry_their_spec_and_figures(self):
        from latticed.v1 import model_pb2
        listed = self.models.ListModels(model_pb2.ListModelsRequest()).models
        self.assertEqual([model.model for model in listed], ["tiny"])
        manifest = listed[0].live.manifest
        self.assertEqual(list(manifest.spec.lattice.extent), [LENGTH, LENGTH])
        # `lambda` is a keyword of Python.
        self.assertEqual(getattr(manifest.spec.action.phi4.latticed, "lambda"),
                         LAMBDA)
        self.assertEqual(len(listed[0].live.digest), 64)
        self.assertGreater(manifest.quality.ess, 0.1)

    def test_action_is_the_one_of_the_spec(self):
        _, phi, log_q, action, _ = self.stream(256)
        self.assertTrue(numpy.isfinite(phi).all())
        self.assertTrue(numpy.isfinite(log_q).all())
        # Both sum the same float32 fields in float64; only the order differs.
        numpy.testing.assert_allclose(action, action_of(phi), rtol=1e-10,
                                      atol=1e-9)

    def test_log_q_is_normalised(self):
        """log Z = log E_q[exp(-S - log q)] agrees with the trainer's."""
        from latticed.v1 import model_pb2
        _, _, log_q, action, summary = self.stream(4096)
        log_w = -action - log_q
        w = numpy.exp(log_w - log_w.max())
        log_z = math.log(w.mean()) + log_w.max()
        error = w.std() / w.mean() / math.sqrt(len(w))
        quality = self.models.GetModel(model_pb2.GetModelRequest(
            model="tiny")).model.live.manifest.quality
        self.assertLess(abs(log_z - quality.log_z),
                        5 * math.hypot(error, quality.log_z_error))
        ess = w.sum() ** 2 / (len(w) * (w**2).sum())
        self.assertAlmostEqual(summary.ess, ess, places=9)
        self.assertEqual(summary.draws, 4096)
        self.assertAlmostEqual(summary.log_w_max, log_w.max(), places=9)

    def test_a_draw_is_a_function_of_stream_and_index(self):
        from latticed.v1 import sampler_pb2 as pb
        header, phi, log_q, action, _ = self.stream(300)
        again = self.stream(40, first_index=123)
        for whole, part in zip((phi, log_q, action), again[1:4]):
            self.assertEqual(whole[123:163].tobytes(), part.tobytes())
        response = self.sampler.Sample(pb.SampleRequest(
            model=pb.ModelSelector(model="tiny", digest=header.digest),
            stream=pb.RngStream(id=header.stream_id), first_index=299,
            count=1))
        one_phi, one_log_q, _ = payload(response.block)
        self.assertEqual(one_phi[0].tobytes(), phi[299].tobytes())
        self.assertEqual(one_log_q[0], log_q[299])
        self.assertEqual(response.provenance.digest, header.digest)
        # Unnamed streams never repeat.
        fresh = [self.sampler.Sample(pb.SampleRequest(
            model=pb.ModelSelector(model="tiny"), count=1))
            for _ in range(2)]
        self.assertNotEqual(fresh[0].provenance.stream_id,
                            fresh[1].provenance.stream_id)
        self.assertNotEqual(fresh[0].block.phi, fresh[1].block.phi)

    def test_a_chain_walks_over_the_draws_of_its_stream(self):
        from latticed.v1 import chain_pb2 as pb
        from latticed.v1 import sampler_pb2
        steps = 500
        _, phi, log_q, action, _ = self.stream(steps, name="walk")
        log_w = -action - log_q
        start = pb.ChainStart(model=sampler_pb2.ModelSelector(model="tiny"),
                              stream=sampler_pb2.RngStream(name="walk"))

        def walk(request):
            index, accept, token = [], [], b""
            for message in self.chain.RunChain(request):
                if message.WhichOneof("kind") != "block":
                    continue
                block = message.block
                row_phi, row_log_q, _ = payload(block)
                for row in block.row:
                    draw = block.index[row]
                    index.append(draw)
                    self.assertEqual(row_phi[row].tobytes(),
                                     phi[draw].tobytes())
                    self.assertEqual(row_log_q[row], log_q[draw])
                bits = numpy.unpackbits(
                    numpy.frombuffer(block.accept, "u1"), bitorder="little")
                accept.extend(bits[:block.steps])
                token = block.token
            return index, accept, token

        index, accept, token = walk(pb.RunChainRequest(
            chain=start, steps=steps, block_bytes_max=1 << 16))
        self.assertEqual(len(index), steps)
        self.assertEqual(accept[0], 1)
        current, rejected = 0, 0
        for step in range(steps):
            if accept[step]:
                current = step
            else:
                # min(1, w'/w) is 1 for a weight that does not fall.
                self.assertLess(log_w[step], log_w[current])
                rejected += 1
            self.assertEqual(index[step], current)
        self.assertGreater(rejected, 0)
        # Continued from a token, it is the same chain.
        head = walk(pb.RunChainRequest(chain=start, steps=200))
        tail = walk(pb.RunChainRequest(token=head[2], steps=steps - 200))
        self.assertEqual(head[0] + tail[0], index)
        self.assertEqual(tail[2], token)

    def test_bad_requests_say_what_is_wrong(self):
        from latticed.v1 import sampler_pb2 as pb
        tiny = pb.ModelSelector(model="tiny")

        def sample(**fields):
            return lambda: self.sampler.Sample(pb.SampleRequest(**fields))

        error, _, fields = self.error_of(sample(model=tiny, count=0))
        self.assertEqual(error.code(), grpc.StatusCode.INVALID_ARGUMENT)
        self.assertEqual(fields, ["count"])
        error, info, _ = self.error_of(
            sample(model=pb.ModelSelector(model="nope"), count=1))
        self.assertEqual(error.code(), grpc.StatusCode.NOT_FOUND)
        self.assertEqual(info.reason, "MODEL_NOT_FOUND")
        self.assertEqual(info.domain, "latticed")
        self.assertIn("tiny", error.details())
        guard = pb.SampleRequest(model=tiny, count=1)
        guard.expected_lattice.extent.extend([LENGTH, 2 * LENGTH])
        error, _, _ = self.error_of(lambda: self.sampler.Sample(guard))
        self.assertEqual(error.code(), grpc.StatusCode.FAILED_PRECONDITION)
        # And the server goes on serving.
        self.assertEqual(sample(model=tiny, count=1)().block.count, 1)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    for name in ("latticed", "train", "latticectl", "protos", "protoc",
                 "grpc_plugin"):
        parser.add_argument(f"--{name}", required=True)
    ARGUMENTS, rest = parser.parse_known_args()
    unittest.main(argv=[sys.argv[0]] + rest)
