//! The commands of `user`: create, list, change and delete accounts.

use std::path;

use serde::Serialize;

use crate::accounts::administer::{AdministerError, Administration};
use crate::cli::context::{CommandError, Context, as_operator, close, open, print_pages};
use crate::cli::output::{pairs, printable};
use crate::cli::prompt;
use crate::domain::email::EmailAddress;
use crate::domain::profile::Profile;
use crate::domain::rights::{AccountChange, Actor, Rights, UserQuery};
use crate::domain::user::{NewUser, User, Username};
use crate::http::views::second_factor::SecurityResponse;
use crate::http::views::user::{AccountResponse, UserResponse};
use crate::mail::Postman;
use crate::repository::open::{exists, shown};
use crate::repository::{RepositoryError, SecurityState};

/// Makes an account, and the database where there is none.
///
/// # Errors
/// [`CommandError::Taken`], or another.
pub async fn create(context: &mut Context, username: Username, rights: Rights) -> Result<(), CommandError> {
    // Checked first, before a password is typed twice for a taken name. A missing file is created only with the
    // account.
    let is_new = !exists(&context.config)?;
    if !is_new && find(context, &username).await?.is_some() {
        return Err(CommandError::Taken(username.as_str().to_owned()));
    }
    let password_hash = prompt::new_password(&context.config, &username).await?;
    let user = NewUser { username: username.clone(), password_hash, profile: Profile::default() };
    let created = as_operator(&context.config, &context.clock, true, async |administration| {
        let created = administration.create_account(user, rights).await;
        created.map_err(|error| CommandError::of_account(&username, error))
    })
    .await?;
    // The full path, because a database is easily made in the wrong folder.
    let where_it_is = if is_new {
        let mut database = context.config.database.clone();
        database.path = path::absolute(&database.path).unwrap_or(database.path);
        format!(" in a new database at {}", shown(&database))
    } else {
        String::new()
    };
    tell(context, created, |user| {
        let text = format!("{} was made{where_it_is}; it {}.", user.username.as_str(), rights_of(user));
        format!("{}\n", printable(&text))
    })
}

/// Lists accounts in the order of their names, at most `limit` where it is given.
///
/// # Errors
/// See [`CommandError`].
pub async fn list(context: &mut Context, mut query: UserQuery, limit: Option<u64>) -> Result<(), CommandError> {
    let list = context.output.list(["NAME", "ACTIVE", "RIGHTS", "LAST LOGIN", "EMAIL"]);
    as_operator(&context.config, &context.clock, false, async |administration| {
        let page = async |size| {
            query.limit = size;
            let page = administration.list_accounts(query.clone()).await?;
            query.after = page.next;
            Ok(page.rows)
        };
        print_pages(list, limit.unwrap_or(u64::MAX), page, row).await
    })
    .await
}

fn row(user: User) -> (UserResponse, [String; 5]) {
    let rights = match (user.is_staff, user.is_superuser) {
        (false, false) => "",
        (true, false) => "staff",
        (false, true) => "superuser",
        (true, true) => "staff, superuser",
    };
    let cells = [
        user.username.as_str().to_owned(),
        yes_or_no(user.is_active),
        rights.to_owned(),
        user.last_login.to_string(),
        user.profile.email.clone(),
    ];
    (user.into(), cells)
}

/// Shows an account.
///
/// # Errors
/// [`CommandError::NoAccount`], or another.
pub async fn show(context: &mut Context, username: &Username) -> Result<(), CommandError> {
    let (user, security) = as_operator(&context.config, &context.clock, false, async |administration| {
        let refused = |error| CommandError::of_account(username, error);
        let user = administration.find_account(username).await.map_err(refused)?;
        Ok((user, administration.find_security(username).await.map_err(refused)?))
    })
    .await?;
    let sends_mail = context.config.sends_mail();
    let profile = user.profile.clone();
    let verified = match (sends_mail && !profile.email.is_empty(), user.is_email_verified) {
        (false, _) => "",
        (true, true) => " (verified)",
        (true, false) => " (not verified)",
    };
    let text = pairs(&[
        ("username", user.username.as_str().to_owned()),
        ("first_name", profile.first_name),
        ("last_name", profile.last_name),
        ("email", profile.email + verified),
        ("is_active", yes_or_no(user.is_active)),
        ("is_superuser", yes_or_no(user.is_superuser)),
        ("is_staff", yes_or_no(user.is_staff)),
        ("last_login", user.last_login.to_string()),
        ("cellar", format!("{} items", user.cellar.len())),
        ("wants", format!("{} items", user.wants.len())),
        ("address", profile.address),
        ("address2", profile.address2),
        ("city", profile.city),
        ("state", profile.state),
        ("zipcode", profile.zipcode),
        ("created", user.created.to_string()),
        ("modified", user.modified.to_string()),
        ("date_joined", user.date_joined.to_string()),
        ("password", yes_or_no(security.has_password)),
        ("second factor", second_factor_of(&security)),
        ("passkeys", security.passkeys.to_string()),
        ("identities", security.identities.to_string()),
    ]);
    Ok(context
        .output
        .print(&ShownAccount { account: AccountResponse::new(user, sends_mail), security: security.into() }, || text)?)
}

