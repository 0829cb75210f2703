"""A Django site as one that is moved would be: the API of docs/AuthTokens-API.md by Django REST framework."""
