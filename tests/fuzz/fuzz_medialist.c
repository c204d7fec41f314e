// SPDX-License-Identifier: MIT
// Lists of media and questions: whatever is accepted has a question for each item, about one medium at most.
#define _GNU_SOURCE // memfd_create
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "medialist.h"
#include "require.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static void read_list(const char *path, const struct text_list *prompts)
{
    struct media_list l;
    struct iv_error e = {0};
    int rc = media_list_read(&l, path, prompts, &e);
    require(rc == IV_OK ? l.n > 0 : rc < 0 && e.message[0]);
    for (size_t i = 0; rc == IV_OK && i < l.n; i++)
        require(l.item[i].prompt && (!l.item[i].video || !l.item[i].image));
    media_list_free(&l);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    const char *question[] = {"What?", "Where?"};
    const struct text_list none = {0}, two = {question, 2};
    char path[64];
    int fd = memfd_create("list", MFD_CLOEXEC);
    require(fd >= 0);
    require(write(fd, data, n) == (ssize_t)n);
    (void)snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    require(access(path, R_OK) == 0);
    read_list(path, &none);
    read_list(path, &two);
    (void)close(fd);
    return 0;
}
