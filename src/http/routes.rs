//! The route table: the table of contents of the API.
//!
//! Each row is written once and used three times: to find the handler, for the header `Allow` and the labels of the
//! metrics, and for the OpenAPI document.

use actix_web::http::{Method, header};
use actix_web::web::{self, ServiceConfig};
use actix_web::{HttpRequest, HttpResponse, Resource, Route};

use crate::http::api::{
    account, by_mail, check, email, events, health, identities, index, introspection, items, passkeys, second_factor,
    sessions, staff, user, well_known,
};
use crate::http::error::ApiError;
use crate::http::pages::{assets, confirm, dev_mail, docs, not_me, reset, sign_in};

/// Declares the table. A path has methods, and each method a handler; `get` answers HEAD too. The rows under `calls`
/// and `services`, those for other services alone, are in the OpenAPI document, those under `unlisted` are not, and those under `pages` and `forms` are for browsers.
macro_rules! routes {
    (
        calls { $($call:literal { $($call_method:ident $call_room:ident::$call_handler:ident,)* })* }
        services { $($asked:literal { $($asked_method:ident $asked_room:ident::$asked_handler:ident,)* })* }
        unlisted { $($other:literal { $($other_method:ident $other_room:ident::$other_handler:ident,)* })* }
        pages { $($page:literal { $($page_method:ident $page_room:ident::$page_handler:ident,)* })* }
        forms { $($form:literal { $($form_method:ident $form_room:ident::$form_handler:ident,)* })* }
    ) => {
        /// Every path with its methods: the value of its `Allow`.
        pub const PATHS: [(&str, &str); [$($call,)* $($asked,)* $($other,)* $($page,)* $($form,)*].len()] = [
            $(($call, allow!($($call_method)*)),)*
            $(($asked, allow!($($asked_method)*)),)*
            $(($other, allow!($($other_method)*)),)*
            $(($page, allow!($($page_method)*)),)*
            $(($form, allow!($($form_method)*)),)*
        ];

        /// Registers the handlers.
        pub fn table(app: &mut ServiceConfig) {
            app
                $(.service(with!(at($call, Scope::Api) $(, $call_method $call_room::$call_handler)*)))*
                $(.service(with!(at($asked, Scope::Service) $(, $asked_method $asked_room::$asked_handler)*)))*
                $(.service(with!(at($other, Scope::Api) $(, $other_method $other_room::$other_handler)*)))*
                $(.service(with!(at($page, Scope::Page) $(, $page_method $page_room::$page_handler)*)))*
                $(.service(with!(at($form, Scope::Form) $(, $form_method $form_room::$form_handler)*)))*
                .default_service(web::to(nothing_here));
        }

        /// The documentation of the calls.
        #[derive(utoipa::OpenApi)]
        #[openapi(paths($($($call_room::$call_handler,)*)* $($($asked_room::$asked_handler,)*)*))]
        pub(crate) struct Calls;
    };
}

/// A path's methods, as `Allow` has them.
macro_rules! allow {
    (get) => { "GET, HEAD" };
    (post) => { "POST" };
    (put) => { "PUT" };
    (patch) => { "PATCH" };
    (delete) => { "DELETE" };
    ($first:ident $($other:ident)+) => { concat!(allow!($first), $(", ", allow!($other)),+) };
}

/// A path with its handlers.
macro_rules! with {
    ($at:expr) => { $at };
    ($at:expr, get $room:ident::$handler:ident $($others:tt)*) => {
        with!($at.get($room::$handler).head($room::$handler) $($others)*)
    };
    ($at:expr, $method:ident $room:ident::$handler:ident $($others:tt)*) => {
        with!($at.$method($room::$handler) $($others)*)
    };
}

