# SPDX-License-Identifier: MIT
# Writes the manual pages and shell completions that the program makes of its own option tables into
# SHARE, laid out as below PREFIX/share. Run by the build: cmake -DPROGRAM=... -DSHARE=... -P this
# PROGRAM may be a list: an emulator and the program.
function(say file)
  execute_process(COMMAND ${PROGRAM} ${ARGN} OUTPUT_FILE ${SHARE}/${file} RESULT_VARIABLE status)
  if(NOT status EQUAL 0)
    message(FATAL_ERROR "ivchat ${ARGN}: exit status ${status}")
  endif()
endfunction()

file(REMOVE_RECURSE ${SHARE})
file(MAKE_DIRECTORY ${SHARE}/man/man1 ${SHARE}/bash-completion/completions ${SHARE}/zsh/site-functions
     ${SHARE}/fish/vendor_completions.d)
execute_process(COMMAND ${PROGRAM} --help OUTPUT_VARIABLE help RESULT_VARIABLE status)
string(REGEX REPLACE "^.*\nVerbs:\n" "" verbs "${help}")
string(REGEX REPLACE "\n\n.*$" "" verbs "${verbs}")
string(REGEX MATCHALL "(^|\n)  [a-z]+" verbs "${verbs}")
if(NOT status EQUAL 0 OR NOT verbs)
  message(FATAL_ERROR "ivchat --help lists no verbs")
endif()
say(man/man1/ivchat.1 --man)
foreach(verb ${verbs})
  string(STRIP "${verb}" verb)
  say(man/man1/ivchat-${verb}.1 --man ${verb})
endforeach()
say(bash-completion/completions/ivchat --completion bash)
say(zsh/site-functions/_ivchat --completion zsh)
say(fish/vendor_completions.d/ivchat.fish --completion fish)
