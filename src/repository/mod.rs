//! The repository: what the service asks of a store, as traits that every store implements.
//!
//! There is a trait a concern. A method is one atomic unit of work, named for what the service means and not for a
//! table. Where it answers `Ok` to a change, the change is durable. "Not found" is `None` or `false`, never an error.
//! Time, digests and hashes are arguments, so a store needs neither a clock nor a random number generator. No driver's
//! type appears in a trait: a second store has to implement these traits and to pass the contract suite in
//! `tests/repository`. [`open`] chooses the store.

mod accounts;
mod administration;
mod backup;
mod challenges;
mod error;
mod events;
mod factors;
mod identities;
mod imports;
mod lease;
mod lists;
mod maintenance;
mod moving;
mod one_time_codes;
pub mod open;
mod outbox;
mod page;
mod passkeys;
pub mod postgres;
mod proof;
mod services;
mod session_cache;
mod sessions;
pub mod sqlite;
mod status;
mod upgrade;
mod webhooks;

pub use self::accounts::{Accounts, Export, MAX_EXPORTED_EVENTS, Render};
pub use self::administration::{Administration, EmailVerification};
pub use self::backup::{
    BackupError, BackupReport, CheckReport, Existing, Progress, RestoreReport, Rules, Stop, TableReport,
};
pub use self::challenges::{Challenges, PendingSignIn, TakenChallenge};
pub use self::error::{Cause, OpenError, RepositoryError, UniqueField};
pub use self::events::{Events, ResetCursor, Resets, StoredFailures};
pub use self::factors::{FactorChange, Factors, SealedSecrets, SecurityState, StoredTotp};
pub use self::identities::{Identities, IdentityOwner, IdentityRegistered, Linked, Revocation, RevocationId};
pub use self::imports::{ImportOutcome, ImportedAccount, ImportedToken, Imports};
pub use self::lists::Lists;
pub use self::maintenance::{Figure, FigureValue, Maintenance, StoreCounts, StoreStatistics};
pub use self::moving::{CopiedTable, CopyReport, MoveError};
pub use self::one_time_codes::{
    Confirmed, Disowned, EmailState, NewEmailChange, NewOffer, OneTimeCodes, Recipient, Tried, Whom,
};
pub use self::outbox::{MailId, Notices, Outbox, OutboxMail, OutboxStatistics, Undelivered};
pub use self::page::Page;
pub use self::passkeys::{NewPasskey, OfferedWays, PasskeyAdded, PasskeyOwner, Passkeys, Removal, StoredPasskey};
pub use self::proof::{
    FirstFactor, IdTokenUse, IdentityUse, PasskeyUse, Proof, Reauthentication, SecondFactor, SessionOutcome,
    SessionRequest, TotpUse, VerifiedIdentity, VerifiedLogin,
};
pub use self::services::{ServiceAdded, Services};
pub use self::sessions::Sessions;
pub use self::status::{ClusterStatus, NodeStatus, StandbyStatus, StoreStatus};
pub use self::upgrade::{Kept, Upgrade};
pub use self::webhooks::{
    ClaimedWebhook, DeliveryOutcome, Enabled, FailedDelivery, MAX_BEHIND, NewWebhook, Replay, Replayed, Settlement,
    StoredWebhook, WebhookClaim, WebhookDelivery, WebhookStatistics, WebhookTarget, Webhooks,
};

/// A whole store: all of the traits. The service holds it as `Arc<dyn Repository>`.
pub trait Repository:
    Accounts
    + Sessions
    + Lists
    + Administration
    + Events
    + Maintenance
    + OneTimeCodes
    + Outbox
    + Imports
    + Factors
    + Passkeys
    + Identities
    + Challenges
    + Webhooks
    + Services
{
}

impl<T> Repository for T where
    T: Accounts
        + Sessions
        + Lists
        + Administration
        + Events
        + Maintenance
        + OneTimeCodes
        + Outbox
        + Imports
        + Factors
        + Passkeys
        + Identities
        + Challenges
        + Webhooks
        + Services
{
}
