# What every target of ours is compiled with.
add_library(latticed_options INTERFACE)
target_include_directories(latticed_options INTERFACE ${CMAKE_SOURCE_DIR})
target_compile_options(latticed_options INTERFACE
  -Wall -Wextra -Wno-unused-parameter -Wno-missing-field-initializers)
if(LATTICED_WERROR)
  target_compile_options(latticed_options INTERFACE -Werror)
endif()
if(CMAKE_CXX_COMPILER_ID MATCHES "Clang")
  target_compile_options(latticed_options INTERFACE -Wthread-safety)
endif()
if(LATTICED_SANITIZE)
  add_compile_options(-fsanitize=${LATTICED_SANITIZE} -fno-omit-frame-pointer)
  add_link_options(-fsanitize=${LATTICED_SANITIZE})
  if(LATTICED_SANITIZE MATCHES "undefined")
    add_compile_options(-fno-sanitize-recover=undefined)
  endif()
endif()

# latticed_library(NAME SOURCES... [PUBLIC targets...] [PRIVATE targets...])
function(latticed_library name)
  cmake_parse_arguments(arg "" "" "SOURCES;PUBLIC;PRIVATE" ${ARGN})
  add_library(${name} STATIC ${arg_SOURCES})
  target_link_libraries(${name} PUBLIC latticed_options ${arg_PUBLIC}
    PRIVATE ${arg_PRIVATE})
endfunction()

# latticed_timeout(TEST s): twenty times as long for the long forms.
function(latticed_timeout test seconds)
  if(LATTICED_LONG_TESTS)
    math(EXPR seconds "20 * ${seconds}")
  endif()
  set_tests_properties(${test} PROPERTIES TIMEOUT ${seconds})
endfunction()

# latticed_test(NAME SOURCES... LINK targets... [TIMEOUT s]): one ctest entry a
# binary, since discovering cases would start LibTorch during the build.
function(latticed_test name)
  cmake_parse_arguments(arg "" "TIMEOUT" "SOURCES;LINK;ENVIRONMENT" ${ARGN})
  if(NOT arg_TIMEOUT)
    set(arg_TIMEOUT 300)
  endif()
  add_executable(${name} ${arg_SOURCES})
  target_link_libraries(${name} PRIVATE latticed_options ${arg_LINK}
    GTest::gmock GTest::gtest_main)
  add_test(NAME ${name} COMMAND ${name})
  # Results as data: scripts/reliability_table.py reads them.
  latticed_timeout(${name} ${arg_TIMEOUT})
  set_tests_properties(${name} PROPERTIES ENVIRONMENT
    "GTEST_OUTPUT=json:${CMAKE_BINARY_DIR}/results/${name}.json;${arg_ENVIRONMENT}")
endfunction()
