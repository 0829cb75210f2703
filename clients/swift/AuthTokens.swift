// A client for authtokens. Copy this file into your app. It needs Foundation alone, and iOS 15, macOS 12 or newer.

import Foundation
#if canImport(FoundationNetworking)
import FoundationNetworking
#endif

/// Where the token is kept. One store belongs to one client, which asks it one thing at a time.
public protocol TokenStore: Sendable {
    func get() throws -> String?
    func set(_ token: String) throws
    func clear() throws
}

/// Keeps the token for as long as the process runs.
public final class MemoryTokenStore: TokenStore, @unchecked Sendable {
    private let lock = NSLock()
    private var token: Secret?

    public init() {}

    public func get() -> String? {
        lock.lock()
        defer { lock.unlock() }
        return token?.value
    }

    public func set(_ token: String) {
        lock.lock()
        defer { lock.unlock() }
        self.token = Secret(value: token)
    }

    public func clear() {
        lock.lock()
        defer { lock.unlock() }
        token = nil
    }
}

public enum AuthTokensError: Error, Sendable {
    /// The service has refused the call.
    case refused(Refusal)
    /// No answer came. What was asked for may have been done.
    case network(Error)
    /// The answer is not one of the service: is the address right?
    case notTheService
}

public struct Refusal: Sendable {
    public let status: Int
    /// The service's sentence, for a person.
    public let error: String
    /// In how many seconds to try again, where the service says so.
    public let retryAfter: Double?
    /// The request's id in the service's log.
    public let requestId: String?
    fileprivate let body: ErrorBody?

    /// What is wrong with what was sent, where that is why it was refused: `column username is not unique`.
    public var invalid: String? {
        let start = "Invalid Data: "
        return error.hasPrefix(start) ? String(error.dropFirst(start.count)) : nil
    }
}

/// What a login comes to.
public enum LoginResult: Sendable {
    /// The session is open, and its token stored.
    case session(LoginSession)
    /// The first factor was right. Hand this to `secondFactor`, within five minutes.
    case secondFactor(SecondFactorDue)
    /// Have the owner log in otherwise, then hand this to `linkIdentity`.
    case link(LinkOffered)
}

public struct LoginSession: Sendable {
    public let user: User
    /// Whether the account was made just now.
    public let registered: Bool
    /// The replacement of a recovery code that was used. Show it to the owner.
    public let recoveryCode: String?
}

public struct SecondFactorDue: Decodable, Sendable {
    public let methods: [String]
    public let expires: String
    fileprivate let token: Secret
}

public struct LinkOffered: Sendable {
    public let error: String
    public let expires: String
    fileprivate let token: Secret
}

/// What proves the second factor.
public enum Proof: Sendable {
    case code(String)
    case recoveryCode(String)
    case passkey(PasskeyAssertion)
}

public struct User: Decodable, Sendable {
    public let username, firstName, lastName, email: String
    public let isActive, isSuperuser, isStaff: Bool
    public let address, address2, city, state, zipcode: String
    public let cellar, wants: [Int]
    public let lastLogin, created, modified, dateJoined: String
}

/// A session of the account.
public struct SessionInfo: Decodable, Sendable {
    public let id, created, lastUsed, userAgent: String
    public let expires, ip: String?
    public let current: Bool
}

public struct Totp: Decodable, Sendable {
    public let secret, uri, qrSvg: String
}

/// What `ASAuthorizationPlatformPublicKeyCredentialProvider` is asked with.
public struct PasskeyOptions: Sendable {
    public let challenge: Data
    /// For a new passkey.
    public let userId: Data?
    public let userName: String?
}

/// What an `ASAuthorizationPlatformPublicKeyCredentialAssertion` has: `credentialID`, `rawClientDataJSON` and so on.
public struct PasskeyAssertion: Encodable, Sendable {
    private let id, rawId: String
    private let response: [String: String]

    public init(credentialId: Data, clientDataJSON: Data, authenticatorData: Data, signature: Data, userId: Data) {
        id = credentialId.base64url
        rawId = id
        response = [
            "clientDataJSON": clientDataJSON.base64url, "authenticatorData": authenticatorData.base64url,
            "signature": signature.base64url, "userHandle": userId.base64url,
        ]
    }
}

/// What an `ASAuthorizationPlatformPublicKeyCredentialRegistration` has.
public struct PasskeyRegistration: Encodable, Sendable {
    private let id, rawId: String
    private let response: [String: String]

