//! Reads what a request presents of a mail: the token of its link, or its code with the request id.

use crate::accounts::MailProof;
use crate::domain::one_time::Code;
use crate::domain::token::PlainToken;
use crate::http::error::ApiError;
use crate::http::json::Malformed;

/// Reads a token, or a request id with a code. What cannot be one is answered like a wrong one.
pub(crate) fn read(
    token: Option<String>,
    request: Option<String>,
    code: Option<String>,
) -> Result<MailProof, ApiError> {
    match (token, request, code) {
        (Some(token), None, None) => Ok(MailProof::Link(read_token(&token)?)),
        (None, Some(request), Some(code)) => Ok(MailProof::Code(read_token(&request)?, read_code(&code)?)),
        (None, None, None) => Err(Malformed::Missing("token").into()),
        (None, None, Some(_)) => Err(Malformed::Missing("request").into()),
        (None, Some(_), None) => Err(Malformed::Missing("code").into()),
        (Some(_), _, _) => Err(ApiError::InvalidData("give either token, or request and code".to_owned())),
    }
}

/// Reads a token or a request id.
pub(crate) fn read_token(text: &str) -> Result<PlainToken, ApiError> {
    PlainToken::parse(text).ok_or_else(ApiError::worthless)
}

/// Reads a code.
pub(crate) fn read_code(text: &str) -> Result<Code, ApiError> {
    Code::parse(text).ok_or_else(ApiError::worthless)
}
