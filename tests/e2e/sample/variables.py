"""Prints a secret, which nobody does on purpose, and writes down that it had the right one."""

import hashlib
import os
from pathlib import Path

import valohai

secret = os.environ["KEY"]
print(f"the key is {secret} and the mode is {os.environ['MODE']}")
Path(valohai.outputs().path("digest.txt")).write_text(hashlib.sha256(secret.encode()).hexdigest())