/// An account as the operator sees it.
#[derive(Serialize)]
struct ShownAccount {
    #[serde(flatten)]
    account: AccountResponse,
    security: SecurityResponse,
}

fn second_factor_of(security: &SecurityState) -> String {
    match security.totp {
        Some(since) => format!("authenticator app since {since}, {} recovery codes left", security.recovery_codes),
        None => "none".to_owned(),
    }
}

/// Sets an account's password, which ends its sessions.
///
/// # Errors
/// [`CommandError::NoAccount`], or another.
pub async fn set_password(context: &mut Context, username: &Username) -> Result<(), CommandError> {
    // Checked first, before a password is typed twice for no account.
    find(context, username).await?.ok_or_else(|| no_account(username))?;
    let hash = prompt::new_password(&context.config, username).await?;
    let change = AccountChange { password_hash: Some(hash), ..AccountChange::default() };
    change_account(context, username, change, |user| {
        format!("{} has a new password, and its tokens have ended.\n", user.username.as_str())
    })
    .await
}

/// Sends a link to an account's address that sets a new password. The mail leaves at once, and nothing that opens the
/// account is shown here.
///
/// # Errors
/// [`CommandError::NoAccount`], [`CommandError::NoAddress`], [`CommandError::Mail`], [`CommandError::Delivery`], or another.
pub async fn send_reset(context: &mut Context, username: &Username) -> Result<(), CommandError> {
    let postman = Postman::new(&context.config, context.clock.clone())?;
    let mail = as_operator(&context.config, &context.clock, false, async |administration| {
        let prepared = administration.prepare_reset(username).await;
        prepared.map_err(|error| CommandError::of_account(username, error))
    })
    .await?;
    postman.deliver(&mail).await?;
    let to = masked(&mail.to);
    context.tell(&serde_json::json!({"status": "success", "to": to}), || {
        format!("A link that sets a new password was sent to {to}.\n")
    })
}

/// Counts an account's address as verified.
///
/// # Errors
/// [`CommandError::NoAccount`], [`CommandError::NoAddress`], [`CommandError::EmailTaken`], or another.
pub async fn verify_email(context: &mut Context, username: &Username) -> Result<(), CommandError> {
    let user = as_operator(&context.config, &context.clock, false, async |administration| {
        let verified = administration.verify_email(username).await;
        verified.map_err(|error| CommandError::of_account(username, error))
    })
    .await?;
    let text = format!("{} counts as the verified address of {}.", user.profile.email, user.username.as_str());
    let sends_mail = context.config.sends_mail();
    context.tell(&AccountResponse::new(user, sends_mail), || format!("{}\n", printable(&text)))
}

/// Removes an account's authenticator app, recovery codes and passkeys.
///
/// # Errors
/// [`CommandError::NoAccount`], or another.
pub async fn reset_factors(context: &mut Context, username: &Username) -> Result<(), CommandError> {
    as_operator(&context.config, &context.clock, false, async |administration| {
        let reset = administration.reset_factors(username).await;
        reset.map_err(|error| CommandError::of_account(username, error))
    })
    .await?;
    let name = printable(username.as_str());
    context.tell(&serde_json::json!({"status": "success"}), || {
        format!("{name} has no authenticator app, no recovery codes and no passkeys any more.\n")
    })
}

/// An address as it is shown where the operator need only recognise it.
fn masked(email: &EmailAddress) -> String {
    let (local, domain) = email.as_str().rsplit_once('@').unwrap_or_default();
    format!("{}***@{domain}", local.chars().next().map(String::from).unwrap_or_default())
}

