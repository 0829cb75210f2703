//! The commands of `service`: other services that may ask whose a token is.

use crate::accounts::administer::AddServiceError;
use crate::cli::context::{CommandError, Context, as_operator};
use crate::domain::service::ServiceName;
use crate::http::views::service::ServiceDetailsResponse;

/// Adds a service, and shows its key, for the only time.
///
/// # Errors
/// [`CommandError::ServiceTaken`], or another.
pub async fn add(context: &mut Context, name: &ServiceName) -> Result<(), CommandError> {
    let key = as_operator(&context.config, &context.clock, false, async |administration| {
        administration.add_service(name.clone()).await.map_err(|error| match error {
            AddServiceError::Taken => CommandError::ServiceTaken(name.as_str().to_owned()),
            AddServiceError::Full => CommandError::TooManyServices,
            AddServiceError::Repository(error) => error.into(),
        })
    })
    .await?;
    let (name, key) = (name.as_str(), key.reveal());
    context.tell(&serde_json::json!({"name": name, "key": key}), || {
        format!("{name} may ask whose a token is, by this key, which is not shown again:\n{key}\n")
    })
}

/// Lists the services in the order of their names.
///
/// # Errors
/// See [`CommandError`].
pub async fn list(context: &mut Context) -> Result<(), CommandError> {
    let services = as_operator(&context.config, &context.clock, false, async |administration| {
        Ok(administration.list_services().await?)
    })
    .await?;
    let mut list = context.output.list(["NAME", "CREATED", "LAST USED"]);
    list.add(services.iter().map(|service| {
        let last_used = service.last_used.map_or_else(|| "never".to_owned(), |at| at.to_string());
        (
            ServiceDetailsResponse::from(service),
            [service.name.as_str().to_owned(), service.created.to_string(), last_used],
        )
    }))?;
    Ok(list.end()?)
}

/// Revokes a service's key.
///
/// # Errors
/// [`CommandError::NoService`], or another.
pub async fn revoke(context: &mut Context, name: &ServiceName) -> Result<(), CommandError> {
    let is_revoked = as_operator(&context.config, &context.clock, false, async |administration| {
        Ok(administration.revoke_service(name.clone()).await?)
    })
    .await?;
    let name = name.as_str();
    if !is_revoked {
        return Err(CommandError::NoService(name.to_owned()));
    }
    context.tell(&serde_json::json!({"revoked": name}), || format!("{name} may ask no more.\n"))
}
