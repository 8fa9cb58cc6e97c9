/*
 * The names of all events: what may stand in announce.events, and what events_emit() may be told.
 *
 * Constant data; any thread.
 */
#include "config/options.h"

const char config_event_words[] =
    "rollout_started|step|waiting|paused|resumed|frozen|inconclusive|gate_refused|tripped|"
    "rolled_back|promoted|rearmed|backend_down|backend_up|backend_ejected|certificate_near_end|"
    "change|state_not_written";

bool
announce_event_known(const char *name)
{
	return option_word_find(config_event_words, name) >= 0;
}
