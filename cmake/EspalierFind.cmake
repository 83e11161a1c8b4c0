# espalier_find(<package> <debian package> [OFF_WITH <option>] [arguments of find_package...])
#
# find_package that, when the package is missing, says which Debian package brings it and which option does without.
macro(espalier_find package debian)
  cmake_parse_arguments(espalier_find "" OFF_WITH "" ${ARGN})
  find_package(${package} QUIET ${espalier_find_UNPARSED_ARGUMENTS})
  if(NOT ${package}_FOUND)
    set(espalier_find_hint "")
    if(espalier_find_OFF_WITH)
      set(espalier_find_hint ", or configure with -D${espalier_find_OFF_WITH}=OFF")
    endif()
    message(FATAL_ERROR "espalier: expected ${package}, found none. Install it (Debian: ${debian})${espalier_find_hint}.")
  endif()
endmacro()
