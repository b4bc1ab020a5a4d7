"""How often a token may ask: so many times a minute of every route, by what the route costs. In memory of the process.

A window begins with the first request and ends after its time (`limits`' fixed window); every token has its own, for every
route. Where no token is valid, those of the address count. Nobody has more than `AT_ONCE` requests under way: a token whose
questions take long leaves connections to the database for others.
"""

import dataclasses
import ipaddress
import time
from collections import Counter
from collections.abc import Mapping
from math import ceil
from typing import Any

from limits import RateLimitItem, parse
from limits.storage import MemoryStorage
from limits.strategies import FixedWindowRateLimiter
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from aggregator.api.problems import Problem

GROUPS: Mapping[str, tuple[str, str]] = {
    "details": ("100/minute", "one host or thing, its charts, and health: what screens ask again and again"),
    "overview": ("50/minute", "the newest figures of the whole fleet, and series of many hosts"),
    "lists": ("30/minute", "every other list"),
    "actions": ("20/minute", "what is done to one alert, execution, container or process; recommendations"),
    "changes": ("100/minute", "what a file of rules or schedules sets, one by one"),
    "analysis": ("10/minute", "what searches stored history: anomaly runs, correlations, forecasts, insights, previews"),
    "cleanup": ("5/minute", "clean-up by hand"),
    "events": ("600/minute", "events from outside"),
    "enrolments": ("600/minute", "machines that join by one enrolment token"),
    "refused": ("30/minute", "requests of one address without a valid token"),
}
"""Group → the limit by default, and what is in it."""

DEFAULTS: Mapping[str, str] = {name: rate for name, (rate, _) in GROUPS.items()}

AT_ONCE = 8
LOGGED = parse("60/minute")
"""How many refused requests are logged, all addresses together."""

OF_ROUTES: Mapping[tuple[str, str], str] = {
    ("GET", "/api/v1"): "details",
    ("GET", "/api/v1/alerts/summary"): "details",
    ("GET", "/api/v1/fleet/health"): "details",
    ("GET", "/api/v1/stats"): "details",
    ("GET", "/api/v1/hosts/{host}/explanation"): "analysis",
    ("GET", "/api/v1/containers"): "overview",
    ("GET", "/api/v1/fleet/latest"): "overview",
    ("GET", "/api/v1/hosts"): "overview",
    ("GET", "/api/v1/series"): "overview",
    ("GET", "/metrics"): "overview",
    ("GET", "/api/v1/recommendations"): "actions",
    ("GET", "/api/v1/correlations"): "analysis",
    ("GET", "/api/v1/forecasts"): "analysis",
    ("GET", "/api/v1/insights"): "analysis",
    ("POST", "/api/v1/alert-rules/preview"): "analysis",
    ("POST", "/api/v1/alert-rules/validate"): "analysis",
    ("POST", "/api/v1/anomaly-runs"): "analysis",
    ("POST", "/api/v1/correlation-runs"): "analysis",
    ("POST", "/api/v1/cleanup-runs"): "cleanup",
    ("POST", "/api/v1/enrolments"): "enrolments",
    ("POST", "/api/v1/events"): "events",
    ("POST", "/api/v1/alert-rules/{rule}/resolutions"): "actions",
    ("PUT", "/api/v1/alerts/{alert}/acknowledgement"): "actions",
    ("DELETE", "/api/v1/alerts/{alert}/acknowledgement"): "actions",
    ("PUT", "/api/v1/alerts/{alert}/dismissal"): "actions",
    ("DELETE", "/api/v1/alerts/{alert}/dismissal"): "actions",
    ("PUT", "/api/v1/alerts/{alert}/resolution"): "actions",
    ("PUT", "/api/v1/executions/{execution}/cancellation"): "actions",
    ("POST", "/api/v1/hosts/{host}/containers/{container}/restarts"): "actions",
    ("POST", "/api/v1/hosts/{host}/processes/{pid}/signals"): "actions",
    ("POST", "/api/v1/notification-channels/{name}/test"): "actions",
    ("POST", "/api/v1/schedules/{schedule}/executions"): "actions",
}
"""Routes whose group their shape does not tell."""


class RateError(Exception):
    """A limit cannot be used; the message says what is allowed."""


@dataclasses.dataclass(frozen=True, slots=True)
class Quota:
    """What is left of a group's limit after a request. `window` and `reset` in seconds."""

    group: str
    limit: int
    window: int
    left: int
    reset: int
    is_spent: bool

    def headers(self) -> dict[str, str]:
        """RateLimit-Policy and RateLimit, as draft-ietf-httpapi-ratelimit-headers-10 has them."""
        return {"RateLimit-Policy": f'"{self.group}";q={self.limit};w={self.window}',
                "RateLimit": f'"{self.group}";r={self.left};t={self.reset}'}


