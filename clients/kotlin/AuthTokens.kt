/*
 * A client for authtokens. Copy this file into your app and put your package above it. It needs Kotlin's standard library
 * alone, and runs on Android and on the JVM. Its calls block: make them on Dispatchers.IO.
 */

import java.io.IOException
import java.net.HttpURLConnection
import java.net.URL
import java.net.URLEncoder

/** Where the token is kept. One store belongs to one client, which asks it one thing at a time. */
interface TokenStore {
    fun get(): String?
    fun set(token: String)
    fun clear()
}

/** Keeps the token for as long as the process runs. */
class MemoryTokenStore : TokenStore {
    private var token: String? = null

    override fun get(): String? = token

    override fun set(token: String) {
        this.token = token
    }

    override fun clear() {
        token = null
    }
}

sealed class AuthTokensException(message: String, cause: Throwable? = null) : Exception(message, cause) {
    /** The service has refused the call. */
    class Refused(
        val status: Int,
        /** The service's sentence, for a person. */
        val error: String,
        /** In how many seconds to try again, where the service says so. */
        val retryAfter: Long?,
        /** The request's id in the service's log. */
        val requestId: String?,
        internal val details: Map<*, *>,
    ) : AuthTokensException(error) {
        /** What is wrong with what was sent, where that is why it was refused: `column username is not unique`. */
        val invalid: String? = if (error.startsWith("Invalid Data: ")) error.removePrefix("Invalid Data: ") else null
    }

    /** No answer came that can be read. What was asked for may have been done. */
    class Network(message: String, cause: IOException? = null) : AuthTokensException(message, cause)
}

/** What a login comes to. No `toString` shows a token. */
sealed class LoginResult {
    /** The session is open, and its token stored. [recoveryCode] replaces one that was used: show it to the owner. */
    class Session(val user: User, val registered: Boolean, val recoveryCode: String?) : LoginResult()

    /** The first factor was right. Hand this to [AuthTokens.secondFactor], within five minutes. */
    class SecondFactorDue(val methods: List<String>, val expires: String, internal val token: String) : LoginResult()

    /** Have the owner log in otherwise, then hand this to [AuthTokens.linkIdentity]. */
    class LinkOffered(val error: String, val expires: String, internal val token: String) : LoginResult()
}

/** What proves the second factor. */
sealed class Proof {
    class Code(val code: String) : Proof()

    class RecoveryCode(val code: String) : Proof()

    /** [json] is what Credential Manager gave: `authenticationResponseJson`. */
    class Passkey(val json: String) : Proof()
}

/** An account. [fields] has every key of the service's object. */
class User(val fields: Map<String, Any?>) {
    val username: String get() = fields["username"] as String
    val firstName: String get() = fields["first_name"] as String
    val lastName: String get() = fields["last_name"] as String
    val email: String get() = fields["email"] as String
    val isStaff: Boolean get() = fields["is_staff"] as Boolean
    val isSuperuser: Boolean get() = fields["is_superuser"] as Boolean
    val created: String get() = fields["created"] as String
    val cellar: List<Long> get() = longs(fields["cellar"])
    val wants: List<Long> get() = longs(fields["wants"])
}

class Session(val id: String, val created: String, val lastUsed: String, val userAgent: String, val ip: String?, val current: Boolean)

enum class ListName(internal val path: String) { CELLAR("cellar"), WANTS("wants") }

/** What sends a request: replace it to use OkHttp, or java.net.http on the JVM. It must follow no redirections. */
interface Transport {
    class Request(val method: String, val url: String, val headers: Map<String, String>, val body: ByteArray?)

    /** [retryAfter] and [requestId] are the headers `Retry-After` and `X-Request-Id`. */
    class Response(val status: Int, val body: String, val retryAfter: String?, val requestId: String?)

    @Throws(IOException::class)
    fun send(request: Request): Response
}

