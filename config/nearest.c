/*
 * The key or word that was probably meant: optimal string alignment distance (Damerau 1964 with
 * adjacent transpositions), letters compared without case.
 *
 * Pure; any thread.
 */
#include <ctype.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "config/options.h"

#define KEY_MAX 32 /* longer words are near nothing */

static unsigned
least(unsigned a, unsigned b)
{
	return a < b ? a : b;
}

/* Of two words shorter than KEY_MAX. */
static unsigned
distance(const char *a, size_t n, const char *b, size_t m)
{
	unsigned d[KEY_MAX + 1][KEY_MAX + 1];

	for (size_t i = 0; i <= n; i++)
		d[i][0] = (unsigned)i;
	for (size_t j = 0; j <= m; j++)
		d[0][j] = (unsigned)j;
	for (size_t i = 1; i <= n; i++) {
		for (size_t j = 1; j <= m; j++) {
			int x = tolower((unsigned char)a[i - 1]);
			int y = tolower((unsigned char)b[j - 1]);

			d[i][j] =
			    least(d[i - 1][j - 1] + (x != y), least(d[i - 1][j], d[i][j - 1]) + 1);
			if (i > 1 && j > 1 && x == tolower((unsigned char)b[j - 2]) &&
			    y == tolower((unsigned char)a[i - 2]))
				d[i][j] = least(d[i][j], d[i - 2][j - 2] + 1);
		}
	}
	return d[n][m];
}

/* Does one begin with the other? "timeout" of "timeouts", "proxy" of "proxy_protocol". */
static bool
is_beginning(const char *a, size_t n, const char *b, size_t m)
{
	return least((unsigned)n, (unsigned)m) >= 4 && strncasecmp(a, b, n < m ? n : m) == 0;
}

/* The best so far.  A third of the word may be wrong: one letter of three, two of six. */
struct search {
	const char *word;
	size_t n;
	unsigned best;
};

static struct search
search_begin(const char *word)
{
	size_t n = strlen(word);

	return (struct search){word, n, (unsigned)(n + 2) / 3 + 1};
}

/* Is this one nearer than all before? */
static bool
is_nearer(struct search *s, const char *candidate, size_t m)
{
	unsigned d;

	if (s->n > KEY_MAX || m > KEY_MAX)
		return false;
	d = distance(s->word, s->n, candidate, m);
	if (is_beginning(s->word, s->n, candidate, m) && d >= 3)
		d = 3;
	if (d >= s->best)
		return false;
	s->best = d;
	return true;
}

const char *
option_nearest(const struct option *rows, const char *key)
{
	struct search s = search_begin(key);
	const char *best = NULL;

	for (; rows->key != NULL; rows++)
		if (is_nearer(&s, rows->key, strlen(rows->key)))
			best = rows->key;
	return best;
}

void
option_word_nearest(const char *words, const char *word, char out[OPTION_WORD_SIZE])
{
	struct search s = search_begin(word);
	int position = 0, best = -1;

	out[0] = '\0';
	for (const char *p = words;; position++) {
		size_t m = strcspn(p, "|");

		if (is_nearer(&s, p, m))
			best = position;
		if (p[m] == '\0')
			break;
		p += m + 1;
	}
	if (best >= 0)
		option_word(words, best, out);
}
