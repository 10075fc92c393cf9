"""psycopg 3 with the libpq of its own wheel; arguments behind `--` are connection parameters.

$STEPS names the steps to run; absent, all are.
"""

import os
import sys
import threading

import psycopg

parameters = " ".join(sys.argv[sys.argv.index("--") + 1 :])
url = f"host={os.environ['HOST']} port={os.environ['PORT']} user=anyone dbname=defaultdb {parameters}"


def transaction(connection):
    connection.execute("create table t (n int primary key, s text)")
    connection.commit()
    with connection.transaction():
        connection.execute("insert into t values (1, 'one')")
    try:
        with connection.transaction():
            connection.execute("insert into t values (2, 'two')")
            raise KeyError("roll back")
    except KeyError:
        pass
    assert connection.execute("select count(*) from t").fetchone() == (1,)
    connection.commit()


def prepared(connection):
    for number in range(10):
        row = connection.execute("select %s + n from t", (number,), prepare=True).fetchone()
        assert row == (number + 1,), row
    connection.commit()


def copy(connection):
    with connection.cursor().copy("copy t from stdin") as writing:
        for number in range(2, 10_002):
            writing.write_row((number, "x" * (number % 100)))
    with connection.cursor().copy("copy t to stdout") as reading:
        assert sum(1 for _ in reading.rows()) == 10_001
    connection.commit()


def cancel(connection):
    """Cancels from a second thread once the server says that the statement runs."""
    connection.add_notice_handler(lambda _: threading.Thread(target=connection.cancel_safe).start())
    try:
        connection.execute("do $$ begin raise notice 'it runs'; perform pg_sleep(60); end $$")
        raise AssertionError("it was not cancelled")
    except psycopg.errors.QueryCanceled:
        connection.rollback()


def error(connection):
    try:
        connection.execute("insert into t values (1, 'again')")
        raise AssertionError("no error")
    except psycopg.errors.UniqueViolation as raised:
        assert raised.sqlstate == "23505"
        assert raised.diag.constraint_name == "t_pkey"
        connection.rollback()


def pipeline(connection):
    with connection.pipeline():
        cursors = [connection.execute("select %s::int", (number,)) for number in range(500)]
    assert [cursor.fetchone()[0] for cursor in cursors] == list(range(500))


with psycopg.connect(url) as connection:
    protocol = connection.pgconn.full_protocol_version
    assert protocol == (30002 if "max_protocol_version" in parameters else 30000), protocol
    assert connection.pgconn.ssl_in_use == ("sslnegotiation" in parameters)
    steps = (transaction, prepared, copy, cancel, error, pipeline)
    chosen = os.environ.get("STEPS", " ".join(step.__name__ for step in steps)).split()
    for step in steps:
        if step.__name__ in chosen:
            step(connection)
            print(step.__name__)
