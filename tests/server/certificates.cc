#include "tests/server/certificates.h"

#include <sys/stat.h>
#include <sys/wait.h>

#include <cstdio>
#include <fstream>
#include <sstream>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"

namespace latticed {

std::string Shell(const std::string& command) {
  std::string output;
  FILE* const pipe = popen(absl::StrCat("( ", command, " ) 2>&1").c_str(), "r");
  if (pipe == nullptr) {
    ADD_FAILURE() << "cannot run " << command;
    return output;
  }
  char buffer[4096];
  size_t size = 0;
  while ((size = fread(buffer, 1, sizeof buffer, pipe)) > 0) {
    output.append(buffer, size);
  }
  const int status = pclose(pipe);
  EXPECT_EQ(status, 0) << command << "\n" << output;
  return output;
}

std::string FileText(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  std::stringstream text;
  text << in.rdbuf();
  return text.str();
}

void WriteFileText(const std::string& path, const std::string& text, int mode) {
  std::ofstream(path, std::ios::binary | std::ios::trunc) << text;
  chmod(path.c_str(), static_cast<mode_t>(mode));
}

CertificateAuthority::CertificateAuthority()
    : certificate_(directory_.File("ca.pem")) {
  WriteFileText(File("index"), "");
  WriteFileText(File("serial"), "01\n");
  WriteFileText(
      File("ca.conf"),
      absl::StrCat("[ca]\ndefault_ca=own\n[own]\ndatabase=", File("index"),
                   "\nserial=", File("serial"),
                   "\nnew_certs_dir=", directory_.path(),
                   "\ndefault_md=sha256\npolicy=any\n"
                   "unique_subject=no\n[any]\ncommonName=supplied\n"));
  Shell(absl::StrCat(
      "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 "
      "-nodes -days 3650 -subj '/CN=Test CA' -keyout ",
      File("ca.key"), " -out ", certificate_));
}

CertificateFiles CertificateAuthority::Issue(const Options& options) {
  const std::string name = absl::StrCat("issued", issued_++);
  const CertificateFiles files = {File(name + ".pem"), File(name + ".key")};
  const std::string request = File(name + ".csr");
  const std::string extensions = File(name + ".ext");
  WriteFileText(extensions,
                absl::StrCat("subjectAltName=", options.alternative_names,
                             "\nbasicConstraints=CA:FALSE\n"));
  Shell(absl::StrCat(
      "openssl req -new -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 "
      "-nodes -subj '/CN=",
      options.common_name, "' -keyout ", files.key, " -out ", request));
  chmod(files.key.c_str(), 0600);
  const std::string signer =
      options.self_signed
          ? absl::StrCat("-selfsign -keyfile ", files.key)
          : absl::StrCat("-cert ", certificate_, " -keyfile ", File("ca.key"));
  Shell(absl::StrCat("openssl ca -batch -notext -config ", File("ca.conf"), " ",
                     signer, " -startdate ", options.start, " -enddate ",
                     options.end, " -extfile ", extensions, " -in ", request,
                     " -out ", files.certificate));
  return files;
}

}  // namespace latticed