def group_of(method: str, path: str) -> str:
    """The group of a route. What names one thing is a detail, every other question a list; the rest changes something. Pure."""
    if (found := OF_ROUTES.get((method, path))) is not None:
        return found
    if method != "GET":
        return "changes"
    return "details" if "{" in path else "lists"


def read_rates(wanted: Mapping[str, str]) -> dict[str, RateLimitItem]:
    """Group → limit, the defaults changed as wanted; `all` stands for every group, and 0 for none. Raises RateError."""
    if unknown := sorted(set(wanted) - set(GROUPS) - {"all"}):
        raise RateError(f"there is no group {unknown[0]!r}; allowed: {', '.join(GROUPS)}, or all")
    chosen = dict(DEFAULTS) | (dict.fromkeys(GROUPS, wanted["all"]) if "all" in wanted else {})
    chosen |= {group: text for group, text in wanted.items() if group != "all"}
    return {group: _rate(group, text) for group, text in chosen.items() if text.strip() != "0"}


def _rate(group: str, text: str) -> RateLimitItem:
    try:
        item = parse(text)
    except ValueError:
        item = None
    if item is None or item.amount < 1:
        raise RateError(f"{group}={text}: a limit is like 100/minute, 5/second or 1000/hour; 0 is none")
    return item


def network(address: str) -> str:
    """Whom an address stands for: itself, of IPv6 its /64, which is the least that one customer gets. Pure."""
    try:
        parsed = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return "unknown"
    if parsed.version == 6:
        own = parsed.ipv4_mapped
        return str(own) if own else str(ipaddress.ip_network((parsed, 64), strict=False))
    return str(parsed)


class Limiter:
    """Counts requests. `rates`: group → limit; a group that is missing has none. Of one process, not of all."""

    def __init__(self, rates: Mapping[str, RateLimitItem]) -> None:
        self._rates = rates
        self._windows = FixedWindowRateLimiter(MemoryStorage())
        self._under_way: Counter[str] = Counter()

    def spend(self, group: str, *who: str) -> Quota | None:
        """Count one request; None where the group has no limit."""
        if (rate := self._rates.get(group)) is None:
            return None
        is_allowed = self._windows.hit(rate, group, *who)
        return self._quota(group, rate, who, is_spent=not is_allowed)

    def look(self, group: str, *who: str) -> Quota | None:
        """What is left, without counting one."""
        if (rate := self._rates.get(group)) is None:
            return None
        return self._quota(group, rate, who, is_spent=not self._windows.test(rate, group, *who))

    def _quota(self, group: str, rate: RateLimitItem, who: tuple[str, ...], *, is_spent: bool) -> Quota:
        stats = self._windows.get_window_stats(rate, group, *who)
        reset = max(1, ceil(stats.reset_time - time.time()))
        return Quota(group, rate.amount, rate.get_expiry(), max(0, stats.remaining), reset, is_spent)

    def may_log(self) -> bool:
        """Whether one more refused request is told in the log."""
        return self._windows.hit(LOGGED, "logged")

    def begin(self, who: str, state: dict[str, Any]) -> bool:
        """One more request of `who` is under way; False where there are too many. Ends with the request of `state`."""
        if self._rates and self._under_way[who] >= AT_ONCE:
            return False
        self._under_way[who] += 1
        state["under_way"] = who
        return True

    def end(self, who: str) -> None:
        """One request of `who` is answered."""
        self._under_way[who] -= 1
        if not self._under_way[who]:
            del self._under_way[who]


def exceeded(quota: Quota) -> Problem:
    """429 that says when to ask again."""
    return Problem(429, f"{quota.limit} requests in {quota.window} s are allowed here (limit {quota.group!r}); "
                        f"ask again in {quota.reset} s", headers={"Retry-After": str(quota.reset)})


def crowded() -> Problem:
    """429 where too many requests of one token are under way."""
    return Problem(429, f"{AT_ONCE} requests of this token are under way; wait for an answer", headers={"Retry-After": "1"})


class RateHeaders:
    """ASGI middleware: tells what is left of the limit that a request was counted under, and ends what it began."""

    def __init__(self, app: ASGIApp, limiter: Limiter) -> None:
        self._app, self._limiter = app, limiter

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        state: dict[str, Any] = scope.setdefault("state", {})

        async def told(message: Message) -> None:
            quota: Quota | None = state.get("quota")
            if message["type"] == "http.response.start" and quota is not None:
                own = [(name.lower().encode(), value.encode()) for name, value in quota.headers().items()]
                message["headers"] = [*message.get("headers", ()), *own]
            await send(message)

        try:
            await self._app(scope, receive, told)
        finally:
            if "under_way" in state:
                self._limiter.end(state["under_way"])
