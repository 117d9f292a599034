// Tests have a short form, which scripts/test runs, and a long one.
#pragma once

#include <cstdlib>

namespace latticed {

// LATTICED_LONG_TESTS in the environment asks for the long form.
inline bool LongForm() { return std::getenv("LATTICED_LONG_TESTS") != nullptr; }

template <typename T>
T InForm(T short_form, T long_form) {
  return LongForm() ? long_form : short_form;
}

}  // namespace latticed
