# cmake --install: the headers, espalier::compiled where asked for, and a package that find_package(espalier) finds.
include(GNUInstallDirs)
include(CMakePackageConfigHelpers)
set(package_dir ${CMAKE_INSTALL_LIBDIR}/cmake/espalier)

install(TARGETS espalier EXPORT espalier-targets FILE_SET HEADERS)
if(TARGET espalier_jpeg)
  install(TARGETS espalier_jpeg EXPORT espalier-targets)
endif()
install(EXPORT espalier-targets NAMESPACE espalier:: DESTINATION ${package_dir})
set(for_machine ARCH_INDEPENDENT)
if(ESPALIER_INSTALL_COMPILED)
  set_target_properties(espalier_compiled PROPERTIES EXCLUDE_FROM_ALL OFF EXPORT_NAME compiled)
  install(TARGETS espalier_compiled EXPORT espalier-compiled-targets)
  install(EXPORT espalier-compiled-targets NAMESPACE espalier:: DESTINATION ${package_dir})
  set(for_machine)
endif()

configure_package_config_file(cmake/espalier-config.cmake.in ${PROJECT_BINARY_DIR}/espalier-config.cmake
                              INSTALL_DESTINATION ${package_dir})
write_basic_package_version_file(${PROJECT_BINARY_DIR}/espalier-config-version.cmake COMPATIBILITY SameMinorVersion
                                 ${for_machine})
install(FILES ${PROJECT_BINARY_DIR}/espalier-config.cmake ${PROJECT_BINARY_DIR}/espalier-config-version.cmake
              cmake/FindRandom123.cmake cmake/FindONNX.cmake DESTINATION ${package_dir})
install(FILES LICENSE DESTINATION ${CMAKE_INSTALL_DOCDIR})
