// SPDX-License-Identifier: MIT
// Feeds files to a fuzz target without libFuzzer, so that the seeds and every past finding are tested by
// each compiler and on each machine. Arguments: files or folders (not nested). Each file is one test.
#include <dirent.h>
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static int n_done;

static int replay_file(const char *path, const char *name)
{
    FILE *f = fopen(path, "rb");
    struct stat st;
    if (!f || fstat(fileno(f), &st) != 0) {
        fprintf(stderr, "%s: %s\n", path, strerror(errno));
        return 1;
    }
    size_t n = (size_t)st.st_size;
    // exactly n bytes, so that a read past the end is a report
    uint8_t *data = malloc(n ? n : 1);
    int bad = !data || fread(data, 1, n, f) != n;
    fclose(f);
    if (!bad)
        LLVMFuzzerTestOneInput(data, n);
    free(data);
    printf("%s %d - %s\n", bad ? "not ok" : "ok", ++n_done, name);
    fflush(stdout); // the next one may not come back
    return bad;
}

static int replay_folder(const char *path)
{
    DIR *d = opendir(path);
    int bad = 0;
    if (!d) {
        fprintf(stderr, "%s: %s\n", path, strerror(errno));
        return 1;
    }
    for (struct dirent *entry; (entry = readdir(d));) {
        char child[4096];
        if (entry->d_name[0] == '.')
            continue;
        int n = snprintf(child, sizeof child, "%s/%s", path, entry->d_name);
        bad |= n < 0 || (size_t)n >= sizeof child || replay_file(child, entry->d_name);
    }
    closedir(d);
    return bad;
}

int main(int argc, char **argv)
{
    int bad = 0;
    for (int i = 1; i < argc; i++) {
        struct stat st;
        if (stat(argv[i], &st) == 0 && S_ISDIR(st.st_mode))
            bad |= replay_folder(argv[i]);
        else
            bad |= replay_file(argv[i], argv[i]);
    }
    if (n_done == 0)
        printf("not ok 1 - no input at all\n");
    printf("1..%d\n", n_done ? n_done : 1);
    return bad || n_done == 0;
}
