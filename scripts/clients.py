"""Uses every part of the service through the package that openapi-python-client made of its document."""
import datetime
import sys
from urllib.parse import urlsplit

from authtokens_client import AuthenticatedClient, Client
from authtokens_client.api.account import log_in, log_out, register
from authtokens_client.api.lists import add_to_wants, remove_from_wants, replace_cellar
from authtokens_client.api.sessions import list_sessions
from authtokens_client.api.user import change_password, delete_user, export_user, find_user, update_user
from authtokens_client.models import (
    DeleteRequest,
    ErrorResponse,
    ExportResponse,
    LoginRequest,
    PasswordRequest,
    ProfileRequest,
    RegisterRequest,
    SessionResponse,
    StatusResponse,
    UserResponse,
)

SERVICE = sys.argv[1]
NAME, PASSWORD, NEW_PASSWORD = "Typed+Python", "hunter2", "correct horse battery staple"
LARGEST = 2**53 - 1


def tell(response):
    """Prints what passed."""
    response.read()
    request = response.request
    print(f"{request.method:6} {urlsplit(str(request.url)).path:20} {response.status_code} {response.text[:76]}")


# A status that the document does not give is an error of its own. The token goes out as the generator has it: `Bearer`.
OPTIONS = {
    "base_url": SERVICE,
    "raise_on_unexpected_status": True,
    "httpx_args": {"event_hooks": {"response": [tell]}},
}


def answer(response, kind, status=200):
    """What a call answered, of the type that the document promises."""
    expect(response.status_code, status)
    if not isinstance(response.parsed, kind):
        sys.exit(f"Expected {kind}, got {response.parsed!r}")
    return response.parsed


def expect(actual, expected):
    if actual != expected:
        sys.exit(f"Expected {expected!r}, got {actual!r}")


stranger = Client(**OPTIONS)
registration = RegisterRequest(username=NAME, password=PASSWORD, city="Chicago")
registered = answer(register.sync_detailed(client=stranger, body=registration), SessionResponse, 201)
first = AuthenticatedClient(token=registered.token, **OPTIONS)
taken = answer(register.sync_detailed(client=stranger, body=registration), ErrorResponse, 400)
expect(taken.error, "Invalid Data: column username is not unique")

login = LoginRequest(username=NAME, password=PASSWORD)
session = answer(log_in.sync_detailed(client=stranger, body=login), SessionResponse)
client = AuthenticatedClient(token=session.token, **OPTIONS)

user = answer(find_user.sync_detailed(client=client), UserResponse)
expect((user.username, user.city), (NAME, "Chicago"))
expect(user.created.utcoffset(), datetime.timedelta(0))

profile = ProfileRequest(first_name="Zoë", zipcode="60647")
user = answer(update_user.sync_detailed(client=client, body=profile), UserResponse)
expect((user.first_name, user.zipcode, user.city), ("Zoë", "60647", "Chicago"))
answer(update_user.sync_detailed(client=client, body=ProfileRequest(email="not an address")), ErrorResponse, 400)

expect(answer(replace_cellar.sync_detailed(client=client, body=[3, 1, 2]), list), [1, 2, 3])
expect(answer(add_to_wants.sync_detailed(LARGEST, client=client), list), [LARGEST])
expect(answer(remove_from_wants.sync_detailed(LARGEST, client=client), list), [])

sessions = answer(list_sessions.sync_detailed(client=client), list)
expect(sorted(session.current for session in sessions), [False, True])

change = PasswordRequest(current_password=PASSWORD, new_password=NEW_PASSWORD)
answer(change_password.sync_detailed(client=client, body=change), StatusResponse)
answer(find_user.sync_detailed(client=first), ErrorResponse, 401)

exported = answer(export_user.sync_detailed(client=client), ExportResponse)
expect(exported.user.username, NAME)
expect([item.item_id for item in exported.cellar], [1, 2, 3])
expect(len(exported.sessions), 1)

expect(answer(log_out.sync_detailed(client=client), StatusResponse).status, "success")
answer(find_user.sync_detailed(client=client), ErrorResponse, 401)

login = LoginRequest(username=NAME, password=NEW_PASSWORD)
session = answer(log_in.sync_detailed(client=stranger, body=login), SessionResponse)
again = AuthenticatedClient(token=session.token, **OPTIONS)
answer(delete_user.sync_detailed(client=again, body=DeleteRequest(password=NEW_PASSWORD)), StatusResponse)
answer(log_in.sync_detailed(client=stranger, body=login), ErrorResponse, 401)
