"""Makes the site's database and fills it: `fill.py ACCOUNTS`. Prints the accounts, a JSON list of `[name, password, token]`.

The passwords of the first few are hashed by Django's own hasher, as a registration does it; the others have one hash in
common, because each takes as long as a login.
"""

import json
import sys

import django

django.setup()

from cellars.models import User, Wine  # noqa: E402
from django.contrib.auth.hashers import make_password  # noqa: E402
from django.core.management import call_command  # noqa: E402
from django.db import transaction  # noqa: E402
from rest_framework.authtoken.models import Token  # noqa: E402

HASHED = 16


def main(count):
    call_command("migrate", run_syncdb=True, verbosity=0)
    common = make_password("the common password")
    accounts = []
    with transaction.atomic():
        Wine.objects.bulk_create(Wine(pk=number) for number in range(1, 101))
        for number in range(count):
            password = f"grüner Veltliner {number}" if number < HASHED else "the common password"
            stored = make_password(password) if number < HASHED else common
            accounts.append((User(username=f"Taster{number}", password=stored, city="Krems"), password))
        users = User.objects.bulk_create([user for user, _ in accounts], batch_size=500)
        tokens = Token.objects.bulk_create((Token(key=Token.generate_key(), user=user) for user in users), batch_size=500)
        for name, of in (("cellar", 3), ("wants", 2)):
            rows = getattr(User, name).through
            rows.objects.bulk_create(
                (rows(user=user, wine_id=user.pk % 90 + step) for user in users for step in range(1, of + 1)), batch_size=500
            )
    json.dump([(user.username, password, token.key) for (user, password), token in zip(accounts, tokens)], sys.stdout)


main(int(sys.argv[1]))
