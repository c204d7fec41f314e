# SPDX-License-Identifier: MIT
# What of the program (not of the library) tests and fuzz targets are linked with.
set(PROGRAM_DIR ${CMAKE_CURRENT_LIST_DIR}/../apps)
set(SERVE_PARTS chatreq.c decoder.c fieldcheck.c httpguard.c jobs.c mediaref.c multipart.c refusal.c textbuf.c urlguard.c)
list(TRANSFORM SERVE_PARTS PREPEND ${PROGRAM_DIR}/serve/)
list(APPEND SERVE_PARTS ${PROGRAM_DIR}/heap.c ${PROGRAM_DIR}/jsontext.c ${PROGRAM_DIR}/wellformed.c)

set(FUZZED_historyfile historyfile.c heap.c wellformed.c)
set(FUZZED_medialist heap.c jsontext.c linereader.c medialist.c savefile.c signals.c wellformed.c)
set(FUZZED_npy_save npy_save.c savefile.c)
set(FUZZED_option_value heap.c option_value.c wellformed.c)

# What fuzz_<target>.c calls; `serve` is the library of SERVE_PARTS.
function(link_fuzzed program target serve)
  foreach(part ${FUZZED_${target}})
    target_sources(${program} PRIVATE ${PROGRAM_DIR}/${part})
  endforeach()
  if(FUZZED_${target})
    target_include_directories(${program} PRIVATE ${PROGRAM_DIR})
  endif()
  if(target STREQUAL medialist)
    target_link_libraries(${program} PRIVATE PkgConfig::IVCHAT_JANSSON)
  elseif(target MATCHES "^serve_")
    target_link_libraries(${program} PRIVATE ${serve})
  endif()
endfunction()
