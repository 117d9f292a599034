// A sampler that needs no LibTorch, for tests of the server: a scaled Gaussian
// with known log q.
//
//   z = Normals(stream, index),  phi = scale z,
//   log q = sum_x (-z_x^2 / 2 - log(2 pi) / 2 - log scale),
//   S = sum_x phi_x^2 / 2
//
// so that log Z = (V/2) log 2 pi, and scale 1 is the perfect flow.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "core/checkpoint/repository.h"
#include "core/sampling/tile_sampler.h"
#include "server/requests.h"
#include "server/watcher.h"

namespace latticed {

struct ToyFlow {
  std::string model = "toy";
  uint32_t l0 = 4;
  uint32_t l1 = 4;
  uint32_t tile = 16;
  float scale = 1.1f;
  // log q of every so many-th index is not a number; 0: none.
  int nan_every = 0;
  // A tile takes at least this long.
  int delay_us = 0;
  // Draw throws from this index on.
  int64_t throw_from = -1;
  // Draw finds no memory on its n-th tile, or loses the device, counted from 1;
  // 0: never.
  int oom_tile = 0;
  int lost_tile = 0;
  // The factory refuses it.
  bool unusable = false;
  // Two modes: S = -log sum_+- exp(-sum_x (phi_x -+ well)^2 / 2), and draws are
  // z scale +- well, the sign a coin's. Collapsed: always +.
  float well = 0;
  bool collapsed = false;
  // log q of drawing is off by this at N steps, exact at 2N.
  float step_error = 0;
  // log q of evaluating is off by this; from 1e30 on it is not a number.
  float evaluate_error = 0;
  // S is that of the manifest's action, a free field with m^2 = 1/2, instead.
  bool free_field = false;
  // Of the manifest's spec.
  float ess_floor = 0;
  // 2: other bits from the same weights, as on another kind of machine.
  int numerics = 1;
};

// Publishes the flow as the next version of its model.
Checkpoint PublishToy(const std::string& repository, const ToyFlow& flow);
// `numerics` other than 1: as ToyFlow's, for every flow.
SamplerFactory ToySamplers(int numerics = 1);
// Of free fields only.
CouplingsOf ToyCouplings();

// phi, log q and S of one draw as any server of this flow must send them.
struct ToyDraw {
  std::vector<float> phi;
  double log_q = 0;
  double action = 0;
};
ToyDraw DrawToy(const ToyFlow& flow, const StreamId& stream, uint64_t index);

// Tiles drawn by every toy sampler of this process.
std::atomic<int64_t>& ToyTiles();
// Toy samplers that exist, and the threads that destroyed one.
std::atomic<int>& ToySamplersAlive();

}  // namespace latticed
