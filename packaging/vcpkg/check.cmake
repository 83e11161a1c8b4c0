# cmake -DWORK=<empty folder> -DFEATURES=<list> -P packaging/vcpkg/check.cmake
#
# Runs the port where there is no vcpkg: each function that the portfile calls is replaced by the few lines that it comes
# to on Linux, after vcpkg's documentation. What they leave in ${WORK}/packages is then held against what vcpkg demands
# of a port.
cmake_minimum_required(VERSION 3.25)

set(PORT espalier)
set(port_dir ${CMAKE_CURRENT_LIST_DIR}/ports/${PORT})
set(CURRENT_BUILDTREES_DIR ${WORK}/buildtrees)
set(CURRENT_PACKAGES_DIR ${WORK}/packages)
set(prefix_Release ${CURRENT_PACKAGES_DIR})
set(prefix_Debug ${CURRENT_PACKAGES_DIR}/debug)

macro(fail)
  message(FATAL_ERROR "vcpkg port: " ${ARGN})
endmacro()

# The arguments of the function that calls it, as arg_<NAME>, and the build types that the port asks for, as `types`.
macro(arguments values lists)
  cmake_parse_arguments(PARSE_ARGV 0 arg "" "${values}" "${lists}")
  if(DEFINED arg_UNPARSED_ARGUMENTS)
    fail("${CMAKE_CURRENT_FUNCTION} knows no ${arg_UNPARSED_ARGUMENTS}")
  endif()
  set(types Release)
  if(NOT VCPKG_BUILD_TYPE STREQUAL "release")
    list(APPEND types Debug)
  endif()
endmacro()

function(vcpkg_check_features)
  arguments(OUT_FEATURE_OPTIONS FEATURES)
  set(options)
  while(arg_FEATURES)
    list(POP_FRONT arg_FEATURES feature option)
    if(feature IN_LIST FEATURES)
      list(APPEND options -D${option}=ON)
    else()
      list(APPEND options -D${option}=OFF)
    endif()
  endwhile()
  set(${arg_OUT_FEATURE_OPTIONS} ${options} PARENT_SCOPE)
endfunction()

function(vcpkg_cmake_configure)
  arguments(SOURCE_PATH OPTIONS)
  foreach(type IN LISTS types)
    execute_process(
      COMMAND ${CMAKE_COMMAND} -S ${arg_SOURCE_PATH} -B ${CURRENT_BUILDTREES_DIR}/${type} -G Ninja ${arg_OPTIONS}
              -DCMAKE_BUILD_TYPE=${type} -DCMAKE_INSTALL_PREFIX=${prefix_${type}} -DCMAKE_INSTALL_LIBDIR:STRING=lib
      OUTPUT_QUIET COMMAND_ERROR_IS_FATAL ANY)
  endforeach()
endfunction()

function(vcpkg_cmake_install)
  arguments("" "")
  foreach(type IN LISTS types)
    execute_process(COMMAND ${CMAKE_COMMAND} --build ${CURRENT_BUILDTREES_DIR}/${type} --target install
                    OUTPUT_QUIET COMMAND_ERROR_IS_FATAL ANY)
  endforeach()
endfunction()

# Both build types' package files become those of share/<port>, two folders below the prefix.
function(vcpkg_cmake_config_fixup)
  arguments(CONFIG_PATH "")
  set(share ${CURRENT_PACKAGES_DIR}/share/${PORT})
  file(GLOB files ${CURRENT_PACKAGES_DIR}/${arg_CONFIG_PATH}/*)
  file(GLOB debug_files ${prefix_Debug}/${arg_CONFIG_PATH}/*-debug.cmake)
  file(COPY ${files} DESTINATION ${share})
  foreach(file IN LISTS debug_files)
    file(READ ${file} text)
    string(REPLACE "\${_IMPORT_PREFIX}/lib" "\${_IMPORT_PREFIX}/debug/lib" text "${text}")
    cmake_path(GET file FILENAME name)
    file(WRITE ${share}/${name} "${text}")
  endforeach()
  cmake_path(GET arg_CONFIG_PATH PARENT_PATH parent) # lib/cmake
  file(REMOVE_RECURSE ${CURRENT_PACKAGES_DIR}/${parent} ${prefix_Debug}/${parent})
  set(up "get_filename_component(_IMPORT_PREFIX \"\${_IMPORT_PREFIX}\" PATH)\n")
  file(GLOB files ${share}/*.cmake)
  foreach(file IN LISTS files)
    file(READ ${file} text)
    string(REPLACE "${up}${up}${up}" "${up}${up}" text "${text}")
    string(REPLACE "_DIR}/../../../\" ABSOLUTE" "_DIR}/../../\" ABSOLUTE" text "${text}")
    file(WRITE ${file} "${text}")
  endforeach()
endfunction()

function(vcpkg_install_copyright)
  arguments("" FILE_LIST)
  file(INSTALL ${arg_FILE_LIST} DESTINATION ${CURRENT_PACKAGES_DIR}/share/${PORT} RENAME copyright)
endfunction()

include(${port_dir}/portfile.cmake)

# The manifest says what the tree is.
file(READ ${port_dir}/vcpkg.json manifest)
string(JSON version GET "${manifest}" version)
file(STRINGS ${SOURCE_PATH}/include/espalier/core/config.hpp is_version REGEX "ESPALIER_VERSION \"${version}\"")
file(STRINGS ${SOURCE_PATH}/LICENSE license LIMIT_COUNT 1)
string(JSON licensed GET "${manifest}" license)
if(NOT is_version OR NOT license STREQUAL "${licensed} License")
  fail("expected the tree's version and license in vcpkg.json, got ${version} and ${licensed}")
endif()
foreach(feature IN LISTS FEATURES)
  string(JSON description GET "${manifest}" features ${feature} description) # an error if there is no such feature
endforeach()

# vcpkg's own demands: a copyright, a usage, headers once, no empty folder, no path of the build.
foreach(file IN ITEMS copyright usage espalier-config.cmake espalier-targets.cmake)
  if(NOT EXISTS ${CURRENT_PACKAGES_DIR}/share/${PORT}/${file})
    fail("expected share/${PORT}/${file}, got none")
  endif()
endforeach()
file(GLOB_RECURSE everything LIST_DIRECTORIES ON ${CURRENT_PACKAGES_DIR}/*)
foreach(path IN LISTS everything)
  if(IS_DIRECTORY ${path})
    file(GLOB content ${path}/*)
    if(NOT content OR path MATCHES "debug/(include|share)$")
      fail("expected no ${path}")
    endif()
  elseif(path MATCHES "\\.cmake$")
    file(STRINGS ${path} absolute REGEX "${WORK}|${SOURCE_PATH}")
    if(absolute)
      fail("expected no path of the build in ${path}, got ${absolute}")
    endif()
  endif()
endforeach()
message(STATUS "vcpkg port [${FEATURES}]: as vcpkg wants it, in ${CURRENT_PACKAGES_DIR}")
