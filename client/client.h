// Typed access to a Latticed server.
//
//   auto client = Client::Connect("127.0.0.1:7410");
//   v1::StreamSamplesRequest request;
//   request.mutable_model()->set_model("phi4-l8");
//   request.set_count(4096);
//   SampleReader draws = (*client)->StreamSamples(request);
//   DrawBlock block;
//   while (true) {
//     absl::StatusOr<bool> more = draws.Next(&block);
//     if (!more.ok()) return more.status();
//     if (!*more) break;
//     Use(block.phi, block.log_q);  // consecutive draws, none twice
//   }
//
// Broken connections, stopping servers and refusals that ask to come back are
// retried as ClientOptions::retry says; anything else is returned at once.
// Status codes are the server's; messages name the address and the field.
#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "client/admin.h"
#include "client/chain_reader.h"
#include "client/evaluator.h"
#include "client/measure_reader.h"
#include "client/retry.h"
#include "client/sample_reader.h"
#include "client/session.h"
#include "grpcpp/channel.h"
#include "latticed/v1/model.pb.h"

namespace latticed {

// Thread-safe, apart from the streams it returns: one owner each. A stream
// outlives its client.
class Client {
 public:
  // Does not wait for the server: the first call does. INVALID_ARGUMENT unless
  // `target` is HOST:PORT (or a gRPC name such as dns:///host:port, unix:path),
  // for certificates and tokens that cannot be read, and for a token that would
  // go to another machine in the clear.
  //
  // dns:..., ipv4:... and ipv6:... name several servers: calls take turns
  // between those whose health service says that they have something to draw
  // from and are not about to stop, and each client begins anywhere. With none
  // of these every call is UNAVAILABLE, health itself included: ask a server by
  // HOST:PORT how it is.
  static absl::StatusOr<std::unique_ptr<Client>> Connect(
      const std::string& target, ClientOptions options = {});

  // What grpc.health.v1 says of a service: "" is the server, "readiness"
  // whether it has a live version of anything, a model's name whether it has
  // one of it. NOT_FOUND for another name.
  absl::StatusOr<bool> Serves(const std::string& service);

  // By name, all pages.
  absl::StatusOr<std::vector<v1::Model>> ListModels();
  absl::StatusOr<v1::Model> GetModel(const std::string& model);
  // Newest first, all pages.
  absl::StatusOr<std::vector<v1::ModelVersion>> ListModelVersions(
      const std::string& model);

  // At most 2 MiB of draws in one reply, not checked further than its CRC32C.
  absl::StatusOr<v1::SampleResponse> Sample(const v1::SampleRequest& request);
  SampleReader StreamSamples(const v1::StreamSamplesRequest& request);
  ChainReader RunChain(const v1::RunChainRequest& request);
  Evaluator Evaluate(const v1::ModelSelector& model);
  MeasureReader Measure(const v1::MeasureRequest& request);
  // Of a client that is connected to the admin listener.
  AdminClient Admin() const { return AdminClient(session_); }

 private:
  explicit Client(std::shared_ptr<const Session> session);

  std::shared_ptr<const Session> session_;
};

}  // namespace latticed
