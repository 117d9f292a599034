#!/usr/bin/python3
"""F18 and F19: SIGTERM in every phase. The process exits 0 within 25 s, streams
end where another server can go on."""

import os
import subprocess
import threading
import time

import grpc

import python_faults
from python_faults import (LONG, Disk, FaultTest, deliver, digest, error_info,
                           figure, live_digest, metrics, train_versions, until)
from python_server import Server, connect

LIMIT_SECONDS = 25
COUNT = 20000  # draws of a stream, 80 blocks of 64 KiB


class Reader:
    """One stream, read slowly on a thread, until it ends."""

    def __init__(self, address, name, first_index=0, pause=0.01):
        from latticed.v1 import sampler_pb2 as pb
        from latticed.v1 import sampler_pb2_grpc
        self.next_index = first_index
        self.phi = b""
        self.error = None
        channel = connect(address)
        call = sampler_pb2_grpc.SamplerServiceStub(channel).StreamSamples(
            pb.StreamSamplesRequest(
                model=pb.ModelSelector(model="tiny"),
                stream=pb.RngStream(name=name), first_index=first_index,
                count=COUNT - first_index, block_bytes_max=1 << 16))

        def run():
            try:
                for message in call:
                    if message.WhichOneof("kind") == "block":
                        assert message.block.first_index == self.next_index
                        self.next_index += message.block.count
                        self.phi += message.block.phi
                        time.sleep(pause)
            except grpc.RpcError as error:
                self.error = error
            channel.close()

        self.thread = threading.Thread(target=run)
        self.thread.start()


