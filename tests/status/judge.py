"""Judges answers by a schema of docs/, for tests/it/status_schema.rs.

    judge.py SCHEMA    a JSON list of answers comes in; what is wrong with each goes out, as a list of lists

The schema lets readers meet new fields; an answer of today, though, has none that the schema does not know.
"""

import json
import sys

from jsonschema import Draft202012Validator


def close(schema):
    """The same schema, but with no room for further fields."""
    if isinstance(schema, list):
        return [close(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    closed = {key: close(part) for key, part in schema.items()}
    if isinstance(schema.get("properties"), dict) and schema.get("type") == "object":
        closed["additionalProperties"] = False
    return closed


def main(path):
    with open(path, encoding="utf-8") as file:
        schema = json.load(file)
    Draft202012Validator.check_schema(schema)
    validator = Draft202012Validator(close(schema))
    wrong = [[f"{fault.json_path}: {fault.message}" for fault in validator.iter_errors(answer)] for answer in json.load(sys.stdin)]
    json.dump(wrong, sys.stdout)


main(sys.argv[1])
