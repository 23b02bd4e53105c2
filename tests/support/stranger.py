"""stranger.py UID HOST:PORT ...: try, as a user, to run code at Dask schedulers, nannies, workers.

It prints a JSON object with the results of each address, an object with the result of each way,
which is "ran as UID in PID" where the code ran.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys

from distributed import Security
from distributed.core import connect, send_recv
from distributed.protocol.pickle import dumps, loads


def who() -> str:
    return f"{os.getuid()} in {os.getpid()}"


async def run_code(address: str, security: Security | None) -> str:
    options = security.get_connection_args("client") if security else {}
    comm = await connect(address, timeout=5, **options)
    # `run_function` of a scheduler, `run` of nannies and workers
    for operation in ("run_function", "run"):
        try:
            said = await send_recv(
                comm, op=operation, function=dumps(os.getuid), args=dumps(()), kwargs=dumps({}),
                wait=True,
            )  # fmt: skip
            pid = await send_recv(
                comm, op=operation, function=dumps(os.getpid), args=dumps(()), kwargs=dumps({}),
                wait=True,
            )  # fmt: skip
            if isinstance(said, dict):
                said, pid = said["result"], pid["result"]
            return f"ran as {_value(said)} in {_value(pid)}"
        except Exception as error:
            failure = f"{type(error).__name__}: {error}"
    return failure


def _value(said: object) -> object:
    return loads(said) if isinstance(said, bytes) else said


def try_address(address: str, security: Security | None) -> str:
    try:
        return asyncio.run(run_code(address, security))
    except Exception as error:
        return f"{type(error).__name__}: {error}"


def main(uid: int, places: list[str]) -> None:
    # first, for it imports cryptography, which lies where the other user may not read
    other = Security.temporary()
    if uid != os.getuid():
        os.setgroups([])
        os.setresgid(uid, uid, uid)
        os.setresuid(uid, uid, uid)
    bare = Security(require_encryption=True, tls_ca_file=other.tls_ca_file)
    said = {
        place: {
            "tcp": try_address(f"tcp://{place}", None),
            "tls without a certificate": try_address(f"tls://{place}", bare),
            "tls with another certificate": try_address(f"tls://{place}", other),
        }
        for place in places
    }
    print(json.dumps(said))


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2:])
