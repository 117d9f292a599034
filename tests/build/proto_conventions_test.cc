#include "tests/build/proto_conventions.h"

#include <fstream>
#include <string>
#include <vector>

#include "absl/strings/str_join.h"
#include "gmock/gmock.h"
#include "google/protobuf/compiler/parser.h"
#include "google/protobuf/io/tokenizer.h"
#include "google/protobuf/io/zero_copy_stream_impl_lite.h"
#include "gtest/gtest.h"

namespace latticed {
namespace {

using google::protobuf::FileDescriptorSet;
using ::testing::Contains;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

FileDescriptorSet OurFiles() {
  FileDescriptorSet files;
  std::ifstream file(LATTICED_DESCRIPTOR_SET, std::ios::binary);
  EXPECT_TRUE(files.ParseFromIstream(&file)) << LATTICED_DESCRIPTOR_SET;
  return files;
}

std::vector<std::string> Golden() {
  std::vector<std::string> lines;
  std::ifstream file(LATTICED_PROTO_NUMBERS);
  for (std::string line; std::getline(file, line);) {
    if (!line.empty() && line[0] != '#') lines.push_back(line);
  }
  return lines;
}

FileDescriptorSet Parse(const std::string& source,
                        const std::string& name = "latticed/v1/x.proto",
                        const std::string& package = "latticed.v1") {
  const std::string text =
      "syntax = \"proto3\"; package " + package + "; " + source;
  google::protobuf::io::ArrayInputStream stream(text.data(),
                                                static_cast<int>(text.size()));
  google::protobuf::io::Tokenizer tokenizer(&stream, nullptr);
  FileDescriptorSet files;
  google::protobuf::compiler::Parser parser;
  EXPECT_TRUE(parser.Parse(&tokenizer, files.add_file())) << text;
  files.mutable_file(0)->set_name(name);
  // The parser leaves names as they are written; protoc resolves them.
  for (auto& service : *files.mutable_file(0)->mutable_service()) {
    for (auto& method : *service.mutable_method()) {
      method.set_input_type("." + package + "." + method.input_type());
      method.set_output_type("." + package + "." + method.output_type());
    }
  }
  return files;
}

constexpr char kGood[] = R"(
  service ThingService {
    rpc GetThing(GetThingRequest) returns (GetThingResponse);
  }
  message GetThingRequest { string name_of_thing = 1; }
  message GetThingResponse { Kind kind = 1; oneof which { int32 a = 2; } }
  enum Kind { KIND_UNSPECIFIED = 0; KIND_ONE = 1; }
)";

TEST(ProtoConventions, HoldForOurFiles) {
  const FileDescriptorSet files = OurFiles();
  EXPECT_GE(files.file_size(), 7);
  EXPECT_THAT(ProtoBreaches(files), IsEmpty());
}

TEST(ProtoConventions, NumbersAreThoseOfTheGoldenList) {
  EXPECT_GT(Golden().size(), 100U);
  const std::vector<std::string> breaches =
      NumberBreaches(OurFiles(), Golden());
  EXPECT_TRUE(breaches.empty()) << absl::StrJoin(breaches, "\n");
}

TEST(ProtoConventions, GoodFilesPass) {
  EXPECT_THAT(ProtoBreaches(Parse(kGood)), IsEmpty());
}

TEST(ProtoConventions, EveryBreachIsNamed) {
  const std::pair<std::string, std::string> bad[] = {
      {"service Thing {}", "end in Service"},
      {"service ThingService { rpc Get(GetRequest) returns (Thing); }"
       "message GetRequest {} message Thing {}",
       "returns GetResponse"},
      {"service ThingService { rpc Get(Thing) returns (GetResponse); }"
       "message GetResponse {} message Thing {}",
       "takes GetRequest"},
      {"service ThingService { rpc getIt(getItRequest) "
       "returns (getItResponse); }",
       "methods are CapWords"},
      {"service AService { rpc Get(GetRequest) returns (GetResponse); }"
       "service BService { rpc Get(GetRequest) returns (GetResponse); }"
       "message GetRequest {} message GetResponse {}",
       "one method"},
      {"message lower {}", "messages are CapWords"},
      {"message A_B {}", "messages are CapWords"},
      {"message A { int32 camelCase = 1; }", "lower_snake_case"},
      {"message A { int32 trailing_ = 1; }", "lower_snake_case"},
      {"message A { message B { int32 X = 1; } }", "A.B.X"},
      {"message A { oneof Bad { int32 x = 1; } }", "A.Bad"},
      {"enum Kind { KIND_ONE = 0; }", "UNSPECIFIED"},
      {"enum Kind { KIND_UNSPECIFIED = 0; ONE = 1; }", "begin with KIND_"},
      {"enum TwoWords { TWOWORDS_UNSPECIFIED = 0; }", "TWO_WORDS_"},
      {"message A { enum Kind { KIND_X = 0; } }", "A.Kind"},
  };
  for (const auto& [source, expected] : bad) {
    EXPECT_THAT(ProtoBreaches(Parse(source)), Contains(HasSubstr(expected)))
        << source;
  }
  EXPECT_THAT(ProtoBreaches(Parse("", "latticed/x.proto", "latticed")),
              Contains(HasSubstr("must end in .v1")));
  EXPECT_THAT(ProtoBreaches(Parse("", "latticed/v2/x.proto")),
              Contains(HasSubstr("belongs into latticed/v1/")));
  EXPECT_THAT(ProtoBreaches(Parse("", "latticed/v1/camelCase.proto")),
              Contains(HasSubstr("files are lower_snake_case")));
}

TEST(ProtoConventions, NumbersAreForGood) {
  const std::string before =
      "message A { int32 x = 1; repeated string y = 2; }"
      "enum K { K_UNSPECIFIED = 0; K_ONE = 1; }";
  const std::vector<std::string> golden = ProtoNumbers(Parse(before));
  EXPECT_THAT(golden, Contains("latticed.v1.A.y = 2 repeated string"));
  EXPECT_THAT(golden, Contains("latticed.v1.K.K_ONE = 1"));
  EXPECT_THAT(NumberBreaches(Parse(before), golden), IsEmpty());

  const std::string rest = "enum K { K_UNSPECIFIED = 0; K_ONE = 1; }";
  const std::pair<std::string, std::string> bad[] = {
      {"message A { int32 x = 3; repeated string y = 2; }", "x = 1"},
      {"message A { int64 x = 1; repeated string y = 2; }", "x = 1 int32"},
      {"message A { int32 x = 1; string y = 2; }", "y = 2 repeated"},
      {"message A { int32 x = 1; }", "gone"},
      {"message A { int32 x = 1; bool z = 2; reserved 3; }", "reuses"},
      {"message A { int32 x = 1; repeated string y = 2; bool z = 4; }",
       "add it: latticed.v1.A.z = 4"},
  };
  for (const auto& [source, expected] : bad) {
    EXPECT_THAT(NumberBreaches(Parse(source + rest), golden),
                Contains(HasSubstr(expected)))
        << source;
  }
  EXPECT_THAT(
      NumberBreaches(Parse("message A { int32 x = 1; reserved 2; }" + rest),
                     golden),
      IsEmpty());
}

}  // namespace
}  // namespace latticed
