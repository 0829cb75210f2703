// The client against a real server.
import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { after, before, test } from "node:test";
import { inspect } from "node:util";
import {
    AuthTokens,
    AuthTokensError,
    LinkOffered,
    makePkce,
    MemoryStore,
    SecondFactorDue,
    type Session,
    type Settings,
    takesToken,
    toPasskeyOptions,
    type TokenStore,
} from "../src/authtokens.js";
import { Authenticator, Provider, Server, startOfHalfMinute, totp } from "./server.js";

const ORIGIN = "http://localhost:3000";
let server: Server;
let provider: Provider;

before(async () => {
    provider = await Provider.start();
    server = await Server.start(`
[server]
public_url = "http://127.0.0.1:8000"
[rate_limit]
enabled = false
[mail]
transport = "folder"
from = "noreply@diamond.example"
folder = "mail"
[accounts]
login_by_mail = true
[passkeys]
rp_id = "localhost"
origins = ["${ORIGIN}"]
[identities]
return_to = ["${ORIGIN}/signed-in"]
[outbound]
allow = ["127.0.0.0/8"]
[[provider]]
name = "example"
issuer = "${provider.issuer}"
client_ids = ["org.example.cellar"]
client_secret = "a secret"
`);
});

after(async () => {
    // Neither is there where the start has failed, and what is left running keeps the test from ending.
    await provider?.stop();
    await server?.stop();
});

function connect(settings: Partial<Settings> = {}): AuthTokens {
    return new AuthTokens({ address: server.address, ...settings });
}

let names = 0;

/** A client that has just registered an account of its own. */
async function registered(settings: Partial<Settings> = {}, more: { email?: string } = {}) {
    const account = { username: `user${++names}`, password: "hunter2" };
    const client = connect(settings);
    await client.register({ ...account, ...more });
    return { client, account };
}

async function refusal(call: Promise<unknown>, status: number): Promise<AuthTokensError> {
    const error = await call.then(
        () => assert.fail("it was not refused"),
        (error: unknown) => error,
    );
    assert.ok(error instanceof AuthTokensError, String(error));
    assert.equal(error.status, status);
    return error;
}

function isSession(result: { kind: string }): asserts result is Session {
    assert.equal(result.kind, "session");
}

test("a registration opens a session, whose token is stored and no part of what is answered", async () => {
    const client = connect();
    const session = await client.register({ username: "AzureDiamond", password: "hunter2", city: "Chicago" });
    assert.equal(session.kind, "session");
    assert.equal(session.registered, true);
    assert.equal(session.user.city, "Chicago");
    assert.match((await client.token())!, /^[0-9a-f]{40}$/);
    assert.ok(!JSON.stringify(session).includes((await client.token())!));
    assert.equal((await client.user()).username, "AzureDiamond");
});

test("a login opens another session, and a logout ends it and clears its token", async () => {
    const { client, account } = await registered();
    const other = connect();
    isSession(await other.login(account));
    const token = await other.token();
    assert.notEqual(token, await client.token());
    await other.logout();
    assert.equal(await other.hasToken(), false);
    await refusal(other.user(), 401);
    assert.equal((await client.user()).username, account.username);
});

test("a refusal has the status, the sentence of the service and its request id", async () => {
    const { account } = await registered();
    const taken = await refusal(connect().register(account), 400);
    assert.equal(taken.error, "Invalid Data: column username is not unique");
    assert.equal(taken.invalid, "column username is not unique");
    assert.equal(taken.retryAfter, undefined);
    assert.ok(taken.requestId);
    const wrong = await refusal(connect().login({ ...account, password: "hunter3" }), 401);
    assert.equal(wrong.invalid, undefined);
    assert.equal(wrong.kind, "refused");
});

test("the profile, the password and the account are changed and deleted", async () => {
    const { client, account } = await registered();
    const other = connect();
    await other.login(account);
    const user = await client.update({ first_name: "Zoë", zipcode: "60647" });
    assert.deepEqual([user.first_name, user.zipcode], ["Zoë", "60647"]);
    assert.equal((await refusal(client.update({ city: "x".repeat(101) }), 400)).kind, "refused");

    await client.changePassword({ current_password: account.password, new_password: "correct horse" });
    await refusal(other.user(), 401);
    await refusal(client.delete("hunter2"), 400);
    assert.equal(await client.hasToken(), true, "a wrong password ends no session");
    await client.reauthenticate({ password: "correct horse" });
    assert.ok((await client.security()).fresh_until);
    await client.delete();
    assert.equal(await client.hasToken(), false);
    await refusal(connect().login({ ...account, password: "correct horse" }), 401);
});