/** For Android. The JVM's HttpURLConnection has no PATCH, and may send a POST twice by itself. */
class UrlConnectionTransport(private val timeoutMillis: Int = 30_000) : Transport {
    override fun send(request: Transport.Request): Transport.Response {
        val connection = URL(request.url).openConnection() as HttpURLConnection
        try {
            connection.requestMethod = request.method
            connection.instanceFollowRedirects = false
            connection.useCaches = false
            connection.connectTimeout = timeoutMillis
            connection.readTimeout = timeoutMillis
            request.headers.forEach { (name, value) -> connection.setRequestProperty(name, value) }
            if (request.body != null) {
                connection.doOutput = true
                // What is streamed is not sent again behind our back. The JVM takes no 401 then.
                if (isAndroid) connection.setFixedLengthStreamingMode(request.body.size)
                connection.outputStream.use { it.write(request.body) }
            }
            val status = connection.responseCode
            val stream = if (status < 400) connection.inputStream else connection.errorStream
            val body = stream?.use { it.readBytes().toString(Charsets.UTF_8) } ?: ""
            return Transport.Response(status, body, connection.getHeaderField("Retry-After"), connection.getHeaderField("X-Request-Id"))
        } finally {
            connection.disconnect()
        }
    }

    private companion object {
        val isAndroid = System.getProperty("java.vm.name") == "Dalvik"
    }
}

/**
 * @param address where the service is: `https://accounts.example.org`
 * @param tries how often a request is sent at most
 * @param seconds for how long tries are begun, from the first
 * @param onSessionEnded told when the service has refused the stored token, after it was cleared: show the login
 */
