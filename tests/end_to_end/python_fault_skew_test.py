#!/usr/bin/python3
"""F28: two servers of one model, one of them behind by a version."""

import threading
import unittest

import grpc

import python_faults
from python_faults import (LONG, FaultTest, deliver, digest, error_info,
                           figure, live_digest, train_versions, until)
from python_server import Server, connect

DRAWS = 200


class Skew(FaultTest):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        from latticed.v1 import chain_pb2_grpc, sampler_pb2_grpc
        trained = cls.path("trained")
        train_versions(cls.arguments.train, trained, cls.folder)
        cls.digests = {v: digest(trained, v) for v in (1, 2, 3)}
        cls.trained = trained
        cls.servers, cls.samplers, cls.chains = {}, {}, {}
        # The one behind has never seen version 2.
        for name, versions in (("behind", (1,)), ("ahead", (1, 2))):
            repository = cls.path(name)
            deliver(trained, repository, 1)
            server = Server(cls.arguments.latticed, repository=repository,
                            flags=("--poll_seconds", "0.05", "--gate_draws",
                                   "0", "--smoke_draws", "64"))
            cls.addClassCleanup(server.stop)
            if 2 in versions:
                deliver(trained, repository, 2)
                until(lambda: live_digest(server) == cls.digests[2][:12], "2")
            channel = connect(server.address)
            cls.addClassCleanup(channel.close)
            cls.servers[name] = server
            cls.samplers[name] = sampler_pb2_grpc.SamplerServiceStub(channel)
            cls.chains[name] = chain_pb2_grpc.ChainServiceStub(channel)

    def sample(self, name, digest="", first_index=0):
        from latticed.v1 import sampler_pb2 as pb
        selector = pb.ModelSelector(model="tiny")
        if digest:
            selector.digest = digest
        return self.samplers[name].Sample(pb.SampleRequest(
            model=selector, stream=pb.RngStream(name="skew"),
            first_index=first_index, count=DRAWS), timeout=30)

    def reason(self, call):
        with self.assertRaises(grpc.RpcError) as caught:
            call()
        return caught.exception.code(), error_info(caught.exception).reason

    def test_replies_say_which_version_they_are_of(self):
        behind, ahead = self.sample("behind"), self.sample("ahead")
        self.assertEqual(behind.provenance.digest, self.digests[1])
        self.assertEqual(ahead.provenance.digest, self.digests[2])
        self.assertNotEqual(behind.block.phi, ahead.block.phi)
        for reply in (behind, ahead):
            self.assertEqual(reply.block.digest_prefix,
                             int(reply.provenance.digest[:16], 16))

    def test_pinned_by_digest_the_bytes_are_the_same_or_there_are_none(self):
        # Version 1 is PREVIOUS on the one ahead, and draws the same.
        same = 0
        for turn in range(200 if LONG else 20):
            a = self.sample("behind", self.digests[1], turn * DRAWS)
            b = self.sample("ahead", self.digests[1], turn * DRAWS)
            self.assertEqual(b.provenance.digest, self.digests[1])
            self.assertEqual((a.block.phi, a.block.log_q, a.block.action),
                             (b.block.phi, b.block.log_q, b.block.action))
            same += DRAWS
        self.assertEqual(
            self.reason(lambda: self.sample("behind", self.digests[2])),
            (grpc.StatusCode.NOT_FOUND, "VERSION_NOT_FOUND"))
        figure(f"F28 {same} draws pinned by digest identical on both servers; "
               "the unknown digest refused with VERSION_NOT_FOUND")

    def test_a_chain_goes_on_elsewhere_only_on_its_own_version(self):
        from latticed.v1 import chain_pb2 as pb
        from latticed.v1 import sampler_pb2

        def walk(name, **start):
            phi, token = b"", b""
            for message in self.chains[name].RunChain(
                    pb.RunChainRequest(steps=DRAWS, **start), timeout=30):
                if message.WhichOneof("kind") == "block":
                    phi += message.block.phi
                    token = message.block.token
            return phi, token

        # Both servers know version 1; tokens need one key.
        key = f"{self.servers['behind'].state}/chain-token.key"
        shared = Server(self.arguments.latticed,
                        repository=self.servers["ahead"].repository,
                        flags=("--chain_token_key_file", key, "--poll_seconds",
                               "0.05", "--gate_draws", "0"))
        self.addCleanup(shared.stop)
        from latticed.v1 import chain_pb2_grpc
        channel = connect(shared.address)
        self.addCleanup(channel.close)
        self.chains["shared"] = chain_pb2_grpc.ChainServiceStub(channel)
        start = pb.ChainStart(
            model=sampler_pb2.ModelSelector(model="tiny"),
            stream=sampler_pb2.RngStream(name="skew"))
        _, token = walk("behind", chain=start)
        # Started on version 2, it never loaded version 1.
        self.assertEqual(live_digest(shared), self.digests[2][:12])
        code, reason = self.reason(lambda: walk("shared", token=token))
        self.assertEqual(code, grpc.StatusCode.FAILED_PRECONDITION)
        self.assertEqual(reason, "VERSION_RETIRED")
        self.assertEqual(walk("behind", token=token),
                         walk("behind", token=token))
        figure("F28 a chain of version 1 on a server with version 2 alone: "
               "VERSION_RETIRED")

    def test_never_mixed_while_versions_change(self):
        """Unpinned streams under three publications: every stream has one
        digest, and its bytes are those of that digest."""
        from latticed.v1 import sampler_pb2 as pb
        repository = self.path("moving")
        deliver(self.trained, repository, 1)
        server = Server(self.arguments.latticed, repository=repository,
                        flags=("--poll_seconds", "0.05", "--gate_draws", "0",
                               "--smoke_draws", "64"))
        self.addCleanup(server.stop)
        channel = connect(server.address)
        self.addCleanup(channel.close)
        from latticed.v1 import sampler_pb2_grpc
        stub = sampler_pb2_grpc.SamplerServiceStub(channel)
        streams, failures, ending = [], [], threading.Event()

        def draw():
            try:
                while not ending.is_set():
                    found = b""
                    for message in stub.StreamSamples(pb.StreamSamplesRequest(
                            model=pb.ModelSelector(model="tiny"),
                            stream=pb.RngStream(name="moving"), count=2000,
                            block_bytes_max=1 << 16), timeout=60):
                        kind = message.WhichOneof("kind")
                        if kind == "header":
                            name = message.header.digest
                        elif kind == "block":
                            assert message.block.digest_prefix == int(
                                name[:16], 16), "a block of another version"
                            found += message.block.phi
                    streams.append((name, found))
            except Exception as error:  # asserted on below
                failures.append(error)

        threads = [threading.Thread(target=draw) for _ in range(3)]
        for thread in threads:
            thread.start()
        try:
            for version in (2, 3):
                before = len(streams)
                until(lambda: len(streams) >= before + 6 or failures, "streams")
                deliver(self.trained, repository, version)
                until(lambda: live_digest(server) ==
                      self.digests[version][:12], f"{version} is live")
            before = len(streams)
            until(lambda: len(streams) >= before + 6 or failures, "streams")
        finally:
            ending.set()
            for thread in threads:
                thread.join()
        self.assertEqual(failures, [])
        bytes_of = {}
        for name, found in streams:
            self.assertEqual(bytes_of.setdefault(name, found), found)
        self.assertEqual(set(bytes_of), set(self.digests.values()))
        self.assertEqual(len(set(bytes_of.values())), 3)
        # Retired by now, and so an error, not other bytes.
        self.assertEqual(
            self.reason(lambda: stub.Sample(pb.SampleRequest(
                model=pb.ModelSelector(model="tiny",
                                       digest=self.digests[1]), count=1))),
            (grpc.StatusCode.FAILED_PRECONDITION, "VERSION_RETIRED"))
        figure(f"F28 {len(streams)} streams over 3 versions of one server: "
               "each of one digest and with its bytes")


if __name__ == "__main__":
    python_faults.main()
