"""The least that a durable answer over HTTP can cost here: bare uvicorn, one SQLite commit to the disk per call."""

from __future__ import annotations

import sqlite3
import sys
from typing import Any


def main() -> None:
    """Arguments: port and database."""
    import uvicorn

    db = sqlite3.connect(sys.argv[2], isolation_level=None, check_same_thread=False)
    db.execute("PRAGMA journal_mode = WAL")
    db.execute("PRAGMA synchronous = FULL")
    db.execute("CREATE TABLE call (id INTEGER PRIMARY KEY, body BLOB)")

    async def hello(scope: Any, receive: Any, send: Any) -> None:
        message = await receive()
        db.execute("INSERT INTO call (body) VALUES (?)", (message.get("body", b""),))
        headers = [(b"content-type", b"application/json"), (b"content-length", b"2")]
        await send({"type": "http.response.start", "status": 201, "headers": headers})
        await send({"type": "http.response.body", "body": b"{}"})

    uvicorn.run(hello, host="127.0.0.1", port=int(sys.argv[1]), log_level="error", lifespan="off", access_log=False)


if __name__ == "__main__":
    main()
