//! The use cases: what the service does for whoever asks, with neither actix nor SQL.
//!
//! A use case is a method of [`Accounts`], in a file of its own, with an error of its own. HTTP and the command line
//! read what was asked, call a use case, and show its outcome. Neither repeats its steps.

pub mod activity;
pub mod administer;
mod ask_for_mail;
mod change_password;
mod delete;
mod disown;
mod email;
pub mod identities;
mod kept_identity;
mod mail_proof;
pub mod mail_requests;
pub mod passkeys;
mod prepare_mail;
mod reauthenticate;
mod register;
mod reset_password;
pub mod sealing;
pub mod second_factor;
mod service;
pub mod service_uses;
mod services;
mod sessions;
mod sign_in;
mod sign_in_by_mail;
pub mod throttle;
pub mod webhooks;

pub use self::ask_for_mail::{AskError, Asked};
pub use self::change_password::PasswordChange;
pub use self::email::{ConfirmError, EmailChange};
pub use self::mail_proof::{MailProof, MailProofError};
pub use self::prepare_mail::PreparedMail;
pub use self::reauthenticate::ReauthenticationError;
pub use self::register::{RegisterError, Registration};
pub use self::service::{Accounts, Client, MailPolicy, NewPassword, NoMail};
pub use self::services::ServiceError;
pub use self::sessions::SessionError;
pub use self::sign_in::{LoginName, NameError, OpenedSession, SecondFactorDue, SignIn, SignInError, Verified};
pub use self::sign_in_by_mail::SignInByMailError;
