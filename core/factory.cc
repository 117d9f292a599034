#include "core/factory.h"

#include <cmath>
#include <utility>

#include "absl/strings/str_cat.h"
#include "core/field_check.h"

namespace latticed {
namespace {

// Requires fields that passed CheckAction.
Phi4Couplings Convert(const v1::Phi4& spec) {
  switch (spec.convention_case()) {
    case v1::Phi4::kLatticed:
      return {.mass_squared = spec.latticed().mass_squared(),
              .lambda = spec.latticed().lambda()};
    case v1::Phi4::kBosetti:
      return Phi4Couplings::FromBosetti(spec.bosetti().beta(),
                                        spec.bosetti().lambda());
    case v1::Phi4::kHopping:
      return Phi4Couplings::FromHopping(spec.hopping().kappa(),
                                        spec.hopping().lambda());
    case v1::Phi4::kContinuum:
      return Phi4Couplings::FromContinuum(spec.continuum().mass_squared(),
                                          spec.continuum().g());
    case v1::Phi4::kNormflow:
      return Phi4Couplings::FromNormflow(spec.normflow().kappa(),
                                         spec.normflow().mass_squared(),
                                         spec.normflow().lambda());
    case v1::Phi4::kSchaich:
      return Phi4Couplings::FromSchaich(spec.schaich().mu_squared(),
                                        spec.schaich().lambda());
    case v1::Phi4::CONVENTION_NOT_SET:
      break;
  }
  return {};
}

// The fields of one convention, before they are converted.
void CheckConvention(const v1::Phi4& spec, FieldChecks* checks) {
  switch (spec.convention_case()) {
    case v1::Phi4::kLatticed:
      checks->Finite("latticed.mass_squared", spec.latticed().mass_squared());
      checks->NotNegative("latticed.lambda", spec.latticed().lambda());
      break;
    case v1::Phi4::kBosetti:
      checks->Positive("bosetti.beta", spec.bosetti().beta());
      checks->NotNegative("bosetti.lambda", spec.bosetti().lambda());
      break;
    case v1::Phi4::kHopping:
      checks->Positive("hopping.kappa", spec.hopping().kappa());
      checks->NotNegative("hopping.lambda", spec.hopping().lambda());
      break;
    case v1::Phi4::kContinuum:
      checks->Finite("continuum.mass_squared", spec.continuum().mass_squared());
      checks->NotNegative("continuum.g", spec.continuum().g());
      break;
    case v1::Phi4::kNormflow:
      checks->Positive("normflow.kappa", spec.normflow().kappa());
      checks->Finite("normflow.mass_squared", spec.normflow().mass_squared());
      checks->NotNegative("normflow.lambda", spec.normflow().lambda());
      break;
    case v1::Phi4::kSchaich:
      checks->Finite("schaich.mu_squared", spec.schaich().mu_squared());
      checks->NotNegative("schaich.lambda", spec.schaich().lambda());
      break;
    case v1::Phi4::CONVENTION_NOT_SET:
      checks->Fail("convention",
                   "is missing; set one of latticed, bosetti, hopping, "
                   "continuum, normflow, schaich");
      break;
  }
}

}  // namespace

absl::Status CheckAction(absl::string_view path, const v1::Action& action) {
  FieldChecks checks(path);
  switch (action.kind_case()) {
    case v1::Action::kPhi4: {
      FieldChecks fields(checks.Path("phi4"));
      CheckConvention(action.phi4(), &fields);
      if (!fields.status().ok()) return fields.status();
      const Phi4Couplings couplings = Convert(action.phi4());
      if (!std::isfinite(couplings.mass_squared) ||
          !std::isfinite(couplings.lambda) ||
          !std::isfinite(couplings.field_scale_squared)) {
        checks.Fail("phi4",
                    "its couplings overflow when converted to mass_squared "
                    "and lambda of the latticed convention; check their "
                    "magnitude");
      } else if (couplings.lambda == 0 && couplings.mass_squared <= 0) {
        checks.Fail("phi4",
                    absl::StrCat("lambda is 0 and mass_squared is ",
                                 couplings.mass_squared,
                                 " in the latticed convention, so exp(-S) has "
                                 "no finite integral; allowed are lambda > 0, "
                                 "or mass_squared > 0"));
      }
      break;
    }
    case v1::Action::kFreeField:
      checks.Positive("free_field.mass_squared",
                      action.free_field().mass_squared());
      break;
    case v1::Action::KIND_NOT_SET:
      checks.Fail("kind", "is missing; set phi4 or free_field");
      break;
  }
  return checks.status();
}

Lattice MakeLattice(const v1::Lattice& spec) {
  return {.l0 = spec.extent(0), .l1 = spec.extent(1)};
}

absl::StatusOr<Phi4Couplings> MakeCouplings(const v1::Action& spec) {
  if (absl::Status status = CheckAction("action", spec); !status.ok()) {
    return status;
  }
  if (spec.has_phi4()) return Convert(spec.phi4());
  return Phi4Couplings{.mass_squared = spec.free_field().mass_squared()};
}

absl::StatusOr<std::unique_ptr<const Action>> MakeAction(
    const v1::Action& spec, const v1::Lattice& lattice) {
  absl::StatusOr<Phi4Couplings> couplings = MakeCouplings(spec);
  if (!couplings.ok()) return couplings.status();
  if (absl::Status status = CheckLattice("lattice", lattice); !status.ok()) {
    return status;
  }
  return std::make_unique<const Phi4>(MakeLattice(lattice), *couplings);
}

}  // namespace latticed
