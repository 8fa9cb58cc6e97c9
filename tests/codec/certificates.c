/* See certificates.h. */
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "proxy/base/obj.h"
#include "tests/codec/certificates.h"

static char directory[64];
static unsigned n_made;

static void
add_names(X509 *x, const char *names)
{
	X509V3_CTX ctx;
	X509_EXTENSION *extension;

	if (names[0] == '\0')
		return;
	X509V3_set_ctx_nodb(&ctx);
	X509V3_set_ctx(&ctx, x, x, NULL, NULL, 0);
	extension = X509V3_EXT_conf_nid(NULL, &ctx, NID_subject_alt_name, names);
	ENSURE(extension != NULL && X509_add_ext(x, extension, -1) == 1);
	X509_EXTENSION_free(extension);
}

static void
write_files(struct certificate *c, X509 *x, EVP_PKEY *key)
{
	FILE *f;

	if (directory[0] == '\0') {
		strcpy(directory, "/tmp/teal-certs-XXXXXX");
		ENSURE(mkdtemp(directory) != NULL);
	}
	(void)snprintf(c->chain, sizeof c->chain, "%s/%u.pem", directory, n_made);
	(void)snprintf(c->key, sizeof c->key, "%s/%u.key", directory, n_made);
	n_made++;
	f = fopen(c->chain, "w");
	ENSURE(f != NULL && PEM_write_X509(f, x) == 1 && fclose(f) == 0);
	f = fopen(c->key, "w");
	ENSURE(f != NULL && PEM_write_PrivateKey(f, key, NULL, NULL, 0, NULL, NULL) == 1 &&
	       fclose(f) == 0);
}

void
certificate_make(struct certificate *c, const char *common_name, const char *names, bool rsa)
{
	EVP_PKEY *key = rsa ? EVP_RSA_gen(2048) : EVP_EC_gen("P-256");
	X509 *x = X509_new();
	X509_NAME *subject;

	ENSURE(key != NULL && x != NULL);
	ENSURE(X509_set_version(x, X509_VERSION_3) == 1);
	ENSURE(ASN1_INTEGER_set(X509_get_serialNumber(x), (long)n_made + 1) == 1);
	ENSURE(X509_gmtime_adj(X509_getm_notBefore(x), -60) != NULL);
	ENSURE(X509_gmtime_adj(X509_getm_notAfter(x), 86400) != NULL);
	ENSURE(X509_set_pubkey(x, key) == 1);
	subject = X509_get_subject_name(x);
	ENSURE(X509_NAME_add_entry_by_txt(subject, "CN", MBSTRING_ASC,
		   (const unsigned char *)common_name, -1, -1, 0) == 1);
	ENSURE(X509_set_issuer_name(x, subject) == 1);
	add_names(x, names);
	ENSURE(X509_sign(x, key, EVP_sha256()) > 0);
	write_files(c, x, key);
	X509_free(x);
	EVP_PKEY_free(key);
}

void
certificates_remove(void)
{
	char file[128];

	for (unsigned i = 0; i < n_made; i++) {
		(void)snprintf(file, sizeof file, "%s/%u.pem", directory, i);
		(void)unlink(file);
		(void)snprintf(file, sizeof file, "%s/%u.key", directory, i);
		(void)unlink(file);
	}
	if (directory[0] != '\0')
		(void)rmdir(directory);
	directory[0] = '\0';
	n_made = 0;
}
