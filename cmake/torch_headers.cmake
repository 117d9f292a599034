# The headers of a LibTorch from PyPI come with those of the protobuf inside it.
# In front of the system's they would be taken for our messages, so LibTorch's
# folder is replaced by a view of it that leaves them out.

# Sets `out` to `directory`, or to a view of it without google/protobuf.
function(latticed_without_protobuf directory out)
  set(${out} ${directory} PARENT_SCOPE)
  if(NOT EXISTS ${directory}/google/protobuf OR
      directory STREQUAL "/usr/include")
    return()
  endif()
  string(SHA256 name ${directory})
  string(SUBSTRING ${name} 0 12 name)
  set(view ${CMAKE_BINARY_DIR}/torch-include-${name})
  file(REMOVE_RECURSE ${view})
  file(MAKE_DIRECTORY ${view})
  file(GLOB entries RELATIVE ${directory} ${directory}/*)
  list(REMOVE_ITEM entries google)
  foreach(entry ${entries})
    file(CREATE_LINK ${directory}/${entry} ${view}/${entry} SYMBOLIC)
  endforeach()
  set(${out} ${view} PARENT_SCOPE)
endfunction()

# For TORCH_INCLUDE_DIRS and every target that LibTorch's package has made.
macro(latticed_hide_torch_protobuf)
  set(latticed_directories)
  foreach(directory ${TORCH_INCLUDE_DIRS})
    latticed_without_protobuf(${directory} directory)
    list(APPEND latticed_directories ${directory})
  endforeach()
  set(TORCH_INCLUDE_DIRS ${latticed_directories})
  foreach(library torch torch_library torch_cpu torch_cpu_library torch_cuda
      torch_cuda_library c10 c10_cuda)
    if(NOT TARGET ${library})
      continue()
    endif()
    get_target_property(latticed_all ${library} INTERFACE_INCLUDE_DIRECTORIES)
    if(NOT latticed_all)
      continue()
    endif()
    set(latticed_directories)
    foreach(directory ${latticed_all})
      latticed_without_protobuf(${directory} directory)
      list(APPEND latticed_directories ${directory})
    endforeach()
    set_target_properties(${library} PROPERTIES
      INTERFACE_INCLUDE_DIRECTORIES "${latticed_directories}")
  endforeach()
endmacro()
