# The build's name in provenance, manifests and metrics: version and revision,
# as of configuring; -DLATTICED_REVISION names it where git's folder is not.
if(NOT LATTICED_REVISION)
  execute_process(
    COMMAND git -C ${CMAKE_SOURCE_DIR} describe --always --dirty --abbrev=12
    OUTPUT_VARIABLE LATTICED_REVISION OUTPUT_STRIP_TRAILING_WHITESPACE
    ERROR_QUIET)
endif()
if(NOT LATTICED_REVISION)
  set(LATTICED_REVISION unknown)
endif()
configure_file(${CMAKE_SOURCE_DIR}/cmake/build_id.h.in
  ${CMAKE_BINARY_DIR}/generated/latticed/build_id.h)
target_include_directories(latticed_options INTERFACE
  ${CMAKE_BINARY_DIR}/generated)
