// SPDX-License-Identifier: MIT
// Compares the library with the golden data, case by case.
//   parity [--tap] [--only SUBSTRING]... [--cpu TIER] [--device DEVICE] [GOLDEN_DIR [DATA_DIR]]
// --only: cases whose id holds one of them; one that is in no id is an error. The last line is "N equal, N
// different"; exit status 1 when something differs.
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "cases.h"

// Whether the case is wanted; which of the substrings have met a case is noted.
static bool wanted(struct golden *g, const char *id)
{
    bool hit = g->n_only == 0;
    for (size_t i = 0; i < g->n_only; i++) {
        if (strstr(id, g->only[i]))
            hit = g->met[i] = true;
    }
    return hit;
}

static void report_unmet(struct golden *g)
{
    for (size_t i = 0; i < g->n_only; i++)
        if (!g->met[i])
            report_result(g, g->only[i], "case", false, "there is none");
}

int main(int argc, char **argv)
{
    struct golden g = {0};
    const char *dir[2] = {TEST_SHARED "/golden", TEST_SHARED "/data"};
    int n_dir = 0;
    for (int i = 1; i < argc; i++) {
        if (!strcmp(argv[i], "--tap"))
            g.tap = true;
        else if (!strcmp(argv[i], "--only") && i + 1 < argc && g.n_only < GOLDEN_ONLY_MAX)
            g.only[g.n_only++] = argv[++i];
        else if (!strcmp(argv[i], "--cpu") && i + 1 < argc)
            g.cpu = argv[++i];
        else if (!strcmp(argv[i], "--device") && i + 1 < argc)
            g.device = argv[++i];
        else if (n_dir < 2)
            dir[n_dir++] = argv[i];
    }
    if (access(dir[0], R_OK) != 0) {
        printf("1..0 # SKIP no golden data\n");
        return 0;
    }
    if (!golden_open(&g, dir[0], dir[1]))
        return 1;
    for (size_t i = 0; i < golden_count(&g); i++) {
        const js_value *c = golden_case(&g, i);
        if (!wanted(&g, golden_id(c)))
            continue;
        if (!model_case(&g, c) && !media_case(&g, c) && !text_case(&g, c))
            report_result(&g, golden_id(c), "case", false, "no comparison for it");
    }
    report_unmet(&g);
    model_cases_end();
    golden_close(&g);
    if (g.tap)
        printf("1..%d\n", g.n_equal + g.n_different);
    else
        printf("%d equal, %d different\n", g.n_equal, g.n_different);
    return g.n_different > 0 || g.n_equal == 0;
}
