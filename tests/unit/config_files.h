/*
 * For the tests of the configuration: a temporary directory with teal.conf and the files it may
 * name (site.pem, site.key, ca.pem, sorry.html, hook.sh), made and removed by the group's fixtures.
 */
#ifndef TEAL_TESTS_CONFIG_FILES_H
#define TEAL_TESTS_CONFIG_FILES_H

#include <stddef.h>

#include "config/config.h"

int config_files_begin(void **state);
int config_files_end(void **state);

extern char conf_directory[];
extern char conf_file[64]; /* the file under test */
extern char *conf_errors;  /* of the last load */

/* The path of a file in the directory; overwritten by the next call. */
const char *conf_path(const char *name);
void conf_write(const char *name, const char *text, size_t n);

/* Writes and loads teal.conf. */
struct config *conf_load_bytes(const char *text, size_t n);
struct config *conf_load(const char *text);
/* The same; fails the test when it is refused. */
struct config *conf_load_ok(const char *text);
/* The same; fails the test unless refused with exactly these messages, FILE written as "F". */
void conf_refused(const char *text, const char *expected);

/* config_dump() as a string, the caller's. */
char *conf_dump(const struct config *);

#define LISTEN    "listen = ( { address = \"127.0.0.1:80\"; } );\n"
#define BLUE_POOL "blue = { backends = [ \"127.0.0.1:8080\" ]; };"
#define MINIMAL   LISTEN "services = ( { name = \"api\"; " BLUE_POOL " } );\n"
/* one service with more in it */
#define SERVICE(more) LISTEN "services = ( { name = \"api\"; " BLUE_POOL "\n" more " } );\n"
#define TOP(more)     MINIMAL more "\n"
#define LISTENER(more)                                                                             \
	"listen = ( { address = \"127.0.0.1:80\";\n" more                                          \
	" } );\nservices = ( { name = \"api\"; " BLUE_POOL " } );\n"

/* Every option there is, once. */
extern const char conf_everything[];
#define EVERYTHING_MAX 8192 /* more than its bytes */

#endif
