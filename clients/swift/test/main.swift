// Uses the client against a server that runs: ./main http://127.0.0.1:8000

import Foundation

func check(_ holds: Bool, _ line: Int = #line) {
    guard holds else { fatalError("line \(line)") }
}

@discardableResult
func refused(_ status: Int, line: Int = #line, _ call: () async throws -> Void) async -> Refusal {
    do {
        try await call()
    } catch AuthTokensError.refused(let refusal) {
        guard refusal.status == status else { fatalError("line \(line): \(refusal.status) \(refusal.error)") }
        return refusal
    } catch {
        fatalError("line \(line): \(error)")
    }
    fatalError("line \(line): it was not refused")
}

final class Count: @unchecked Sendable {
    private let lock = NSLock()
    private var value = 0
    func add() { lock.withLock { value += 1 } }
    var now: Int { lock.withLock { value } }
}

let address = URL(string: CommandLine.arguments[1])!
let told = Count()
let client = AuthTokens(address: address, onSessionEnded: { told.add() })
let password = "hunter2 \"\\\u{1} ü😀"
let session = try await client.register(username: "Swift", password: password, profile: ["city": "Chicago"])
check(session.registered && session.user.city == "Chicago")
let taken = await refused(400) { _ = try await client.register(username: "swift", password: "x") }
check(taken.invalid == "column username is not unique" && taken.requestId != nil)
await refused(401) { _ = try await client.login(username: "Swift", password: "wrong") }
let token = try await client.token()!
check(token.count == 40)
check(try await client.update(["first_name": "Zoë 😀"]).firstName == "Zoë 😀")
check(try await client.replaceList(.cellar, with: [3, 1]) == [1, 3])
check(try await client.addItem(9_007_199_254_740_991, to: .cellar) == [1, 3, 9_007_199_254_740_991])
check(try await client.removeItem(1, from: .cellar).count == 2)
check(try await client.list(.wants).isEmpty)

let store = MemoryTokenStore()
let other = AuthTokens(address: address, store: store)
guard case .session = try await other.login(username: "Swift", password: password) else { fatalError("no session") }
var shown = ""
dump(store, to: &shown)
check(!shown.contains(store.get()!))
let sessions = try await client.sessions()
check(sessions.count == 2)
try await client.endSession(sessions.first { !$0.current }!.id)
await refused(401) { _ = try await other.user() }
check(try await other.token() == nil)

await refused(400) { try await client.reauthenticate(password: "wrong") }
check(try await client.token() == token && told.now == 0)
try await client.reauthenticate(password: password)
let totp = try await client.beginTotp()
check(totp.uri.hasPrefix("otpauth://") && totp.qrSvg.contains("<svg"))
// The code is computed by what started this.
print(totp.secret)
fflush(stdout)
let codes = try await client.confirmTotp(code: readLine()!)
check(codes.count == 10)
guard case .secondFactor(let due) = try await other.login(username: "Swift", password: password) else { fatalError("not due") }
check(due.methods == ["totp", "recovery_code"])
check(try await other.token() == nil)
check("\(due)".contains("(hidden)"))
let again = try await other.secondFactor(due, .recoveryCode(codes[0]))
check(again.recoveryCode != nil && again.user.username == "Swift")
let options = try await other.passkeyLoginOptions()
check(options.challenge.count >= 16)
let passkey = PasskeyAssertion(
    credentialId: Data([1]), clientDataJSON: Data([2]), authenticatorData: Data([3]), signature: Data([4]), userId: Data([5]))
await refused(401) { _ = try await AuthTokens(address: address).login(passkey: passkey) }
let new = try await client.newPasskeyOptions()
check(new.userId != nil && new.userName == "Swift")
await refused(404) { _ = try await client.login(provider: "google", idToken: "a.b.c") }
await refused(404) { _ = try await client.forgotPassword(email: "a@d.example") }

try await client.changePassword(to: "correct horse", current: password)
await refused(401) { _ = try await other.user() }
struct Security: Decodable, Sendable { let hasPassword: Bool }
check(try await client.call("GET", "/api/user/security", as: Security.self).hasPassword)
guard case .secondFactor(let third) = try await other.login(username: "Swift", password: "correct horse") else { fatalError() }
_ = try await other.secondFactor(third, .recoveryCode(codes[1]))
try await other.logoutAll()
check(try await other.token() == nil)
await refused(401) { _ = try await client.user() }
check(told.now == 1)
try await client.logout()
guard case .secondFactor(let last) = try await client.login(username: "Swift", password: "correct horse") else { fatalError() }
_ = try await client.secondFactor(last, .recoveryCode(codes[2]))
await refused(400) { try await client.delete(password: "wrong") }
try await client.delete(password: "correct horse")
check(try await client.token() == nil)

let nobody = AuthTokens(address: URL(string: "http://127.0.0.1:1")!, tries: 2)
let start = Date()
do {
    _ = try await nobody.login(username: "a", password: "b")
    fatalError("somebody answered")
} catch AuthTokensError.network {
    check(Date().timeIntervalSince(start) < 0.4)
}
do {
    _ = try await nobody.user()
    fatalError("somebody answered")
} catch AuthTokensError.network {
    check(Date().timeIntervalSince(start) >= 0.5)
}
let task = Task { try await nobody.user() }
task.cancel()
do {
    _ = try await task.value
    fatalError("it was not cancelled")
} catch is CancellationError {}
print("The client works.")
