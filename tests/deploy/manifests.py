"""Reads and judges what stands in deploy/, for tests/it/deploy.rs.

    manifests.py json FILE                 every document of a YAML file, as one JSON list
    manifests.py kubernetes FILE VERSION   nothing, unless a document breaks the schema of that version
    manifests.py compose FILE              nothing, unless the file breaks the Compose specification
"""

import json
import sys

import yaml


def documents(path):
    with open(path, encoding="utf-8") as file:
        return [document for document in yaml.safe_load_all(file) if document is not None]


def judge_kubernetes(path, version):
    import kubernetes_validate

    for document in documents(path):
        # Strict: an unknown field is an error, where a cluster would only drop it.
        kubernetes_validate.validate(document, version, strict=True)


def judge_compose(path):
    from compose_spec import PyCompose

    with open(path, encoding="utf-8") as file:
        compose = PyCompose.from_yaml(file.read())
    compose.validate()


COMMANDS = {
    "json": lambda path: json.dump(documents(path), sys.stdout),
    "kubernetes": judge_kubernetes,
    "compose": judge_compose,
}

COMMANDS[sys.argv[1]](*sys.argv[2:])
