/**
 * A client for authtokens. Copy this file and schema.d.ts into your app; it needs nothing else, and runs in browsers,
 * Node 20, React Native, Deno and Bun. schema.d.ts is made from the service's OpenAPI document and has types alone.
 */
import type { components, paths } from "./schema.d.ts";

export type Schemas = components["schemas"];
export type User = Schemas["UserResponse"];
export type ListName = "cellar" | "wants";

// ---- What a call takes and answers, by the OpenAPI document.

export type Method = "GET" | "PUT" | "POST" | "DELETE" | "PATCH";

/** The paths that have this method. */
export type PathOf<M extends Method> = {
    [P in keyof paths]: [NonNullable<paths[P][Lowercase<M>]>] extends [never] ? never : P;
}[keyof paths];

type Operation<M extends Method, P extends keyof paths> = NonNullable<paths[P][Lowercase<M>]>;
type Value<O, K> = K extends keyof O ? NonNullable<O[K]> : never;

/** The part `N` of the options: required, optional or absent, as the key `K` of `O` is. */
type Part<N extends string, K extends string, O, V> = [Value<O, K>] extends [never]
    ? { [name in N]?: never }
    : O extends Record<K, unknown>
      ? { [name in N]: V }
      : { [name in N]?: V };

type BodyOf<O> = Value<O, "requestBody"> extends { content: infer C } ? C[keyof C] : never;

/** What a call takes: the values in its path, its query, its body. */
export type Input<M extends Method, P extends PathOf<M>> = Part<
    "path",
    "path",
    Value<Operation<M, P>, "parameters">,
    Value<Value<Operation<M, P>, "parameters">, "path">
> &
    Part<
        "query",
        "query",
        Value<Operation<M, P>, "parameters">,
        Value<Value<Operation<M, P>, "parameters">, "query">
    > &
    Part<"body", "requestBody", Operation<M, P>, BodyOf<Operation<M, P>>>;

type Good = 200 | 201 | 202;
type Success<R> = {
    [S in keyof R & Good]: R[S] extends { content: { "application/json": infer J } } ? J : undefined;
}[keyof R & Good];

/** The body of a call's answer; `undefined` for the calls that send a browser elsewhere. */
export type Data<M extends Method, P extends PathOf<M>> = [Success<Value<Operation<M, P>, "responses">>] extends [never]
    ? undefined
    : Success<Value<Operation<M, P>, "responses">>;

export interface Answer<T> {
    status: number;
    data: T;
    /** `Link` has the next page of a list, `X-Request-Id` is in the service's log, `Location` in a redirection. */
    headers: { get(name: string): string | null };
}

// ---- What the platform gives.

/** What an `AbortSignal` has that is used here. */
export interface Signal {
    readonly aborted: boolean;
    readonly reason?: unknown;
    addEventListener(type: "abort", listener: () => void): void;
    removeEventListener(type: "abort", listener: () => void): void;
}

/** What of `fetch` is used here. The global one fits. */
export type Fetch = (
    url: string,
    init: {
        method: string;
        headers: Record<string, string>;
        body?: string;
        signal: any; // An AbortSignal, whose type differs between platforms.
        redirect: "manual";
        credentials: "omit";
    },
) => Promise<{ status: number; headers: { get(name: string): string | null }; text(): Promise<string> }>;

interface Platform {
    fetch?: Fetch;
    AbortController: new () => { readonly signal: Signal; abort(): void };
    setTimeout(work: () => void, milliseconds: number): unknown;
    clearTimeout(timer: unknown): void;
    crypto?: {
        getRandomValues(bytes: Uint8Array): unknown;
        subtle?: { digest(name: string, bytes: Uint8Array): Promise<ArrayBuffer> };
    };
}

const platform = globalThis as unknown as Platform;

// ---- Settings.

/** Where the token is kept. One store belongs to one client, which asks it one thing at a time. */
export interface TokenStore {
    get(): string | null | undefined | Promise<string | null | undefined>;
    set(token: string): void | Promise<void>;
    clear(): void | Promise<void>;
}

/** Keeps the token for as long as the program runs. */
export class MemoryStore implements TokenStore {
    #token: string | undefined;

    get(): string | undefined {
        return this.#token;
    }

    set(token: string): void {
        this.#token = token;
    }

    clear(): void {
        this.#token = undefined;
    }
}

