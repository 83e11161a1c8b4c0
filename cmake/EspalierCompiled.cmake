# espalier_compiled: the templates and bodies that headers hand over by the macros of core/compiled.hpp, compiled once.
# Every source defines those of a few headers of one layer, and only declares what the sources before it define.
set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS ${headers}) # the names are read when configuring
set(ESPALIER_COMPILED_LAYERS
    core tensor cpu autograd ops nn models regularizers pruning interpret data io train report
    CACHE STRING "Layers that espalier::compiled holds, lower ones first; fewer where only their tests are built")
set(declared)
set(sources)
foreach(layer IN LISTS ESPALIER_COMPILED_LAYERS)
  set(here)
  foreach(header IN LISTS headers)
    file(STRINGS ${header} names REGEX "^(ESPALIER_COMPILED_|#if ESPALIER_BODIES)")
    if(names AND header MATCHES "include/(espalier/${layer}/.*)")
      list(APPEND here "#include <${CMAKE_MATCH_1}>")
    endif()
  endforeach()
  if(NOT here)
    continue()
  endif()
  list(LENGTH here last)
  math(EXPR last "${last} - 1")
  foreach(first RANGE 0 ${last} 6)
    list(SUBLIST here ${first} 6 defined)
    list(JOIN declared "\n" before)
    list(JOIN defined "\n" now)
    set(source ${PROJECT_BINARY_DIR}/compiled/${layer}${first}.cpp)
    file(CONFIGURE OUTPUT ${source} @ONLY CONTENT "#define ESPALIER_COMPILED
#define ESPALIER_INSTANTIATION extern
#define ESPALIER_BODIES 0
@before@
#undef ESPALIER_INSTANTIATION
#undef ESPALIER_BODIES
#define ESPALIER_INSTANTIATION
#define ESPALIER_BODIES 1
#define ESPALIER_BODY
@now@
")
    list(APPEND sources ${source})
    list(APPEND declared ${defined})
  endforeach()
endforeach()

add_library(espalier_compiled STATIC EXCLUDE_FROM_ALL ${sources})
add_library(espalier::compiled ALIAS espalier_compiled)
target_link_libraries(espalier_compiled PUBLIC espalier)
target_compile_definitions(espalier_compiled INTERFACE ESPALIER_COMPILED)