test("cellar and wants are listed, replaced, and changed item by item", async () => {
    const { client } = await registered();
    for (const name of ["cellar", "wants"] as const) {
        assert.deepEqual(await client.list(name), []);
        assert.deepEqual(await client.replaceList(name, [3, 1, 2]), [1, 2, 3]);
        assert.deepEqual(await client.addItem(name, Number.MAX_SAFE_INTEGER), [1, 2, 3, Number.MAX_SAFE_INTEGER]);
        assert.deepEqual(await client.removeItem(name, 2), [1, 3, Number.MAX_SAFE_INTEGER]);
    }
    await refusal(client.addItem("wants", 0), 400);
});

test("sessions are listed and ended one by one and all at once", async () => {
    const { client, account } = await registered();
    const other = connect();
    await other.login(account);
    const sessions = await client.sessions();
    assert.deepEqual(sessions.map(({ current }) => current).sort(), [false, true]);
    await client.endSession(sessions.find(({ current }) => !current)!.id);
    await refusal(other.user(), 401);
    await refusal(client.endSession("0123456789abcdef"), 404);
    await client.logoutAll();
    assert.equal(await client.hasToken(), false);
});

test("a session that has ended elsewhere clears the token and is told once, however many calls notice", async () => {
    let told = 0;
    const { client, account } = await registered({ onSessionEnded: () => told++ });
    const other = connect();
    await other.login(account);
    await other.logoutAll();
    const calls = await Promise.allSettled([client.user(), client.list("cellar"), client.sessions(), client.update({ city: "Chicago" })]);
    for (const call of calls) assert.equal(call.status, "rejected");
    assert.equal(await client.hasToken(), false);
    assert.equal(told, 1);
});

test("a logout of a session that has ended already is no error and tells nobody", async () => {
    let told = 0;
    const { client, account } = await registered({ onSessionEnded: () => told++ });
    const other = connect();
    await other.login(account);
    await other.logoutAll();
    await client.logout();
    assert.equal(await client.hasToken(), false);
    assert.equal(told, 0);
});

test("a 401 for a former token leaves the one of a login that came meanwhile", async () => {
    const store = new MemoryStore();
    let hold: (() => void) | undefined;
    let told = 0;
    const { client, account } = await registered({
        store,
        onSessionEnded: () => told++,
        fetch: async (url, init) => {
            const response = await fetch(url, init);
            if (url.endsWith("/api/user") && response.status === 401) await new Promise<void>((resolve) => (hold = resolve));
            return response;
        },
    });
    const other = connect();
    await other.login(account);
    await other.logoutAll();
    const late = client.user();
    const refused = refusal(late, 401);
    while (!hold) await new Promise((resolve) => setTimeout(resolve, 5));
    await client.login(account);
    hold();
    await refused;
    assert.equal(await client.hasToken(), true);
    assert.equal(told, 0);
});

test("a store may be slow: what is asked of it is done one after the other", async () => {
    let busy = 0;
    let most = 0;
    let kept: string | null = null;
    const slowly = async <T>(work: () => T): Promise<T> => {
        most = Math.max(most, ++busy);
        await new Promise((resolve) => setTimeout(resolve, 3));
        busy--;
        return work();
    };
    const store: TokenStore = {
        get: () => slowly(() => kept),
        set: (token) => slowly(() => void (kept = token)),
        clear: () => slowly(() => void (kept = null)),
    };
    const { client, account } = await registered({ store });
    await Promise.all([client.user(), client.login(account), client.user(), client.login(account), client.addItem("cellar", 1)]);
    assert.equal(most, 1);
    assert.equal((await client.user()).username, account.username);
    assert.equal((await client.sessions()).length, 3);
});

test("a store that fails fails its call, and not the next one", async () => {
    const store = new MemoryStore();
    let broken = true;
    const client = connect({
        store: {
            get: () => store.get(),
            clear: () => store.clear(),
            set: (token) => {
                if (broken) throw new Error("the keychain is locked");
                store.set(token);
            },
        },
    });
    const account = { username: `user${++names}`, password: "hunter2" };
    await assert.rejects(client.register(account), /keychain/);
    broken = false;
    isSession(await client.login(account));
    assert.equal((await client.user()).username, account.username);
});

