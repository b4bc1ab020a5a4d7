"""`make chaos`: kills and stops every part at random, then proves from the tables that nothing is lost and nothing doubled.

Arguments: minutes=… in all, for the three brokers (default: the short form); seed=…; broker=nats|mosquitto|cluster (default: each
in turn); mutation=trim|dedup: with that guarantee taken out, which must fail (default: each briefly, after the brokers).
The last line is a JSON object; the exit status is 1 where anything is wrong.
"""

import json
import random
import secrets
import shutil
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

FOLDER = Path(__file__).parent
sys.path[:0] = [str(FOLDER), str(FOLDER.parent)]
sys.path.append(str(FOLDER.parent / "bench"))

from brokers import KINDS, is_installed  # noqa: E402 (its folder is known only now)
from findings import Audit  # noqa: E402
from parts import Part  # noqa: E402
from plan import Pace, backlog, healed, plan  # noqa: E402
from stage import Stage  # noqa: E402

from compose import postgres, programs  # noqa: E402
from shared import database, logs  # noqa: E402

MUTATIONS = ("trim", "dedup")
ROUND_SECONDS = 90.0
COUNTED = ("samples", "lost", "duplicated", "gaps", "executions", "heard_for_sure", "tasks", "alerts_fired", "alerts_resolved")


class Database:
    """The Postgres of all runs, which is killed like everything else."""

    def __init__(self, home):
        password, port = secrets.token_urlsafe(12), programs.free_port()
        program = postgres.program(postgres.prepare(home, password), port)
        self._url = postgres.url(port, password)
        self.part = Part(program, home / "postgres.log")
        self.part.start()
        if not postgres.wait_until_ready(self._url, lambda: self.part.process.poll() is None):
            raise SystemExit(f"Postgres does not start; see {home / 'postgres.log'}")

    def fresh(self):
        """The URL of a new database."""
        name = f"chaos_{secrets.token_hex(4)}"
        with database.open_connection(self._url, "chaos") as connection:
            connection.execute(f"CREATE DATABASE {name}")
        return f"{self._url.rpartition('/')[0]}/{name}"


def run(home, server, kind, seed, pace, mutation=""):
    """One broker from its start to the audit; its figures."""
    begun, place = time.monotonic(), home / f"{kind}-{mutation or 'whole'}"
    place.mkdir(mode=0o711)
    with Stage(kind, place, server.part, server.fresh(), mutation, is_whole=pace is not None) as stage:
        chance = random.Random(f"{seed}/{kind}")
        blows, seconds = brief(chance, stage.targets) if pace is None else plan(chance, stage.targets, pace)
        stage.suffer(blows, seconds)
        unsettled = stage.settle()
        audit = Audit(stage)
        audit.run()
        figures = {"kills": stage.tally["kill"], "stops": stage.tally["stop"]} | audit.figures
    server.part.deaths = 0
    figures |= {"seconds": round(time.monotonic() - begun, 1), "wrong": unsettled + audit.wrong}
    told = "  ".join(f"{name} {value}" for name, value in figures.items() if name != "wrong")
    print(f"  {kind:10}{mutation:6} {told}", flush=True)
    return figures


def brief(chance, parts):
    """The backlog phase alone, with what comes before and after it."""
    blows = backlog(chance, parts, 2.0)
    return blows, healed(blows) + 2.0


def prove_it_can_fail(home, server, seed):
    """{mutation: figures}, and the findings: a mutation that the suite does not see. Both at once, each with its own broker."""
    with ThreadPoolExecutor(len(MUTATIONS)) as pool:
        found = dict(zip(MUTATIONS, pool.map(lambda mutation: run(home, server, "nats", seed, None, mutation), MUTATIONS),
                         strict=True))
    unseen = [f"mutation {mutation}: not noticed" for mutation, figures in found.items()
              if not figures["lost" if mutation == "trim" else "duplicated"]]
    return {mutation: {name: figures[name] for name in ("lost", "duplicated")} for mutation, figures in found.items()}, unseen


def main(arguments):
    """Run it; the exit status."""
    begun, seed = time.monotonic(), int(arguments.get("seed") or secrets.randbelow(10**6))
    mutation, chosen = arguments.get("mutation", ""), [arguments["broker"]] if arguments.get("broker") else list(KINDS)
    if mutation not in ("", *MUTATIONS) or not set(chosen) <= set(KINDS):
        raise SystemExit(f"broker is one of {', '.join(KINDS)}; mutation one of {', '.join(MUTATIONS)}")
    absent = [kind for kind in chosen if not is_installed(kind)]
    kinds = [kind for kind in chosen if kind not in absent]
    print(f"SEED={seed}" + "".join(f"; {kind} is not installed, left out" for kind in absent), flush=True)
    minutes = float(arguments.get("minutes") or 0)
    pace = Pace() if not minutes else Pace(random_seconds=ROUND_SECONDS - 25.0, longest_stop=15.0, mean_pause=0.9,
                                           rounds=max(1, int(minutes * 60 / len(kinds) / ROUND_SECONDS)))
    logs.configure("error")
    home = Path(tempfile.mkdtemp(prefix="drumbeat-chaos-", dir="/tmp"))
    home.chmod(0o711)
    server = Database(home)
    try:
        found = {kind: run(home, server, kind, seed, pace, mutation) for kind in kinds}
        mutations, wrong = ({}, []) if mutation else prove_it_can_fail(home, server, seed)
    finally:
        server.part.end()
    wrong = [f"{kind}: {text}" for kind, figures in found.items() for text in figures.pop("wrong")] + wrong
    for text in wrong:
        print(f"  WRONG  {text}", flush=True)
    if wrong:
        print(f"  logs and ledgers: {home}")
    else:
        shutil.rmtree(home, ignore_errors=True)
    total = {name: sum(figures.get(name, 0) for figures in found.values()) for name in ("kills", "stops", *COUNTED)}
    print(json.dumps({"seed": seed} | total | {"mutations": mutations, "mutation": mutation, "wrong": len(wrong),
                                               "seconds": round(time.monotonic() - begun), "brokers": found}))
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main({name.lower(): value for name, _, value in (pair.partition("=") for pair in sys.argv[1:])}))