class AuthTokens(
    address: String,
    private val store: TokenStore = MemoryTokenStore(),
    private val transport: Transport = UrlConnectionTransport(),
    private val tries: Int = 3,
    private val seconds: Long = 30,
    private val onSessionEnded: () -> Unit = {},
) {
    private val address = address.trimEnd('/')
    private val lock = Any()

    init {
        require(Regex("https?://[^/?#@\\s]+(/[^?#\\s]*)?").matches(address)) { "address must be an http or https address" }
    }

    /** The stored token, for calls of your own back end. Keep it out of addresses and logs. */
    fun token(): String? = synchronized(lock) { store.get() }?.takeIf { token ->
        token.length in 1..256 && token.all { it in '!'..'~' }
    }

    /** Clears the store without a call. The session lives on: [logout] ends it. */
    fun forget() = synchronized(lock) { store.clear() }

    // ---- In and out.

    fun register(username: String, password: String, profile: Map<String, String> = emptyMap()): LoginResult.Session =
        enter(send("POST", "/api/register", profile + mapOf("username" to username, "password" to password)))

    /** A [LoginResult.Session], or a [LoginResult.SecondFactorDue]. */
    fun login(username: String, password: String, code: String? = null): LoginResult =
        signIn("/api/login", given("username" to username, "password" to password, "code" to code))

    fun secondFactor(due: LoginResult.SecondFactorDue, proof: Proof): LoginResult.Session {
        val given = when (proof) {
            is Proof.Code -> "code" to proof.code
            is Proof.RecoveryCode -> "recovery_code" to proof.code
            is Proof.Passkey -> "passkey" to Json.read(proof.json)
        }
        return enter(send("POST", "/api/login/second", mapOf("token" to due.token, given)))
    }

    /** Any of the three results. With a first Apple sign-in [more] has `authorization_code`, `first_name`, `last_name`. */
    fun loginByIdToken(provider: String, idToken: String, nonce: String? = null, more: Map<String, String> = emptyMap()): LoginResult =
        signIn("/api/login/oidc", given("provider" to provider, "id_token" to idToken, "nonce" to nonce) + more)

    /** What Credential Manager takes, as JSON. */
    fun passkeyLoginOptions(): String = options(send("POST", "/api/login/passkey/options"))

    fun loginByPasskey(json: String): LoginResult.Session =
        enter(send("POST", "/api/login/passkey", mapOf("passkey" to Json.read(json))))

    /** Ends the session and forgets its token. That it has ended already is no error. */
    fun logout() = end("/api/logout")

    /** Ends every session of the account, this one too. */
    fun logoutAll() = end("/api/logoutall")

    // ---- The account.

    fun user(): User = User(fields(send("GET", "/api/user")))

    /** By the names of the service: `first_name`, `city`. */
    fun update(profile: Map<String, String>): User = User(fields(send("PATCH", "/api/user", profile)))

    /** Without the password in a fresh session. */
    fun delete(password: String? = null) {
        val token = token()
        send("DELETE", "/api/user", password?.let { mapOf("password" to it) })
        token?.let(::forget)
    }

    /** Without the present password in a fresh session. Every other session ends. */
    fun changePassword(new: String, current: String? = null) {
        send("POST", "/api/user/password", given("new_password" to new, "current_password" to current))
    }

    /** Makes the session fresh for ten minutes. */
    fun reauthenticate(password: String) {
        send("POST", "/api/user/reauthenticate", mapOf("password" to password))
    }

    fun sessions(): List<Session> = (send("GET", "/api/user/tokens").data as List<*>).map {
        val one = it as Map<*, *>
        Session(
            one["id"] as String, one["created"] as String, one["last_used"] as String,
            one["user_agent"] as String, one["ip"] as String?, one["current"] as Boolean,
        )
    }

    fun endSession(id: String) {
        send("DELETE", "/api/user/tokens/${encoded(id)}")
    }

    // ---- The two lists. Each call answers the whole list.

    fun list(name: ListName): List<Long> = longs(send("GET", "/api/user/${name.path}").data)

    fun replaceList(name: ListName, items: List<Long>): List<Long> = longs(send("PUT", "/api/user/${name.path}", items).data)

    fun addItem(name: ListName, item: Long): List<Long> = longs(send("PUT", "/api/user/${name.path}/$item").data)

    fun removeItem(name: ListName, item: Long): List<Long> = longs(send("DELETE", "/api/user/${name.path}/$item").data)

    // ---- By mail. What mails something answers a request id, which goes with the mail's code.

    fun forgotPassword(email: String): String =
        fields(send("POST", "/api/password/forgot", mapOf("email" to email)))["request"] as String

    /** Opens no session: log in. */
    fun resetPassword(request: String, code: String, newPassword: String) {
        send("POST", "/api/password/reset", mapOf("request" to request, "code" to code, "new_password" to newPassword))
    }

    fun changeEmail(email: String, password: String? = null): String =
        fields(send("POST", "/api/user/email", given("email" to email, "password" to password)))["request"] as String

    fun confirmEmail(code: String): User = User(fields(send("POST", "/api/user/email/confirm", mapOf("code" to code))))

    // ---- Authenticator app, passkeys, identities: in a fresh session.

    /** `secret`, `uri` and `qr_svg`. */
    fun beginTotp(): Map<String, Any?> = fields(send("POST", "/api/user/totp"))

    /** Turns it on, and answers the recovery codes, which are shown this once. */
    fun confirmTotp(code: String): List<String> =
        (fields(send("POST", "/api/user/totp/confirm", mapOf("code" to code)))["recovery_codes"] as List<*>).map { it as String }

    fun removeTotp(code: String) {
        send("DELETE", "/api/user/totp", mapOf("code" to code))
    }

    /** What Credential Manager takes, as JSON. An account with an authenticator app needs a code of it. */
    fun newPasskeyOptions(code: String? = null): String =
        options(send("POST", "/api/user/passkeys/options", if (code == null) emptyMap<String, Any?>() else mapOf("code" to code)))

    /** [json] is `registrationResponseJson`. */
    fun addPasskey(name: String, json: String) {
        send("POST", "/api/user/passkeys", mapOf("name" to name, "passkey" to Json.read(json)))
    }

    fun linkIdentity(offer: LoginResult.LinkOffered) {
        send("POST", "/api/user/identities", mapOf("link_token" to offer.token))
    }

    // ---- How it is done.

    /** Status and body: maps, lists, texts, numbers (Long, Double), true, false, null. */
    class Answer internal constructor(val status: Int, val data: Any?)

    /** Any other call. Values in the path must be percent-encoded. [repeatable]: a second time does no harm. */
    @JvmOverloads
    fun send(method: String, path: String, body: Any? = null, repeatable: Boolean = false): Answer {
        val token = if (TOKEN_PATH.containsMatchIn(path)) token() else null
        try {
            return repeated(method, path, body, token, repeatable)
        } catch (error: AuthTokensException.Refused) {
            if (error.status == 401 && token != null && forget(token) && path !in LOGOUTS) onSessionEnded()
            throw error
        }
    }

    private fun repeated(method: String, path: String, body: Any?, token: String?, repeatable: Boolean): Answer {
        val item = Regex("^/api/user/(cellar|wants)/\\d+$").matches(path)
        val idempotent = method == "GET" || method == "PUT" || (method == "DELETE" && item)
        val end = System.nanoTime() / 1_000_000 + seconds * 1000
        var left = tries
        var pause = 500L
        while (true) {
            left--
            var wait = pause
            val failure: AuthTokensException = try {
                return once(method, path, body, token)
            } catch (error: AuthTokensException.Network) {
                if (!idempotent) throw error
                error
            } catch (error: AuthTokensException.Refused) {
                if (error.status != 429 && error.status != 503) throw error
                // Without Retry-After a proxy may have answered for a service that has done what was asked.
                if (error.retryAfter == null && !idempotent) throw error
                // A 429 means that nothing was done. So does a 503, but where a commit's end could not be learnt.
                if (error.status == 503 && !idempotent && !repeatable && !isHarmless(method, path, body)) throw error
                wait = error.retryAfter?.coerceAtMost(86_400)?.times(1000) ?: pause
                error
            }
            // Not all at once, when many were refused together.
            wait += (Math.random() * 250).toLong()
            if (left <= 0 || System.nanoTime() / 1_000_000 + wait > end) throw failure
            Thread.sleep(wait)
            pause *= 2
        }
    }

    /** Whether a second time costs at most a session or options that nobody uses. */
    private fun isHarmless(method: String, path: String, body: Any?): Boolean {
        val keys = (body as? Map<*, *>)?.keys.orEmpty()
        return method == "POST" && when (path) {
            // A code counts once.
            "/api/login" -> "code" !in keys && "recovery_code" !in keys
            "/api/user/reauthenticate" -> keys == setOf("password")
            "/api/user/passkeys/options" -> keys.isEmpty()
            "/api/login/passkey/options", "/api/user/reauthenticate/passkey" -> true
            else -> path in LOGOUTS
        }
    }

    private fun once(method: String, path: String, body: Any?, token: String?): Answer {
        val headers = mutableMapOf("Accept" to "application/json")
        if (token != null) headers["Authorization"] = "Token $token"
        // A POST without a body would be sent with the type of a form.
        val sent = (body ?: if (method == "POST") emptyMap<String, Any?>() else null)?.let { Json.write(it).toByteArray() }
        if (sent != null) headers["Content-Type"] = "application/json"
        val response = try {
            transport.send(Transport.Request(method, address + path, headers, sent))
        } catch (error: java.io.InterruptedIOException) {
            if (error is java.net.SocketTimeoutException) throw AuthTokensException.Network("no answer in time", error)
            throw InterruptedException()
        } catch (error: IOException) {
            throw AuthTokensException.Network("the service cannot be reached", error)
        }
        val data = try {
            Json.read(response.body)
        } catch (error: IllegalArgumentException) {
            if (response.status < 400) throw AuthTokensException.Network("the answer is no JSON: is the address the service's?")
            null
        }
        if (response.status in 200..299) return Answer(response.status, data)
        if (response.status < 400) throw AuthTokensException.Network("the answer leads elsewhere: is the address the service's?")
        val details = data as? Map<*, *> ?: emptyMap<String, Any?>()
        val error = details["error"] as? String ?: "The answer was ${response.status}."
        val retryAfter = response.retryAfter?.trim()?.toLongOrNull()?.takeIf { it >= 0 }
        throw AuthTokensException.Refused(response.status, error, retryAfter, response.requestId, details)
    }

    private fun signIn(path: String, body: Map<String, Any?>): LoginResult = try {
        enter(send("POST", path, body))
    } catch (error: AuthTokensException.Refused) {
        val due = error.details["second_factor"] as? Map<*, *>
        val link = error.details["link_token"] as? String
        when {
            error.status == 401 && due != null -> LoginResult.SecondFactorDue(
                (due["methods"] as List<*>).map { it as String }, due["expires"] as String, due["token"] as String,
            )
            error.status == 409 && link != null -> LoginResult.LinkOffered(error.error, error.details["expires"] as String, link)
            else -> throw error
        }
    }

    private fun enter(answer: Answer): LoginResult.Session {
        val fields = fields(answer)
        synchronized(lock) { store.set(fields["token"] as String) }
        @Suppress("UNCHECKED_CAST")
        return LoginResult.Session(User(fields["user"] as Map<String, Any?>), answer.status == 201, fields["recovery_code"] as String?)
    }

    private fun end(path: String) {
        val token = token()
        try {
            send("POST", path)
        } catch (error: AuthTokensException.Refused) {
            if (error.status != 401) throw error
        }
        token?.let(::forget)
    }

    /** Clears the store, unless another login has put its token there meanwhile. Answers whether it was there. */
    private fun forget(token: String): Boolean = synchronized(lock) {
        (store.get() == token).also { if (it) store.clear() }
    }

    @Suppress("UNCHECKED_CAST")
    private fun fields(answer: Answer): Map<String, Any?> = answer.data as Map<String, Any?>

    private fun options(answer: Answer): String = Json.write(fields(answer)["publicKey"])

    private fun given(vararg pairs: Pair<String, String?>): Map<String, Any?> = pairs.filter { it.second != null }.toMap()

    private fun encoded(value: String): String {
        require(value.isNotEmpty() && value != "." && value != "..") { "this cannot stand in a path" }
        return URLEncoder.encode(value, "UTF-8").replace("+", "%20")
    }

    private companion object {
        val LOGOUTS = setOf("/api/logout", "/api/logoutall")
        val TOKEN_PATH = Regex("^/api/(user|users|events|logout|logoutall)(/|\\?|$)")
    }
}

