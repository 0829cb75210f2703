"""The calls of the API."""

from django.contrib.auth.models import update_last_login
from django.db import transaction
from rest_framework import serializers
from rest_framework.authtoken.models import Token
from rest_framework.authtoken.serializers import AuthTokenSerializer
from rest_framework.permissions import AllowAny
from rest_framework.response import Response
from rest_framework.views import APIView

from .models import User, Wine

FIELDS = (
    "username first_name last_name email is_active is_superuser is_staff last_login cellar wants address address2 city "
    "state zipcode created modified date_joined"
).split()


class UserSerializer(serializers.ModelSerializer):
    class Meta:
        model = User
        fields = FIELDS


class NewUserSerializer(serializers.ModelSerializer):
    class Meta:
        model = User
        fields = ["username", "password"]

    def create(self, validated_data):
        return User.objects.create_user(**validated_data)


def signed_in(user, status):
    """The token, one a user as Django REST framework has them, and the user."""
    token, _ = Token.objects.get_or_create(user=user)
    update_last_login(None, user)
    return Response({"token": token.key, "user": UserSerializer(user).data}, status=status)


class Register(APIView):
    authentication_classes = ()
    permission_classes = (AllowAny,)

    def post(self, request):
        serializer = NewUserSerializer(data=request.data)
        serializer.is_valid(raise_exception=True)
        with transaction.atomic():
            return signed_in(serializer.save(), 201)


class Login(APIView):
    authentication_classes = ()
    permission_classes = (AllowAny,)

    def post(self, request):
        serializer = AuthTokenSerializer(data=request.data, context={"request": request})
        if not serializer.is_valid():
            return Response({"error": "Wrong name or password."}, status=401)
        with transaction.atomic():
            return signed_in(serializer.validated_data["user"], 200)


class Logout(APIView):
    def post(self, request):
        request.auth.delete()
        return Response({"status": "success"})


class Account(APIView):
    def get(self, request):
        return Response(UserSerializer(request.user).data)


class Items(APIView):
    def get(self, request, name):
        return Response(items(request.user, name))


class Item(APIView):
    def put(self, request, name, item):
        with transaction.atomic():
            getattr(request.user, name).add(Wine.objects.get_or_create(pk=item)[0])
            request.user.save(update_fields=["modified"])
        return Response(items(request.user, name))

    def delete(self, request, name, item):
        with transaction.atomic():
            getattr(request.user, name).remove(item)
            request.user.save(update_fields=["modified"])
        return Response(items(request.user, name))


class Tasting(APIView):
    """What is no account's affair, and stays with Django when the accounts have gone."""

    def get(self, request):
        return Response({"taster": request.user.get_username()})


def items(user, name):
    return sorted(getattr(user, name).values_list("pk", flat=True))
