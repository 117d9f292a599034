// A training of a moment, at L = 4.
#pragma once

#include <gtest/gtest.h>

#include "google/protobuf/text_format.h"
#include "latticed/v1/spec.pb.h"

namespace latticed {

inline v1::TrainingSpec SmallTraining() {
  v1::TrainingSpec spec;
  EXPECT_TRUE(google::protobuf::TextFormat::ParseFromString(
      R"pb(
        model {
          action { phi4 { latticed { mass_squared: -4 lambda: 8 } } }
          lattice { extent: 4 extent: 4 }
          base { standard_normal {} }
          flow {
            equivariant { sine_features: 3 gates: 2 time_nodes: 3 rk4_steps: 6 }
          }
          dtype: DTYPE_FLOAT32
          tile: 32
          ess_floor: 0.1
        }
        seed: 3
        from_free_field { mass: 1 normalisation: 0.8 }
        phase { steps: 30 batch: 32 }
        phase { steps: 30 batch: 64 }
        learning_rate: 0.02
        warmup_steps: 5
        adam_beta1: 0.9
        adam_beta2: 0.99
        adam_epsilon: 1e-3
        clip_norm: 1
        clip_norm_warmup: 0.5
        clip_warmup_steps: 5
        ema_decay: 0.9
        log_every_steps: 1
        checkpoint_every_steps: 7
        evaluation_draws: 2048
      )pb",
      &spec));
  return spec;
}

}  // namespace latticed
