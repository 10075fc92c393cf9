"""Django's own connection, and its test database: created, used and dropped through the daemon."""

import os

import django
from django.conf import settings
from django.db import IntegrityError, connection, transaction

settings.configure(
    DATABASES={
        "default": {
            "ENGINE": "django.db.backends.postgresql",
            "HOST": os.environ["HOST"],
            "PORT": os.environ["PORT"],
            "NAME": "defaultdb",
            "USER": "anyone",
        }
    }
)
django.setup()

with connection.cursor() as cursor:
    cursor.execute("select current_user")
    assert cursor.fetchone() == ("app",)
print("connection")

with connection.cursor() as cursor:
    cursor.execute("create table t (n int primary key)")
    with transaction.atomic():
        cursor.execute("insert into t values (%s)", [1])
    cursor.execute("select n from t where n = %s", [1])
    assert cursor.fetchall() == [(1,)]
print("transaction")

try:
    with connection.cursor() as cursor:
        cursor.execute("insert into t values (1)")
    raise AssertionError("no error")
except IntegrityError as error:
    assert error.__cause__.sqlstate == "23505"
print("error")

name = connection.creation.create_test_db(verbosity=0, autoclobber=True)
with connection.cursor() as cursor:
    cursor.execute("select current_database()")
    assert cursor.fetchone() == (name,)
connection.creation.destroy_test_db("defaultdb", verbosity=0)
connection.close()
print("test database")