export interface Settings {
    /** Where the service is: `https://accounts.example.org`. */
    address: string;
    fetch?: Fetch;
    store?: TokenStore;
    /** Told when the service has refused the stored token, after it was cleared. Show the login. */
    onSessionEnded?: () => void;
    /** How often a request is sent at most (3), and for how long tries are begun (30 seconds from the first). */
    retry?: { tries?: number; seconds?: number };
    /** How many seconds one try may take, to the end of its answer (30). */
    timeout?: number;
}

export interface CallOptions {
    signal?: Signal;
    /** The call may be sent again after a 503 although it may have been done: a second time does no harm to you. */
    repeatable?: boolean;
}

// ---- Errors.

/** The service has refused the call. */
export class AuthTokensError extends Error {
    override readonly name = "AuthTokensError";
    readonly kind = "refused";

    constructor(
        readonly status: number,
        /** The service's sentence, for a person. */
        readonly error: string,
        /** What the error's object has beside its sentence. */
        readonly details: Readonly<Record<string, unknown>>,
        /** In how many seconds to try again, where the service says so. */
        readonly retryAfter: number | undefined,
        /** The request's id in the service's log. */
        readonly requestId: string | undefined,
        options?: { cause?: unknown },
    ) {
        super(error, options);
    }

    /** What is wrong with what was sent, where that is why it was refused: `column username is not unique`. */
    get invalid(): string | undefined {
        const start = "Invalid Data: ";
        return this.error.startsWith(start) ? this.error.slice(start.length) : undefined;
    }
}

/** No answer came that can be read, or not in time. What was asked for may have been done. */
export class AuthTokensNetworkError extends Error {
    override readonly name = "AuthTokensNetworkError";
    readonly kind = "network";

    constructor(message: string, readonly timedOut: boolean, options?: { cause?: unknown }) {
        super(message, options);
    }
}

export type ClientError = AuthTokensError | AuthTokensNetworkError;

/** Whether it is one of the two; a `switch` over `kind` tells which. What a signal was aborted with is thrown as it is. */
export function isClientError(error: unknown): error is ClientError {
    return error instanceof AuthTokensError || error instanceof AuthTokensNetworkError;
}

// ---- What a login comes to.

export interface Session {
    kind: "session";
    user: User;
    /** Whether the account was made just now. */
    registered: boolean;
    /** The replacement of a recovery code that was used. Show it to the owner. */
    recoveryCode: string | undefined;
}

/** The first factor was right. Hand this to `secondFactor`, within five minutes. */
export class SecondFactorDue {
    readonly kind = "second_factor";
    readonly methods: readonly string[];
    readonly expires: string;
    readonly #token: string;

    constructor(due: Schemas["SecondFactor"]) {
        this.methods = due.methods;
        this.expires = due.expires;
        this.#token = due.token;
    }

    get token(): string {
        return this.#token;
    }
}

/** An account has the address already, or none may be made. Have its owner log in, then hand this to `linkIdentity`. */
export class LinkOffered {
    readonly kind = "link";
    readonly error: string;
    readonly expires: string;
    readonly #token: string;

    constructor(offer: Schemas["LinkOffer"]) {
        this.error = offer.error;
        this.expires = offer.expires;
        this.#token = offer.link_token;
    }

    get token(): string {
        return this.#token;
    }
}

/** What proves the second factor: one of the three. */
export type Proof = { code: string } | { recovery_code: string } | { passkey: unknown };

// ---- The client.

type Args<I> = {} extends I ? [input?: I & CallOptions] : [input: I & CallOptions];

interface Sent extends CallOptions {
    path?: Record<string, unknown>;
    query?: Record<string, unknown>;
    body?: unknown;
}

export class AuthTokens {
    readonly #address: string;
    readonly #fetch: Fetch;
    readonly #store: TokenStore;
    readonly #settings: Settings;
    /** The store's operations, one after the other. */
    #turn: Promise<unknown> = Promise.resolve();

