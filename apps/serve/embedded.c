// SPDX-License-Identifier: MIT
// The assembler takes the files as they are (as src/text/bert_vocab.c does). SERVE_PAGE_FILE and SERVE_OPENAPI_FILE
// are definitions of the build.
// Easy to get wrong: the compiler does not see the dependency; CMakeLists.txt states it (OBJECT_DEPENDS).

#include "embedded.h"

#define TAKE(name, file)                                                                           \
    __asm__(".pushsection .rodata\n"                                                               \
            ".hidden " #name "_begin\n"                                                            \
            ".hidden " #name "_end\n"                                                              \
            ".global " #name "_begin\n"                                                            \
            ".global " #name "_end\n" #name "_begin:\n"                                            \
            ".incbin \"" file "\"\n" #name "_end:\n"                                               \
            ".byte 0\n"                                                                            \
            ".popsection\n");                                                                      \
    extern const char name##_begin[], name##_end[]

TAKE(serve_page, SERVE_PAGE_FILE);
TAKE(serve_openapi, SERVE_OPENAPI_FILE);

const char *embedded_page(size_t *n)
{
    *n = (size_t)(serve_page_end - serve_page_begin);
    return serve_page_begin;
}

const char *embedded_openapi(size_t *n)
{
    *n = (size_t)(serve_openapi_end - serve_openapi_begin);
    return serve_openapi_begin;
}
