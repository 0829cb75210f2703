//! Codes and links: stored, found, ended.

use super::error::Failure;
use super::transaction::Transaction;
use crate::domain::user::UserId;

pub(super) async fn delete_pending_change(transaction: &Transaction, user_id: UserId) -> Result<(), Failure> {
    unimplemented!()
}