    public init(credentialId: Data, clientDataJSON: Data, attestationObject: Data) {
        id = credentialId.base64url
        rawId = id
        response = ["clientDataJSON": clientDataJSON.base64url, "attestationObject": attestationObject.base64url]
    }
}

public enum ListName: String, Sendable {
    case cellar, wants
}

public actor AuthTokens {
    private let address: String
    private let store: TokenStore
    private let tries: Int
    private let seconds: Double
    private let onSessionEnded: @Sendable () -> Void
    private let session: URLSession

    /// - Parameters:
    ///   - address: where the service is: `https://accounts.example.org`
    ///   - tries: how often a request is sent at most
    ///   - seconds: for how long tries are begun, from the first
    ///   - timeout: how many seconds one try may wait for its answer
    ///   - onSessionEnded: told when the service has refused the stored token, after it was cleared: show the login
    public init(
        address: URL, store: TokenStore = MemoryTokenStore(), tries: Int = 3, seconds: Double = 30, timeout: Double = 30,
        onSessionEnded: @escaping @Sendable () -> Void = {}
    ) {
        var text = address.absoluteString
        while text.hasSuffix("/") { text.removeLast() }
        self.address = text
        self.store = store
        self.tries = tries
        self.seconds = seconds
        self.onSessionEnded = onSessionEnded
        let configuration = URLSessionConfiguration.ephemeral
        configuration.timeoutIntervalForRequest = timeout
        configuration.httpShouldSetCookies = false
        session = URLSession(configuration: configuration, delegate: NoRedirections(), delegateQueue: nil)
    }

    deinit {
        session.finishTasksAndInvalidate()
    }

    /// The stored token, for calls of your own back end. Keep it out of addresses and logs.
    public func token() throws -> String? {
        guard let token = try store.get(), (1...256).contains(token.utf8.count) else { return nil }
        return token.utf8.allSatisfy { (0x21...0x7e).contains($0) } ? token : nil
    }

    /// Clears the store without a call. The session lives on: `logout` ends it.
    public func forget() throws {
        try store.clear()
    }

    // MARK: In and out

    /// `profile` has the names of the service: `first_name`, `city`.
    public func register(username: String, password: String, profile: [String: String] = [:]) async throws -> LoginSession {
        let body = profile.merging(["username": username, "password": password]) { $1 }
        return try enter(await send("POST", "/api/register", json(body)))
    }

    /// A session, or a second factor that is due.
    public func login(username: String, password: String, code: String? = nil) async throws -> LoginResult {
        try await signIn("/api/login", given(["username": username, "password": password, "code": code]))
    }

    public func secondFactor(_ due: SecondFactorDue, _ proof: Proof) async throws -> LoginSession {
        struct Body: Encodable {
            let token: String
            var code, recovery_code: String?
            var passkey: PasskeyAssertion?
        }
        var body = Body(token: due.token.value)
        switch proof {
        case .code(let code): body.code = code
        case .recoveryCode(let code): body.recovery_code = code
        case .passkey(let passkey): body.passkey = passkey
        }
        return try enter(await send("POST", "/api/login/second", json(body)))
    }

    /// Any of the three results. With a first Apple sign-in `more` has `authorization_code`, `first_name`, `last_name`.
    public func login(
        provider: String, idToken: String, nonce: String? = nil, more: [String: String] = [:]
    ) async throws -> LoginResult {
        let body = given(["provider": provider, "id_token": idToken, "nonce": nonce])
        return try await signIn("/api/login/oidc", body.merging(more) { $1 })
    }

    public func passkeyLoginOptions() async throws -> PasskeyOptions {
        try options(await send("POST", "/api/login/passkey/options"))
    }

    public func login(passkey: PasskeyAssertion) async throws -> LoginSession {
        try enter(await send("POST", "/api/login/passkey", json(["passkey": passkey])))
    }

    /// Ends the session and forgets its token. That it has ended already is no error.
    public func logout() async throws {
        try await end("/api/logout")
    }

    /// Ends every session of the account, this one too.
    public func logoutAll() async throws {
        try await end("/api/logoutall")
    }

    // MARK: The account

    public func user() async throws -> User {
        try decoded(await send("GET", "/api/user"))
    }

    /// By the names of the service: `first_name`, `city`.
    public func update(_ profile: [String: String]) async throws -> User {
        try decoded(await send("PATCH", "/api/user", json(profile)))
    }

    /// Without the password in a fresh session.
    public func delete(password: String? = nil) async throws {
        let token = try token()
        _ = try await send("DELETE", "/api/user", password.map { try json(["password": $0]) })
        if let token { _ = try forget(token) }
    }

    /// Without the present password in a fresh session. Every other session ends.
    public func changePassword(to new: String, current: String? = nil) async throws {
        _ = try await send("POST", "/api/user/password", json(given(["new_password": new, "current_password": current])))
    }

    /// Makes the session fresh for ten minutes.
    public func reauthenticate(password: String) async throws {
        _ = try await send("POST", "/api/user/reauthenticate", json(["password": password]))
    }

    public func sessions() async throws -> [SessionInfo] {
        try decoded(await send("GET", "/api/user/tokens"))
    }

    /// By the `id` of `sessions`.
    public func endSession(_ id: String) async throws {
        var letters = CharacterSet.alphanumerics
        letters.formIntersection(CharacterSet(charactersIn: "\u{0}"..."\u{7f}"))
        guard !id.isEmpty, let encoded = id.addingPercentEncoding(withAllowedCharacters: letters) else {
            throw AuthTokensError.notTheService
        }
        _ = try await send("DELETE", "/api/user/tokens/\(encoded)")
    }

    // MARK: The two lists. Each call answers the whole list.

    public func list(_ name: ListName) async throws -> [Int] {
        try decoded(await send("GET", "/api/user/\(name.rawValue)"))
    }

    public func replaceList(_ name: ListName, with items: [Int]) async throws -> [Int] {
        try decoded(await send("PUT", "/api/user/\(name.rawValue)", json(items)))
    }

    public func addItem(_ item: Int, to name: ListName) async throws -> [Int] {
        try decoded(await send("PUT", "/api/user/\(name.rawValue)/\(item)"))
    }

    public func removeItem(_ item: Int, from name: ListName) async throws -> [Int] {
        try decoded(await send("DELETE", "/api/user/\(name.rawValue)/\(item)"))
    }

    // MARK: By mail. What mails something answers a request id, which goes with the mail's code.

    public func forgotPassword(email: String) async throws -> String {
        try requestId(await send("POST", "/api/password/forgot", json(["email": email])))
    }

    /// Opens no session: log in.
    public func resetPassword(request: String, code: String, newPassword: String) async throws {
        let body = ["request": request, "code": code, "new_password": newPassword]
        _ = try await send("POST", "/api/password/reset", json(body))
    }

    public func changeEmail(to email: String, password: String? = nil) async throws -> String {
        try requestId(await send("POST", "/api/user/email", json(given(["email": email, "password": password]))))
    }

    public func confirmEmail(code: String) async throws -> User {
        try decoded(await send("POST", "/api/user/email/confirm", json(["code": code])))
    }

    // MARK: Authenticator app, passkeys, identities: in a fresh session

    public func beginTotp() async throws -> Totp {
        try decoded(await send("POST", "/api/user/totp"))
    }

    /// Turns it on, and answers the recovery codes, which are shown this once.
    public func confirmTotp(code: String) async throws -> [String] {
        struct Codes: Decodable { let recoveryCodes: [String] }
        let codes: Codes = try decoded(await send("POST", "/api/user/totp/confirm", json(["code": code])))
        return codes.recoveryCodes
    }

    public func removeTotp(code: String) async throws {
        _ = try await send("DELETE", "/api/user/totp", json(["code": code]))
    }

    /// An account with an authenticator app needs a code of it.
    public func newPasskeyOptions(code: String? = nil) async throws -> PasskeyOptions {
        let proof: [String: String] = code.map { ["code": $0] } ?? [:]
        return try options(await send("POST", "/api/user/passkeys/options", json(proof)))
    }

    public func addPasskey(_ passkey: PasskeyRegistration, name: String) async throws {
        struct Body: Encodable {
            let name: String
            let passkey: PasskeyRegistration
        }
        _ = try await send("POST", "/api/user/passkeys", json(Body(name: name, passkey: passkey)))
    }

    public func linkIdentity(_ offer: LinkOffered) async throws {
        _ = try await send("POST", "/api/user/identities", json(["link_token": offer.token.value]))
    }

    // MARK: How it is done

    /// Any other call, with JSON. Values in the path must be percent-encoded. `repeatable`: a second time does no harm.
    public func call<T: Decodable & Sendable>(
        _ method: String, _ path: String, body: Data? = nil, repeatable: Bool = false, as type: T.Type = T.self
    ) async throws -> T {
        try decoded(await send(method, path, body, repeatable: repeatable))
    }

    private struct Answer {
        let status: Int
        let body: Data
    }

    private static let logouts = ["/api/logout", "/api/logoutall"]

    private func send(_ method: String, _ path: String, _ body: Data? = nil, repeatable: Bool = false) async throws -> Answer {
        let name = path.split(separator: "?")[0].split(separator: "/").dropFirst().first
        let inSession = ["user", "users", "events", "logout", "logoutall"].contains(name) && path.hasPrefix("/api/")
        let token = inSession ? try token() : nil
        do {
            return try await repeated(method, path, body, token, repeatable)
        } catch AuthTokensError.refused(let refusal) {
            if refusal.status == 401, let token, try forget(token), !Self.logouts.contains(path) { onSessionEnded() }
            throw AuthTokensError.refused(refusal)
        }
    }

    private func repeated(
        _ method: String, _ path: String, _ body: Data?, _ token: String?, _ repeatable: Bool
    ) async throws -> Answer {
        let parts = path.split(separator: "/")
        let item = parts.count == 4 && (path.hasPrefix("/api/user/cellar/") || path.hasPrefix("/api/user/wants/"))
        let idempotent = method == "GET" || method == "PUT" || (method == "DELETE" && item)
        let end = Date().addingTimeInterval(seconds)
        var left = tries
        var pause = 0.5
        while true {
            left -= 1
            var wait = pause
            do {
                return try await once(method, path, body, token)
            } catch AuthTokensError.network(let error) {
                guard idempotent else { throw AuthTokensError.network(error) }
                // Not all at once, when many were refused together.
                wait += Double.random(in: 0...0.25)
                if left <= 0 || Date().addingTimeInterval(wait) > end { throw AuthTokensError.network(error) }
            } catch AuthTokensError.refused(let refusal) {
                var again = refusal.status == 429 || refusal.status == 503
                // Without Retry-After a proxy may have answered for a service that has done what was asked.
                if refusal.retryAfter == nil && !idempotent { again = false }
                // A 429 means that nothing was done. So does a 503, but where a commit's end could not be learnt.
                if refusal.status == 503 && !idempotent && !repeatable && !isHarmless(method, path, body) { again = false }
                wait = (refusal.retryAfter ?? pause) + Double.random(in: 0...0.25)
                if !again || left <= 0 || Date().addingTimeInterval(wait) > end { throw AuthTokensError.refused(refusal) }
            }
            try await Task.sleep(nanoseconds: UInt64(wait * 1_000_000_000))
            pause *= 2
        }
    }

    /// Whether a second time costs at most a session or options that nobody uses.
    private func isHarmless(_ method: String, _ path: String, _ body: Data?) -> Bool {
        guard method == "POST" else { return false }
        let fields = body.flatMap { try? JSONSerialization.jsonObject(with: $0) as? [String: Any] } ?? [:]
        switch path {
        // A code counts once.
        case "/api/login": return fields["code"] == nil && fields["recovery_code"] == nil
        case "/api/user/reauthenticate": return Array(fields.keys) == ["password"]
        case "/api/user/passkeys/options": return fields.isEmpty
        case "/api/login/passkey/options", "/api/user/reauthenticate/passkey": return true
        default: return Self.logouts.contains(path)
        }
    }

    private func once(_ method: String, _ path: String, _ body: Data?, _ token: String?) async throws -> Answer {
        guard let url = URL(string: address + path) else { throw AuthTokensError.notTheService }
        var request = URLRequest(url: url, cachePolicy: .reloadIgnoringLocalCacheData)
        request.httpMethod = method
        request.setValue("application/json", forHTTPHeaderField: "Accept")
        if let token { request.setValue("Token \(token)", forHTTPHeaderField: "Authorization") }
        // A POST without a body might be sent with the type of a form.
        if let sent = body ?? (method == "POST" ? Data("{}".utf8) : nil) {
            request.httpBody = sent
            request.setValue("application/json", forHTTPHeaderField: "Content-Type")
        }
        let data: Data
        let response: URLResponse
        do {
            (data, response) = try await session.data(for: request)
        } catch {
            if Task.isCancelled { throw CancellationError() }
            throw AuthTokensError.network(error)
        }
        guard let answer = response as? HTTPURLResponse else { throw AuthTokensError.notTheService }
        if (200...299).contains(answer.statusCode) { return Answer(status: answer.statusCode, body: data) }
        guard answer.statusCode >= 400 else { throw AuthTokensError.notTheService }
        let told: ErrorBody? = try? decoded(Answer(status: answer.statusCode, body: data))
        let retryAfter = answer.value(forHTTPHeaderField: "Retry-After").flatMap(Double.init)
        throw AuthTokensError.refused(Refusal(
            status: answer.statusCode,
            error: told?.error ?? "The answer was \(answer.statusCode).",
            retryAfter: retryAfter.flatMap { $0.isFinite && $0 >= 0 ? $0 : nil },
            requestId: answer.value(forHTTPHeaderField: "X-Request-Id"),
            body: told
        ))
    }

    private func signIn(_ path: String, _ body: [String: String]) async throws -> LoginResult {
        do {
            return .session(try enter(await send("POST", path, json(body))))
        } catch AuthTokensError.refused(let refusal) {
            if refusal.status == 401, let due = refusal.body?.secondFactor { return .secondFactor(due) }
            if refusal.status == 409, let token = refusal.body?.linkToken, let expires = refusal.body?.expires {
                return .link(LinkOffered(error: refusal.error, expires: expires, token: token))
            }
            throw AuthTokensError.refused(refusal)
        }
    }

    private func enter(_ answer: Answer) throws -> LoginSession {
        struct Body: Decodable {
            let token: String
            let user: User
            let recoveryCode: String?
        }
        let body: Body = try decoded(answer)
        try store.set(body.token)
        return LoginSession(user: body.user, registered: answer.status == 201, recoveryCode: body.recoveryCode)
    }

    private func end(_ path: String) async throws {
        let token = try token()
        do {
            _ = try await send("POST", path)
        } catch AuthTokensError.refused(let refusal) where refusal.status == 401 {}
        if let token { _ = try forget(token) }
    }

    /// Clears the store, unless another login has put its token there meanwhile. Answers whether it was there.
    private func forget(_ token: String) throws -> Bool {
        guard try store.get() == token else { return false }
        try store.clear()
        return true
    }

    private func json<T: Encodable>(_ body: T) throws -> Data {
        try JSONEncoder().encode(body)
    }

    private func given(_ fields: [String: String?]) -> [String: String] {
        fields.compactMapValues { $0 }
    }

    private func decoded<T: Decodable>(_ answer: Answer) throws -> T {
        let decoder = JSONDecoder()
        decoder.keyDecodingStrategy = .convertFromSnakeCase
        do {
            return try decoder.decode(T.self, from: answer.body)
        } catch {
            throw AuthTokensError.notTheService
        }
    }

    private func requestId(_ answer: Answer) throws -> String {
        struct Body: Decodable { let request: String }
        let body: Body = try decoded(answer)
        return body.request
    }

    private func options(_ answer: Answer) throws -> PasskeyOptions {
        struct Body: Decodable {
            struct Key: Decodable {
                struct User: Decodable { let id, name: String }
                let challenge: String
                let user: User?
            }
            let publicKey: Key
        }
        let body: Body = try decoded(answer)
        guard let challenge = Data(base64url: body.publicKey.challenge) else { throw AuthTokensError.notTheService }
        let user = body.publicKey.user
        return PasskeyOptions(challenge: challenge, userId: user.flatMap { Data(base64url: $0.id) }, userName: user?.name)
    }
}