    constructor(settings: Settings) {
        if (!/^https?:\/\/[^/?#@\s]+(\/[^?#\s]*)?$/.test(settings.address)) {
            throw new TypeError("address must be an http or https address without user, query and fragment");
        }
        this.#address = settings.address.replace(/\/+$/, "");
        const send = settings.fetch ?? platform.fetch;
        if (!send) throw new TypeError("there is no global fetch: give one");
        // A browser's fetch insists on being called as a function of the window.
        this.#fetch = (url, init) => send.call(globalThis, url, init);
        this.#store = settings.store ?? new MemoryStore();
        this.#settings = settings;
    }

    /** Any call of the OpenAPI document. It keeps no token of its answer: that the methods below do. */
    async request<M extends Method, P extends PathOf<M>>(
        method: M,
        path: P,
        ...[input]: Args<Input<M, P>>
    ): Promise<Answer<Data<M, P>>> {
        return (await this.#send(method, path, (input ?? {}) as Sent)) as Answer<Data<M, P>>;
    }

    /** Whether a token is stored. Whether it is still valid only the service knows: `user()`. */
    async hasToken(): Promise<boolean> {
        return (await this.token()) !== undefined;
    }

    /** The stored token, for calls of your own back end. Keep it out of addresses and logs. */
    async token(): Promise<string | undefined> {
        const token = await this.#locked(() => this.#store.get());
        // Nothing else can be sent in a header, and an error that says so would show it.
        return token && /^[\x21-\x7e]{1,256}$/.test(token) ? token : undefined;
    }

    /** Clears the store without a call. The session lives on: `logout()` ends it. */
    async forget(): Promise<void> {
        await this.#locked(() => this.#store.clear());
    }

    // ---- In and out.

    async register(body: Schemas["RegisterRequest"], options: CallOptions = {}): Promise<Session> {
        return this.#enter(await this.#send("POST", "/api/register", { ...options, body }));
    }

    async login(body: Schemas["LoginRequest"], options: CallOptions = {}): Promise<Session | SecondFactorDue> {
        return this.#signIn("/api/login", body, options);
    }

    /** Finishes a login that lacks its second factor. */
    async secondFactor(due: SecondFactorDue, proof: Proof, options: CallOptions = {}): Promise<Session> {
        const body = { token: due.token, ...("passkey" in proof ? { passkey: passkeyToJSON(proof.passkey) } : proof) };
        return this.#enter(await this.#send("POST", "/api/login/second", { ...options, body }));
    }

    /** Ends the session and forgets its token. That it has ended already is no error. */
    async logout(options: CallOptions = {}): Promise<void> {
        await this.#end("POST", "/api/logout", options);
    }

    /** Ends every session of the account, this one too. */
    async logoutAll(options: CallOptions = {}): Promise<void> {
        await this.#end("POST", "/api/logoutall", options);
    }

    // ---- The account.

    async user(options: CallOptions = {}): Promise<User> {
        return (await this.request("GET", "/api/user", options)).data;
    }

    async update(body: Schemas["ProfileRequest"], options: CallOptions = {}): Promise<User> {
        return (await this.request("PATCH", "/api/user", { ...options, body })).data;
    }

    /** Deletes the account: with its password, or without it in a fresh session. */
    async delete(password?: string, options: CallOptions = {}): Promise<void> {
        const input = password === undefined ? options : { ...options, body: { password } };
        await this.#send("DELETE", "/api/user", input, "account");
    }

    /** Without the present password in a fresh session. Every other session ends. */
    async changePassword(body: Schemas["PasswordRequest"], options: CallOptions = {}): Promise<void> {
        await this.request("POST", "/api/user/password", { ...options, body });
    }

    /** Makes the session fresh for ten minutes. */
    async reauthenticate(body: Schemas["ReauthenticateRequest"], options: CallOptions = {}): Promise<void> {
        await this.request("POST", "/api/user/reauthenticate", { ...options, body });
    }

    async security(options: CallOptions = {}): Promise<Schemas["Security"]> {
        return (await this.request("GET", "/api/user/security", options)).data;
    }

    async sessions(options: CallOptions = {}): Promise<Schemas["Session"][]> {
        return (await this.request("GET", "/api/user/tokens", options)).data;
    }

    async endSession(id: string, options: CallOptions = {}): Promise<void> {
        await this.request("DELETE", "/api/user/tokens/{id}", { ...options, path: { id } });
    }

    // ---- The two lists. Each call answers the whole list.

    async list(name: ListName, options: CallOptions = {}): Promise<number[]> {
        return (await this.request("GET", `/api/user/${name}`, options)).data;
    }

    async replaceList(name: ListName, items: number[], options: CallOptions = {}): Promise<number[]> {
        return (await this.request("PUT", `/api/user/${name}`, { ...options, body: items })).data;
    }

    async addItem(name: ListName, item: number, options: CallOptions = {}): Promise<number[]> {
        return (await this.request("PUT", `/api/user/${name}/{item_id}`, { ...options, path: { item_id: item } })).data;
    }

    async removeItem(name: ListName, item: number, options: CallOptions = {}): Promise<number[]> {
        return (await this.request("DELETE", `/api/user/${name}/{item_id}`, { ...options, path: { item_id: item } })).data;
    }

    // ---- By mail. What mails something answers a request id, which goes with the mail's code.

    async forgotPassword(body: Schemas["ForgotRequest"], options: CallOptions = {}): Promise<string> {
        return (await this.request("POST", "/api/password/forgot", { ...options, body })).data.request;
    }

    /** Opens no session: log in. */
    async resetPassword(body: Schemas["ResetRequest"], options: CallOptions = {}): Promise<void> {
        await this.request("POST", "/api/password/reset", { ...options, body });
    }

    async email(options: CallOptions = {}): Promise<Schemas["EmailResponse"]> {
        return (await this.request("GET", "/api/user/email", options)).data;
    }

    async changeEmail(body: Schemas["EmailRequest"], options: CallOptions = {}): Promise<string> {
        return (await this.request("POST", "/api/user/email", { ...options, body })).data.request;
    }

    async withdrawEmail(options: CallOptions = {}): Promise<void> {
        await this.request("DELETE", "/api/user/email", options);
    }

    async confirmEmail(body: Schemas["CodeRequest"], options: CallOptions = {}): Promise<User> {
        return (await this.request("POST", "/api/user/email/confirm", { ...options, body })).data;
    }

    /** By the token of a mail's link; it needs no session. */
    async confirmEmailByLink(token: string, options: CallOptions = {}): Promise<void> {
        await this.request("POST", "/api/email/confirm", { ...options, body: { token } });
    }

    async requestLoginMail(body: Schemas["MailLoginRequest"], options: CallOptions = {}): Promise<string> {
        return (await this.request("POST", "/api/login/mail", { ...options, body })).data.request;
    }

    async loginByMail(body: Schemas["ProofRequest"], options: CallOptions = {}): Promise<Session | SecondFactorDue> {
        return this.#signIn("/api/login/mail/confirm", body, options);
    }

    // ---- An authenticator app. All but the login need a fresh session.

    async beginTotp(options: CallOptions = {}): Promise<Schemas["Totp"]> {
        return (await this.request("POST", "/api/user/totp", options)).data;
    }

    /** Turns it on, and answers the recovery codes, which are shown this once. */
    async confirmTotp(code: string, options: CallOptions = {}): Promise<string[]> {
        return (await this.request("POST", "/api/user/totp/confirm", { ...options, body: { code } })).data.recovery_codes;
    }

    async removeTotp(proof: Schemas["FactorRequest"], options: CallOptions = {}): Promise<void> {
        await this.request("DELETE", "/api/user/totp", { ...options, body: proof });
    }

    async replaceRecoveryCodes(proof: Schemas["FactorRequest"], options: CallOptions = {}): Promise<string[]> {
        return (await this.request("POST", "/api/user/recovery_codes", { ...options, body: proof })).data.recovery_codes;
    }

    // ---- Passkeys. Options come as JSON: `toPasskeyOptions` makes of them what a browser takes. A passkey goes back as
    // ---- the browser gave it, or as its JSON, which phones give.

    async passkeyLoginOptions(options: CallOptions = {}): Promise<Schemas["PasskeyRequestOptions"]> {
        return (await this.request("POST", "/api/login/passkey/options", { ...options, body: {} })).data.publicKey;
    }

    async loginByPasskey(passkey: unknown, options: CallOptions = {}): Promise<Session> {
        const body = { passkey: passkeyToJSON(passkey) };
        return this.#enter(await this.#send("POST", "/api/login/passkey", { ...options, body }));
    }

    /** Where the account has an authenticator app, `proof` is a code of it, or a recovery code, whose replacement comes back. */
    async newPasskeyOptions(proof: Schemas["FactorRequest"] = {}, options: CallOptions = {}): Promise<Schemas["PasskeyCreation"]> {
        return (await this.request("POST", "/api/user/passkeys/options", { ...options, body: proof })).data;
    }

    async addPasskey(name: string, passkey: unknown, options: CallOptions = {}): Promise<Schemas["Passkey"]> {
        const body = { name, passkey: passkeyToJSON(passkey) as Schemas["NewPasskey"] };
        return (await this.request("POST", "/api/user/passkeys", { ...options, body })).data;
    }

    async passkeys(options: CallOptions = {}): Promise<Schemas["Passkey"][]> {
        return (await this.request("GET", "/api/user/passkeys", options)).data;
    }

    async renamePasskey(id: string, name: string, options: CallOptions = {}): Promise<Schemas["Passkey"]> {
        return (await this.request("PATCH", "/api/user/passkeys/{id}", { ...options, path: { id }, body: { name } })).data;
    }

    async removePasskey(id: string, options: CallOptions = {}): Promise<void> {
        await this.request("DELETE", "/api/user/passkeys/{id}", { ...options, path: { id } });
    }

    async passkeyReauthenticationOptions(options: CallOptions = {}): Promise<Schemas["PasskeyRequestOptions"]> {
        return (await this.request("POST", "/api/user/reauthenticate/passkey", options)).data.publicKey;
    }

    async reauthenticateByPasskey(passkey: unknown, options: CallOptions = {}): Promise<void> {
        await this.reauthenticate({ passkey: passkeyToJSON(passkey) as Schemas["UsedPasskey"] }, options);
    }

    // ---- Providers: Apple, Google, GitHub, OpenID.

    async providers(options: CallOptions = {}): Promise<Schemas["Provider"][]> {
        return (await this.request("GET", "/api/login/providers", options)).data;
    }

    /** By an ID token that the phone's own library gave the app. */
    async loginByIdToken(
        body: Schemas["IdentityLoginRequest"],
        options: CallOptions = {},
    ): Promise<Session | SecondFactorDue | LinkOffered> {
        return this.#signIn<LinkOffered>("/api/login/oidc", body, options);
    }

    /** Where to send the browser. `challenge` is that of `makePkce()`; keep its verifier and `state`. */
    providerAddress(provider: string, values: { returnTo: string; challenge: string; state?: string }): string {
        const query = { return_to: values.returnTo, code_challenge: values.challenge, state: values.state };
        return this.#address + fill("/api/login/oidc/{provider}/start", { provider }, query);
    }

    /** What the browser has come back with. Compare `state` first. */
    async loginByProviderCode(
        body: Schemas["ExchangeRequest"],
        options: CallOptions = {},
    ): Promise<Session | SecondFactorDue | LinkOffered> {
        return this.#signIn<LinkOffered>("/api/login/oidc/exchange", body, options);
    }

    async identities(options: CallOptions = {}): Promise<Schemas["Identity"][]> {
        return (await this.request("GET", "/api/user/identities", options)).data;
    }

    async linkIdentity(what: LinkOffered | Schemas["LinkIdentityRequest"], options: CallOptions = {}): Promise<void> {
        const body = what instanceof LinkOffered ? { link_token: what.token } : what;
        await this.request("POST", "/api/user/identities", { ...options, body });
    }

    async unlinkIdentity(id: string, options: CallOptions = {}): Promise<void> {
        await this.request("DELETE", "/api/user/identities/{id}", { ...options, path: { id } });
    }

    // ---- How it is done.

    /** Does this when what the store was asked before is done, so that no two calls come in each other's way. */
    #locked<T>(work: () => T | Promise<T>): Promise<T> {
        const done = this.#turn.then(work);
        this.#turn = done.then(
            () => undefined,
            () => undefined,
        );
        return done;
    }

