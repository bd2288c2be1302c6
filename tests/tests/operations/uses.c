/* Loads keys, signs with them, and frees them, as its arguments say. A key that is made comes to lie where the last one lay that was freed. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void *PEM_read_PrivateKey(FILE *file, void **key, void *password, void *argument);
void *EVP_PKEY_Q_keygen(void *context, const char *properties, const char *type, ...);
void EVP_PKEY_free(void *key);
int EVP_PKEY_up_ref(void *key);
void *EVP_MD_CTX_new(void);
void EVP_MD_CTX_free(void *context);
int EVP_DigestSignInit(void *context, void **key_context, const void *digest, void *engine, void *key);
int EVP_DigestSign(void *context, unsigned char *signature, size_t *length, const unsigned char *data, size_t data_length);

static void fail(const char *what)
{
	fprintf(stderr, "%s fails\n", what);
	exit(1);
}

static void *load(const char *path)
{
	FILE *file = fopen(path, "r");
	void *key = file ? PEM_read_PrivateKey(file, NULL, NULL, NULL) : NULL;

	if (!key)
		fail(path);
	fclose(file);
	return key;
}

static void *make_at(void *place)
{
	for (int n = 0; n < 10000; n++) {
		void *key = EVP_PKEY_Q_keygen(NULL, NULL, "ED25519");

		if (key == place)
			return key;
		/* Kept, so that the next one lies elsewhere. */
	}
	fail("making a key at the same place");
	return NULL;
}

static void sign(void *key, int times)
{
	for (; times > 0; times--) {
		unsigned char signature[64];
		size_t length = sizeof(signature);
		void *context = EVP_MD_CTX_new();

		if (EVP_DigestSignInit(context, NULL, NULL, NULL, key) != 1 || EVP_DigestSign(context, signature, &length, (const unsigned char *)"x", 1) != 1)
			fail("a signature");
		EVP_MD_CTX_free(context);
	}
}

int main(int count, char **words)
{
	void *key = NULL, *freed = NULL;

	for (int n = 1; n < count; n++) {
		if (!strcmp(words[n], "load"))
			key = load(words[++n]);
		else if (!strcmp(words[n], "make"))
			key = make_at(freed);
		else if (!strcmp(words[n], "sign"))
			sign(key, atoi(words[++n]));
		else if (!strcmp(words[n], "hold"))
			EVP_PKEY_up_ref(key);
		else if (!strcmp(words[n], "free"))
			EVP_PKEY_free(freed = key);
		else
			fail(words[n]);
	}
	return 0;
}
