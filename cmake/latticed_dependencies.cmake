# Third-party packages; the list of Debian packages is scripts/packages.txt.
find_package(Threads REQUIRED)
# Not those that LibTorch brings along: see torch_headers.cmake.
find_path(Protobuf_INCLUDE_DIR google/protobuf/message.h)
if(EXISTS ${Protobuf_INCLUDE_DIR}/ATen/ATen.h AND
    NOT Protobuf_INCLUDE_DIR STREQUAL "/usr/include")
  unset(Protobuf_INCLUDE_DIR CACHE)
  find_path(Protobuf_INCLUDE_DIR google/protobuf/message.h
    NO_CMAKE_PATH NO_CMAKE_ENVIRONMENT_PATH)
endif()
find_program(Protobuf_PROTOC_EXECUTABLE protoc)
cmake_path(GET Protobuf_PROTOC_EXECUTABLE PARENT_PATH protoc_folder)
if(EXISTS ${protoc_folder}/../include/ATen/ATen.h)
  unset(Protobuf_PROTOC_EXECUTABLE CACHE)
  find_program(Protobuf_PROTOC_EXECUTABLE protoc
    NO_CMAKE_PATH NO_CMAKE_ENVIRONMENT_PATH)
endif()
find_package(Protobuf REQUIRED)
find_package(absl REQUIRED)
find_package(gRPC CONFIG REQUIRED)
find_package(prometheus-cpp CONFIG REQUIRED)
find_package(OpenSSL 3 REQUIRED)
# A CUDA LibTorch asks the GPU of this machine for its architecture unless told
# one. No source of ours is compiled for a GPU, so any will do.
if(NOT DEFINED TORCH_CUDA_ARCH_LIST AND NOT DEFINED ENV{TORCH_CUDA_ARCH_LIST})
  set(TORCH_CUDA_ARCH_LIST 9.0)
endif()
find_package(Torch 1.13 REQUIRED)
include(torch_headers)
latticed_hide_torch_protobuf()
if("${TORCH_CXX_FLAGS}" MATCHES "_GLIBCXX_USE_CXX11_ABI=0")
  message(FATAL_ERROR "The LibTorch of ${Torch_DIR} is built for the old "
    "libstdc++ ABI, gRPC and protobuf for the current one: they do not link. "
    "Use the 'cxx11 ABI' build of LibTorch, or Debian's libtorch-dev.")
endif()
if(LATTICED_CUDA AND NOT TARGET torch_cuda)
  message(FATAL_ERROR "The LibTorch of ${Torch_DIR} has no CUDA. Put a CUDA "
    "LibTorch on the path: cmake --preset cuda "
    "-DCMAKE_PREFIX_PATH=/path/to/libtorch; or build the release preset for "
    "the CPU.")
endif()
if(LATTICED_BUILD_TESTS)
  find_package(GTest REQUIRED)
endif()

find_library(ISAL_LIBRARY isal REQUIRED)
find_library(HWY_LIBRARY hwy REQUIRED)

add_library(latticed_isal INTERFACE)
target_link_libraries(latticed_isal INTERFACE ${ISAL_LIBRARY})
add_library(latticed_hwy INTERFACE)
target_link_libraries(latticed_hwy INTERFACE ${HWY_LIBRARY})

add_library(latticed_torch INTERFACE)
target_include_directories(latticed_torch SYSTEM INTERFACE
  ${TORCH_INCLUDE_DIRS})
target_link_libraries(latticed_torch INTERFACE ${TORCH_LIBRARIES})
# The LibTorch of PyPI's wheels exports parts of the libstdc++ that it was built
# with, of which std::filesystem::remove_all crashes: the machine's libstdc++ is
# to be found before it.
target_link_options(latticed_torch INTERFACE
  "LINKER:--push-state,--no-as-needed" -lstdc++ "LINKER:--pop-state")
# clang gives every constexpr function a body at once, and libstdc++'s C++20
# vectors are constexpr: headers before LibTorch 2, which have vectors of a type
# that is not complete yet, then compile as C++17 only.
set(latticed_torch_flags)
if(CMAKE_CXX_COMPILER_ID MATCHES "Clang" AND Torch_VERSION VERSION_LESS 2)
  set(latticed_torch_flags -std=c++17 -Wno-c++20-extensions)
endif()
# latticed_torch_sources(FILES...): those of this folder that include LibTorch.
function(latticed_torch_sources)
  set_source_files_properties(${ARGN} PROPERTIES
    COMPILE_OPTIONS "${latticed_torch_flags}")
endfunction()

include(check_torch_protobuf)