    async #signIn<More = never>(path: string, body: unknown, options: CallOptions): Promise<Session | SecondFactorDue | More> {
        try {
            return await this.#enter(await this.#send("POST", path, { ...options, body }));
        } catch (error) {
            if (!(error instanceof AuthTokensError)) throw error;
            const { second_factor, link_token, expires } = error.details;
            if (error.status === 401 && second_factor) return new SecondFactorDue(second_factor as Schemas["SecondFactor"]);
            if (error.status === 409 && link_token) {
                return new LinkOffered({ error: error.error, link_token, expires } as Schemas["LinkOffer"]) as More;
            }
            throw error;
        }
    }

    async #enter(answer: Answer<unknown>): Promise<Session> {
        const { token, user, recovery_code } = answer.data as Schemas["SessionResponse"];
        await this.#locked(() => this.#store.set(token));
        return { kind: "session", user, registered: answer.status === 201, recoveryCode: recovery_code };
    }

    async #end(method: Method, path: string, options: CallOptions): Promise<void> {
        try {
            await this.#send(method, path, options, "session");
        } catch (error) {
            if (!(error instanceof AuthTokensError && error.status === 401)) throw error;
        }
    }

    /** Clears the store, unless another login has put its token there meanwhile. Answers whether it was there. */
    #forget(token: string): Promise<boolean> {
        return this.#locked(async () => {
            if ((await this.#store.get()) !== token) return false;
            await this.#store.clear();
            return true;
        });
    }

    /** Sends a call, again where that is right, and does what its answer means for the token. */
    async #send(method: Method, path: string, input: Sent, ends?: "session" | "account"): Promise<Answer<unknown>> {
        if (input.signal?.aborted) throw aborted(input.signal);
        const token = takesToken(path) ? await this.token() : undefined;
        let answer: Answer<unknown>;
        try {
            answer = await this.#tries(method, path, input, token);
        } catch (error) {
            if (!(error instanceof AuthTokensError) || error.status !== 401 || token === undefined) throw error;
            let cleared;
            try {
                // A wrong password, code or ID token of a live session is 400: this 401 is about the session.
                cleared = await this.#forget(token);
            } catch (cause) {
                const { status, error: sentence, details, retryAfter, requestId } = error;
                throw new AuthTokensError(status, sentence, details, retryAfter, requestId, { cause });
            }
            if (cleared && ends !== "session") void Promise.resolve().then(this.#settings.onSessionEnded);
            throw error;
        }
        if (ends && token !== undefined) await this.#forget(token);
        return answer;
    }

    async #tries(method: Method, path: string, input: Sent, token: string | undefined): Promise<Answer<unknown>> {
        const { tries = 3, seconds = 30 } = this.#settings.retry ?? {};
        const idempotent = isIdempotent(method, path);
        const end = Date.now() + seconds * 1000;
        for (let left = tries - 1; ; left--) {
            let failure: ClientError;
            try {
                return await this.#once(method, path, input, token);
            } catch (error) {
                if (!isClientError(error)) throw error;
                failure = error;
            }
            let wait = 0.5 * 2 ** (tries - 1 - left);
            if (failure.kind === "network") {
                if (!idempotent) throw failure;
            } else {
                const { status, retryAfter } = failure;
                if (status !== 429 && status !== 503) throw failure;
                // Without Retry-After a proxy may have answered for a service that has done what was asked.
                if (retryAfter === undefined && !idempotent) throw failure;
                // A 429 means that nothing was done. So does a 503, but where a commit's end could not be learnt.
                if (status === 503 && !idempotent && !input.repeatable && !isHarmless(method, path, input.body)) throw failure;
                wait = retryAfter ?? wait;
            }
            // Not all at once, when many were refused together.
            wait = wait * 1000 + Math.random() * 250;
            if (left <= 0 || Date.now() + wait > end) throw failure;
            await sleep(wait, input.signal);
        }
    }

    async #once(method: Method, path: string, input: Sent, token: string | undefined): Promise<Answer<unknown>> {
        const url = this.#address + fill(path, input.path, input.query);
        const headers: Record<string, string> = { Accept: "application/json" };
        if (token !== undefined) headers["Authorization"] = `Token ${token}`;
        const form = method === "POST" && path.endsWith("/callback");
        if (input.body !== undefined) {
            headers["Content-Type"] = form ? "application/x-www-form-urlencoded" : "application/json";
        }

        const { signal } = input;
        if (signal?.aborted) throw aborted(signal);
        const controller = new platform.AbortController();
        const stop = (): void => controller.abort();
        signal?.addEventListener("abort", stop);
        const { timeout = 30 } = this.#settings;
        let timedOut = false;
        const timer = platform.setTimeout(() => {
            timedOut = true;
            stop();
        }, timeout * 1000);
        let status, responseHeaders, text;
        try {
            const init: Parameters<Fetch>[1] = {
                method,
                headers,
                signal: controller.signal,
                redirect: "manual",
                credentials: "omit",
            };
            if (input.body !== undefined) {
                init.body = form ? query(input.body as Record<string, unknown>) : JSON.stringify(input.body);
            }
            const response = await this.#fetch(url, init);
            ({ status, headers: responseHeaders } = response);
            text = await response.text();
        } catch (cause) {
            if (signal?.aborted) throw aborted(signal);
            if (timedOut) throw new AuthTokensNetworkError(`no answer within ${timeout} s`, true);
            throw new AuthTokensNetworkError("the service cannot be reached", false, { cause });
        } finally {
            platform.clearTimeout(timer);
            signal?.removeEventListener("abort", stop);
        }

        let data: unknown;
        try {
            data = text === "" ? undefined : JSON.parse(text, hide);
        } catch {
            data = undefined;
        }
        if (status === 303) return { status, data: undefined, headers: responseHeaders };
        if (status >= 200 && status < 300) {
            if (data === undefined) throw new AuthTokensNetworkError("the answer is no JSON: is the address the service's?", false);
            return { status, data, headers: responseHeaders };
        }
        if (status < 400) throw new AuthTokensNetworkError("the answer leads elsewhere: is the address the service's?", false);
        const { error, ...details } = withHidden(data);
        throw new AuthTokensError(
            status,
            typeof error === "string" ? error : `The answer was ${status}.`,
            hide("", details) as Record<string, unknown>,
            seconds(responseHeaders.get("Retry-After")),
            responseHeaders.get("X-Request-Id") ?? undefined,
        );
    }
}