private fun longs(value: Any?): List<Long> = (value as List<*>).map { (it as Number).toLong() }

/** JSON as maps, lists, texts, Long, Double, Boolean and null. */
internal object Json {
    fun write(value: Any?): String = when (value) {
        null, is Boolean, is Number -> value.toString()
        is Map<*, *> -> value.entries.joinToString(",", "{", "}") { quoted(it.key.toString()) + ":" + write(it.value) }
        is Iterable<*> -> value.joinToString(",", "[", "]") { write(it) }
        else -> quoted(value.toString())
    }

    private fun quoted(text: String): String = buildString {
        append('"')
        for (letter in text) {
            if (letter == '"' || letter == '\\') append('\\').append(letter)
            // A half of a surrogate pair is no UTF-8: escaped, it arrives as it is.
            else if (letter < ' ' || letter.isSurrogate()) append("\\u").append(letter.code.toString(16).padStart(4, '0'))
            else append(letter)
        }
        append('"')
    }

    /** @throws IllegalArgumentException for what is no JSON */
    fun read(text: String): Any? {
        val reader = Reader(text)
        val value = reader.value(0)
        reader.skip()
        require(reader.at == text.length) { "no JSON" }
        return value
    }

    private class Reader(val text: String) {
        var at = 0

        fun skip() {
            while (at < text.length && text[at] in " \t\r\n") at++
        }

