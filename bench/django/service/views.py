"""The calls that are compared. Logging in and out is as the two packages ship it, where they ship it."""

from django.conf import settings
from django.db import transaction
from rest_framework import serializers, status
from rest_framework.authtoken.serializers import AuthTokenSerializer
from rest_framework.permissions import AllowAny
from rest_framework.response import Response
from rest_framework.views import APIView

from .models import User

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


class UserView(APIView):
    def get(self, request):
        return Response(UserSerializer(request.user).data)


class CellarItemView(APIView):
    def put(self, request, item_id):
        with transaction.atomic():
            user = User.objects.only("cellar").get(pk=request.user.pk)
            if item_id not in user.cellar:
                user.cellar = sorted([*user.cellar, item_id])
                user.save(update_fields=["cellar", "modified"])
        return Response(user.cellar)


class RegisterView(APIView):
    authentication_classes = ()
    permission_classes = (AllowAny,)

    def post(self, request):
        serializer = NewUserSerializer(data=request.data)
        serializer.is_valid(raise_exception=True)
        user = serializer.save()
        answer = {"token": new_token(user), "user": UserSerializer(user).data}
        return Response(answer, status=status.HTTP_201_CREATED)


if settings.TOKENS == "authtoken":
    from rest_framework.authtoken.models import Token
    from rest_framework.authtoken.views import ObtainAuthToken as LoginView

    def new_token(user):
        return Token.objects.create(user=user).key

    class LogoutView(APIView):
        def post(self, request):
            request.auth.delete()
            return Response({"status": "success"})

else:
    from knox.models import AuthToken
    from knox.views import LoginView as KnoxLoginView
    from knox.views import LogoutView

    def new_token(user):
        return AuthToken.objects.create(user)[1]

    class LoginView(KnoxLoginView):
        """As knox's documentation has it: with the name and the password in the body."""

        authentication_classes = ()
        permission_classes = (AllowAny,)

        def post(self, request, format=None):
            serializer = AuthTokenSerializer(data=request.data, context={"request": request})
            serializer.is_valid(raise_exception=True)
            request.user = serializer.validated_data["user"]
            return super().post(request, format=None)


__all__ = ["CellarItemView", "LoginView", "LogoutView", "RegisterView", "UserView"]
