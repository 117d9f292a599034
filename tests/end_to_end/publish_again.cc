// Publishes a version once more, as the trainer does but without training:
//
//   publish_again REPOSITORY MODEL VERSION TO_REPOSITORY TO_MODEL
#include <cstdio>
#include <cstdlib>
#include <string>

#include "core/checkpoint/repository.h"

int main(int argc, char** argv) {
  if (argc != 6) {
    std::fprintf(stderr, "usage: publish_again FROM MODEL VERSION TO MODEL\n");
    return EXIT_FAILURE;
  }
  const auto version =
      latticed::ReadVersion(argv[1], argv[2], std::atoll(argv[3]));
  const absl::Status status =
      version.ok() ? latticed::Publish(argv[4], argv[5], version->manifest,
                                       version->weights)
                         .status()
                   : version.status();
  if (status.ok()) return EXIT_SUCCESS;
  std::fprintf(stderr, "publish_again: %s\n", status.ToString().c_str());
  return EXIT_FAILURE;
}
