"""Access rules as each broker reads them: users of NATS, Mosquitto's ACL and password file, EMQX's ACL. Pure."""

import json
import re
from collections.abc import Iterable, Mapping, Sequence

from compose import grants
from compose.grants import Grant
from shared.names import is_host

NATS_FILE, MOSQUITTO_FILE, EMQX_FILE = "nats-users.conf", "mosquitto.acl", "emqx-acl.conf"
PASSWORD_FILE = "passwords"  # noqa: S105 (a file's name)


def nats_users(logins: Iterable[tuple[Grant, str]], note: str) -> str:
    """What an account of NATS includes. The second of each pair is the password as it stands there: quoted, or a variable."""
    return f"# {note}\nusers: [\n" + "\n".join(_nats_user(grant, password) for grant, password in logins) + "\n]\n"


def quoted(password: str) -> str:
    """A password or its bcrypt as a string of NATS, which would read a bare one as a number, a boolean or a variable."""
    return json.dumps(password)


def variable(user: str) -> str:
    """The variable that has the password of a service, a program or a host: `$INGEST_PASSWORD`, `$WEB_1_PASSWORD`."""
    return "$" + re.sub("[^A-Z0-9]", "_", user.removeprefix(grants.service_user("")).upper()) + "_PASSWORD"


def _nats_user(grant: Grant, password: str) -> str:
    return (f'  {{ user: {json.dumps(grant.user)}, password: {password}, allowed_connection_types: ["MQTT"], permissions: {{\n'
            f"      publish: {_allowed(subjects(grant.publish))},\n      subscribe: {_allowed(heard(grant))} }} }}")


def _allowed(found: Sequence[str]) -> str:
    return json.dumps(found) if found else '{ deny: [">"] }'  # to NATS an empty list allows all


def heard(grant: Grant) -> list[str]:
    """Subjects that one may subscribe to. To NATS the MQTT filter `a/#` is two, `a` and `a.>`, and it wants both granted."""
    found = subjects(grant.subscribe)
    delivery = ["$MQTT.sub.>"] if found and not is_host(grant.user) else []  # of QoS 1; agents subscribe at QoS 0
    return found + [subject.removesuffix(".>") for subject in found if subject.endswith(".>")] + delivery


def subjects(topics: Iterable[str]) -> list[str]:
    """MQTT filters as NATS writes them: `/` is `.`, `+` is `*`, `#` is `>`. What other brokers have in `$SYS` it has not."""
    return [topic.replace("/", ".").replace("+", "*").replace("#", ">") for topic in topics if not topic.startswith("$")]


def mosquitto_acl(users: Sequence[Grant], root: str, note: str) -> str:
    """Mosquitto's `acl_file`: a block for each user, and two lines for all agents, whose user names are their host names."""
    everyone = grants.agent("%u", root)
    agents = ["# Every agent, whose user name is its host name: its own subtree and nothing else.",
              f"pattern write {everyone.publish[0]}", f"pattern read {everyone.subscribe[0]}"]
    return "\n\n".join([f"# {note}", *(_mosquitto_user(grant) for grant in users), "\n".join(agents)]) + "\n"


def _mosquitto_user(grant: Grant) -> str:
    topics = dict.fromkeys([*grant.publish, *grant.subscribe])
    return "\n".join([f"user {grant.user}", *(f"topic {_access(grant, topic)} {topic}" for topic in topics)])


def _access(grant: Grant, topic: str) -> str:
    if topic in grant.publish and topic in grant.subscribe:
        return "readwrite"
    return "write" if topic in grant.publish else "read"


def mosquitto_passwords(present: str, agents: Mapping[str, str], own_hosts: Sequence[str]) -> str:
    """The password file with these agents, host → verifier, and no others.

    Of what is there already, services and programs stay, and the hosts whose passwords people set themselves.
    """
    kept = [line for line in present.splitlines()
            if line.startswith(grants.service_user("")) or line.partition(":")[0] in own_hosts]
    issued = (f"{host}:{agents[host]}" for host in sorted(agents) if host not in own_hosts)
    return "".join(f"{line}\n" for line in (*kept, *issued))


def emqx_acl(users: Sequence[Grant], root: str, note: str) -> str:
    """EMQX's `acl.conf`, in Erlang terms; who matches no rule is denied."""
    everyone = grants.agent("${username}", root)
    rules = [_emqx_rule(f'{{user, "{grant.user}"}}', what, topics) for grant in users
             for what, topics in (("publish", grant.publish), ("subscribe", grant.subscribe)) if topics]
    rules += [_emqx_rule("all", "publish", everyone.publish), _emqx_rule("all", "subscribe", everyone.subscribe)]
    return "\n".join([f"%% {note}", *rules, "{deny, all}."]) + "\n"


def _emqx_rule(who: str, what: str, topics: Sequence[str]) -> str:
    return f"{{allow, {who}, {what}, [" + ", ".join(f'"{topic}"' for topic in topics) + "]}."
