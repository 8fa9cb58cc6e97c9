/* An event as a line.  See event_line.h. */
#include <stdlib.h>
#include <string.h>

#include "proxy/tealctl/event_line.h"

/* Shown at the line's beginning, or the same on each line. */
static bool
is_left_out(const char *key)
{
	static const char *const keys[] = {"id", "time", "type", "service", "host"};

	for (size_t i = 0; i < sizeof(keys) / sizeof(keys[0]); i++)
		if (strcmp(key, keys[i]) == 0)
			return true;
	return false;
}

static void
put_value(FILE *out, const json_t *value)
{
	char *text = NULL;

	if (json_is_string(value)) {
		put_safe(out, json_string_value(value));
		return;
	}
	if (*member_text(value, "user") != '\0') { /* by whom */
		put_safe(out, member_text(value, "user"));
		return;
	}
	if (json_is_number(value)) {
		(void)fprintf(out, "%.10g", json_number_value(value));
		return;
	}
	text = json_dumps(value, JSON_COMPACT | JSON_ENCODE_ANY);
	put_safe(out, text == NULL ? "?" : text);
	free(text);
}

void
event_line(FILE *out, const json_t *event, const struct look *look)
{
	const char *key, *before = "  ";
	json_t *value, *object = json_incref((json_t *)event);

	put_time(out, member_text(event, "time"));
	(void)fputs("  ", out);
	put_safe(out, *member_text(event, "service") == '\0' ? "-" : member_text(event, "service"));
	(void)fputs("  ", out);
	put_style(out, look, "1");
	put_safe(out, member_text(event, "type"));
	put_plain(out, look);
	json_object_foreach(object, key, value)
	{
		if (is_left_out(key) || json_is_null(value) ||
		    (json_is_string(value) && json_string_length(value) == 0))
			continue;
		if (strcmp(key, "verdict") == 0 &&
		    json_equal(value, json_object_get(event, "reason")))
			continue;
		(void)fputs(before, out);
		put_safe(out, key);
		(void)fputc(' ', out);
		put_value(out, value);
		before = ", ";
	}
	(void)fputc('\n', out);
	json_decref(object);
}
