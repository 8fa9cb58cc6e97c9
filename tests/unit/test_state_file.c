/*
 * The durable state: it comes back as it went, or it is set aside whole.
 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <cmocka.h>

#include <dirent.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "proxy/process/state_file.h"

static char directory[64], file[128];

static int
setup(void **unused)
{
	(void)unused;
	snprintf(directory, sizeof(directory), "/tmp/teal-state-XXXXXX");
	if (mkdtemp(directory) == NULL)
		return -1;
	snprintf(file, sizeof(file), "%s/state.json", directory);
	return 0;
}

/* Removes what is in it and says how many names begin with `prefix`. */
static unsigned
sweep(const char *prefix, bool and_remove)
{
	DIR *d = opendir(directory);
	struct dirent *e;
	unsigned n = 0;

	assert_non_null(d);
	while ((e = readdir(d)) != NULL) {
		char path[400];

		if (e->d_name[0] == '.')
			continue;
		n += strncmp(e->d_name, prefix, strlen(prefix)) == 0;
		snprintf(path, sizeof(path), "%s/%s", directory, e->d_name);
		if (and_remove && unlink(path) < 0)
			(void)rmdir(path);
	}
	closedir(d);
	return n;
}

static int
teardown(void **unused)
{
	(void)unused;
	sweep("", true);
	return rmdir(directory);
}

static void
add(struct string_list *list, const char *text)
{
	list->items = reallocarray(list->items, list->n + 1, sizeof(char *));
	assert_non_null(list->items);
	list->items[list->n++] = strdup(text);
}

static struct state *
example(void)
{
	struct state *state = calloc(1, sizeof(*state));
	struct state_service *s;

	assert_non_null(state);
	s = state_find(state, "api", true);
	assert_non_null(s);
	s->live = GREEN;
	s->weight_bp = 1225;
	s->epoch = 41;
	s->split_key[0] = 0xfedcba9876543210u;
	s->split_key[1] = 7;
	s->pools[BLUE].changed = true;
	add(&s->pools[BLUE].backends, "10.0.0.1:8080");
	add(&s->pools[BLUE].backends, "unix:/run/b.sock");
	add(&s->pools[BLUE].drained, "10.0.0.1:8080");
	add(&s->pools[GREEN].drained, "[::1]:81");
	s = state_find(state, "web", true);
	assert_non_null(s);
	s->maintenance = true;
	s->pools[GREEN].changed = true; /* an emptied pool is not an unchanged one */
	return state;
}

static void
same_list(const struct string_list *a, const struct string_list *b)
{
	assert_int_equal(a->n, b->n);
	for (size_t i = 0; i < a->n; i++)
		assert_string_equal(a->items[i], b->items[i]);
}

static void
same(const struct state *a, const struct state *b)
{
	assert_int_equal(a->n_services, b->n_services);
	for (unsigned i = 0; i < a->n_services; i++) {
		const struct state_service *x = &a->services[i], *y = &b->services[i];

		assert_string_equal(x->name, y->name);
		assert_int_equal(x->live, y->live);
		assert_int_equal(x->weight_bp, y->weight_bp);
		assert_int_equal(x->maintenance, y->maintenance);
		assert_int_equal(x->epoch, y->epoch);
		assert_memory_equal(x->split_key, y->split_key, sizeof(x->split_key));
		for (int c = 0; c < N_COLORS; c++) {
			assert_int_equal(x->pools[c].changed, y->pools[c].changed);
			same_list(&x->pools[c].backends, &y->pools[c].backends);
			same_list(&x->pools[c].drained, &y->pools[c].drained);
		}
	}
}

static struct state *
load(char warning[512])
{
	memset(warning, 'x', 511);
	warning[511] = '\0';
	return state_load(directory, warning, 512);
}

static void
save(const struct state *state)
{
	char err[512] = "";

	if (state_save(directory, state, err, sizeof(err)) != 0)
		fail_msg("%s", err);
}

static void
write_file(const char *text, size_t n)
{
	FILE *f = fopen(file, "w");

	assert_non_null(f);
	assert_int_equal(fwrite(text, 1, n, f), n);
	assert_int_equal(fclose(f), 0);
}