/** Whether a call is one of a session. A test holds this to the OpenAPI document. */
export function takesToken(path: string): boolean {
    return /^\/api\/(user|users|events|logout|logoutall|check)(\/|$)/.test(path);
}

/** Whether a call may be sent twice, by the service's documentation: what reads, and the lists. */
function isIdempotent(method: Method, path: string): boolean {
    return method === "GET" || method === "PUT" || (method === "DELETE" && path.endsWith("/{item_id}"));
}

/** Whether a second time costs at most a session that nobody uses, or options that nobody uses. */
function isHarmless(method: Method, path: string, body: unknown): boolean {
    if (method !== "POST") return false;
    const keys = Object.keys((body ?? {}) as object);
    switch (path) {
        case "/api/login":
            // A code counts once.
            return !keys.includes("code") && !keys.includes("recovery_code");
        case "/api/user/reauthenticate":
            return keys.length === 1 && keys[0] === "password";
        case "/api/logout":
        case "/api/logoutall":
        case "/api/user/passkeys/options":
            return keys.length === 0;
        case "/api/login/passkey/options":
        case "/api/user/reauthenticate/passkey":
            return true;
        default:
            return false;
    }
}

/** Puts the values into a path. */
function fill(path: string, values: Record<string, unknown> = {}, parameters: Record<string, unknown> = {}): string {
    const filled = path.replace(/\{(\w+)\}/g, (_, name: string) => {
        const value = String(values[name] ?? "");
        // These would be another path: `..` is taken for the folder above, percent-encoded too.
        if (value === "" || value === "." || value === "..") throw new TypeError(`this ${name} cannot stand in a path`);
        return encodeURIComponent(value);
    });
    const rest = query(parameters);
    return rest ? `${filled}?${rest}` : filled;
}

