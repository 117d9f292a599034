#include "client/cli/run.h"

#include <cstdio>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "absl/time/clock.h"
#include "client/cli/format.h"
#include "core/wire/atomic_file.h"
#include "google/protobuf/util/json_util.h"
#include "latticed/build_id.h"

namespace latticed {
namespace {

std::string ProtoJson(const google::protobuf::Message& message) {
  google::protobuf::util::JsonPrintOptions print;
  print.always_print_primitive_fields = true;
  print.preserve_proto_field_names = true;
  std::string json;
  if (!MessageToJsonString(message, &json, print).ok()) return "null";
  return json;
}

void WriteArrays(const ArrayOutput& output, JsonWriter* json) {
  json->Key("file").String(output.path());
  json->Key("arrays").BeginObject();
  for (const WrittenArray& array : output.arrays()) {
    json->Key(array.column.name).BeginObject();
    json->Key("dtype").String(array.column.descr);
    std::string shape = absl::StrCat("[", array.rows);
    for (int64_t extent : array.column.row_shape) {
      absl::StrAppend(&shape, ", ", extent);
    }
    json->Key("shape").Raw(absl::StrCat(shape, "]"));
    json->Key("crc32c").String(absl::StrFormat("%08x", array.crc32c));
    json->EndObject();
  }
  json->EndObject();
}

std::string RunTable(const RunReport& report) {
  std::string text = absl::StrCat(FormatProvenance(*report.provenance), "\n");
  absl::StrAppend(&text, report.received, " ", report.unit, " in ",
                  FormatSeconds(report.seconds), " (",
                  FormatRate(report.received / report.seconds), " ",
                  report.unit, "/s)");
  if (report.non_finite > 0) {
    absl::StrAppend(&text, ", ", report.non_finite, " not finite");
  }
  if (report.resumes > 0) {
    absl::StrAppend(&text, ", resumed ", report.resumes,
                    report.resumes == 1 ? " time" : " times");
  }
  absl::StrAppend(&text, "\n", FormatSummary(report.summary));
  for (const auto& [name, value] : report.lines) {
    absl::StrAppend(&text, "  ", name, ": ", value, "\n");
  }
  return text;
}

}  // namespace

absl::StatusOr<std::unique_ptr<Client>> ConnectFor(
    const CommandOptions& options, const Interrupt& interrupt,
    Progress* progress) {
  ClientOptions client;
  client.cancelled = &interrupt.stop;
  client.retry.outage = absl::Seconds(options.retry_for);
  client.retry.connect = std::min(client.retry.connect, client.retry.outage);
  client.tls = {.ca_file = options.tls_ca_file,
                .certificate_file = options.tls_certificate_file,
                .key_file = options.tls_key_file,
                .server_name = options.tls_server_name};
  client.token_file = options.auth_token_file;
  client.user_agent = absl::StrCat("latticectl/", kVersion);
  if (progress != nullptr) {
    client.on_retry = [progress](const absl::Status& why, absl::Duration wait) {
      progress->Note(absl::StrCat(
          "latticectl: ", why.message(), "; again in ",
          absl::FormatDuration(absl::Trunc(wait, absl::Milliseconds(1)))));
    };
  }
  return Client::Connect(options.server, std::move(client));
}

std::string ReportJson(const RunReport& report, const CommandOptions& options,
                       const ArrayOutput* output) {
  JsonWriter json;
  json.BeginObject();
  json.Key("command").String(options.command_line);
  json.Key("client_build").String(kBuildId);
  json.Key("server").String(options.server);
  json.Key("finished")
      .String(absl::FormatTime(absl::RFC3339_sec, absl::Now(),
                               absl::UTCTimeZone()));
  json.Key("complete").Bool(report.received == report.asked);
  if (!report.ended.ok()) {
    json.Key("ended_because").String(report.ended.message());
  }
  json.Key("asked").Integer(report.asked);
  json.Key(report.unit).Integer(report.received);
  json.Key("non_finite").Integer(report.non_finite);
  json.Key("resumes").Integer(static_cast<uint64_t>(report.resumes));
  json.Key("seconds").Number(report.seconds);
  json.Key(absl::StrCat(report.unit, "_per_second"))
      .Number(report.received / report.seconds);
  json.Key("stream_id").String(Hex(report.provenance->stream_id()));
  json.Key("provenance").Raw(ProtoJson(*report.provenance));
  json.Key("measured").Integer(report.summary.measured);
  json.Key("summary");
  WriteSummary(report.summary, &json);
  for (const auto& [name, value] : report.json_extra) json.Key(name).Raw(value);
  if (output != nullptr) WriteArrays(*output, &json);
  json.EndObject();
  return absl::StrCat(json.text(), "\n");
}

int FinishRun(const RunReport& report, const CommandOptions& options,
              const Interrupt& interrupt, ArrayOutput* output, Client* client) {
  const int code = ExitCodeOf(report.ended);
  const bool keep = report.received > 0 && !interrupt.discard.load() &&
                    (output == nullptr || output->is_open());
  if (keep && output != nullptr) {
    absl::Status written = output->Commit();
    if (written.ok()) {
      written = WriteFileAtomically(absl::StrCat(output->path(), ".json"),
                                    ReportJson(report, options, output));
    }
    if (!written.ok()) {
      PrintError(written);
      return kExitOutput;
    }
  }
  if (keep && options.json) {
    std::fputs(ReportJson(report, options, output).c_str(), stdout);
  } else if (keep && !options.quiet) {
    std::fputs(RunTable(report).c_str(), stdout);
    if (output != nullptr) {
      std::printf("  written: %s and %s.json\n", output->path().c_str(),
                  output->path().c_str());
    }
  }
  if (std::fflush(stdout) != 0) {
    PrintError(absl::InternalError("cannot write to standard output"));
    return kExitOutput;
  }
  if (report.ended.ok()) return kExitOk;

  PrintError(report.ended,
             code == kExitInterrupted ? "" : HintFor(report.ended, client));
  if (!keep) {
    if (output != nullptr) std::fprintf(stderr, "  nothing was written\n");
  } else if (output != nullptr) {
    absl::FPrintF(stderr, "  kept: %s holds the %d of %d %s that arrived\n",
                  output->path(), report.received, report.asked, report.unit);
  }
  return code;
}

}  // namespace latticed