class Stop(FaultTest):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.trained = cls.path("trained")
        train_versions(cls.arguments.train, cls.trained, cls.folder)

    def serve(self, *flags, start=True):
        name = self.id().split(".")[-1]
        self.repository = self.path(f"models-{name}")
        deliver(self.trained, self.repository, 1)
        self.disk = Disk(self.arguments.shim, self.repository,
                         self.path(f"control-{name}"))
        server = Server(self.arguments.latticed, repository=self.repository,
                        environment=self.disk.environment, start=start,
                        flags=("--poll_seconds", "0.1", "--smoke_draws", "64",
                               *flags))
        self.addCleanup(server.stop)
        return server

    def readers(self, server, count):
        readers = [Reader(server.address, f"reader-{n}") for n in range(count)]
        until(lambda: all(r.phi for r in readers), "every stream has begun")
        return readers

    def end(self, server, phase):
        start = time.monotonic()
        self.assertEqual(server.end(), 0)
        seconds = time.monotonic() - start
        self.assertLess(seconds, LIMIT_SECONDS)
        figure(f"F19 SIGTERM while {phase}: exit 0 in {seconds:.2f} s")

    def resumable(self, readers):
        """Every stream ended early, and says where."""
        for reader in readers:
            reader.thread.join()
            self.assertIsNotNone(reader.error)
            self.assertEqual(reader.error.code(),
                             grpc.StatusCode.UNAVAILABLE)
            info = error_info(reader.error)
            self.assertEqual(info.reason, "DRAINING")
            self.assertEqual(int(info.metadata["next_index"]),
                             reader.next_index)
            self.assertEqual(info.metadata["digest"], digest(self.trained, 1))
            self.assertTrue(0 < reader.next_index < COUNT, reader.next_index)

    def test_serving(self):
        server = self.serve()
        readers = self.readers(server, 100 if LONG else 10)
        self.end(server, f"{len(readers)} streams are served")
        self.resumable(readers)
        # They go on elsewhere, to the bytes of one that nothing ended.
        server.start()
        for reader in readers:
            rest = Reader(server.address, f"reader-{readers.index(reader)}",
                          reader.next_index, pause=0)
            whole = Reader(server.address, f"reader-{readers.index(reader)}",
                           pause=0)
            for other in (rest, whole):
                other.thread.join()
                self.assertIsNone(other.error)
            self.assertEqual(whole.next_index, COUNT)
            self.assertEqual(reader.phi + rest.phi, whole.phi)
        figure(f"F18 {len(readers)} streams ended by SIGTERM and resumed: "
               "the bytes of undisturbed ones")

    def test_starting(self):
        server = self.serve(start=False)
        with self.disk.misbehaves("slow 2000 read"):
            server.launch()
            # It is made before the repository is read, which takes seconds.
            until(lambda: os.path.exists(
                os.path.join(server.state, "chain-token.key")), "it starts")
            self.assertIsNone(server.process.poll())
            self.end(server, "it starts from a slow disk")

    def test_loading(self):
        server = self.serve()
        with self.disk.misbehaves("slow 2000 read"):
            deliver(self.trained, self.repository, 2)
            until(lambda: self.state(server, 2) == "VERIFYING", "it is read")
            readers = self.readers(server, 2)
            self.assertEqual(self.state(server, 2), "VERIFYING")
            self.end(server, "a version is loaded from a slow disk")
        self.resumable(readers)

    def test_gating(self):
        server = self.serve("--gate_draws", "1048576", "--gate_seconds", "600")
        # Version 1 went live at once; it is gated in the background.
        readers = self.readers(server, 2)
        self.assertEqual(self.gated(server), [])
        self.end(server, "a version is at the gate")
        self.resumable(readers)

    def test_repository_hangs(self):
        server = self.serve()
        with self.disk.misbehaves("hang readdir"):
            time.sleep(0.3)
            readers = self.readers(server, 2)
            self.end(server, "the repository hangs")
        self.resumable(readers)

    def test_watched(self):
        from latticed.v1 import model_pb2, model_pb2_grpc
        server = self.serve()
        channels = [connect(server.address) for _ in range(20)]
        # HealthCheckRequest{service: "readiness"} by hand.
        watches = [channel.unary_stream(
            "/grpc.health.v1.Health/Watch",
            request_serializer=lambda name: bytes([10, len(name)]) + name)(
                b"readiness") for channel in channels]
        watches += [model_pb2_grpc.ModelServiceStub(channel).WatchModelVersions(
            model_pb2.WatchModelVersionsRequest()) for channel in channels]
        first = [next(watch) for watch in watches]
        self.assertEqual(set(first[:20]), {b"\x08\x01"})  # SERVING
        self.end(server, f"{len(watches)} watches are open")
        for watch in watches[:20]:
            self.assertEqual(next(watch), b"\x08\x02")  # NOT_SERVING
        for channel in channels:
            channel.close()

    def test_a_client_never_reads(self):
        # By default the drain waits 20 s for such clients.
        flags = () if LONG else ("--drain_seconds", "3")
        server = self.serve(*flags)
        from latticed.v1 import sampler_pb2 as pb
        from latticed.v1 import sampler_pb2_grpc
        channel = connect(server.address)
        call = sampler_pb2_grpc.SamplerServiceStub(channel).StreamSamples(
            pb.StreamSamplesRequest(model=pb.ModelSelector(model="tiny"),
                                    count=1 << 40))
        next(call)
        stopped = subprocess.Popen(
            [self.arguments.latticectl, "sample", "--model", "tiny", "--count",
             "1e8", "--server", server.address, "--output",
             self.path("stopped.npz")], stderr=subprocess.DEVNULL)
        try:
            until(lambda: metrics(server)[self.SENT] > 10, "draws are sent",
                  120)
            stopped.send_signal(subprocess.signal.SIGSTOP)
            # Until the socket is full and writes stand still.
            last = [-1]

            def still():
                before, last[0] = last[0], metrics(server)[self.SENT]
                time.sleep(0.3)
                return last[0] == before

            until(still, "both streams stand still")
            self.end(server, "two clients do not read")
        finally:
            stopped.kill()
            stopped.wait()
            channel.close()

    SENT = ('latticed_rpc_sent_messages_total{method="StreamSamples",'
            'service="SamplerService"}')

    def state(self, server, version):
        from latticed.v1 import model_pb2 as pb
        from latticed.v1 import model_pb2_grpc
        with connect(server.address) as channel:
            found = model_pb2_grpc.ModelServiceStub(channel).ListModelVersions(
                pb.ListModelVersionsRequest(model="tiny")).versions
        for entry in found:
            if entry.version == version:
                return pb.VersionState.Name(entry.state)[len("VERSION_STATE_"):]
        return ""

    def gated(self, server):
        return [series for series in metrics(server)
                if series.startswith("latticed_model_gate_ess_ratio{")]


if __name__ == "__main__":
    python_faults.main()