function query(values: Record<string, unknown>): string {
    return Object.entries(values)
        .filter(([, value]) => value !== undefined && value !== null)
        .map(([name, value]) => `${encodeURIComponent(name)}=${encodeURIComponent(String(value))}`)
        .join("&");
}

const SECRETS = ["token", "link_token"];

/** Keeps tokens out of what is printed: they can be read from the answer, and are not listed with it. */
function hide(_: string, value: unknown): unknown {
    if (value && typeof value === "object") {
        for (const name of SECRETS) {
            const secret = (value as Record<string, unknown>)[name];
            // Bun prints values that are not enumerable, too, and not what a getter gives.
            if (secret !== undefined) Object.defineProperty(value, name, { enumerable: false, get: () => secret });
        }
    }
    return value;
}

/** A copy in which the hidden ones are listed. */
function withHidden(data: unknown): Record<string, unknown> {
    if (!data || typeof data !== "object" || Array.isArray(data)) return {};
    const copy: Record<string, unknown> = { ...data };
    for (const name of SECRETS) {
        const value = (data as Record<string, unknown>)[name];
        if (value !== undefined) copy[name] = value;
    }
    return copy;
}

/** `Retry-After` is a number of seconds, or from a proxy a date. */
function seconds(value: string | null): number | undefined {
    if (value === null) return undefined;
    if (/^\s*\d+\s*$/.test(value)) return Number(value);
    const date = Date.parse(value);
    return Number.isNaN(date) ? undefined : Math.max(0, (date - Date.now()) / 1000);
}

