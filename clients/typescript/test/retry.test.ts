// The client against a stand-in, for what the real server cannot be made to do in a test.
import assert from "node:assert/strict";
import { test, type TestContext } from "node:test";
import { AuthTokens, AuthTokensError, AuthTokensNetworkError, isClientError, MemoryStore, type Settings } from "../src/authtokens.js";
import { StandIn } from "./server.js";

const TOKEN = "0123456789abcdef0123456789abcdef01234567";
const NOW = { "Retry-After": "0" };

type Told = { status: number; headers?: Record<string, string>; body?: unknown } | "cut" | "silence";

/** A client of a stand-in that answers these in turn, and the last of them from then on. */
async function told(context: TestContext, answers: Told[], settings: Partial<Settings> = {}) {
    const standIn = await StandIn.start((asked) => answers[Math.min(asked.length, answers.length) - 1]!);
    context.after(() => standIn.stop());
    const store = new MemoryStore();
    store.set(TOKEN);
    return { standIn, store, client: new AuthTokens({ address: standIn.address, store, ...settings }) };
}

async function failure(call: Promise<unknown>): Promise<AuthTokensError | AuthTokensNetworkError> {
    const error = await call.then(
        () => assert.fail("it did not fail"),
        (error: unknown) => error,
    );
    assert.ok(isClientError(error), String(error));
    return error;
}

const REFUSED: Told = { status: 503, headers: NOW, body: { error: "The service cannot do this now. Try again later." } };
const THROTTLED: Told = { status: 429, headers: NOW, body: { error: "There were too many attempts. Try again later." } };
const DONE: Told = { status: 200, body: { status: "success" } };
const SESSION: Told = { status: 200, body: { token: TOKEN, user: { username: "a" } } };

test("after a 503 a call that reads, a list and a login are sent again", async (context) => {
    const { client, standIn } = await told(context, [REFUSED, { status: 200, body: [1] }]);
    assert.deepEqual(await client.list("cellar"), [1]);
    assert.equal(standIn.asked.length, 2);
    for (const call of [
        (client: AuthTokens) => client.addItem("cellar", 1),
        (client: AuthTokens) => client.removeItem("wants", 1),
        (client: AuthTokens) => client.replaceList("wants", [1]),
        (client: AuthTokens) => client.reauthenticate({ password: "b" }),
    ]) {
        const { client, standIn } = await told(context, [REFUSED, DONE]);
        await call(client);
        assert.equal(standIn.asked.length, 2);
    }
    const login = await told(context, [REFUSED, SESSION]);
    assert.equal((await login.client.login({ username: "a", password: "b" })).kind, "session");
    assert.equal(login.standIn.asked.length, 2);
});

test("after a 503 a change that may have been made is not sent again, unless the app says that it may", async (context) => {
    for (const call of [
        (client: AuthTokens) => client.register({ username: "a", password: "b" }),
        (client: AuthTokens) => client.login({ username: "a", password: "b", code: "123456" }),
        (client: AuthTokens) => client.update({ city: "Chicago" }),
        (client: AuthTokens) => client.changePassword({ new_password: "c" }),
        (client: AuthTokens) => client.confirmTotp("123456"),
        (client: AuthTokens) => client.delete("b"),
        (client: AuthTokens) => client.endSession("0123456789abcdef"),
    ]) {
        const { client, standIn, store } = await told(context, [REFUSED, SESSION]);
        const error = await failure(call(client));
        assert.ok(error instanceof AuthTokensError && error.status === 503 && error.retryAfter === 0);
        assert.equal(standIn.asked.length, 1);
        assert.equal(store.get(), TOKEN, "a 503 is no reason to forget a token");
    }
    const { client, standIn } = await told(context, [REFUSED, { status: 200, body: { city: "Chicago" } }]);
    assert.equal((await client.update({ city: "Chicago" }, { repeatable: true })).city, "Chicago");
    assert.equal(standIn.asked.length, 2);
});

test("after a 429 every call is sent again, for nothing was done", async (context) => {
    const { client, standIn } = await told(context, [THROTTLED, { status: 201, body: { token: TOKEN, user: {} } }]);
    await client.register({ username: "a", password: "b" });
    assert.equal(standIn.asked.length, 2);
    assert.equal(standIn.asked[0]!.body, standIn.asked[1]!.body);
});

test("it is tried three times, or as often as is set, and then the last refusal is thrown", async (context) => {
    const { client, standIn } = await told(context, [THROTTLED]);
    const error = await failure(client.login({ username: "a", password: "b" }));
    assert.ok(error instanceof AuthTokensError && error.status === 429);
    assert.equal(standIn.asked.length, 3);
    const once = await told(context, [THROTTLED], { retry: { tries: 1 } });
    await failure(once.client.user());
    assert.equal(once.standIn.asked.length, 1);
});

test("a wait that would be too long in all is not begun", async (context) => {
    for (const later of ["31", new Date(Date.now() + 60_000).toUTCString()]) {
        const { client, standIn } = await told(context, [{ ...REFUSED, headers: { "Retry-After": later } }]);
        const error = await failure(client.user());
        assert.ok(error instanceof AuthTokensError && error.retryAfter! > 30);
        assert.equal(standIn.asked.length, 1);
    }
    const { client, standIn } = await told(context, [{ ...REFUSED, headers: { "Retry-After": "2" } }], { retry: { seconds: 1 } });
    await failure(client.user());
    assert.equal(standIn.asked.length, 1);
});