test("no token is in an address, an inspection, a JSON text or an error", async () => {
    const addresses: string[] = [];
    const { client, account } = await registered({
        fetch: (url, init) => {
            addresses.push(url);
            return fetch(url, init);
        },
    });
    const answer = await client.request("POST", "/api/login", { body: account });
    const token = (await client.token())!;
    const secrets = [token, answer.data.token];
    assert.ok(secrets.every((secret) => /^[0-9a-f]{40}$/.test(secret)), "it can be read");
    const error = await refusal(client.endSession("0123456789abcdef"), 404);
    for (const shown of [client, answer, error, new MemoryStore()]) {
        for (const text of [inspect(shown, { depth: 10 }), JSON.stringify(shown), String(shown)]) {
            assert.ok(!secrets.some((secret) => text.includes(secret)), text);
        }
    }
    assert.ok(!addresses.some((address) => secrets.some((secret) => address.includes(secret))));
});

test("a second factor that is due is a result, and a code or a recovery code finishes the login", async () => {
    const { client, account } = await registered();
    await client.reauthenticate({ password: account.password });
    const { secret, uri } = await client.beginTotp();
    assert.ok(uri.startsWith("otpauth://"));
    // A code counts once, and those of three half minutes are good now.
    await startOfHalfMinute();
    const recovery = await client.confirmTotp(totp(secret, -1));
    assert.equal(recovery.length, 10);
    assert.equal((await client.security()).totp.enabled, true);

    const other = connect();
    const due = await other.login(account);
    assert.ok(due instanceof SecondFactorDue);
    assert.deepEqual(due.methods, ["totp", "recovery_code"]);
    assert.equal(await other.hasToken(), false);
    assert.ok(!(inspect(due) + JSON.stringify(due)).includes(due.token));
    await refusal(other.secondFactor(due, { code: "000000" }), 401);
    const session = await other.secondFactor(due, { code: totp(secret) });
    assert.equal(session.user.username, account.username);
    assert.equal(session.recoveryCode, undefined);

    const atOnce = await connect().login({ ...account, code: totp(secret, 1) });
    isSession(atOnce);
    const again = connect();
    const second = await again.login(account);
    assert.ok(second instanceof SecondFactorDue);
    const byRecovery = await again.secondFactor(second, { recovery_code: recovery[0]! });
    assert.ok(byRecovery.recoveryCode, "its replacement");

    await client.reauthenticate({ password: account.password });
    assert.equal((await client.replaceRecoveryCodes({ recovery_code: recovery[1]! })).length, 10);
});

test("the secret of a second factor that is due is in no text of its refusal", async () => {
    const { client, account } = await registered();
    await client.reauthenticate({ password: account.password });
    const { secret } = await client.beginTotp();
    await client.confirmTotp(totp(secret));
    const error = await refusal(connect().request("POST", "/api/login", { body: account }), 401);
    const due = error.details["second_factor"] as { token: string };
    assert.match(due.token, /^[0-9a-f]{40}$/);
    assert.ok(!(inspect(error, { depth: 10 }) + JSON.stringify(error)).includes(due.token));
});

test("a passkey is made of options in JSON, logs in, makes a session fresh and is removed", async () => {
    const { client, account } = await registered();
    await client.reauthenticate({ password: account.password });
    const authenticator = new Authenticator(ORIGIN);
    const made = authenticator.create(toPasskeyOptions((await client.newPasskeyOptions()).publicKey));
    const passkey = await client.addPasskey("My key", made);
    assert.equal((await client.renamePasskey(passkey.id, "Mine")).name, "Mine");

    const other = connect();
    const session = await other.loginByPasskey(authenticator.get(toPasskeyOptions(await other.passkeyLoginOptions())));
    assert.equal(session.user.username, account.username);
    assert.equal((await other.security()).fresh_until, null);
    await other.reauthenticateByPasskey(authenticator.get(toPasskeyOptions(await other.passkeyReauthenticationOptions())));
    assert.deepEqual((await other.passkeys()).map(({ name }) => name), ["Mine"]);
    await other.removePasskey(passkey.id);
    assert.deepEqual(await other.passkeys(), []);
});

