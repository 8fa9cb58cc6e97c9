/*
 * Rules that look at more than one field: listeners, the admin interface, and who shares an
 * address.  Services are in check_service.c.
 *
 * A setting already found bad is not judged again: one mistake, one message.
 */
#include <string.h>
#include <strings.h>

#include "config/load.h"

#define HTTPS_PORT 443

static bool
same_address(const struct address *a, const struct address *b)
{
	if (a->path != NULL || b->path != NULL)
		return a->path != NULL && b->path != NULL && strcmp(a->path, b->path) == 0;
	return a->host != NULL && b->host != NULL && a->port == b->port &&
	       strcasecmp(a->host, b->host) == 0;
}

static void
check_listener(struct loading *l, config_setting_t *s, const struct listener_config *c)
{
	config_setting_t *from = loading_find(s, "proxy_protocol_from");

	if (c->redirect_to_https && c->tls.on)
		loading_refuse(l, loading_near(s, "redirect_to_https"),
		    "is for clear text; this listener has tls");
	if (!c->redirect_to_https && c->redirect_port != HTTPS_PORT)
		loading_refuse(l, loading_near(s, "redirect_port"),
		    "means nothing without redirect_to_https = true");
	/* whoever may connect could name any client address (PROXY protocol, section 4) */
	if (c->proxy_protocol && c->proxy_protocol_from.n == 0 && !loading_is_bad(from))
		loading_refuse(l, loading_near(s, "proxy_protocol"),
		    "needs proxy_protocol_from, the networks that may send PROXY headers");
	if (!c->proxy_protocol && c->proxy_protocol_from.n > 0 && !loading_is_bad(from))
		loading_refuse(l, from, "means nothing without proxy_protocol = true");
}

static void
check_listeners(struct loading *l, config_setting_t *list)
{
	const struct config *c = l->config;

	for (size_t i = 0; i < c->n_listeners; i++) {
		config_setting_t *s = config_setting_get_elem(list, (unsigned)i);

		if (!config_setting_is_group(s))
			continue;
		check_listener(l, s, &c->listeners[i]);
		for (size_t j = 0; j < i; j++) {
			if (!same_address(&c->listeners[i].address, &c->listeners[j].address))
				continue;
			loading_refuse(l, loading_near(s, "address"),
			    "is a duplicate: \"%s\" is listened on at line %u",
			    c->listeners[i].address.text, c->listeners[j].line);
			break;
		}
	}
}

static void
check_admin(struct loading *l, config_setting_t *root)
{
	const struct config *c = l->config;
	config_setting_t *s = loading_near(root, "admin.http");

	if (c->admin.http.path != NULL)
		loading_refuse(l, s, "must be host:port; the Unix socket is admin.socket");
	for (size_t i = 0; i < c->n_listeners; i++) {
		const struct address *a = &c->listeners[i].address;

		if (same_address(&c->admin.http, a))
			loading_refuse(l, s, "is a duplicate: \"%s\" is listened on at line %u",
			    a->text, c->listeners[i].line);
		if (a->path != NULL && strcmp(a->path, c->admin.socket) == 0)
			loading_refuse(l, loading_near(root, "admin.socket"),
			    "is a duplicate: \"%s\" is listened on at line %u", a->text,
			    c->listeners[i].line);
	}
}

static void
check_announce(struct loading *l, config_setting_t *root)
{
	const struct announce_config *c = &l->config->announce;
	config_setting_t *headers = loading_find(root, "announce.webhook_headers");

	if (c->webhook[0] == '\0' && c->webhook_headers.n > 0 && !loading_is_bad(headers))
		loading_refuse(l, headers, "means nothing without webhook");
	if (strncmp(c->webhook, "https://", 8) != 0 && c->webhook_ca[0] != '\0')
		loading_refuse(l, loading_near(root, "announce.webhook_ca"),
		    "means nothing without a webhook of https");
}

void
check_config(struct loading *l)
{
	config_setting_t *root = config_root_setting(&l->tree);

	if (l->config->limits.request_line > l->config->limits.header_bytes)
		loading_refuse(l, loading_near(root, "limits.request_line"),
		    "must not be above limits.header_bytes");
	if (l->config->n_listeners > 0)
		check_listeners(l, config_setting_get_member(root, "listen"));
	check_admin(l, root);
	check_announce(l, root);
	if (l->config->n_services > 0)
		check_services(l);
}
