// SPDX-License-Identifier: MIT
// Self-signed certificate by gnutls.
#include "selfsigned.h"

#include <gnutls/gnutls.h>
#include <gnutls/x509.h>
#include <string.h>
#include <time.h>

int selfsigned_make(char key_text[PEM_MAX], char certificate[PEM_MAX])
{
    static const unsigned char loopback[4] = {127, 0, 0, 1};
    static const unsigned char serial[1] = {1};
    gnutls_x509_privkey_t key;
    gnutls_x509_crt_t crt;
    size_t n_key = PEM_MAX - 1, n_crt = PEM_MAX - 1;
    time_t now = time(NULL);
    memset(key_text, 0, PEM_MAX);
    memset(certificate, 0, PEM_MAX);
    if (gnutls_global_init() < 0 || gnutls_x509_privkey_init(&key) < 0 ||
        gnutls_x509_crt_init(&crt) < 0)
        return 0;
    int good =
        gnutls_x509_privkey_generate(key, GNUTLS_PK_ECDSA,
                                     GNUTLS_CURVE_TO_BITS(GNUTLS_ECC_CURVE_SECP256R1), 0) >= 0 &&
        gnutls_x509_crt_set_version(crt, 3) >= 0 && gnutls_x509_crt_set_key(crt, key) >= 0 &&
        gnutls_x509_crt_set_serial(crt, serial, 1) >= 0 &&
        gnutls_x509_crt_set_dn_by_oid(crt, GNUTLS_OID_X520_COMMON_NAME, 0, "localhost", 9) >= 0 &&
        gnutls_x509_crt_set_subject_alt_name(crt, GNUTLS_SAN_DNSNAME, "localhost", 9, 0) >= 0 &&
        gnutls_x509_crt_set_subject_alt_name(crt, GNUTLS_SAN_IPADDRESS, loopback, 4,
                                             GNUTLS_FSAN_APPEND) >= 0 &&
        gnutls_x509_crt_set_basic_constraints(crt, 1, -1) >= 0 &&
        gnutls_x509_crt_set_activation_time(crt, now - 3600) >= 0 &&
        gnutls_x509_crt_set_expiration_time(crt, now + 86400) >= 0 &&
        gnutls_x509_crt_sign2(crt, crt, key, GNUTLS_DIG_SHA256, 0) >= 0 &&
        gnutls_x509_privkey_export(key, GNUTLS_X509_FMT_PEM, key_text, &n_key) >= 0 &&
        gnutls_x509_crt_export(crt, GNUTLS_X509_FMT_PEM, certificate, &n_crt) >= 0;
    gnutls_x509_crt_deinit(crt);
    gnutls_x509_privkey_deinit(key);
    return good;
}
