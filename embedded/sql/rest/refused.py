"""Endpoints of the product that this server has not: they answer 404 in the product's error shape."""

from __future__ import annotations

REFUSED: tuple[tuple[str, str], ...] = (
    ("/api/v3/engines", "there are no engines: every query runs in this one process"),
    ("/api/v3/scripts", "saved scripts belong to the product's own console"),
    ("/api/v3/wlm/queue, /api/v3/wlm/rule", "there is one queue for queries and one for refreshes"),
    ("/api/v3/votes", "reflections are defined by their owners"),
    ("/api/v3/reflection/recommendations", "no reflections are proposed"),
    ("/api/v3/dataset/{id}/reflection/recommendation/{type}", "no reflections are proposed"),
    ("/api/v3/external-token-providers", "no identity provider but this server's own users"),
    ("/api/v3/catalog/privileges", "deprecated by the product: /api/v3/catalog/{id}/grants says the same"),
    ("/api/v3/data-maintenance/tasks", "OPTIMIZE and VACUUM are started by whoever needs them"),
    ("/api/v3/search", "GET /api/v3/catalog/search finds by path"),
    ("/apiv2/* beyond login, server_status, bootstrap and source", "internal to the product's console"),
)
