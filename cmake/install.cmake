# SPDX-License-Identifier: MIT
# `cmake --install`: program, its manual pages and completions, both libraries, header, pkg-config file and
# CMake package, so that
#   cc app.c $(pkg-config --cflags --libs ivchat)      and      find_package(ivchat) + ivchat::ivchat
# work from PREFIX. ivchat-static and ivchat::ivchat_static link libivchat.a with the shared libraries it
# stands on; `pkg-config --static` would ask for static builds of those too, which Debian does not have.
include(CMakePackageConfigHelpers)

if(TARGET ivchat_app)
  install(TARGETS ivchat_app RUNTIME)
  if(TARGET help_pages)
    install(DIRECTORY ${CMAKE_BINARY_DIR}/share/man/ DESTINATION ${CMAKE_INSTALL_MANDIR})
    foreach(completions bash-completion zsh fish)
      install(DIRECTORY ${CMAKE_BINARY_DIR}/share/${completions} DESTINATION ${CMAKE_INSTALL_DATADIR})
    endforeach()
  endif()
endif()
install(TARGETS ivchat_static ivchat_shared EXPORT ivchat_targets
        INCLUDES DESTINATION ${CMAKE_INSTALL_INCLUDEDIR})
set_target_properties(ivchat_shared PROPERTIES EXPORT_NAME ivchat)
install(FILES ${CMAKE_SOURCE_DIR}/include/ivchat.h TYPE INCLUDE)

# Paths relative to the file itself, so that `cmake --install --prefix` and DESTDIR need no reconfiguring.
file(RELATIVE_PATH IV_PC_UP /${CMAKE_INSTALL_LIBDIR}/pkgconfig /)
string(REGEX REPLACE "/$" "" IV_PC_UP "${IV_PC_UP}")
foreach(pc ivchat ivchat-static)
  configure_file(${CMAKE_CURRENT_LIST_DIR}/${pc}.pc.in ${CMAKE_BINARY_DIR}/${pc}.pc @ONLY)
  install(FILES ${CMAKE_BINARY_DIR}/${pc}.pc DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig)
endforeach()

set(IV_PACKAGE_DIR ${CMAKE_INSTALL_LIBDIR}/cmake/ivchat)
install(EXPORT ivchat_targets NAMESPACE ivchat:: DESTINATION ${IV_PACKAGE_DIR} FILE ivchat-targets.cmake)
configure_package_config_file(${CMAKE_CURRENT_LIST_DIR}/ivchat-config.cmake.in
                              ${CMAKE_BINARY_DIR}/ivchat-config.cmake INSTALL_DESTINATION ${IV_PACKAGE_DIR})
write_basic_package_version_file(${CMAKE_BINARY_DIR}/ivchat-config-version.cmake
                                 COMPATIBILITY SameMinorVersion)
install(FILES ${CMAKE_BINARY_DIR}/ivchat-config.cmake ${CMAKE_BINARY_DIR}/ivchat-config-version.cmake
        DESTINATION ${IV_PACKAGE_DIR})
# of the vocabulary that is built into the library: its licence asks that both go with it
install(FILES ${CMAKE_SOURCE_DIR}/third_party/bert-base-uncased/LICENSE
              ${CMAKE_SOURCE_DIR}/third_party/bert-base-uncased/NOTICE
        DESTINATION ${CMAKE_INSTALL_DOCDIR}/bert-base-uncased)
# the small model, used when none is named (src/engine/shipped.c); its card goes with it
install(DIRECTORY ${CMAKE_SOURCE_DIR}/models/ DESTINATION ${CMAKE_INSTALL_DATADIR}/ivchat/models OPTIONAL)
# last: `make uninstall` removes in this order, a folder once it is empty
install(FILES ${CMAKE_SOURCE_DIR}/LICENSE DESTINATION ${CMAKE_INSTALL_DOCDIR})
