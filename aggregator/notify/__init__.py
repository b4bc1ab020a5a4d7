"""`drumbeat notifier`: events of alerts → groups → notifications → e-mail, chat, webhooks.

* `command`     settings and start
* `worker`      the process: route, deliver, what to do when the database is away
* `routing`     one pass: events that nobody has taken up, and groups whose time has come
* `delivering`  notifications that are due, on a pool of threads; what came of each attempt
* `sending`     one attempt: Apprise, or a signed webhook
* `guard`       which addresses an attempt may connect to, and how it is cut off
* `gauges`      figures for /metrics
"""
