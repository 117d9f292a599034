#!/usr/bin/python3
"""F11: the wall clock jumps by a day, forth and back, and stands still, under a
running server and a waiting client. clock_shim.c shows it to them; the
monotonic clock goes on, as a kernel's does."""

import errno
import os
import shutil
import subprocess
import threading
import time

import grpc

import python_faults
from python_faults import (FaultTest, Traffic, deliver, digest, figure,
                           live_digest, metrics, total, train_versions, until)
from python_server import Server, connect

STALL_SECONDS = 2
DEADLINE_SECONDS = 1.5
DAY = 86400
FROZEN = "at 1936000000"


WAIT_BY_THE_WALL_CLOCK = """
import ctypes, sys, time
library = ctypes.CDLL(None)
mutex, condition = ctypes.create_string_buffer(64), \
    ctypes.create_string_buffer(64)  # as PTHREAD_..._INITIALIZER makes them
library.pthread_mutex_lock(mutex)
until = int((time.time() + 1) * 10**9)
print("waits", flush=True)
sys.exit(library.pthread_cond_timedwait(
    condition, mutex, (ctypes.c_long * 2)(*divmod(until, 10**9))))
"""


class Clock:
    """The wall clock of processes that are started with `environment`."""

    def __init__(self, library, path):
        self.path = path
        self.set("offset 0")
        self.environment = {
            "LD_PRELOAD": library,
            "LATTICED_CLOCK": path,
            "ASAN_OPTIONS": "verify_asan_link_order=0",
        }

    def set(self, how):
        """A line of clock_shim.c."""
        with open(self.path + ".new", "w") as file:
            file.write(how + "\n")
        os.rename(self.path + ".new", self.path)


