// Uses every part of the service through the types that openapi-typescript made of its document.
import assert from "node:assert/strict";
import createClient from "openapi-fetch";
import type { components, paths } from "./api.js";

type ErrorResponse = components["schemas"]["ErrorResponse"];
type User = components["schemas"]["UserResponse"];

const service = process.argv[2];
assert.ok(service, "usage: clients.js ADDRESS");

/** A client that presents a token where it has one, and prints what passes. */
function connect(token?: string) {
    const client = createClient<paths>({
        baseUrl: service!,
        headers: token === undefined ? {} : { Authorization: `Token ${token}` },
    });
    client.use({
        async onResponse({ request, response }) {
            const body = await response.clone().text();
            const path = new URL(request.url).pathname;
            console.log(`${request.method.padEnd(6)} ${path.padEnd(20)} ${response.status} ${body.slice(0, 76)}`);
        },
    });
    return client;
}

/** What a call answered; it stops here if the call was refused. */
function data<T>(answer: { data?: T; response: Response }, status = 200): T {
    assert.equal(answer.response.status, status);
    assert.ok(answer.data !== undefined);
    return answer.data;
}

/** Why a call was refused; it stops here if it was not. That each call's error is an ErrorResponse, tsc checks. */
function refusal(answer: { error?: ErrorResponse; response: Response }, status: number): string {
    assert.equal(answer.response.status, status);
    assert.ok(answer.error);
    assert.deepEqual(Object.keys(answer.error), ["error"]);
    return answer.error.error;
}

const account = { username: "Typed+TypeScript", password: "hunter2" };
const stranger = connect();

const registered = data(await stranger.POST("/api/register", { body: { ...account, city: "Chicago" } }), 201);
const first = connect(registered.token);
const taken = await stranger.POST("/api/register", { body: account });
assert.equal(refusal(taken, 400), "Invalid Data: column username is not unique");

const login = data(await stranger.POST("/api/login", { body: account }));
assert.notEqual(login.token, registered.token);
const client = connect(login.token);

let user: User = data(await client.GET("/api/user"));
assert.equal(user.username, account.username);
assert.equal(user.city, "Chicago");
assert.ok(!Number.isNaN(Date.parse(user.created)));

user = data(await client.PATCH("/api/user", { body: { first_name: "Zoë", zipcode: "60647" } }));
assert.deepEqual([user.first_name, user.zipcode, user.city], ["Zoë", "60647", "Chicago"]);
refusal(await client.PATCH("/api/user", { body: { email: "not an address" } }), 400);

let list: number[] = data(await client.PUT("/api/user/cellar", { body: [3, 1, 2] }));
assert.deepEqual(list, [1, 2, 3]);
const item = { params: { path: { item_id: Number.MAX_SAFE_INTEGER } } };
list = data(await client.PUT("/api/user/wants/{item_id}", item));
assert.deepEqual(list, [Number.MAX_SAFE_INTEGER]);
list = data(await client.DELETE("/api/user/wants/{item_id}", item));
assert.deepEqual(list, []);

const sessions = data(await client.GET("/api/user/tokens"));
assert.deepEqual(sessions.map((session) => session.current).sort(), [false, true]);

const change = { current_password: account.password, new_password: "correct horse battery staple" };
data(await client.POST("/api/user/password", { body: change }));
refusal(await first.GET("/api/user"), 401);

const exported = data(await client.GET("/api/user/export"));
assert.equal(exported.user.username, account.username);
assert.deepEqual(exported.cellar.map((item) => item.item_id), [1, 2, 3]);
assert.equal(exported.sessions.length, 1);

assert.equal(data(await client.POST("/api/logout")).status, "success");
refusal(await client.GET("/api/user"), 401);

const password = change.new_password;
const again = connect(data(await stranger.POST("/api/login", { body: { ...account, password } })).token);
data(await again.DELETE("/api/user", { body: { password } }));
refusal(await stranger.POST("/api/login", { body: { ...account, password } }), 401);
