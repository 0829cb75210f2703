"""The paths, as the API has them."""

from django.urls import path, register_converter

from . import views


class ListName:
    regex = "cellar|wants"

    def to_python(self, value):
        return value

    def to_url(self, value):
        return value


register_converter(ListName, "list")
urlpatterns = [
    path("api/register", views.Register.as_view()),
    path("api/login", views.Login.as_view()),
    path("api/logout", views.Logout.as_view()),
    path("api/user", views.Account.as_view()),
    path("api/user/<list:name>", views.Items.as_view()),
    path("api/user/<list:name>/<int:item>", views.Item.as_view()),
    path("api/tasting", views.Tasting.as_view()),
]