private struct ErrorBody: Decodable, Sendable {
    let error: String
    let secondFactor: SecondFactorDue?
    let linkToken: Secret?
    let expires: String?
}

/// A text that is not printed.
private struct Secret: Decodable, Sendable, CustomStringConvertible, CustomReflectable {
    let value: String

    init(value: String) {
        self.value = value
    }

    init(from decoder: Decoder) throws {
        value = try decoder.singleValueContainer().decode(String.self)
    }

    var description: String { "(hidden)" }
    var customMirror: Mirror { Mirror(self, children: [:]) }
}

private final class NoRedirections: NSObject, URLSessionTaskDelegate {
    func urlSession(
        _ session: URLSession, task: URLSessionTask, willPerformHTTPRedirection response: HTTPURLResponse,
        newRequest request: URLRequest, completionHandler: @escaping (URLRequest?) -> Void
    ) {
        completionHandler(nil)
    }
}

extension Data {
    fileprivate var base64url: String {
        base64EncodedString().replacingOccurrences(of: "+", with: "-").replacingOccurrences(of: "/", with: "_")
            .replacingOccurrences(of: "=", with: "")
    }

    fileprivate init?(base64url text: String) {
        var plain = text.replacingOccurrences(of: "-", with: "+").replacingOccurrences(of: "_", with: "/")
        while plain.count % 4 != 0 { plain += "=" }
        self.init(base64Encoded: plain)
    }
}
