"""Settings as `startproject` writes them, without what an API of tokens does not use."""

import os
import pathlib

FOLDER = pathlib.Path(os.environ["MOVING_SITE"])

DEBUG = False
SECRET_KEY = os.environ["MOVING_SECRET"]
ALLOWED_HOSTS = ["*"]
ROOT_URLCONF = "cellars.urls"
WSGI_APPLICATION = "cellars.wsgi.application"
AUTH_USER_MODEL = "cellars.User"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
TIME_ZONE = "UTC"
USE_TZ = True
APPEND_SLASH = False
INSTALLED_APPS = [
    "django.contrib.contenttypes",
    "django.contrib.auth",
    "rest_framework",
    "rest_framework.authtoken",
    "cellars",
]
MIDDLEWARE = ["django.middleware.common.CommonMiddleware"]
# The tables are made from the models.
MIGRATION_MODULES = {app: None for app in ("contenttypes", "auth", "authtoken", "cellars")}
DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": FOLDER / "db.sqlite3",
        # What guides to SQLite in production advise: the newest changes are in the WAL, and not in the file.
        "OPTIONS": {"timeout": 20, "transaction_mode": "IMMEDIATE", "init_command": "PRAGMA journal_mode = WAL"},
    }
}
REST_FRAMEWORK = {
    "DEFAULT_AUTHENTICATION_CLASSES": [
        os.environ.get("MOVING_AUTHENTICATION", "rest_framework.authentication.TokenAuthentication")
    ],
    "DEFAULT_PERMISSION_CLASSES": ["rest_framework.permissions.IsAuthenticated"],
    "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"],
    "DEFAULT_PARSER_CLASSES": ["rest_framework.parsers.JSONParser"],
}