// The framework tries one row after another, so the most frequent ones come first.
routes! {
    calls {
        "/api/user" { get user::show, patch user::update, delete user::delete, }
        "/api/check" { get check::check, }
        "/" { get index::show, }
        "/healthz" { get health::alive, }
        "/readyz" { get health::ready, }
        "/api/register" { post account::register, }
        "/api/login" { post account::log_in, }
        "/api/login/second" { post second_factor::log_in, }
        "/api/logout" { post account::log_out, }
        "/api/logoutall" { post sessions::end_all, }
        "/api/user/export" { get user::export, }
        "/api/user/reauthenticate" { post user::reauthenticate, }
        "/api/user/reauthenticate/mail" { post user::ask_for_code, }
        "/api/user/password" { post user::change_password, }
        "/api/user/security" { get second_factor::show_security, }
        "/api/user/totp" { post second_factor::begin_totp, delete second_factor::remove_totp, }
        "/api/user/totp/confirm" { post second_factor::confirm_totp, }
        "/api/user/recovery_codes" { post second_factor::replace_recovery_codes, }
        "/api/user/email" { get email::show, post email::change, delete email::withdraw, }
        "/api/user/email/confirm" { post email::confirm_own, }
        "/api/email/confirm" { post email::confirm, }
        "/api/password/forgot" { post by_mail::forgot, }
        "/api/password/reset" { post by_mail::reset, }
        "/api/login/mail" { post by_mail::ask_for_login, }
        "/api/login/mail/confirm" { post by_mail::log_in, }
        "/api/login/passkey/options" { post passkeys::begin_login, }
        "/api/login/passkey" { post passkeys::log_in, }
        "/api/not-me" { post by_mail::disown, }
        "/api/login/providers" { get identities::list_providers, }
        "/api/login/oidc" { post identities::log_in, }
        "/api/login/oidc/exchange" { post identities::exchange, }
        "/api/login/oidc/{provider}/start" { get identities::start, }
        "/api/login/oidc/{provider}/callback" { get identities::come_back, post identities::come_back_by_form, }
        "/api/user/identities" { get identities::list, post identities::link, }
        "/api/user/identities/{id}" { delete identities::unlink, }
        "/api/apple/notifications" { post identities::take_apple_notice, }
        "/api/user/reauthenticate/passkey" { post passkeys::begin_reauthentication, }
        "/api/user/passkeys/options" { post passkeys::begin, }
        "/api/user/passkeys" { get passkeys::list, post passkeys::add, }
        "/api/user/passkeys/{id}" { patch passkeys::rename, delete passkeys::remove, }
        "/api/user/tokens" { get sessions::list, }
        "/api/user/tokens/{id}" { delete sessions::end, }
        "/api/user/events" { get events::list_own, }
        "/api/user/cellar" { get items::list_cellar, put items::replace_cellar, }
        "/api/user/wants" { get items::list_wants, put items::replace_wants, }
        "/api/user/cellar/{item_id}" { put items::add_to_cellar, delete items::remove_from_cellar, }
        "/api/user/wants/{item_id}" { put items::add_to_wants, delete items::remove_from_wants, }
        "/api/users" { get staff::list, }
        "/api/users/{username}" { get staff::show, patch staff::change, delete staff::delete, }
        "/api/users/{username}/reset" { post staff::send_reset, }
        "/api/users/{username}/verify-email" { post staff::verify_email, }
        "/api/users/{username}/reset-factors" { post staff::reset_factors, }
        "/api/users/{username}/tokens" { get staff::list_sessions, delete staff::end_sessions, }
        "/api/users/{username}/tokens/{id}" { delete staff::end_session, }
        "/api/events" { get events::list, }
        "/.well-known/webauthn" { get well_known::origins, }
        "/.well-known/apple-app-site-association" { get well_known::apple_apps, }
        "/.well-known/assetlinks.json" { get well_known::android_apps, }
    }
    services {
        "/api/introspect" { post introspection::introspect, }
    }
    unlisted {
        "/api/openapi.json" { get docs::document, }
    }
    pages {
        "/docs" { get docs::page, }
        "/docs/{file}" { get docs::file, }
    }
    forms {
        "/account/reset" { get reset::show, post reset::submit, }
        "/account/confirm" { get confirm::show, post confirm::submit, }
        "/account/login" { get sign_in::show, }
        "/account/not-me" { get not_me::show, post not_me::submit, }
        "/account/{file}" { get assets::file, }
        "/dev/mail" { get dev_mail::list, }
        "/dev/mail/{file}" { get dev_mail::show, }
    }
}

/// Which headers a response carries; the middleware adds them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// For programs.
    Api,
    /// For other services, and no pages: no origin may read it.
    Service,
    /// For browsers.
    Page,
    /// For browsers, about somebody's own account: no other origin may read it, and no search engine lists it.
    Form,
}

/// Which of [`PATHS`] a request matched. The request carries it from then on.
#[derive(Clone, Copy, Debug)]
pub struct Matched {
    /// Its index there.
    pub route: usize,
    /// Which headers its response carries.
    pub scope: Scope,
}

/// A path, without its trailing slash. Methods that it does not have in [`PATHS`] are answered with 405.
fn at(path: &str, scope: Scope) -> Resource {
    let number = PATHS.iter().position(|(known, _)| *known == path).unwrap_or(PATHS.len());
    let allow = PATHS.get(number).map_or("", |(_, allow)| allow);
    web::resource(path).app_data(Matched { route: number, scope }).default_service(only(allow))
}

/// Answers the methods that a path has no handler for.
fn only(allow: &'static str) -> Route {
    web::to(move |request: HttpRequest| async move {
        if request.method() == Method::OPTIONS {
            Ok(HttpResponse::NoContent().insert_header((header::ALLOW, allow)).finish())
        } else {
            Err(ApiError::MethodNotAllowed { allow })
        }
    })
}

async fn nothing_here() -> Result<HttpResponse, ApiError> {
    Err(ApiError::NotFound)
}
