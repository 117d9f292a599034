// A published version, loaded and ready to draw.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "core/sampling/tile_sampler.h"
#include "core/theory/lattice.h"
#include "latticed/v1/manifest.pb.h"
#include "server/mutex.h"

namespace latticed {

// Immutable but for the sampler, which the worker thread alone may call. Held
// by the store while LIVE or PREVIOUS and by every call that draws from it.
struct ServedVersion {
  std::string model;
  int64_t version = 0;
  std::string digest;          // 64 hex digits
  uint64_t digest_prefix = 0;  // its first 8 bytes, big-endian
  v1::Manifest manifest;
  // Of the model, as it was when this was loaded; null if it has none.
  std::shared_ptr<const v1::ReferenceManifest> reference;
  std::string numerics_mode;
  Lattice lattice;
  int64_t tile = 0;
  std::unique_ptr<TileSampler> sampler;

  std::string Name() const {
    return model + " version " + std::to_string(version) + " (" +
           digest.substr(0, 12) + ")";
  }
};
using VersionRef = std::shared_ptr<const ServedVersion>;

// Where samplers go to be destroyed: the worker frees device memory on the
// thread that made use of it, whichever thread drops the last reference.
// Thread-safe; outlives every reference made by Adopt.
class Graveyard : public std::enable_shared_from_this<Graveyard> {
 public:
  VersionRef Adopt(std::unique_ptr<ServedVersion> version) {
    return VersionRef(version.release(),
                      [self = shared_from_this()](const ServedVersion* last) {
                        self->Bury(std::unique_ptr<const ServedVersion>(last));
                      });
  }

  // Destroys what has been dropped; the worker calls it between tiles.
  void Empty() {
    if (!occupied_.load(std::memory_order_relaxed)) return;
    std::vector<std::unique_ptr<const ServedVersion>> dead;
    MutexLock lock(mutex_);
    dead.swap(dead_);
    occupied_ = false;
  }

 private:
  void Bury(std::unique_ptr<const ServedVersion> version) {
    MutexLock lock(mutex_);
    dead_.push_back(std::move(version));
    occupied_ = true;
  }

  std::atomic<bool> occupied_{false};
  Mutex mutex_;
  std::vector<std::unique_ptr<const ServedVersion>> dead_
      ABSL_GUARDED_BY(mutex_);
};

}  // namespace latticed
