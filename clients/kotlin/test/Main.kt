// Uses the client against a server that runs, on the JVM: java -cp … MainKt http://127.0.0.1:8000

import java.net.URI
import java.net.http.HttpClient
import java.net.http.HttpRequest
import java.net.http.HttpResponse
import java.time.Duration
import javax.crypto.Mac
import javax.crypto.spec.SecretKeySpec

/** A transport for the JVM. */
class JavaHttpTransport : Transport {
    private val client = HttpClient.newBuilder().connectTimeout(Duration.ofSeconds(30)).build()

    override fun send(request: Transport.Request): Transport.Response {
        val body = request.body?.let { HttpRequest.BodyPublishers.ofByteArray(it) } ?: HttpRequest.BodyPublishers.noBody()
        val builder = HttpRequest.newBuilder(URI(request.url)).timeout(Duration.ofSeconds(30)).method(request.method, body)
        request.headers.forEach { (name, value) -> builder.header(name, value) }
        val response = client.send(builder.build(), HttpResponse.BodyHandlers.ofString())
        val header = { name: String -> response.headers().firstValue(name).orElse(null) }
        return Transport.Response(response.statusCode(), response.body(), header("Retry-After"), header("X-Request-Id"))
    }
}

/** Answers what it is told, and counts. */
class Told(private vararg val answers: Any) : Transport {
    var sent = 0

    override fun send(request: Transport.Request): Transport.Response {
        val answer = answers[minOf(sent++, answers.size - 1)]
        if (answer is Int) return Transport.Response(answer, """{"error": "no"}""", "0", null)
        if (answer is String) return Transport.Response(200, answer, null, null)
        throw java.net.ConnectException("refused")
    }
}

fun refused(status: Int, call: () -> Unit): AuthTokensException.Refused {
    try {
        call()
    } catch (error: AuthTokensException.Refused) {
        check(error.status == status) { "${error.status}: ${error.error}" }
        return error
    }
    error("it was not refused")
}

fun totp(secret: String): String {
    val bits = secret.map { "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567".indexOf(it).toString(2).padStart(5, '0') }.joinToString("")
    val key = bits.chunked(8).filter { it.length == 8 }.map { it.toInt(2).toByte() }.toByteArray()
    val mac = Mac.getInstance("HmacSHA1").apply { init(SecretKeySpec(key, "HmacSHA1")) }
    val counter = java.nio.ByteBuffer.allocate(8).putLong(System.currentTimeMillis() / 30_000).array()
    val digest = mac.doFinal(counter)
    val number = java.nio.ByteBuffer.wrap(digest).getInt(digest[19].toInt() and 15) and 0x7fffffff
    return (number % 1_000_000).toString().padStart(6, '0')
}

fun use(address: String, transport: Transport, name: String, patch: Boolean) {
    var told = 0
    val client = AuthTokens(address, transport = transport, onSessionEnded = { told++ })
    val session = client.register(name, "hunter2 \"\\\u0001 ü😀", mapOf("city" to "Chicago"))
    val password = "hunter2 \"\\\u0001 ü😀"
    check(session.registered && session.user.fields["city"] == "Chicago")
    check(refused(400) { client.register(name, "x") }.invalid == "column username is not unique")
    refused(401) { client.login(name, "wrong") }
    check(client.user().username == name)
    if (patch) check(client.update(mapOf("first_name" to "Zoë 😀")).firstName == "Zoë 😀")
    check(client.replaceList(ListName.CELLAR, listOf(3, 1)) == listOf(1L, 3L))
    check(client.addItem(ListName.CELLAR, 9007199254740991) == listOf(1L, 3L, 9007199254740991))
    check(client.removeItem(ListName.CELLAR, 1).size == 2 && client.list(ListName.WANTS).isEmpty())

    val other = AuthTokens(address, transport = transport)
    check(other.login(name, password) is LoginResult.Session)
    check(client.sessions().count { !it.current } == 1)
    client.endSession(client.sessions().first { !it.current }.id)
    refused(401) { other.user() }
    check(other.token() == null)

    refused(400) { client.reauthenticate("wrong") }
    check(client.token() != null && told == 0)
    client.reauthenticate(password)
    val secret = client.beginTotp()["secret"] as String
    val codes = client.confirmTotp(totp(secret))
    check(codes.size == 10)
    val due = other.login(name, password) as LoginResult.SecondFactorDue
    check(due.methods == listOf("totp", "recovery_code") && other.token() == null && due.token !in due.toString())
    val again = other.secondFactor(due, Proof.RecoveryCode(codes[0]))
    check(again.recoveryCode != null && again.user.username == name)
    refused(404) { client.passkeyLoginOptions() }
    refused(404) { client.loginByIdToken("google", "a.b.c") }
    refused(404) { client.forgotPassword("a@d.example") }

    client.changePassword("correct horse", password)
    refused(401) { other.user() }
    val third = AuthTokens(address, transport = transport)
    (third.login(name, "correct horse") as LoginResult.SecondFactorDue).let { third.secondFactor(it, Proof.RecoveryCode(codes[1])) }
    third.logoutAll()
    refused(401) { client.user() }
    check(told == 1 && client.token() == null)
    client.logout()
    check(told == 1)
    (third.login(name, "correct horse") as LoginResult.SecondFactorDue).let { third.secondFactor(it, Proof.RecoveryCode(codes[2])) }
    refused(400) { third.delete("wrong") }
    third.reauthenticate("correct horse")
    third.delete()
    check(third.token() == null)
}

fun main(arguments: Array<String>) {
    use(arguments[0], JavaHttpTransport(), "Kotlin1", patch = true)
    use(arguments[0], UrlConnectionTransport(), "Kotlin2", patch = false)

    fun client(transport: Transport) = AuthTokens("https://accounts.example.org", transport = transport)
    val broken = Any()
    Told(503, "[1]").let { check(client(it).list(ListName.WANTS) == listOf(1L) && it.sent == 2) }
    Told(broken, "[1]").let { check(client(it).addItem(ListName.WANTS, 1) == listOf(1L) && it.sent == 2) }
    Told(503).let { refused(503) { client(it).user() }; check(it.sent == 3) }
    Told(503).let { refused(503) { client(it).changePassword("x") }; check(it.sent == 1) }
    Told(503).let { refused(503) { client(it).login("a", "b", "123456") }; check(it.sent == 1) }
    Told(503).let { refused(503) { client(it).login("a", "b") }; check(it.sent == 3) }
    Told(429).let { refused(429) { client(it).changePassword("x") }; check(it.sent == 3) }
    Told(broken).let {
        check(runCatching { client(it).login("a", "b") }.exceptionOrNull() is AuthTokensException.Network)
        check(it.sent == 1)
    }
    Told("<html>").let { check(runCatching { client(it).logout() }.exceptionOrNull() is AuthTokensException.Network) }
    for (text in listOf("", "{", "[1,]", "nul", "\"a", "{\"a\" 1}", "1 2", "\"\\u12\"", "-", "[".repeat(200))) {
        check(runCatching { Json.read(text) }.exceptionOrNull() is IllegalArgumentException) { text }
    }
    check(Json.read(""" {"a":[1,-2.5,true,null,"\u00fc\n\ud83d\ude00"]} """) == mapOf("a" to listOf(1L, -2.5, true, null, "ü\n😀")))
    println("The client works.")
}
