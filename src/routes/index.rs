//! `GET /`: what this is, for a person or a program that finds it.

use actix_web::HttpResponse;
use serde::Serialize;

use super::respond;
use crate::error::ApiError;

#[derive(Serialize)]
struct Index {
    name: &'static str,
    version: &'static str,
    description: &'static str,
    documentation: &'static str,
    calls: [Call; 5],
}

#[derive(Serialize)]
struct Call {
    call: &'static str,
    does: &'static str,
}

const INDEX: Index = Index {
    name: env!("CARGO_PKG_NAME"),
    version: env!("CARGO_PKG_VERSION"),
    description: env!("CARGO_PKG_DESCRIPTION"),
    documentation: "README.md in the authtokens source explains every call; `authtokens --help` explains the server.",
    calls: [
        Call {
            call: "POST /api/register",
            does: "makes an account from {\"username\", \"password\"} and answers its first token and the user",
        },
        Call {
            call: "POST /api/login",
            does: "takes {\"username\", \"password\"} and answers a new token and the user",
        },
        Call { call: "POST /api/logout", does: "ends the session of the token in `Authorization: Token <token>`" },
        Call { call: "GET /healthz", does: "answers 200 while the process serves" },
        Call { call: "GET /readyz", does: "answers 200 while the store can be read and written" },
    ],
};

pub(super) async fn show() -> Result<HttpResponse, ApiError> {
    respond(HttpResponse::Ok(), &INDEX)
}
