"""Validates TOML files with a JSON schema: files named good must pass, files named bad must fail.

Usage: config_schema.py SCHEMA good=FILE... bad=FILE...
"""

import json
import sys
import tomllib

from jsonschema import Draft202012Validator

with open(sys.argv[1], encoding="utf-8") as file:
    schema = json.load(file)
Draft202012Validator.check_schema(schema)
validator = Draft202012Validator(schema)
checked = 0
for argument in sys.argv[2:]:
    kind, path = argument.split("=", 1)
    with open(path, "rb") as file:
        faults = list(validator.iter_errors(tomllib.load(file)))
    if (kind == "good") == bool(faults):
        told = "; ".join(f"{fault.json_path}: {fault.message}" for fault in faults)
        sys.exit(f"{path} is {kind}, and the validator says: {told or 'nothing'}")
    checked += 1
print(f"{checked} checked")
