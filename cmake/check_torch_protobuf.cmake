# gRPC brings the system's libprotobuf into every process of ours. A LibTorch
# that carries a copy of another version gives the process two definitions of
# the same functions; which one a call reaches depends on the order of loading,
# and the result is a crash far from the cause. Weak symbols (inline functions
# and templates) always overlap and do no harm.

# Strong symbols of protobuf that a shared library defines.
function(latticed_protobuf_symbols library out)
  if(NOT CMAKE_NM)
    find_program(CMAKE_NM nm REQUIRED)
  endif()
  execute_process(COMMAND ${CMAKE_NM} -D --defined-only --format=posix ${library}
    OUTPUT_VARIABLE lines RESULT_VARIABLE failed ERROR_VARIABLE error)
  if(failed)
    message(FATAL_ERROR "cannot list the symbols of ${library}: ${error}")
  endif()
  # "name TYPE value size", perhaps with a version: name@@VERSION.
  string(REGEX MATCHALL "[^ \n]*6google8protobuf[^ \n]* [TDBRSG] " lines
    "${lines}")
  list(TRANSFORM lines REPLACE "(@.*)? [TDBRSG] $" "")
  list(REMOVE_DUPLICATES lines)
  set(${out} "${lines}" PARENT_SCOPE)
endfunction()

# Sets `out` to a message if a library of `torch_libraries`, or a libprotobuf
# that one of them loads, is in conflict with `protobuf_library`, else to "".
function(latticed_check_torch_protobuf torch_libraries protobuf_library out)
  set(${out} "" PARENT_SCOPE)
  file(REAL_PATH "${protobuf_library}" system)
  latticed_protobuf_symbols(${system} system_symbols)
  list(LENGTH system_symbols system_count)
  if(system_count LESS 100)
    # A static protobuf ends up inside our binaries and is checked there.
    message(STATUS "Not checked for a second libprotobuf: ${system} is not "
      "the shared library")
    return()
  endif()

  set(suspects)
  foreach(library ${torch_libraries})
    file(REAL_PATH "${library}" library)
    if(NOT library MATCHES "\\.so")
      continue()
    endif()
    list(APPEND suspects ${library})
    execute_process(COMMAND ldd ${library} OUTPUT_VARIABLE loaded ERROR_QUIET)
    string(REGEX MATCHALL "=> /[^ \n]*" loaded "${loaded}")
    foreach(dependency ${loaded})
      string(SUBSTRING ${dependency} 3 -1 dependency)
      file(REAL_PATH "${dependency}" dependency)
      if(dependency MATCHES "/(lib)?(proto|torch|c10|caffe2)[^/]*$" AND
          NOT dependency STREQUAL system)
        list(APPEND suspects ${dependency})
      endif()
    endforeach()
  endforeach()
  list(REMOVE_DUPLICATES suspects)
  list(REMOVE_ITEM suspects ${system})
  list(JOIN suspects ", " checked)
  message(VERBOSE "Checked for a second libprotobuf: ${checked}")

  foreach(library ${suspects})
    latticed_protobuf_symbols(${library} symbols)
    list(LENGTH symbols count)
    set(both ${symbols} ${system_symbols})
    list(REMOVE_DUPLICATES both)
    list(LENGTH both union)
    math(EXPR overlap "${count} + ${system_count} - ${union}")
    if(overlap EQUAL 0)
      continue()
    endif()
    foreach(symbol ${symbols})
      if(symbol IN_LIST system_symbols)
        set(example ${symbol})
        break()
      endif()
    endforeach()
    string(CONCAT message
      "${library} defines ${overlap} of the functions of ${system}, such as "
      "${example}. A process that loads both, as every gRPC server with "
      "LibTorch does, would mix two versions of protobuf and crash. Use a "
      "LibTorch that links the system's protobuf (Debian's libtorch-dev), one "
      "that hides its copy, or build gRPC against the protobuf of this "
      "LibTorch and point CMAKE_PREFIX_PATH at both.")
    set(${out} "${message}" PARENT_SCOPE)
    return()
  endforeach()
endfunction()

if(TORCH_LIBRARIES AND TARGET protobuf::libprotobuf)
  set(torch_files)
  foreach(library ${TORCH_LIBRARIES})
    if(TARGET ${library})
      get_target_property(configuration ${library} IMPORTED_CONFIGURATIONS)
      get_target_property(file ${library} IMPORTED_LOCATION_${configuration})
      if(NOT file)
        get_target_property(file ${library} IMPORTED_LOCATION)
      endif()
      if(file)
        set(library ${file})
      endif()
    endif()
    if(EXISTS "${library}")
      list(APPEND torch_files ${library})
    endif()
  endforeach()
  if(NOT torch_files)
    message(FATAL_ERROR "no library file of LibTorch among "
      "${TORCH_LIBRARIES}: cannot check it for a second libprotobuf")
  endif()
  latticed_check_torch_protobuf("${torch_files}" "${Protobuf_LIBRARIES}"
    conflict)
  if(conflict)
    message(FATAL_ERROR "${conflict}")
  endif()
endif()
