// The studies, a file each.
#pragma once

#include "trainer/study/study.h"

namespace latticed {

Study Table1Study();      // table1.cc
Study TrainingStudy();    // training_curves.cc: fig1
Study SymmetryStudy();    // symmetries.cc: fig2
Study TimeKernelStudy();  // kernels.cc: fig3
Study KernelStudy();      // kernels.cc: fig4
Study AblationStudy();    // ablation.cc: fig5
Study ScalingStudy();     // scaling.cc
Study ClassicalStudy();   // classical.cc

}  // namespace latticed