function aborted(signal: Signal): unknown {
    return signal.reason ?? Object.assign(new Error("the call was aborted"), { name: "AbortError" });
}

function sleep(milliseconds: number, signal: Signal | undefined): Promise<void> {
    return new Promise((resolve, reject) => {
        const stop = (): void => {
            platform.clearTimeout(timer);
            signal?.removeEventListener("abort", stop);
            reject(aborted(signal!));
        };
        const timer = platform.setTimeout(() => {
            signal?.removeEventListener("abort", stop);
            resolve();
        }, milliseconds);
        if (signal?.aborted) stop();
        else signal?.addEventListener("abort", stop);
    });
}

// ---- Passkeys: bytes are base64url in JSON, and buffers in a browser.

const ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

export function toBase64url(buffer: ArrayBuffer | Uint8Array): string {
    const bytes = new Uint8Array(buffer);
    let text = "";
    for (let i = 0; i < bytes.length; i += 3) {
        const three = (bytes[i]! << 16) | ((bytes[i + 1] ?? 0) << 8) | (bytes[i + 2] ?? 0);
        const four = [18, 12, 6, 0].map((shift) => ALPHABET[(three >> shift) & 63]).join("");
        text += four.slice(0, bytes.length - i + 1);
    }
    return text;
}

export function fromBase64url(text: string): ArrayBuffer {
    const plain = text.replace(/=+$/, "").replace(/\+/g, "-").replace(/\//g, "_");
    const bytes = new Uint8Array(Math.floor((plain.length * 3) / 4));
    let bits = 0;
    let held = 0;
    let length = 0;
    for (const letter of plain) {
        const value = ALPHABET.indexOf(letter);
        if (value < 0) throw new TypeError("this is no base64url");
        held = ((held << 6) | value) & 0xffff;
        bits += 6;
        if (bits >= 8) {
            bits -= 8;
            bytes[length++] = (held >> bits) & 255;
        }
    }
    return bytes.buffer;
}

interface Descriptor {
    id: string;
}

type Binary<T> = {
    [K in keyof T]: K extends "challenge"
        ? ArrayBuffer
        : T[K] extends Descriptor[] | undefined
          ? (Omit<NonNullable<T[K]>[number], "id"> & { id: ArrayBuffer })[]
          : K extends "user"
            ? Omit<T[K], "id"> & { id: ArrayBuffer }
            : T[K];
};

/** Makes of options what `navigator.credentials.create` and `get` take as `publicKey`. */
export function toPasskeyOptions<T extends Schemas["PasskeyCreationOptions"] | Schemas["PasskeyRequestOptions"]>(
    options: T,
): Binary<T> {
    const made: Record<string, unknown> = { ...options, challenge: fromBase64url(options.challenge) };
    if ("user" in options) made["user"] = { ...options.user, id: fromBase64url(options.user.id) };
    for (const name of ["allowCredentials", "excludeCredentials"]) {
        const list = made[name] as Descriptor[] | undefined;
        if (list) made[name] = list.map((one) => ({ ...one, id: fromBase64url(one.id) }));
    }
    return made as Binary<T>;
}

/** Makes JSON of a passkey, as `toJSON` does where the browser has it. What is JSON already stays as it is. */
export function passkeyToJSON(passkey: unknown): unknown {
    // Some password managers give a credential whose toJSON is missing or throws: its bytes are read here.
    const isBytes = (value: unknown): value is ArrayBuffer | Uint8Array =>
        value instanceof ArrayBuffer || value instanceof Uint8Array;
    const { id, rawId, type, response } = passkey as { id: unknown; rawId: unknown; type: unknown; response: Record<string, unknown> };
    if (!isBytes(rawId)) return passkey;
    const made: Record<string, string> = {};
    for (const name of ["clientDataJSON", "attestationObject", "authenticatorData", "signature", "userHandle"]) {
        const value = response[name];
        if (isBytes(value)) made[name] = toBase64url(value);
    }
    return { id, rawId: toBase64url(rawId), type, clientExtensionResults: {}, response: made };
}

/** A verifier to keep, and its challenge for `providerAddress`. React Native has no `crypto.subtle`: make them otherwise. */
export async function makePkce(): Promise<{ verifier: string; challenge: string; state: string }> {
    const { crypto } = platform;
    if (!crypto?.subtle) throw new TypeError("there is no crypto.subtle");
    const random = (): string => {
        const bytes = new Uint8Array(32);
        crypto.getRandomValues(bytes);
        return toBase64url(bytes);
    };
    const verifier = random();
    const bytes = Uint8Array.from(verifier, (letter) => letter.charCodeAt(0));
    return { verifier, challenge: toBase64url(await crypto.subtle.digest("SHA-256", bytes)), state: random() };
}
