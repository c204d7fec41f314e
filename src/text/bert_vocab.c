// SPDX-License-Identifier: MIT
// The assembler takes the file as it is: no generated source, no copy at run time, and the notice of its
// licence stays beside the file itself. BERT_VOCAB_FILE is its path, a definition of the build.
// Easy to get wrong: the compiler does not see the dependency; CMakeLists.txt states it (OBJECT_DEPENDS).
#include "text/bert_vocab.h"

__asm__(".pushsection .rodata\n"
        ".hidden bert_vocab_begin\n"
        ".hidden bert_vocab_end\n"
        ".global bert_vocab_begin\n"
        ".global bert_vocab_end\n"
        "bert_vocab_begin:\n"
        ".incbin \"" BERT_VOCAB_FILE "\"\n"
        "bert_vocab_end:\n"
        ".byte 0\n"
        ".popsection\n");

extern const char bert_vocab_begin[], bert_vocab_end[];

const char *bert_vocab_text(size_t *n)
{
    *n = (size_t)(bert_vocab_end - bert_vocab_begin);
    return bert_vocab_begin;
}