static size_t
read_whole(char *text, size_t size)
{
	FILE *f = fopen(file, "r");
	size_t n;

	assert_non_null(f);
	n = fread(text, 1, size, f);
	assert_true(n < size);
	text[n] = '\0';
	fclose(f);
	return n;
}

static void
comes_back(void **unused)
{
	struct state *before = example(), *after;
	char warning[512];

	(void)unused;
	after = load(warning);
	assert_non_null(after);
	assert_int_equal(after->n_services, 0);
	assert_string_equal(warning, "");
	state_free(after);
	save(before);
	after = load(warning);
	assert_non_null(after);
	assert_string_equal(warning, "");
	same(before, after);
	/* a second time over the first */
	state_find(before, "web", false)->weight_bp = 10000;
	save(before);
	state_free(after);
	after = load(warning);
	assert_non_null(after);
	same(before, after);
	assert_int_equal(sweep("", false), 1);
	state_free(after);
	state_free(before);
}

static void
private_to_its_owner(void **unused)
{
	struct state *state = example();
	struct stat st;

	(void)unused;
	save(state);
	assert_int_equal(stat(file, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0600);
	state_free(state);
}

static void
finds_or_makes(void **unused)
{
	struct state *state = calloc(1, sizeof(*state));

	(void)unused;
	assert_null(state_find(state, "a", false));
	assert_non_null(state_find(state, "a", true));
	assert_ptr_equal(state_find(state, "a", true), state_find(state, "a", false));
	assert_int_equal(state->n_services, 1);
	assert_int_equal(state->services[0].live, BLUE);
	state_free(state);
	state_free(NULL);
}

/* Every byte damaged, and the file cut after every byte: either nothing is lost or it is told. */
static void
damage_is_noticed(void **unused)
{
	static char good[16384], bad[16384];
	struct state *before = example(), *after;
	char warning[512];
	size_t n, i;

	(void)unused;
	save(before);
	n = read_whole(good, sizeof(good));
	assert_true(n > 500);
	for (i = 0; i < 2 * n; i++) {
		memcpy(bad, good, n);
		if (i < n)
			bad[i] = (char)(bad[i] ^ (i % 2 ? 0x01 : 0x10));
		write_file(bad, i < n ? n : i - n);
		after = load(warning);
		assert_non_null(after);
		if (*warning == '\0') {
			/* white space may be other white space */
			same(before, after);
		} else {
			assert_int_equal(after->n_services, 0);
			assert_non_null(strstr(warning, "state.json.damaged-"));
			assert_int_equal(sweep("state.json.damaged-", true), 1);
		}
		state_free(after);
	}
	state_free(before);
}

static void
foreign_files_are_set_aside(void **unused)
{
	static const char *const texts[] = {"", "[]", "{}", "hello", "{\"teal_state\": 2}",
	    "{\"teal_state\": \"1\"}", "{\"teal_state\": 1, \"services\": []}",
	    "{\"teal_state\": 1, \"checksum\": \"0000000000000000\", \"services\": []}",
	    "{\"teal_state\": 1, \"checksum\": 5, \"services\": []}"};
	char warning[512];

	(void)unused;
	for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
		struct state *state;

		write_file(texts[i], strlen(texts[i]));
		state = load(warning);
		assert_non_null(state);
		assert_int_equal(state->n_services, 0);
		assert_non_null(strstr(warning, "cannot be used"));
		/* all of them kept, although made within one second */
		assert_int_equal(sweep("state.json.damaged-", false), i + 1);
		assert_int_equal(access(file, F_OK), -1);
		state_free(state);
	}
}

static void
odd_files_are_set_aside(void **unused)
{
	struct state *state;
	char warning[512];

	(void)unused;
	assert_int_equal(symlink("/etc/hostname", file), 0);
	state = load(warning);
	assert_non_null(state);
	assert_non_null(strstr(warning, "regular file"));
	state_free(state);
	assert_int_equal(mkdir(file, 0700), 0);
	state = load(warning);
	assert_non_null(state);
	assert_non_null(strstr(warning, "regular file"));
	state_free(state);
	assert_int_equal(mkfifo(file, 0600), 0);
	state = load(warning);
	assert_non_null(state);
	assert_non_null(strstr(warning, "regular file"));
	state_free(state);
}