test("a passkey is a second factor, too", async () => {
    const { client, account } = await registered();
    await client.reauthenticate({ password: account.password });
    const authenticator = new Authenticator(ORIGIN);
    await client.addPasskey("My key", authenticator.create(toPasskeyOptions((await client.newPasskeyOptions()).publicKey)));
    const { secret } = await client.beginTotp();
    await client.confirmTotp(totp(secret));
    const other = connect();
    const due = await other.login(account);
    assert.ok(due instanceof SecondFactorDue);
    assert.ok(due.methods.includes("passkey"));
    const passkey = authenticator.get(toPasskeyOptions(await other.passkeyLoginOptions()));
    assert.equal((await other.secondFactor(due, { passkey })).user.username, account.username);
});

test("an address is confirmed, changed and withdrawn, and a forgotten password reset by its code", async () => {
    const email = `user${names + 1}@diamond.example`;
    const { client, account } = await registered({}, { email });
    await client.confirmEmail({ code: await server.mailedCode("confirm_email", email) });
    assert.deepEqual(await client.email(), { email, verified: true, pending: null });

    await client.changeEmail({ email: `new-${email}`, password: account.password });
    assert.equal((await client.email()).pending?.email, `new-${email}`);
    await client.withdrawEmail();
    assert.equal((await client.email()).pending, null);

    const stranger = connect();
    const request = await stranger.forgotPassword({ email });
    await stranger.resetPassword({ request, code: await server.mailedCode("reset_password", email), new_password: "correct horse" });
    await refusal(client.user(), 401);
    isSession(await stranger.login({ ...account, password: "correct horse" }));

    const mailed = await stranger.requestLoginMail({ email });
    isSession(await client.loginByMail({ request: mailed, code: await server.mailedCode("sign_in", email) }));
});

test("an ID token of a provider registers, logs in, and is linked where it is offered", async () => {
    assert.deepEqual((await connect().providers()).map(({ name }) => name), ["example"]);
    const client = connect();
    const first = await client.loginByIdToken({ provider: "example", id_token: provider.idToken({ sub: "1" }) });
    isSession(first);
    assert.equal(first.registered, true);
    const second = await client.loginByIdToken({ provider: "example", id_token: provider.idToken({ sub: "1" }) });
    isSession(second);
    assert.equal(second.registered, false);
    assert.equal((await client.identities()).length, 1);

    const email = `user${names + 1}@diamond.example`;
    const { client: owner, account } = await registered({}, { email });
    await owner.confirmEmail({ code: await server.mailedCode("confirm_email", email) });
    const stranger = connect();
    const claims = { sub: "2", email, email_verified: true };
    const offer = await stranger.loginByIdToken({ provider: "example", id_token: provider.idToken(claims) });
    assert.ok(offer instanceof LinkOffered);
    assert.ok(!(inspect(offer) + JSON.stringify(offer)).includes(offer.token));
    await owner.linkIdentity(offer);
    const [identity] = await owner.identities();
    assert.equal(identity!.subject, "2");
    const signedIn = await stranger.loginByIdToken({ provider: "example", id_token: provider.idToken(claims) });
    isSession(signedIn);
    assert.equal(signedIn.user.username, account.username);
    await owner.reauthenticate({ password: account.password });
    await owner.unlinkIdentity(identity!.id);
});

test("a wrong ID token, password or code clears no token, and the end of the session does", async () => {
    let told = 0;
    const { client, account } = await registered({ onSessionEnded: () => told++ });
    await client.reauthenticate({ password: account.password });
    const body = { provider: "example", id_token: provider.idToken({ sub: "3", aud: "somebody else" }) };
    await refusal(client.linkIdentity(body), 400);
    await refusal(client.reauthenticate(body), 400);
    await refusal(client.reauthenticate({ password: "hunter3" }), 400);
    await client.beginTotp();
    await refusal(client.confirmTotp("000000"), 400);
    assert.equal(await client.hasToken(), true);
    assert.equal(told, 0);
    const other = connect();
    await other.login(account);
    await other.logoutAll();
    await refusal(client.linkIdentity(body), 401);
    assert.equal(await client.hasToken(), false);
    assert.equal(told, 1);
});

