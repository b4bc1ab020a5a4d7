"""The broker as machines that join are told of it, read from the settings of `drumbeat api`."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from shared import brokers, topics
from shared.encryption import is_loopback


@dataclasses.dataclass(frozen=True, slots=True)
class BrokerForAgents:
    """What agents are told of the broker. `url` empty: the API has not been told itself."""

    url: str = ""
    ca_certificate: str | None = None
    topic_root: str = topics.DEFAULT_ROOT
    own_hosts: Sequence[str] = ()
    """Hosts whose passwords the broker has from elsewhere: a credential of theirs would let nobody in."""

    @property
    def is_in_the_clear(self) -> bool:
        """Whether passwords of agents would travel unencrypted."""
        found = brokers.read_brokers(self.url) if self.url else ()
        return any(not broker.tls and not is_loopback(broker.host) for broker in found)


def read_broker(url: str, ca_file: str, topic_root: str, own_hosts: Sequence[str] = ()) -> BrokerForAgents:
    """What the settings say. Raises ValueError, which names the setting, what is wrong and what is allowed."""
    try:
        found = brokers.read_brokers(url) if url else ()
    except brokers.BusError as error:
        raise ValueError(f"--agent-broker-url: {error}") from None
    if any(broker.username is not None for broker in found):
        raise ValueError("--agent-broker-url: allowed: no user and no password, since each agent gets its own")
    if any(mark in topic_root for mark in "+# \t\0") or not topic_root.strip("/"):
        raise ValueError("--topic-root: allowed: words separated by /, without +, # and blanks")
    return BrokerForAgents(url, _read_certificate(ca_file) if ca_file else None, topic_root, own_hosts)


def _read_certificate(ca_file: str) -> str:
    try:
        text = Path(ca_file).expanduser().read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"--agent-ca-file: cannot read {ca_file}: {error}") from None
    if "-----BEGIN CERTIFICATE-----" not in text or "PRIVATE KEY" in text:
        raise ValueError(f"--agent-ca-file: {ca_file} must hold certificates in PEM, and no key: it is handed to every agent")
    return text
