"""Django's BCryptSHA256 at the cost that all servers of the comparison have."""

from django.contrib.auth.hashers import BCryptSHA256PasswordHasher


class BCryptSHA256AtCost10(BCryptSHA256PasswordHasher):
    rounds = 10
