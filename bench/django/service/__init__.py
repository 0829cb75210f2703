"""The same accounts once more, as a Django project would have them: to be measured against, not to be used."""
