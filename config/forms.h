/*
 * Options whose string has a grammar of its own and may set more than one field.
 */
#ifndef TEAL_CONFIG_FORMS_H
#define TEAL_CONFIG_FORMS_H

#include "config/options.h"

extern const struct option_form form_balance;  /* of struct pool_config */
extern const struct option_form form_split_by; /* of struct split_config */
extern const struct option_form form_status;   /* of struct probe_config */
extern const struct option_form form_mode;     /* of struct admin_config */

#endif
