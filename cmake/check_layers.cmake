# cmake [-DROOT=dir] [-DLAYERS=layers.txt] -P check_layers.cmake
#
# Holds every #include below core, server, trainer and client to the table in
# layers.txt: link lines do not stop a stray include. Also checks that a header
# compiles alone as far as that costs nothing: its source includes it first.
cmake_minimum_required(VERSION 3.25)
if(NOT ROOT)
  cmake_path(GET CMAKE_CURRENT_LIST_DIR PARENT_PATH ROOT)
endif()
if(NOT LAYERS)
  set(LAYERS ${CMAKE_CURRENT_LIST_DIR}/layers.txt)
endif()
set(parts core server trainer client)

# The table: row_<key> lists what is allowed, group_<name> the patterns.
set(groups)
set(keys)
file(STRINGS ${LAYERS} lines REGEX "^[^#]")
foreach(line ${lines})
  if(line MATCHES "^group ([a-z]+): *(.*)$")
    set(name ${CMAKE_MATCH_1})
    string(REGEX REPLACE " +" ";" patterns "${CMAKE_MATCH_2}")
    list(APPEND groups ${name})
    list(APPEND group_${name} ${patterns})
  elseif(line MATCHES "^([a-z0-9_./]+): *(.*)$")
    set(key ${CMAKE_MATCH_1})
    string(REGEX REPLACE " +" ";" patterns "${CMAKE_MATCH_2}")
    list(APPEND keys ${key})
    list(APPEND row_${key} ${patterns})
  else()
    message(FATAL_ERROR "${LAYERS}: cannot read '${line}'")
  endif()
endforeach()
list(REMOVE_DUPLICATES groups)

# The row of the folder a file is in: sets `key` and `allowed`.
macro(find_row file)
  set(key)
  cmake_path(GET ${file} PARENT_PATH folder)
  if("${folder}/" IN_LIST keys)
    set(key ${folder}/)
  endif()
  set(above ${folder})
  while(NOT key AND above)
    if(above IN_LIST keys)
      set(key ${above})
    endif()
    cmake_path(GET above PARENT_PATH above)
  endwhile()
  set(allowed ${row_${key}} ${row_${${file}}})
endmacro()

set(violations 0)
macro(violation)
  math(EXPR violations "${violations} + 1")
  message(NOTICE ${ARGN})
endmacro()

set(files)
foreach(part ${parts})
  file(GLOB_RECURSE found RELATIVE ${ROOT} ${ROOT}/${part}/*.h
    ${ROOT}/${part}/*.cc ${ROOT}/${part}/*.cu ${ROOT}/${part}/*.cuh)
  list(APPEND files ${found})
endforeach()
list(LENGTH files count)
if(count EQUAL 0)
  message(FATAL_ERROR "no sources below ${ROOT}")
endif()

foreach(file ${files})
  find_row(file)
  if(NOT key)
    violation("${file}: its folder has no row in cmake/layers.txt; add one")
    continue()
  endif()
  file(STRINGS ${ROOT}/${file} includes
    REGEX "^[ \t]*#[ \t]*include[ \t]*[<\"]")
  string(REGEX REPLACE "\\.[a-z]+$" ".h" header ${file})
  set(first TRUE)
  foreach(include ${includes})
    string(REGEX REPLACE ".*include[ \t]*[<\"]([^>\"]*).*" "\\1" include
      "${include}")
    # A source begins with its own header.
    if(first AND EXISTS ${ROOT}/${header} AND NOT file STREQUAL header AND
        NOT include STREQUAL header)
      violation("${file}: its first include must be ${header}, so that the "
        "header is known to compile alone")
    endif()
    set(first FALSE)

    if(include MATCHES "^(core|server|trainer|client|tests|bench)/")
      cmake_path(GET include PARENT_PATH target)
      set(good FALSE)
      string(REGEX REPLACE "/$" "" self "${key}")
      foreach(folder ${self} ${allowed})
        if(target STREQUAL folder OR target MATCHES "^${folder}/")
          set(good TRUE)
        endif()
      endforeach()
      # `core/` is the factory alone: its own row names what it may use.
      if(key MATCHES "/$" AND NOT target STREQUAL self)
        set(good FALSE)
        foreach(folder ${allowed})
          if(target STREQUAL folder OR target MATCHES "^${folder}/")
            set(good TRUE)
          endif()
        endforeach()
      endif()
      if(NOT good)
        violation("${file} includes ${include}: ${key} may include "
          "[${allowed}], see cmake/layers.txt")
      endif()
    elseif(include MATCHES "^\\." OR include MATCHES "^[a-z_0-9-]+\\.h$" AND
        EXISTS ${ROOT}/${folder}/${include})
      violation("${file} includes ${include}: give the path from the root of "
        "the repository")
    endif()
    foreach(group ${groups})
      foreach(pattern ${group_${group}})
        if(include MATCHES "^${pattern}" AND NOT group IN_LIST allowed)
          violation("${file} includes ${include}: ${key} must not include "
            "${group}, see cmake/layers.txt")
        endif()
      endforeach()
    endforeach()
  endforeach()
endforeach()

if(violations GREATER 0)
  message(FATAL_ERROR "${violations} of the includes of ${count} files break "
    "the layers")
endif()
message(STATUS "${count} files keep to the layers")