test("a browser is sent to a provider by an address that the service takes", async () => {
    const { challenge, state, verifier } = await makePkce();
    const address = connect().providerAddress("example", { returnTo: `${ORIGIN}/signed-in`, challenge, state });
    const response = await fetch(address, { redirect: "manual" });
    assert.equal(response.status, 303);
    assert.ok(response.headers.get("location")!.startsWith(`${provider.issuer}/auth?`));
    await refusal(connect().loginByProviderCode({ code: "no code", code_verifier: verifier }), 401);
    // The same by the generic method, where the platform shows redirections.
    const query = { return_to: `${ORIGIN}/signed-in`, code_challenge: challenge };
    const answer = await connect().request("GET", "/api/login/oidc/{provider}/start", { path: { provider: "example" }, query });
    assert.equal(answer.data, undefined);
    assert.ok(answer.headers.get("location"));
});

test("every call of the document that reads can be made through the generic method", async () => {
    const { client, account } = await registered();
    const index = (await client.request("GET", "/")).data;
    assert.equal(index.name, "authtokens");
    assert.equal((await client.request("GET", "/healthz")).data.status, "alive");
    assert.equal((await client.request("GET", "/readyz")).data.status, "ready");
    const exported = (await client.request("GET", "/api/user/export")).data;
    assert.equal(exported.user.username, account.username);
    const events = await client.request("GET", "/api/user/events", { query: { limit: 1 } });
    assert.equal(events.data.length, 1);
    assert.equal(events.data[0]!.kind, "registered");
    await refusal(client.request("GET", "/api/users", { query: { search: "a&b", is_active: true } }), 403);
    await refusal(client.request("GET", "/api/users/{username}", { path: { username: "a/b" } }), 403);
    await refusal(client.request("POST", "/api/login/oidc/{provider}/callback", { path: { provider: "example" }, body: { state: "x" } }), 400);
});

test("the document's calls with a token are those that are sent one", async () => {
    const document = JSON.parse(await readFile("../../docs/openapi.json", "utf8")) as {
        paths: Record<string, Record<string, { security?: object[] }>>;
    };
    for (const [path, calls] of Object.entries(document.paths)) {
        for (const [method, call] of Object.entries(calls)) {
            // A service has a key, and no token.
            const isForUsers = call.security?.some((scheme) => "Token" in scheme) ?? false;
            assert.equal(takesToken(path), isForUsers, `${method} ${path}`);
        }
    }
});

test("a value that would make another path of a path is refused before anything is sent", async () => {
    const client = connect({ fetch: () => assert.fail("it was sent") });
    for (const username of ["", ".", ".."]) {
        await assert.rejects(client.request("DELETE", "/api/users/{username}/tokens", { path: { username } }), TypeError);
    }
});

test("what does not fit the document does not compile", () => {
    const never = (): unknown[] => {
        const client = connect();
        return [
            // @ts-expect-error there is no such path
            client.request("GET", "/api/nothing"),
            // @ts-expect-error the path has no such method
            client.request("PUT", "/api/user"),
            // @ts-expect-error the body is required
            client.request("POST", "/api/login"),
            // @ts-expect-error a field is lacking
            client.request("POST", "/api/login", { body: { username: "a" } }),
            // @ts-expect-error the path has a value
            client.request("PUT", "/api/user/cellar/{item_id}"),
            // @ts-expect-error the call takes no body
            client.request("GET", "/api/user", { body: {} }),
            client.login({ username: "a", password: "b" }).then((result) => {
                // @ts-expect-error it may be a second factor that is due
                return result.user;
            }),
            client.request("DELETE", "/api/user"),
            client.request("DELETE", "/api/user", { body: {} }),
        ];
    };
    assert.equal(typeof never, "function");
});

test("too many attempts are tried again when the service says so", async () => {
    const limited = await Server.start(`[rate_limit]\nregister = "1 per 1s"\nlogin = "1 per 1h"`);
    try {
        let sent = 0;
        const client = new AuthTokens({
            address: limited.address,
            fetch: (url, init) => {
                sent++;
                return fetch(url, init);
            },
        });
        await client.register({ username: "first", password: "hunter2" });
        await client.register({ username: "second", password: "hunter2" });
        assert.ok(sent > 2, "the second was refused at first");
        await client.login({ username: "first", password: "hunter2" });
        sent = 0;
        const error = await refusal(client.login({ username: "first", password: "hunter2" }), 429);
        assert.ok(error.retryAfter! > 60, "later than a person waits");
        assert.equal(sent, 1);
    } finally {
        await limited.stop();
    }
});
