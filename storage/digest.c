#include "storage/digest.h"

#include <openssl/evp.h>
#include <stdio.h>

#include "base/mem.h"

struct digest {
	EVP_MD_CTX *context;
};

int digest_new(struct digest **ret, struct err *err)
{
	struct digest *digest = mem_new(struct digest);

	digest->context = EVP_MD_CTX_new();
	if (!digest->context || EVP_DigestInit_ex(digest->context, EVP_sha256(), NULL) != 1) {
		digest_free(digest);
		return err_set(err, ERR_INTERNAL, "cannot begin a SHA-256 checksum");
	}
	*ret = digest;
	return 0;
}

void digest_free(struct digest *digest)
{
	if (!digest)
		return;
	EVP_MD_CTX_free(digest->context);
	free(digest);
}

int digest_add(struct digest *digest, const void *bytes, size_t size, struct err *err)
{
	if (EVP_DigestUpdate(digest->context, bytes, size) != 1)
		return err_set(err, ERR_INTERNAL, "cannot go on with a SHA-256 checksum");
	return 0;
}

int digest_end(struct digest *digest, char ret[DIGEST_LEN + 1], struct err *err)
{
	unsigned char sum[EVP_MAX_MD_SIZE];
	unsigned int len = 0;

	if (EVP_DigestFinal_ex(digest->context, sum, &len) != 1 || len * 2 != DIGEST_LEN)
		return err_set(err, ERR_INTERNAL, "cannot end a SHA-256 checksum");
	for (size_t i = 0; i < len; i++)
		snprintf(ret + 2 * i, 3, "%02x", sum[i]);
	return 0;
}
