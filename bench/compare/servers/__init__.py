"""The contestants and the limits: how each is filled, started and asked."""

from ..load import Lines, Request
from ..paths import WORK
from ..process import Process, free_port


class Server:
    """What the sections know of a server."""

    name = ""
    # The settings it runs with, a sentence or two of Markdown.
    about = ""

    def command(self, folder, port):
        """The command line, and what its environment has beyond ours."""
        raise NotImplementedError

    def fill(self, folder, users, sessions):
        """Makes the database with that many users, and a file `tokens` beside it."""

    def check(self, folder):
        """The token check: who is behind this token?"""
        raise NotImplementedError

    def login(self):
        """A login of a random one of the first users."""

    def register(self):
        """A registration under a new name."""

    def logout(self, folder):
        """The end of a session, another one each time."""

    def add_item(self, folder):
        """One more item for a random user's list."""

    def database_files(self, folder):
        """What the users take on the disk."""
        return []

    def dataset(self, users, sessions=1, purpose="users"):
        """A folder with that many users, filled at the first call."""
        folder = WORK / f"{self.name}-{users}-{purpose}".replace(" ", "-")
        if not folder.exists():
            folder.mkdir(parents=True)
            self.fill(folder, users, sessions)
        return folder

    def launch(self, folder, cores=None):
        """Starts the server, held to some of the cores or not, and does not wait for it."""
        port = free_port()
        command, environment = self.command(folder, port)
        return Process(self.name, command, port, folder, environment, cores)

    def start(self, folder, cores=None):
        process = self.launch(folder, cores)
        process.first_answer(self.check(folder).example())
        return process

    def disk_bytes(self, folder):
        return sum(file.stat().st_size for file in self.database_files(folder) if file.exists())


def token_request(method, path, folder, **more):
    """A request with `Authorization: Token` and a random token of the folder's, or an unknown one where it has none."""
    tokens = folder / "tokens"
    lines = Lines(tokens) if tokens.exists() and tokens.stat().st_size else None
    return Request(method, path, {"Authorization": f"Token {'{line}' if lines else '0' * 40}"}, lines=lines, **more)
