# cmake -DCHECK=check_torch_protobuf.cmake -DPROTOBUF=libprotobuf.so
#       -DSTRONG=... -DWEAK=... -DOTHER=... -DLOADER=... -P this
cmake_minimum_required(VERSION 3.25)
include(${CHECK})

function(expect_refused library)
  latticed_check_torch_protobuf("${library}" "${PROTOBUF}" message)
  if(NOT message MATCHES "ShutdownProtobufLibrary" OR
      NOT message MATCHES "libtorch-dev")
    message(SEND_ERROR "${library} was not refused with a reason and advice, "
      "but: '${message}'")
  endif()
endfunction()

function(expect_accepted library)
  latticed_check_torch_protobuf("${library}" "${PROTOBUF}" message)
  if(message)
    message(SEND_ERROR "${library} was refused: ${message}")
  endif()
endfunction()

expect_refused(${STRONG})
expect_refused(${LOADER})
expect_accepted(${WEAK})
expect_accepted(${OTHER})
expect_accepted(${PROTOBUF})
