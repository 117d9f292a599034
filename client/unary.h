// One request, one reply, repeated while the failure is transient.
#pragma once

#include "absl/status/statusor.h"
#include "client/deadline.h"
#include "client/errors.h"
#include "client/session.h"

namespace latticed {

template <typename Request, typename Response, typename Method>
absl::StatusOr<Response> Unary(const Session& session, Method method,
                               const Request& request) {
  Retry retry = session.NewRetry();
  while (true) {
    grpc::ClientContext context;
    context.set_deadline(In(session.options.deadline));
    session.Prepare(&context);
    Response response;
    const absl::Status status = FromGrpc(method(&context, request, &response));
    if (status.ok()) return response;
    if (absl::Status s = retry.Wait(status); !s.ok()) {
      return session.Explain(s);
    }
  }
}

}  // namespace latticed
