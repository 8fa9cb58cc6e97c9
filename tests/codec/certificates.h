/*
 * Certificates for tests, made anew each run by the library's API, in a directory of their own.
 */
#ifndef TEAL_TESTS_CERTIFICATES_H
#define TEAL_TESTS_CERTIFICATES_H

#include <stdbool.h>

struct certificate {
	char chain[128], key[128]; /* PEM files; self-signed, so the chain is its own CA */
};

/* `names`: subjectAltName as in openssl.cnf, "DNS:a.test,DNS:*.a.test,IP:192.0.2.1"; "" = none at
 * all. */
void certificate_make(struct certificate *, const char *common_name, const char *names, bool rsa);
void certificates_remove(void); /* all files and the directory */

#endif
