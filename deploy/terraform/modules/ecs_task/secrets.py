"""Run by the first container of a task: writes secrets from its environment to files that only the process can read."""

import json
import os
import sys
from pathlib import Path

directory = Path(os.environ["COAFI_HOME"], "secrets")
directory.mkdir(mode=0o700, exist_ok=True)
for old in directory.iterdir():  # a home that is kept has those of the last time
    old.unlink()
for name, variable in json.loads(os.environ["SECRETS"]).items():
    value = os.environ[variable]
    if value == "unset":
        sys.exit(f"the parameter of the secret {name} was never set")
    with open(os.open(directory / name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(value)