class JumpingClock(FaultTest):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.trained = cls.path("trained")
        train_versions(cls.arguments.train, cls.trained, cls.folder)

    def test_control(self):
        """A wait of a second against the wall clock, set back meanwhile, does
        not end: what the other tests would show of a program with such."""
        clock = Clock(self.arguments.clock_shim, self.path("clock-control"))
        process = subprocess.Popen(
            ["/usr/bin/python3", "-c", WAIT_BY_THE_WALL_CLOCK],
            stdout=subprocess.PIPE, text=True,
            env={**os.environ, **clock.environment})
        try:
            self.assertEqual(process.stdout.readline(), "waits\n")
            clock.set(f"offset -{DAY}")
            time.sleep(3)
            self.assertIsNone(process.poll())
            clock.set("offset 0")
            self.assertEqual(process.wait(timeout=20), errno.ETIMEDOUT)
        finally:
            process.kill()
            process.wait()
            process.stdout.close()

    def test_server(self):
        from latticed.v1 import sampler_pb2 as pb
        from latticed.v1 import sampler_pb2_grpc
        clock = Clock(self.arguments.clock_shim, self.path("clock"))
        repository = self.path("models")
        deliver(self.trained, repository, 1)
        server = Server(
            self.arguments.latticed, repository=repository,
            environment=clock.environment,
            flags=("--poll_seconds", "0.2", "--gate_draws", "8192",
                   "--stall_seconds", str(STALL_SECONDS)))
        self.addCleanup(server.stop)
        traffic = Traffic(server.address)

        def publish(version):
            deliver(self.trained, repository, version)
            until(lambda: live_digest(server) ==
                  digest(self.trained, version)[:12],
                  f"version {version} is live", 60)

        def reject(version):
            """A damaged version: to see it, the server must look."""
            target = os.path.join(repository, "tiny", str(version))
            shutil.copytree(os.path.join(self.trained, "tiny", "1"), target)
            with open(os.path.join(target, "manifest.json"), "a") as file:
                file.write(" ")
            until(lambda: total(metrics(server), "latticed_model_loads_total",
                                result="rejected") > 0, "it is rejected", 60)

        steps = [("ahead by a day", f"offset {DAY}", DAY, lambda: publish(2)),
                 ("back by a day", f"offset -{DAY}", -DAY, lambda: publish(3)),
                 ("frozen", FROZEN, None, lambda: reject(9))]
        for name, value, offset, poll in steps:
            with self.subTest(name), \
                    connect(server.address) as channel:
                stub = sampler_pb2_grpc.SamplerServiceStub(channel)
                request = pb.StreamSamplesRequest(
                    model=pb.ModelSelector(model="tiny"), count=1 << 40,
                    block_bytes_max=1 << 16)
                # Both begin before the jump and end after it. The stalled one
                # has a connection of its own.
                stalled_before = self.stalled(server)
                start = time.monotonic()
                with connect(
                        server.address,
                        options=[("grpc.use_local_subchannel_pool", 1)]) as own:
                    stalled = sampler_pb2_grpc.SamplerServiceStub(
                        own).StreamSamples(request)
                    next(stalled)
                    ended = []

                    def read():
                        try:
                            for _ in stub.StreamSamples(
                                    request, timeout=DEADLINE_SECONDS):
                                pass
                        except grpc.RpcError as error:
                            ended.append((error.code(),
                                          time.monotonic() - start))

                    reader = threading.Thread(target=read)
                    reader.start()
                    time.sleep(0.3)
                    clock.set(value)
                    time.sleep(0.1)
                    self.shown(server, offset)
                    reader.join()
                    self.assertEqual(ended[0][0],
                                     grpc.StatusCode.DEADLINE_EXCEEDED)
                    # The server's end of it, not only the client's.
                    until(lambda: self.in_flight(server) <= 1,
                          "nothing is drawn behind the deadline", 5)
                    until(lambda: self.stalled(server) > stalled_before,
                          "the stalled stream is ended", 60)
                    seconds = time.monotonic() - start
                # Not at once, and not tomorrow. It stalls when the socket is
                # full, which on a busy machine takes a while.
                self.assertGreater(seconds, STALL_SECONDS - 0.1)
                poll()
                figure(f"F11 clock {name}: deadline of {DEADLINE_SECONDS} s "
                       f"ended after {ended[0][1]:.1f} s, stalled stream after "
                       f"{seconds:.1f} s of {STALL_SECONDS}, next publication "
                       "seen")
        # Draws were compared byte by byte all the time.
        draws = traffic.end()
        self.assertLess(traffic.longest, 20)
        self.assertEqual(set(traffic.first),
                         {digest(self.trained, v) for v in (1, 2, 3)})
        start = time.monotonic()
        self.assertEqual(server.end(), 0)
        figure(f"F11 {draws} draws under the jumps, longest wait "
               f"{traffic.longest:.2f} s; SIGTERM with the clock frozen: exit "
               f"0 in {time.monotonic() - start:.1f} s")

    def shown(self, server, offset):
        """The control: without it the clock may never have jumped."""
        name = "latticed_repository_last_success_timestamp_seconds"
        until(lambda: metrics(server)[name] != self.last_shown, "a poll")
        time.sleep(0.5)
        shown = metrics(server)[name]
        if offset is None:
            time.sleep(0.5)
            self.assertEqual(metrics(server)[name], shown)
        else:
            self.assertLess(abs(shown - time.time() - offset), 60)
        type(self).last_shown = shown

    last_shown = 0

    def stalled(self, server):
        return total(metrics(server), "latticed_streams_terminated_total",
                     reason="stalled")

    def in_flight(self, server):
        return total(metrics(server), "latticed_rpc_in_flight",
                     method="StreamSamples")

    def delivered(self, server):
        return total(metrics(server), "latticed_configurations_delivered_total")

    def test_client(self):
        """latticectl waits for a server that is away while the clock jumps."""
        server = Server(self.arguments.latticed, repository=self.trained,
                        flags=("--gate_draws", "0"))
        self.addCleanup(server.stop)
        # The last is a jump that comes between a look at the clock and its
        # use, wherever that is.
        cases = (("ahead by a day", f"offset {DAY}"),
                 ("back by a day", f"offset -{DAY}"), ("frozen", FROZEN),
                 ("back at each look", "falls 1000"))
        for number, (name, value) in enumerate(cases):
            clock = Clock(self.arguments.clock_shim, self.path("clock-client"))
            before = self.delivered(server)
            process = subprocess.Popen(
                [self.arguments.latticectl, "sample", "--model", "tiny",
                 "--count", "100000", "--stream", "clock", "--server",
                 server.address, "--retry_for", "300", "--output",
                 self.path(f"{number}.npz")],
                stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
                env={**os.environ, **clock.environment})
            try:
                until(lambda: self.delivered(server) > before + 5000,
                      "draws are sent")
                server.kill()
                for line in process.stderr:
                    if "again in" in line:
                        break
                clock.set(value)
                start = time.monotonic()
                server.start()
                _, err = process.communicate(timeout=300)
            finally:
                process.kill()
                process.wait()
            self.assertEqual(process.returncode, 0, err)
            figure(f"F11 clock {name} while latticectl waits for its server: "
                   f"done {time.monotonic() - start:.1f} s later")


if __name__ == "__main__":
    python_faults.main()
