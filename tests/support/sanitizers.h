// What a sanitizer does to this process's memory: both keep freed memory aside,
// and the thread sanitizer multiplies all of it.
#pragma once

// gcc defines the first kind of name, clang answers the second.
#ifdef __has_feature
#define LATTICED_SANITIZED(name) __has_feature(name##_sanitizer)
#else
#define LATTICED_SANITIZED(name) 0
#endif

namespace latticed {

#if defined(__SANITIZE_THREAD__) || LATTICED_SANITIZED(thread)
inline constexpr bool kMemoryIsMultiplied = true;
#else
inline constexpr bool kMemoryIsMultiplied = false;
#endif

#if defined(__SANITIZE_ADDRESS__) || LATTICED_SANITIZED(address)
inline constexpr bool kFreedMemoryStays = true;
#else
inline constexpr bool kFreedMemoryStays = kMemoryIsMultiplied;
#endif

}  // namespace latticed

#undef LATTICED_SANITIZED