/// Activates an account, or deactivates it, which ends its sessions.
///
/// # Errors
/// [`CommandError::LastSuperuser`], [`CommandError::NoAccount`], or another.
pub async fn set_active(context: &mut Context, username: &Username, is_active: bool) -> Result<(), CommandError> {
    let change = AccountChange { is_active: Some(is_active), ..AccountChange::default() };
    change_account(context, username, change, |user| {
        let now = if is_active { "can log in" } else { "cannot log in any more, and its tokens have ended" };
        format!("{} {now}.\n", user.username.as_str())
    })
    .await
}

/// A right.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Right {
    /// To see and help others.
    Staff,
    /// To do everything.
    Superuser,
}

/// Gives a right or takes it.
///
/// # Errors
/// [`CommandError::LastSuperuser`], [`CommandError::NoAccount`], or another.
pub async fn set_right(
    context: &mut Context,
    username: &Username,
    right: Right,
    given: bool,
) -> Result<(), CommandError> {
    let change = match right {
        Right::Staff => AccountChange { is_staff: Some(given), ..AccountChange::default() },
        Right::Superuser => AccountChange { is_superuser: Some(given), ..AccountChange::default() },
    };
    // The answer says what is left: an account that was both keeps the other right.
    change_account(context, username, change, |user| format!("{} {}.\n", user.username.as_str(), rights_of(user))).await
}

async fn change_account(
    context: &mut Context,
    username: &Username,
    change: AccountChange,
    text: impl FnOnce(&User) -> String,
) -> Result<(), CommandError> {
    let changed = as_operator(&context.config, &context.clock, false, async |administration| {
        let changed = administration.apply_change(username, change).await;
        changed.map_err(|error| CommandError::of_account(username, error))
    })
    .await?;
    tell(context, changed, text)
}

/// Deletes an account with its lists and its sessions; asks first.
///
/// # Errors
/// [`CommandError::LastSuperuser`], [`CommandError::NoAccount`], or another.
pub async fn delete(context: &mut Context, username: &Username, yes: bool) -> Result<(), CommandError> {
    let repository = open(&context.config, &context.clock, false)?;
    let administration = Administration::new(repository.as_ref(), &context.clock, Actor::CommandLine);
    let found = administration.find_account(username).await;
    close(repository.as_ref()).await;
    let name = match found {
        Ok(user) => user.username,
        // A row that the service cannot read can still be deleted.
        Err(AdministerError::Repository(RepositoryError::Inconsistent(_))) if !repository.is_damaged() => {
            username.clone()
        }
        Err(error) => return Err(CommandError::of_account(username, error)),
    };
    let name = name.as_str().to_owned();
    prompt::confirm(&format!("Delete {name} with its lists and its tokens, for good?"), yes)?;
    as_operator(&context.config, &context.clock, false, async |administration| {
        let deleted = administration.delete_account(username).await;
        deleted.map_err(|error| CommandError::of_account(username, error))
    })
    .await?;
    context.tell(&serde_json::json!({"status": "success"}), || format!("{name} was deleted.\n"))
}

/// The account of this name, where there is one.
async fn find(context: &Context, username: &Username) -> Result<Option<User>, CommandError> {
    as_operator(&context.config, &context.clock, false, async |administration| {
        match administration.find_account(username).await {
            Ok(user) => Ok(Some(user)),
            Err(AdministerError::NoAccount) => Ok(None),
            Err(error) => Err(CommandError::of_account(username, error)),
        }
    })
    .await
}

fn no_account(username: &Username) -> CommandError {
    CommandError::NoAccount(username.as_str().to_owned())
}

fn tell(context: &mut Context, user: User, text: impl FnOnce(&User) -> String) -> Result<(), CommandError> {
    let text = text(&user);
    context.tell(&UserResponse::from(user), || text)
}

fn rights_of(user: &User) -> &'static str {
    match (user.is_staff, user.is_superuser) {
        (false, false) => "has no rights over others",
        (true, false) => "is staff",
        (false, true) => "is a superuser",
        (true, true) => "is staff and a superuser",
    }
}

fn yes_or_no(truth: bool) -> String {
    if truth { "yes" } else { "no" }.to_owned()
}
