// What a sanitizer does to a test: both keep freed memory aside, and the thread
// sanitizer multiplies all memory and most times.
#pragma once

// gcc defines the first kind of name, clang answers the second.
#ifdef __has_feature
#define LATTICED_SANITIZED(name) __has_feature(name##_sanitizer)
#else
#define LATTICED_SANITIZED(name) 0
#endif

namespace latticed {

#if defined(__SANITIZE_THREAD__) || LATTICED_SANITIZED(thread)
inline constexpr bool kThreadSanitizer = true;
#else
inline constexpr bool kThreadSanitizer = false;
#endif

#if defined(__SANITIZE_ADDRESS__) || LATTICED_SANITIZED(address)
inline constexpr bool kFreedMemoryStays = true;
#else
inline constexpr bool kFreedMemoryStays = kThreadSanitizer;
#endif

}  // namespace latticed

#undef LATTICED_SANITIZED
