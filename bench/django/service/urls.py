"""The paths, as the service itself has them."""

from django.urls import path

from . import views

urlpatterns = [
    path("api/register", views.RegisterView.as_view()),
    path("api/login", views.LoginView.as_view()),
    path("api/logout", views.LogoutView.as_view()),
    path("api/user", views.UserView.as_view()),
    path("api/user/cellar/<int:item_id>", views.CellarItemView.as_view()),
]
