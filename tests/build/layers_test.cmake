# cmake -DCHECK=check_layers.cmake -DSCRATCH=dir -P this
#
# The negative control of the layer check: in a tree that keeps to the layers,
# each planted include must be refused by name.
cmake_minimum_required(VERSION 3.25)

function(run_check out)
  execute_process(COMMAND ${CMAKE_COMMAND} -DROOT=${SCRATCH} -P ${CHECK}
    OUTPUT_VARIABLE text ERROR_VARIABLE error RESULT_VARIABLE failed)
  set(${out} "${failed}: ${text}${error}" PARENT_SCOPE)
endfunction()

function(fresh_tree)
  file(REMOVE_RECURSE ${SCRATCH})
  file(WRITE ${SCRATCH}/core/stats/ess.h "#include <vector>\n")
  file(WRITE ${SCRATCH}/core/stats/ess.cc
    "#include \"core/stats/ess.h\"\n#include <cmath>\n")
  file(WRITE ${SCRATCH}/core/flow/field.h "#include <ATen/ATen.h>\n")
  file(WRITE ${SCRATCH}/core/factory.cc "#include \"core/flow/field.h\"\n")
  file(WRITE ${SCRATCH}/server/main.cc "#include \"core/factory.h\"\n")
  file(WRITE ${SCRATCH}/client/client.cc "#include \"grpcpp/grpcpp.h\"\n")
endfunction()

function(expect_refused file include)
  fresh_tree()
  file(APPEND ${SCRATCH}/${file} "#include ${include}\n")
  run_check(result)
  string(REGEX REPLACE "[<>\"]" "" name "${include}")
  string(FIND "${result}" "${file} includes ${name}" at)
  if(result MATCHES "^0:" OR at EQUAL -1)
    message(SEND_ERROR "${include} in ${file} was not refused: ${result}")
  endif()
endfunction()

fresh_tree()
run_check(result)
if(NOT result MATCHES "^0:.*6 files keep to the layers")
  message(SEND_ERROR "a good tree was refused: ${result}")
endif()

expect_refused(core/stats/ess.cc "<ATen/ATen.h>")
expect_refused(core/stats/ess.cc "\"core/wire/block.h\"")
expect_refused(core/stats/ess.h "\"latticed/v1/spec.pb.h\"")
expect_refused(core/stats/ess.cc "<chrono>")
expect_refused(core/stats/ess.cc "<thread>")
expect_refused(core/flow/field.h "\"core/kernels/parallel.h\"")
expect_refused(core/flow/field.h "\"core/factory.h\"")
expect_refused(core/flow/field.h "<grpcpp/grpcpp.h>")
expect_refused(core/factory.cc "\"prometheus/counter.h\"")
expect_refused(core/factory.cc "\"absl/flags/flag.h\"")
expect_refused(core/factory.cc "\"server/config.h\"")
expect_refused(core/factory.cc "\"latticed/v1/sampler.pb.h\"")
expect_refused(server/main.cc "\"trainer/train.h\"")
expect_refused(server/main.cc "\"tests/support/fake.h\"")
expect_refused(client/client.cc "\"core/flow/field.h\"")
expect_refused(client/client.cc "\"core/factory.h\"")
expect_refused(client/client.cc "<c10/core/Device.h>")

fresh_tree()
file(WRITE ${SCRATCH}/core/novel/thing.cc "#include <vector>\n")
run_check(result)
if(NOT result MATCHES "core/novel/thing.cc: its folder has no row")
  message(SEND_ERROR "a folder without a row was not refused: ${result}")
endif()

fresh_tree()
file(WRITE ${SCRATCH}/core/stats/ess.cc
  "#include <cmath>\n#include \"core/stats/ess.h\"\n")
run_check(result)
if(NOT result MATCHES "first include must be core/stats/ess.h")
  message(SEND_ERROR "a header included late was not refused: ${result}")
endif()
file(REMOVE_RECURSE ${SCRATCH})
