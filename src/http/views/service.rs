//! The JSON of a service that may ask whose a token is.

use serde::Serialize;

use crate::domain::service::ServiceDetails;

/// A service, without its key.
#[derive(Serialize)]
pub struct ServiceDetailsResponse {
    name: String,
    created: String,
    /// Up to a minute old; `null` where it never was used.
    last_used: Option<String>,
}

impl From<&ServiceDetails> for ServiceDetailsResponse {
    fn from(service: &ServiceDetails) -> Self {
        Self {
            name: service.name.as_str().to_owned(),
            created: service.created.to_string(),
            last_used: service.last_used.map(|at| at.to_string()),
        }
    }
}
