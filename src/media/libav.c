// SPDX-License-Identifier: MIT
// Easy to get wrong: RTLD_NOW would look up every function of the hundred libraries, which takes longer than the rest.
#include "media/libav.h"

#include <dlfcn.h>
#include <stddef.h>
#include <string.h>

// A function of a library and its place in struct libav.
struct symbol {
    const char *name;
    size_t at;
};

#define SYMBOL(function) {#function, offsetof(struct libav, function)},
static const struct symbol UTIL[] = {LIBAV_UTIL(SYMBOL)}, CODEC[] = {LIBAV_CODEC(SYMBOL)},
                           FORMAT[] = {LIBAV_FORMAT(SYMBOL)}, SCALE[] = {LIBAV_SCALE(SYMBOL)};
#undef SYMBOL

#define COUNT(array)        (sizeof(array) / sizeof(array)[0])
#define SONAME(name, major) "lib" name ".so." AV_STRINGIFY(major)
static const struct {
    const char *name;
    const struct symbol *symbol;
    size_t n_symbol;
} LIBRARY[] = {
    {SONAME("avutil", LIBAVUTIL_VERSION_MAJOR), UTIL, COUNT(UTIL)},
    {SONAME("avcodec", LIBAVCODEC_VERSION_MAJOR), CODEC, COUNT(CODEC)},
    {SONAME("avformat", LIBAVFORMAT_VERSION_MAJOR), FORMAT, COUNT(FORMAT)},
    {SONAME("swscale", LIBSWSCALE_VERSION_MAJOR), SCALE, COUNT(SCALE)},
};

int libav_open(struct libav *av, struct err *e)
{
    for (size_t i = 0; i < COUNT(LIBRARY); i++) {
        void *library = dlopen(LIBRARY[i].name, RTLD_LAZY | RTLD_LOCAL); // never closed
        if (!library)
            return err_set(e, ERR_FAIL, "FFmpeg cannot be loaded: %s", dlerror());
        for (size_t j = 0; j < LIBRARY[i].n_symbol; j++) {
            const struct symbol *s = &LIBRARY[i].symbol[j];
            void *address = dlsym(library, s->name);
            if (!address)
                return err_set(e, ERR_FAIL, "FFmpeg cannot be used: %s has no %s", LIBRARY[i].name,
                               s->name);
            memcpy((char *)av + s->at, &address, sizeof address);
        }
    }
    return 0;
}
