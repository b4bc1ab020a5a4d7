"""`drumbeat api`: REST over the store.

* `command`      settings, the socket, the server
* `application`  the FastAPI application
* `backend`      the engine, the reader of history, short-lived caches, readiness
* `encryption`   TLS of the listener
* `bounds`, `headers`  before every route: how large a request may be, and how many at once; what every answer carries
* `security`     bearer tokens and scopes; `limits` how often each may ask
* `joining`      enrolment tokens of machines that join; `broker_for_agents` what they are told, `enrolment_models` as OpenAPI
                shows both
* `problems`     every error as problem+json
* `formats`      JSON, CSV and NDJSON
* `parameters`   query parameters that several routes share
* `known_parameters`  refuses those that a route does not have
* `models`      answers about hosts as OpenAPI shows them
* `figure_models`  answers of figures: history, series, health
* `own_models`  answers about drumbeat itself as OpenAPI shows them
* `alert_models`, `quiet_models`  alerts and events; silences, windows and dependencies as OpenAPI shows them
* `rule_models`  rules, overrides and previews as OpenAPI shows them
* `channel_models`  channels, routes and notifications as OpenAPI shows them
* `schedule_models`, `collection_models`  schedules, executions and collection settings as OpenAPI shows them
* `explanation`  why an alert fired and what came of it
* `previews`    what a rule would have done over stored history
* `analytics`   grids of history within bounds, for `anomaly_search`, `trending`, `correlating`, `discovering` (insights) and
                `moments` (the story of a time); `analytics_models` as OpenAPI shows them
* `openapi`      what the OpenAPI document says of all routes alike; `documentation` /docs, the document as a page
* `routes`       the routes, one module a subject
"""
