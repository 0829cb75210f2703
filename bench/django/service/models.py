"""The account, with its lists in its own row: one query answers the user object."""

from django.contrib.auth.models import AbstractUser
from django.db import models


class User(AbstractUser):
    cellar = models.JSONField(default=list)
    wants = models.JSONField(default=list)
    address = models.CharField(max_length=255, blank=True)
    address2 = models.CharField(max_length=255, blank=True)
    city = models.CharField(max_length=100, blank=True)
    state = models.CharField(max_length=100, blank=True)
    zipcode = models.CharField(max_length=20, blank=True)
    created = models.DateTimeField(auto_now_add=True)
    modified = models.DateTimeField(auto_now=True)
