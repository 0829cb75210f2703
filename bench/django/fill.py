"""Makes the project's database and fills it: `fill.py USERS SESSIONS`. Prints the tokens, one a line.

The users have the names user0, user1 and so on, the password that the environment names in BENCH_PASSWORD and five items
each. Rows are inserted as they are: a million of them through the models would take an hour.
"""

import hashlib
import os
import secrets
import sqlite3
import sys

import django

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "service.settings")
django.setup()

from django.conf import settings  # noqa: E402
from django.contrib.auth.hashers import make_password  # noqa: E402
from django.core.management import call_command  # noqa: E402

NOW = "2015-01-04 22:51:35.144000"
NEVER = "2999-01-01 00:00:00.000000"
USER = """
    INSERT INTO service_user (id, username, password, first_name, last_name, email, is_active, is_superuser, is_staff,
        last_login, date_joined, created, modified, cellar, wants, address, address2, city, state, zipcode)
    VALUES (?, ?, ?, '', '', '', 1, 0, 0, ?, ?, ?, ?, '[1, 2, 3, 4, 5]', '[]', '', '', '', '', '')
"""
AUTHTOKEN = "INSERT INTO authtoken_token (key, user_id, created) VALUES (?, ?, ?)"
KNOX = "INSERT INTO knox_authtoken (digest, token_key, user_id, created, expiry) VALUES (?, ?, ?, ?, ?)"


def main(users, sessions):
    call_command("migrate", run_syncdb=True, verbosity=0)
    connection = sqlite3.connect(settings.DATABASES["default"]["NAME"])
    connection.execute("PRAGMA synchronous = OFF")
    connection.execute("PRAGMA cache_size = -500000")
    password = make_password(os.environ["BENCH_PASSWORD"])
    for number in range(1, users + 1):
        connection.execute(USER, (number, f"user{number - 1}", password, NOW, NOW, NOW, NOW))
        # Django REST framework's own tokens are one a user, whatever was asked for.
        for _ in range(1 if settings.TOKENS == "authtoken" else sessions):
            if settings.TOKENS == "authtoken":
                token = secrets.token_hex(20)
                connection.execute(AUTHTOKEN, (token, number, NOW))
            else:
                token = secrets.token_hex(32)
                digest = hashlib.sha512(token.encode()).hexdigest()
                connection.execute(KNOX, (digest, token[:15], number, NOW, NEVER))
            print(token)
    connection.commit()
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
