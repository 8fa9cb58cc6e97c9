/*
 * The key that was probably meant: optimal string alignment distance (Damerau 1964 with
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

const char *
option_nearest(const struct option *rows, const char *key)
{
	const char *best = NULL;
	size_t n = strlen(key);
	/* a third of the word may be wrong: one letter of three, two of six */
	unsigned best_distance = (unsigned)(n + 2) / 3 + 1;

	if (n > KEY_MAX)
		return NULL;
	for (; rows->key != NULL; rows++) {
		size_t m = strlen(rows->key);
		unsigned d = distance(key, n, rows->key, m);

		if (is_beginning(key, n, rows->key, m) && d >= 3)
			d = 3;
		if (d < best_distance) {
			best = rows->key;
			best_distance = d;
		}
	}
	return best;
}
