"""Settings as for production. What differs between two measurements comes from the environment."""

import os
import secrets

DEBUG = False
SECRET_KEY = os.environ.get("BENCH_SECRET") or secrets.token_hex(32)
ALLOWED_HOSTS = ["127.0.0.1"]
ROOT_URLCONF = "service.urls"
WSGI_APPLICATION = "service.wsgi.application"
AUTH_USER_MODEL = "service.User"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
USE_TZ = True
USE_I18N = False
APPEND_SLASH = False

# "authtoken" is Django REST framework's own, "knox" is django-rest-knox.
TOKENS = os.environ["BENCH_TOKENS"]
INSTALLED_APPS = [
    "django.contrib.contenttypes",
    "django.contrib.auth",
    "rest_framework",
    "rest_framework.authtoken" if TOKENS == "authtoken" else "knox",
    "service",
]
# No sessions, no CSRF, no messages: an API of tokens has no use for them, and they would only cost it time.
MIDDLEWARE = ["django.middleware.security.SecurityMiddleware", "django.middleware.common.CommonMiddleware"]
# The tables are made from the models, for no older file is to be upgraded.
MIGRATION_MODULES = {app: None for app in ("contenttypes", "auth", "authtoken", "knox", "service")}

DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": os.environ["BENCH_DATABASE"],
        "CONN_MAX_AGE": None,
        "OPTIONS": {
            "timeout": 20,
            "transaction_mode": "IMMEDIATE",
            # What guides to SQLite in production advise. NORMAL does not flush at each commit: faster than the
            # service's own FULL, and not safe from a power cut.
            "init_command": "PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL; PRAGMA cache_size = -20000;"
            " PRAGMA mmap_size = 134217728; PRAGMA temp_store = MEMORY;",
        },
    }
}

PASSWORD_HASHERS = {
    "pbkdf2": ["django.contrib.auth.hashers.PBKDF2PasswordHasher"],
    "bcrypt": ["service.hashers.BCryptSHA256AtCost10"],
}[os.environ["BENCH_HASHER"]]

AUTHENTICATION = {
    "authtoken": "rest_framework.authentication.TokenAuthentication",
    "knox": "knox.auth.TokenAuthentication",
}[TOKENS]
REST_FRAMEWORK = {
    "DEFAULT_AUTHENTICATION_CLASSES": [AUTHENTICATION],
    "DEFAULT_PERMISSION_CLASSES": ["rest_framework.permissions.IsAuthenticated"],
    "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"],
    "DEFAULT_PARSER_CLASSES": ["rest_framework.parsers.JSONParser"],
}
