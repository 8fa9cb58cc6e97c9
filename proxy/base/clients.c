/* Connections per client address: 64 shards, each a chained hash of its own.  See clients.h. */
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "balancer/hash.h"
#include "proxy/base/clients.h"
#include "proxy/base/obj.h"

#define SHARDS  64
#define BUCKETS 1024 /* per shard; entries are bounded by limits.connections */

struct entry {
	struct entry *next;
	uint8_t address[16];
	unsigned n;
};

struct shard {
	pthread_mutex_t lock;
	struct entry *buckets[BUCKETS];
};

struct clients {
	uint64_t key[2]; /* clients choose addresses: keyed against collisions */
	struct shard shards[SHARDS];
};

void
client_prefix(uint8_t out[16], const uint8_t address[16])
{
	static const uint8_t mapped[12] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};

	memcpy(out, address, 16);
	if (memcmp(address, mapped, sizeof(mapped)) != 0)
		memset(out + 8, 0, 8);
}

struct clients *
clients_new(void)
{
	struct clients *c = calloc(1, sizeof(*c));

	if (c == NULL)
		return NULL;
	ENSURE(getrandom(c->key, sizeof(c->key), 0) == (ssize_t)sizeof(c->key));
	for (unsigned i = 0; i < SHARDS; i++)
		pthread_mutex_init(&c->shards[i].lock, NULL);
	return c;
}

void
clients_free(struct clients *c)
{
	struct entry *e, *next;

	if (c == NULL)
		return;
	for (unsigned i = 0; i < SHARDS; i++) {
		for (unsigned j = 0; j < BUCKETS; j++) {
			for (e = c->shards[i].buckets[j]; e != NULL; e = next) {
				next = e->next;
				free(e);
			}
		}
		pthread_mutex_destroy(&c->shards[i].lock);
	}
	free(c);
}

static struct entry **
find(struct shard *s, uint64_t hash, const uint8_t address[16])
{
	struct entry **e = &s->buckets[(hash >> 8) % BUCKETS];

	while (*e != NULL && memcmp((*e)->address, address, 16) != 0)
		e = &(*e)->next;
	return e;
}

bool
clients_enter(struct clients *c, const uint8_t address[16], unsigned max)
{
	uint8_t prefix[16];
	struct shard *s;
	struct entry **e;
	uint64_t hash;
	bool ok = true;

	client_prefix(prefix, address);
	hash = hash_sip(c->key, prefix, 16);
	s = &c->shards[hash % SHARDS];
	pthread_mutex_lock(&s->lock);
	e = find(s, hash, prefix);
	if (*e == NULL) {
		*e = calloc(1, sizeof(**e));
		ENSURE(*e != NULL);
		memcpy((*e)->address, prefix, 16);
	}
	if (max != 0 && (*e)->n >= max)
		ok = false;
	else
		(*e)->n++;
	pthread_mutex_unlock(&s->lock);
	return ok;
}

void
clients_leave(struct clients *c, const uint8_t address[16])
{
	uint8_t prefix[16];
	struct shard *s;
	struct entry **e, *dead;
	uint64_t hash;

	client_prefix(prefix, address);
	hash = hash_sip(c->key, prefix, 16);
	s = &c->shards[hash % SHARDS];
	pthread_mutex_lock(&s->lock);
	e = find(s, hash, prefix);
	ENSURE(*e != NULL && (*e)->n > 0);
	if (--(*e)->n == 0) {
		dead = *e;
		*e = dead->next;
		free(dead);
	}
	pthread_mutex_unlock(&s->lock);
}
