// SPDX-License-Identifier: MIT
// A certificate for localhost and 127.0.0.1, made anew at each start, so that no key lies in the tree.
#ifndef TEST_SELFSIGNED_H
#define TEST_SELFSIGNED_H

enum { PEM_MAX = 8192 };

// Zero-terminated PEM texts; false = gnutls failed.
int selfsigned_make(char key[PEM_MAX], char certificate[PEM_MAX]);

#endif