test("a 429 or 503 without Retry-After, as a proxy sends it, repeats only what is idempotent", async (context) => {
    const page = { status: 503, body: "<html>", headers: { "Content-Type": "text/html" } };
    const login = await told(context, [page, SESSION]);
    const error = await failure(login.client.login({ username: "a", password: "b" }));
    assert.ok(error instanceof AuthTokensError);
    assert.equal(error.error, "The answer was 503.");
    assert.equal(login.standIn.asked.length, 1);
    const list = await told(context, [page, { status: 200, body: [] }]);
    await list.client.list("wants");
    assert.equal(list.standIn.asked.length, 2);
});

test("after a broken connection only what is idempotent is sent again", async (context) => {
    const list = await told(context, ["cut", { status: 200, body: [1] }]);
    assert.deepEqual(await list.client.addItem("cellar", 1), [1]);
    assert.equal(list.standIn.asked.length, 2);
    for (const call of [
        (client: AuthTokens) => client.login({ username: "a", password: "b" }),
        (client: AuthTokens) => client.logout(),
        (client: AuthTokens) => client.update({ city: "Chicago" }, { repeatable: true }),
        (client: AuthTokens) => client.delete("b"),
        (client: AuthTokens) => client.endSession("0123456789abcdef"),
    ]) {
        const { client, standIn, store } = await told(context, ["cut", SESSION]);
        const error = await failure(call(client));
        assert.ok(error instanceof AuthTokensNetworkError && !error.timedOut);
        assert.equal(standIn.asked.length, 1);
        assert.equal(store.get(), TOKEN);
    }
});

test("a try that takes too long is a network error that says so", async (context) => {
    const { client } = await told(context, ["silence"], { timeout: 0.05, retry: { tries: 1 } });
    const error = await failure(client.user());
    assert.ok(error instanceof AuthTokensNetworkError && error.timedOut);
});

test("a signal ends a call that is sent, one that waits and one that has not begun, with its own reason", { timeout: 10_000 }, async (context) => {
    const sent = await told(context, ["silence"]);
    const waiting = await told(context, [{ ...REFUSED, headers: { "Retry-After": "20" } }]);
    for (const { client } of [sent, waiting]) {
        const controller = new AbortController();
        const call = assert.rejects(client.user({ signal: controller.signal }), /the page was left/);
        setTimeout(() => controller.abort(new Error("the page was left")), 100);
        await call;
        await assert.rejects(client.user({ signal: controller.signal }), /the page was left/);
    }
    assert.equal(sent.standIn.asked.length, 1);
    assert.equal(waiting.standIn.asked.length, 1);
});

test("an answer that is no JSON, and one that leads elsewhere, come from another service", async (context) => {
    const wrong = await told(context, [{ status: 200, body: "<html>" }], { retry: { tries: 1 } });
    assert.ok((await failure(wrong.client.user())) instanceof AuthTokensNetworkError);
    const moved = await told(context, [{ status: 301, headers: { Location: "https://elsewhere.example/" } }], { retry: { tries: 1 } });
    assert.ok((await failure(moved.client.user())) instanceof AuthTokensNetworkError);
    assert.equal(moved.standIn.asked.length, 1);
});

test("a token goes with the calls of a session alone, in its header", async (context) => {
    const { client, standIn } = await told(context, [DONE]);
    await client.user();
    await client.request("GET", "/api/login/providers");
    await client.request("POST", "/api/password/reset", { body: { new_password: "b", token: "c" } });
    assert.deepEqual(standIn.asked.map(({ authorization }) => authorization), [`Token ${TOKEN}`, undefined, undefined]);
    assert.ok(standIn.asked.every(({ url }) => !url.includes(TOKEN)));
});

test("what no header can carry is no token, and no error shows it", async (context) => {
    const { client, standIn, store } = await told(context, [{ status: 401, body: { error: "A valid token is required." } }]);
    store.set("line\nbreak");
    const error = await failure(client.user());
    assert.ok(error instanceof AuthTokensError && error.status === 401);
    assert.equal(standIn.asked[0]!.authorization, undefined);
});

test("values in a path and a query are percent-encoded", async (context) => {
    const { client, standIn } = await told(context, [{ status: 200, body: [] }]);
    await client.request("GET", "/api/users/{username}", { path: { username: "Zoë/a b?" } });
    await client.request("GET", "/api/users", { query: { search: "a&b=c", limit: 5, is_staff: false } });
    assert.deepEqual(standIn.asked.map(({ url }) => url), ["/api/users/Zo%C3%AB%2Fa%20b%3F", "/api/users?search=a%26b%3Dc&limit=5&is_staff=false"]);
});

test("an address that no call could be made to is refused at once", () => {
    for (const address of ["accounts.example.org", "ftp://a", "https://user:password@a", "https://a/?b", "https://a/#b", ""]) {
        assert.throws(() => new AuthTokens({ address }), TypeError, address);
    }
    for (const address of ["https://a", "https://a/", "http://127.0.0.1:8000/accounts/"]) new AuthTokens({ address });
});

test("bytes that are written as base64url are read back", async () => {
    const { toBase64url, fromBase64url } = await import("../src/authtokens.js");
    for (let length = 0; length < 70; length++) {
        const bytes = Uint8Array.from({ length }, (_, i) => (i * 37 + length * 101) & 255);
        const text = toBase64url(bytes);
        assert.equal(text, Buffer.from(bytes).toString("base64url"));
        assert.deepEqual(new Uint8Array(fromBase64url(text)), bytes);
    }
    assert.throws(() => fromBase64url("a b"), TypeError);
});
