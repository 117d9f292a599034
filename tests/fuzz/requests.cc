// Requests of every method through a real server: the first byte chooses the
// method, the rest is the request as it comes off the wire.
//
// Whatever is asked, the call ends, never with INTERNAL or UNKNOWN, and an
// error has its details: exactly one ErrorInfo of ours with a reason.
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "google/protobuf/descriptor.h"
#include "google/protobuf/message.h"
#include "google/rpc/error_details.pb.h"
#include "google/rpc/status.pb.h"
#include "grpcpp/generic/generic_stub.h"
#include "grpcpp/grpcpp.h"
#include "latticed/v1/admin.pb.h"
#include "latticed/v1/chain.pb.h"
#include "latticed/v1/measure.pb.h"
#include "latticed/v1/model.pb.h"
#include "latticed/v1/sampler.pb.h"
#include "tests/server/serving.h"

namespace latticed {
namespace {

using google::protobuf::MethodDescriptor;

// One for the process: starting it takes longer than a thousand calls.
class Target {
 public:
  Target() {
    // All files of descriptors are linked in.
    for (const auto* file : {v1::StreamSamplesRequest::descriptor()->file(),
                             v1::RunChainRequest::descriptor()->file(),
                             v1::MeasureRequest::descriptor()->file(),
                             v1::ListModelsRequest::descriptor()->file(),
                             v1::GetServerInfoRequest::descriptor()->file()}) {
      for (int i = 0; i < file->service_count(); ++i) {
        for (int j = 0; j < file->service(i)->method_count(); ++j) {
          methods_.push_back(file->service(i)->method(j));
        }
      }
    }
    PublishToy(repository_.path(), ToyFlow());
    Config config = TestConfig(repository_.path());
    config.poll_seconds = 3600;
    server_ = StartServer(config);
    if (server_ == nullptr) std::abort();
    data_ = Connect(server_->grpc_port());
    admin_ = Connect(server_->admin_port());
  }

  void Call(const uint8_t* bytes, size_t size) {
    const MethodDescriptor* method =
        methods_[size == 0 ? 0 : bytes[0] % methods_.size()];
    const size_t skipped = size == 0 ? 0 : 1;
    const grpc::Slice slice(bytes + skipped, size - skipped);
    const grpc::ByteBuffer request(&slice, 1);
    const bool admin = method->service()->name() == "AdminService";

    grpc::GenericStub stub(admin ? admin_ : data_);
    grpc::ClientContext context;
    const auto start = std::chrono::system_clock::now();
    context.set_deadline(start + std::chrono::seconds(30));
    grpc::CompletionQueue queue;
    void* tag = nullptr;
    bool ok = false;
    const auto next = [&] { return queue.Next(&tag, &ok) && ok; };
    const auto call = stub.PrepareCall(
        &context,
        absl::StrCat("/", method->service()->full_name(), "/", method->name()),
        &queue);
    call->StartCall(nullptr);
    bool cancelled = false;
    if (next()) {
      call->WriteLast(request, grpc::WriteOptions(), nullptr);
      next();
      grpc::ByteBuffer response;
      // A request may be good, and ask for 2^40 draws; a watch never ends.
      const int enough = method->name() == "WatchModelVersions" ? 1 : 2;
      for (int messages = 0; messages < enough; ++messages) {
        call->Read(&response, nullptr);
        if (!next()) break;
        cancelled = messages + 1 == enough;
      }
      if (cancelled) context.TryCancel();
    }
    grpc::Status status;
    call->Finish(&status, nullptr);
    queue.Next(&tag, &ok);
    queue.Shutdown();
    Check(*method, bytes + skipped, size - skipped, status, cancelled);
  }

 private:
  static void Check(const MethodDescriptor& method, const uint8_t* bytes,
                    size_t size, const grpc::Status& status, bool cancelled) {
    if (status.ok()) return;
    if (cancelled && status.error_code() == grpc::StatusCode::CANCELLED) return;
    google::rpc::Status details;
    google::rpc::ErrorInfo info;
    int infos = 0;
    if (details.ParseFromString(status.error_details())) {
      for (const auto& detail : details.details()) {
        if (detail.Is<google::rpc::ErrorInfo>() && detail.UnpackTo(&info)) {
          ++infos;
        }
      }
    }
    const bool bad_code =
        status.error_code() == grpc::StatusCode::INTERNAL ||
        status.error_code() == grpc::StatusCode::UNKNOWN ||
        status.error_code() == grpc::StatusCode::DEADLINE_EXCEEDED;
    if (infos == 1 && info.domain() == "latticed" && !info.reason().empty() &&
        !bad_code) {
      return;
    }
    // What gRPC answers for us: a request that is no message, or is too large,
    // and a method that is not there.
    const std::unique_ptr<google::protobuf::Message> message(
        google::protobuf::MessageFactory::generated_factory()
            ->GetPrototype(method.input_type())
            ->New());
    if (!message->ParseFromArray(bytes, static_cast<int>(size))) return;
    if (size > (size_t{64} << 10) &&
        status.error_code() == grpc::StatusCode::RESOURCE_EXHAUSTED) {
      return;
    }
    if (status.error_code() == grpc::StatusCode::UNIMPLEMENTED) return;
    std::fprintf(stderr, "%s answered %d with %d details: %s\n%s\n",
                 method.full_name().c_str(), status.error_code(), infos,
                 status.error_message().c_str(),
                 message->ShortDebugString().c_str());
    std::abort();
  }

  TemporaryDirectory repository_;
  std::vector<const MethodDescriptor*> methods_;
  std::unique_ptr<Server> server_;
  std::shared_ptr<grpc::Channel> data_;
  std::shared_ptr<grpc::Channel> admin_;
};

}  // namespace
}  // namespace latticed

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  // Never destroyed: gRPC's own statics may go first.
  static auto* const target = new latticed::Target();
  target->Call(data, size);
  return 0;
}
