"""What libpq itself makes of connection strings: a JSON list of them in, a JSON list of dictionaries out."""

import json
import sys

from psycopg.conninfo import conninfo_to_dict

json.dump([conninfo_to_dict(text) for text in json.load(sys.stdin)], sys.stdout)
