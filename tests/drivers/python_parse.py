"""What Python makes of settings: a JSON list of `NAME = {...}` in, a JSON list of the values out. Runs nothing."""

import ast
import json
import sys


def value(text):
    (assignment,) = ast.parse(text).body
    return ast.literal_eval(assignment.value)


json.dump([value(text) for text in json.load(sys.stdin)], sys.stdout)
