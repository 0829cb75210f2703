// What the tests need around the client: a real server in a folder of its own, and what phones and providers do.
import assert from "node:assert/strict";
import { type ChildProcess, spawn } from "node:child_process";
import { createHash, createHmac, createSign, generateKeyPairSync, type KeyObject, randomBytes } from "node:crypto";
import { existsSync } from "node:fs";
import { mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { createServer, type RequestListener, type Server as HttpServer } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";

function binary(): string {
    const named = process.env["AUTHTOKENS_BINARY"];
    const found = (named ? [named] : ["../../target/debug/authtokens", "../../target/release/authtokens"]).find(existsSync);
    assert.ok(found, "there is no binary: cargo build, or set AUTHTOKENS_BINARY");
    return resolve(found);
}

export class Server {
    private constructor(
        readonly address: string,
        readonly folder: string,
        private readonly process: ChildProcess,
    ) {}

    /** Starts a server with this configuration, on a port of its own. */
    static async start(configuration = ""): Promise<Server> {
        const folder = await mkdtemp(join(tmpdir(), "authtokens-client-"));
        // A low cost saves time: hashing is not what is tried here.
        await writeFile(join(folder, "config.toml"), `${configuration}\n[password]\nbcrypt_cost = 4\n`);
        const environment = Object.fromEntries(Object.entries(process.env).filter(([name]) => !name.startsWith("AUTHTOKENS")));
        const child = spawn(binary(), ["--config", "config.toml", "--listen", "127.0.0.1:0", "--database", "db"], {
            cwd: folder,
            env: environment,
            stdio: ["ignore", "ignore", "pipe"],
        });
        let log = "";
        const address = await new Promise<string>((resolve, reject) => {
            child.stderr!.on("data", (part: Buffer) => {
                log += part;
                const found = / listens on (http:\S+)/.exec(log);
                if (found) resolve(found[1]!);
            });
            child.once("error", reject);
            child.once("exit", () => reject(new Error(`the server did not start:\n${log}`)));
        });
        return new Server(address, folder, child);
    }

    async stop(): Promise<void> {
        const ended = new Promise((resolve) => this.process.once("exit", resolve));
        this.process.kill();
        await ended;
        await rm(this.folder, { recursive: true });
    }

    /** The code in the newest mail of this kind to an address, once it is there. */
    async mailedCode(kind: string, to: string): Promise<string> {
        const folder = join(this.folder, "mail");
        for (let tries = 0; tries < 200; tries++) {
            const names = existsSync(folder) ? (await readdir(folder)).sort().reverse() : [];
            for (const name of names.filter((name) => name.endsWith(`-${kind}.eml`))) {
                const mail = await readFile(join(folder, name), "utf8");
                const code = /^ +(\d{3}) (\d{3})\r?$/m.exec(mail);
                if (mail.includes(`To: ${to}`) && code) return code[1]! + code[2]!;
            }
            await new Promise((resolve) => setTimeout(resolve, 25));
        }
        throw new Error(`no mail with a code to ${to}`);
    }
}

/** An HTTP server for what the real one cannot be made to do in a test. */
export class StandIn {
    readonly asked: { method: string; url: string; authorization: string | undefined; body: string }[] = [];

    private constructor(private readonly server: HttpServer) {}

    static async start(answer: (asked: StandIn["asked"]) => { status: number; headers?: Record<string, string>; body?: unknown } | "cut" | "silence"): Promise<StandIn> {
        const listener: RequestListener = async (request, response) => {
            let body = "";
            for await (const part of request) body += part;
            standIn.asked.push({ method: request.method!, url: request.url!, authorization: request.headers.authorization, body });
            const told = answer(standIn.asked);
            if (told === "silence") return;
            if (told === "cut") return void request.socket.destroy();
            const text = typeof told.body === "string" ? told.body : JSON.stringify(told.body ?? { status: "success" });
            response.writeHead(told.status, { "Content-Type": "application/json", ...told.headers }).end(text);
        };
        const standIn = new StandIn(createServer(listener));
        await new Promise<void>((resolve) => standIn.server.listen(0, "127.0.0.1", resolve));
        return standIn;
    }

    get address(): string {
        return `http://127.0.0.1:${(this.server.address() as AddressInfo).port}`;
    }

    async stop(): Promise<void> {
        this.server.closeAllConnections();
        await new Promise((resolve) => this.server.close(resolve));
    }
}

const base64url = (data: string | Buffer): string => Buffer.from(data).toString("base64url");
const sha256 = (data: string | Buffer): Buffer => createHash("sha256").update(data).digest();

/** The code that an authenticator app shows; `step` counts half minutes from now. */
export function totp(secret: string, step = 0): string {
    const letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
    const bits = [...secret].map((letter) => letters.indexOf(letter).toString(2).padStart(5, "0")).join("");
    const key = Buffer.from(bits.match(/.{8}/g)!.map((byte) => parseInt(byte, 2)));
    const counter = Buffer.alloc(8);
    counter.writeBigUInt64BE(BigInt(Math.floor(Date.now() / 30_000) + step));
    const digest = createHmac("sha1", key).update(counter).digest();
    const number = digest.readUInt32BE(digest[19]! & 15) & 0x7fffffff;
    return String(number % 1_000_000).padStart(6, "0");
}

/** Waits where a half minute is about to end, for the next one counts other codes. */
export async function startOfHalfMinute(): Promise<void> {
    const left = 30_000 - (Date.now() % 30_000);
    if (left < 3_000) await new Promise((resolve) => setTimeout(resolve, left));
}

const buffer = (data: Buffer): ArrayBuffer => new Uint8Array(data).buffer;

/** A security key with one passkey. It gives what a browser gives: buffers. */
export class Authenticator {
    private readonly keys = generateKeyPairSync("ec", { namedCurve: "P-256" });
    private readonly id = randomBytes(16);
    private user: ArrayBuffer | undefined;
    private uses = 0;

    constructor(private readonly origin: string) {}

    create(options: { challenge: ArrayBuffer; rp: { id: string }; user: { id: ArrayBuffer } }): unknown {
        this.user = options.user.id;
        const { x, y } = this.keys.publicKey.export({ format: "jwk" });
        const bytes = (text: string): Buffer => Buffer.concat([Buffer.from([0x58, 32]), Buffer.from(text, "base64url")]);
        // A COSE key: {1: 2, 3: -7, -1: 1, -2: x, -3: y}.
        const key = Buffer.concat([Buffer.from("a501020326200121", "hex"), bytes(x!), Buffer.from([0x22]), bytes(y!)]);
        const credential = Buffer.concat([Buffer.alloc(16), Buffer.from([0, this.id.length]), this.id, key]);
        const data = Buffer.concat([this.data(options.rp.id, 0x45), credential]);
        // {"fmt": "none", "attStmt": {}, "authData": data}
        const object = Buffer.concat([
            Buffer.from("a363666d74646e6f6e656761747453746d74a068617574684461746159", "hex"),
            Buffer.from([data.length >> 8, data.length & 255]),
            data,
        ]);
        return this.credential({
            clientDataJSON: buffer(this.clientData("webauthn.create", options.challenge)),
            attestationObject: buffer(object),
        });
    }

    get(options: { challenge: ArrayBuffer; rpId: string }): unknown {
        const client = this.clientData("webauthn.get", options.challenge);
        const data = this.data(options.rpId, 0x05);
        const signature = createSign("sha256").update(Buffer.concat([data, sha256(client)])).sign(this.keys.privateKey);
        return this.credential({
            clientDataJSON: buffer(client),
            authenticatorData: buffer(data),
            signature: buffer(signature),
            userHandle: this.user,
        });
    }

    private credential(response: Record<string, unknown>): unknown {
        return { id: base64url(this.id), rawId: buffer(this.id), type: "public-key", response };
    }

    private clientData(type: string, challenge: ArrayBuffer): Buffer {
        return Buffer.from(JSON.stringify({ type, challenge: base64url(Buffer.from(challenge)), origin: this.origin, crossOrigin: false }));
    }

    private data(domain: string, flags: number): Buffer {
        const counter = Buffer.alloc(4);
        counter.writeUInt32BE(++this.uses);
        return Buffer.concat([sha256(domain), Buffer.from([flags]), counter]);
    }
}

/** A provider of identities that gives ID tokens to apps. */
export class Provider {
    private constructor(
        private readonly standIn: StandIn,
        private readonly key: KeyObject,
    ) {}

    static async start(): Promise<Provider> {
        const { publicKey, privateKey } = generateKeyPairSync("ec", { namedCurve: "P-256" });
        const standIn: StandIn = await StandIn.start((asked) => {
            const issuer = standIn.address;
            return {
                status: 200,
                body: asked.at(-1)!.url.endsWith("/keys")
                    ? { keys: [{ ...publicKey.export({ format: "jwk" }), alg: "ES256", use: "sig", kid: "key-1" }] }
                    : {
                          issuer,
                          jwks_uri: `${issuer}/keys`,
                          authorization_endpoint: `${issuer}/auth`,
                          token_endpoint: `${issuer}/token`,
                          response_types_supported: ["code"],
                          subject_types_supported: ["public"],
                          id_token_signing_alg_values_supported: ["ES256"],
                      },
            };
        });
        return new Provider(standIn, privateKey);
    }

    get issuer(): string {
        return this.standIn.address;
    }

    idToken(claims: Record<string, unknown>): string {
        const now = Math.floor(Date.now() / 1000);
        const all = { iss: this.issuer, aud: "org.example.cellar", iat: now, exp: now + 300, jti: randomBytes(8).toString("hex"), ...claims };
        const text = [{ alg: "ES256", kid: "key-1", typ: "JWT" }, all].map((part) => base64url(JSON.stringify(part))).join(".");
        const signature = createSign("sha256").update(text).sign({ key: this.key, dsaEncoding: "ieee-p1363" });
        return `${text}.${base64url(signature)}`;
    }

    stop(): Promise<void> {
        return this.standIn.stop();
    }
}