static void
unusable_directories_are_told(void **unused)
{
	struct state *state = example();
	char err[512], below[200];

	(void)unused;
	write_file("x", 1);
	assert_null(state_load(file, err, sizeof(err)));
	assert_non_null(strstr(err, "Not a directory"));
	assert_int_equal(state_save(file, state, err, sizeof(err)), -1);
	assert_non_null(strstr(err, "Not a directory"));
	snprintf(below, sizeof(below), "%s/no/such", directory);
	assert_null(state_load(below, err, sizeof(err)));
	assert_non_null(strstr(err, "No such file"));
	state_free(state);
}

static void
makes_its_directory(void **unused)
{
	char below[200], err[512];
	struct state *state;

	(void)unused;
	snprintf(below, sizeof(below), "%s/state", directory);
	state = state_load(below, err, sizeof(err));
	assert_non_null(state);
	assert_string_equal(err, "");
	state_free(state);
}

/* A full disk, as a limit on the size of files: the old state stays and nothing is left over. */
static void
failed_saves_change_nothing(void **unused)
{
	struct state *before = example(), *after;
	struct rlimit old, tiny;
	char err[512], warning[512];

	(void)unused;
	save(before);
	state_find(before, "api", false)->weight_bp = 9999;
	assert_int_equal(getrlimit(RLIMIT_FSIZE, &old), 0);
	tiny = old;
	tiny.rlim_cur = 100;
	(void)signal(SIGXFSZ, SIG_IGN);
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &tiny), 0);
	assert_int_equal(state_save(directory, before, err, sizeof(err)), -1);
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &old), 0);
	assert_non_null(strstr(err, "File too large"));
	assert_int_equal(sweep("", false), 1);
	after = load(warning);
	assert_non_null(after);
	assert_string_equal(warning, "");
	assert_int_equal(state_find(after, "api", false)->weight_bp, 1225);
	state_free(after);
	/* the way is blocked: a directory in the place of the temporary file */
	snprintf(warning, sizeof(warning), "%s.new", file);
	assert_int_equal(mkdir(warning, 0700), 0);
	assert_int_equal(state_save(directory, before, err, sizeof(err)), -1);
	assert_int_equal(rmdir(warning), 0);
	save(before);
	state_free(before);
}

/* What cannot be written as JSON is not half written. */
static void
bytes_that_are_no_text(void **unused)
{
	struct state *state = example();
	char err[512];

	(void)unused;
	add(&state->services[0].pools[BLUE].backends, "unix:/\xff");
	assert_int_equal(state_save(directory, state, err, sizeof(err)), -1);
	assert_int_equal(access(file, F_OK), -1);
	state_free(state);
}

/* A reader that opened the old file keeps it whole: the new one is another file. */
static void
replaced_not_rewritten(void **unused)
{
	struct state *state = example();
	struct stat old, new;
	FILE *f;

	(void)unused;
	save(state);
	f = fopen(file, "r");
	assert_non_null(f);
	assert_int_equal(fstat(fileno(f), &old), 0);
	state_find(state, "api", false)->epoch++;
	save(state);
	assert_int_equal(stat(file, &new), 0);
	assert_int_not_equal(old.st_ino, new.st_ino);
	fclose(f);
	state_free(state);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    TEST(comes_back),
	    TEST(private_to_its_owner),
	    TEST(finds_or_makes),
	    TEST(damage_is_noticed),
	    TEST(foreign_files_are_set_aside),
	    TEST(odd_files_are_set_aside),
	    TEST(unusable_directories_are_told),
	    TEST(makes_its_directory),
	    TEST(failed_saves_change_nothing),
	    TEST(bytes_that_are_no_text),
	    TEST(replaced_not_rewritten),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
