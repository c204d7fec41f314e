// SPDX-License-Identifier: MIT
// The index of a model folder with three good shards. Accepted or not, no other file may be opened, and
// an accepted index gives each of its tensors in the file it says.
#define _GNU_SOURCE // memfd_create
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "weights/weights.h"
#include "require.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static const char index_name[] = "model.safetensors.index.json";
static char dir[64];
static int index_fd; // the index is a link to memory

static void put_file(const char *name, const void *data, size_t n)
{
    char path[128];
    snprintf(path, sizeof path, "%s/%s", dir, name);
    FILE *f = fopen(path, "wb");
    require(f && fwrite(data, 1, n, f) == n && fclose(f) == 0);
}

static void put_shard(const char *name, const char *header, size_t n_data)
{
    char raw[512] = {0};
    uint64_t n = strlen(header);
    memcpy(raw, &n, sizeof n);
    memcpy(raw + sizeof n, header, n);
    put_file(name, raw, sizeof n + n + n_data);
}

static const char *const files[] = {"s1", "s2", "s3", index_name};

static void folder_remove(void)
{
    char path[128];
    for (size_t i = 0; i < sizeof files / sizeof files[0]; i++) {
        snprintf(path, sizeof path, "%s/%s", dir, files[i]);
        unlink(path);
    }
    rmdir(dir);
}

static void folder_make(void)
{
    char memory[64], path[128];
    snprintf(dir, sizeof dir, "/tmp/ivchat-fuzz-XXXXXX");
    require(mkdtemp(dir) != NULL);
    atexit(folder_remove);
    index_fd = memfd_create("index", MFD_CLOEXEC);
    require(index_fd >= 0);
    snprintf(memory, sizeof memory, "/proc/self/fd/%d", index_fd);
    snprintf(path, sizeof path, "%s/%s", dir, index_name);
    require(symlink(memory, path) == 0);
    put_shard("s1",
              "{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]},"
              "\"b\":{\"dtype\":\"BF16\",\"shape\":[2],\"data_offsets\":[4,8]}}",
              8);
    put_shard("s2", "{\"c\":{\"dtype\":\"U8\",\"shape\":[3],\"data_offsets\":[0,3]}}", 3);
    put_shard("s3", "{\"d\":{\"dtype\":\"U8\",\"shape\":[],\"data_offsets\":[0,1]}}", 1);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    struct weights *w;
    struct err e = {0};
    if (!dir[0])
        folder_make();
    require(ftruncate(index_fd, 0) == 0 && pwrite(index_fd, data, n, 0) == (ssize_t)n);
    int rc = weights_open(dir, &w, &e);
    if (rc != 0) {
        require(rc == ERR_MODEL && e.code == rc && e.msg[0] && !w);
        return 0;
    }
    require(weights_count(w) > 0 && weights_count(w) <= 4);
    for (size_t i = 0; i < weights_count(w); i++) {
        const struct tensor *t = weights_at(w, i);
        require(weights_find(w, t->name) == t);
        const char *file = weights_file(w, t);
        require(strncmp(file, dir, strlen(dir)) == 0 && file[strlen(dir)] == '/');
        require(strcmp(file + strlen(dir) + 1, t->name[0] <= 'b'   ? "s1"
                                               : t->name[0] == 'c' ? "s2"
                                                                   : "s3") == 0);
    }
    weights_close(w);
    return 0;
}
