// A certificate authority in a temporary directory, run by the openssl command
// as an operator would.
#pragma once

#include <string>

#include "tests/support/temporary_directory.h"

namespace latticed {

// Fails the test if the command fails. Returns what it printed.
std::string Shell(const std::string& command);

struct CertificateFiles {
  std::string certificate;
  std::string key;
};

// Not thread-safe.
class CertificateAuthority {
 public:
  CertificateAuthority();

  const std::string& certificate() const { return certificate_; }
  std::string File(const std::string& name) const {
    return directory_.File(name);
  }

  struct Options {
    std::string common_name = "server.test";
    // "DNS:..." and "IP:...", separated by commas.
    std::string alternative_names = "DNS:localhost,IP:127.0.0.1";
    std::string start = "20200101000000Z";
    std::string end = "20990101000000Z";
    bool self_signed = false;
  };
  // Keys have mode 600.
  CertificateFiles Issue(const Options& options);

 private:
  TemporaryDirectory directory_;
  std::string certificate_;
  int issued_ = 0;
};

std::string FileText(const std::string& path);
void WriteFileText(const std::string& path, const std::string& text,
                   int mode = 0600);

}  // namespace latticed
