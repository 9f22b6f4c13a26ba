"""Run by the first container of a task: writes secrets from its environment to files that only the process can read."""

import json
import os
import sys
from pathlib import Path

os.umask(0o077)
directory = Path(os.environ["COAFI_HOME"], "secrets")
directory.mkdir(exist_ok=True)
for old in directory.iterdir():  # a home that is kept has those of the last time
    old.unlink()
for name, variable in json.loads(os.environ["SECRETS"]).items():
    value = os.environ[variable]
    if value == "unset":
        sys.exit(f"the parameter of the secret {name} was never set")
    (directory / name).write_text(value)