        private fun next(): Char {
            require(at < text.length) { "no JSON" }
            return text[at]
        }

        private fun take(expected: String) {
            require(text.startsWith(expected, at)) { "no JSON" }
            at += expected.length
        }

        fun value(depth: Int): Any? {
            require(depth < 100) { "no JSON" }
            skip()
            return when (next()) {
                '{' -> sequence('}', linkedMapOf<String, Any?>()) { map ->
                    skip()
                    val key = string()
                    skip()
                    take(":")
                    map[key] = value(depth + 1)
                }
                '[' -> sequence(']', mutableListOf<Any?>()) { it.add(value(depth + 1)) }
                '"' -> string()
                't' -> true.also { take("true") }
                'f' -> false.also { take("false") }
                'n' -> null.also { take("null") }
                else -> number()
            }
        }

        private fun <T> sequence(end: Char, made: T, one: (T) -> Unit): T {
            at++
            skip()
            if (next() != end) {
                while (true) {
                    one(made)
                    skip()
                    if (next() == end) break
                    take(",")
                }
            }
            at++
            return made
        }

        private fun number(): Number {
            val start = at
            while (at < text.length && text[at] in "+-.eE0123456789") at++
            val digits = text.substring(start, at)
            return digits.toLongOrNull() ?: requireNotNull(digits.toDoubleOrNull()) { "no JSON" }
        }

        private fun string(): String = buildString {
            take("\"")
            while (true) {
                val letter = next()
                at++
                if (letter == '"') return@buildString
                if (letter != '\\') {
                    append(letter)
                    continue
                }
                val escaped = next()
                at++
                when (escaped) {
                    'n' -> append('\n')
                    't' -> append('\t')
                    'r' -> append('\r')
                    'b' -> append('\b')
                    'f' -> append('\u000c')
                    'u' -> {
                        require(at + 4 <= text.length) { "no JSON" }
                        append(requireNotNull(text.substring(at, at + 4).toIntOrNull(16)) { "no JSON" }.toChar())
                        at += 4
                    }
                    else -> append(escaped)
                }
            }
        }
    }
}
