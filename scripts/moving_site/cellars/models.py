"""The account, with its two lists as relations."""

from django.contrib.auth.models import AbstractUser
from django.db import models


class Wine(models.Model):
    pass


class User(AbstractUser):
    address = models.CharField(max_length=255, blank=True)
    address2 = models.CharField(max_length=255, blank=True)
    city = models.CharField(max_length=100, blank=True)
    state = models.CharField(max_length=100, blank=True)
    zipcode = models.CharField(max_length=20, blank=True)
    created = models.DateTimeField(auto_now_add=True)
    modified = models.DateTimeField(auto_now=True)
    cellar = models.ManyToManyField(Wine, related_name="owners", blank=True)
    wants = models.ManyToManyField(Wine, related_name="wishers", blank=True)
